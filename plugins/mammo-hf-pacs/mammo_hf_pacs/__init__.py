"""The way of an exam from a PACS through a model of mammo_hf, and of the results back as DICOM objects."""

from importlib.util import find_spec

__version__ = "0.1.0"
REQUIRES = ("highdicom", "pydicom")


def available() -> bool:
    """Return whether the packages of the outputs are installed, without importing them."""
    return all(find_spec(name) is not None for name in REQUIRES)
