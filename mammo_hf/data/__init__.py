"""Collections of mammograms: one row per image, split by patient, with no leak between the splits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

# fractions of the patients: for a test split if a collection has none, and of the training patients for validation
TEST_FRACTION, VALIDATION_FRACTION = 0.2, 0.15
# options of `load` that every source and command takes
READING = ("dicom_path", "max_missing", "stratum", "accept", "overrides")

# imported on first use: commands that only need the constants must not load `datasets`
_PUBLIC = {
    "Collection": "collection",
    "assert_no_leak": "leaks",
    "complete_split": "splits",
    "label_subset": "splits",
    "load": "loading",
    "read_split": "splits",
    "read_subset": "splits",
    "save_split": "splits",
    "save_subset": "splits",
}

if TYPE_CHECKING:
    from .collection import Collection
    from .leaks import assert_no_leak
    from .loading import load
    from .splits import complete_split, label_subset, read_split, read_subset, save_split, save_subset

__all__ = [
    "READING",
    "TEST_FRACTION",
    "VALIDATION_FRACTION",
    "Collection",
    "assert_no_leak",
    "complete_split",
    "label_subset",
    "load",
    "read_split",
    "read_subset",
    "save_split",
    "save_subset",
]


__getattr__, __dir__ = lazy_names(__name__, _PUBLIC)
