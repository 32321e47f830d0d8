"""A collection that a trained model is tried on: the patients that its training kept for testing."""

import json

import numpy as np
import pytest

from mammo_hf.data.loading import load
from mammo_hf.data.splits import save_training_split
from mammo_hf.data.training_data import open_as_trained
from mammo_hf.dicom import mammogram_dataset


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A folder of files of twelve patients, which has no split of its own."""
    root = tmp_path_factory.mktemp("films")
    for patient in range(12):
        pixels = np.random.default_rng(patient).integers(0, 4096, (60, 40)).astype(np.uint16)
        dataset = mammogram_dataset(pixels, bits_stored=12, PatientID=f"p{patient}", ViewPosition="CC")
        dataset.save_as(root / f"{patient}.dcm", enforce_file_format=True)
    return root


def test_a_model_is_tried_on_whom_its_training_kept_for_that(films, tmp_path):
    trained_on = load("folder", films).split(seed=3, test_fraction=0.4)
    save_training_split(trained_on, tmp_path)
    kept = set(trained_on.where(split="test").column("patient"))
    assert 0 < len(kept) < 12
    named = f"folder:{films}"
    assert set(open_as_trained(named, tmp_path).where(split="test").column("patient")) == kept
    assert not len(open_as_trained(named, tmp_path / "elsewhere").where(split="test"))


def test_a_collection_that_a_model_was_not_trained_on_stays_as_it_is(films, tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"splits": {f"{number:016x}": "test" for number in range(4)}}))
    table = open_as_trained(f"folder:{films}", tmp_path)
    assert table.column("split") == load("folder", films).column("split")
