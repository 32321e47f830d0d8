"""Applying a trained classifier: one image or exam at a time, an archive of files as a table, pictures, exports."""
