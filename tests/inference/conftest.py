from __future__ import annotations

import itertools

import pytest
from small_archive import write_dicom

from mammo_hf import MammoImageProcessor
from mammo_hf.inference import predict as running
from mammo_hf.testing import tiny_classifier


@pytest.fixture
def interrupted(monkeypatch):
    """Calls a function that scores, and interrupts it at some batch."""

    def call(at, function, *arguments):
        taken, batches = running._rows, itertools.count(1)

        def ends(*of_batch):
            if next(batches) == at:
                raise KeyboardInterrupt
            return taken(*of_batch)

        with monkeypatch.context() as patch:
            patch.setattr(running, "_rows", ends)
            with pytest.raises(KeyboardInterrupt):
                function(*arguments)

    return call


@pytest.fixture
def processor():
    return MammoImageProcessor(size=(112, 56))


@pytest.fixture
def checkpoint(tmp_path, processor):
    tiny_classifier().save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def archive(tmp_path):
    """Nine good files and a broken one in the middle."""
    folder = tmp_path / "archive"
    for number in range(9):
        side, view = "LR"[number % 2], ("CC", "MLO")[number // 2 % 2]
        write_dicom(folder / f"{number}.dcm", number, laterality=side, view=view)
    whole = (folder / "4.dcm").read_bytes()
    (folder / "4-cut.dcm").write_bytes(whole[: len(whole) // 2])
    return folder
