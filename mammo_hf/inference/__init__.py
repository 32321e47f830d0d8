"""Reading mammograms with a trained classifier: one image or exam at a time, or an archive of files."""
