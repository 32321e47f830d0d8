"""Reading mammograms with a trained classifier: one image or exam at a time, or an archive of files."""

from __future__ import annotations

from .loading import identity, load_classifier
from .running import Finished, predict

__all__ = ["Finished", "identity", "load_classifier", "predict"]
