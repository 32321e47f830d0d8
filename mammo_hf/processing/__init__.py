"""Image processing: from a file to the model's tensor, and which blocks of it are hidden."""
