"""The way of an exam from a PACS through a model of mammo_hf, and of the results back as DICOM objects."""

__version__ = "0.1.0"
