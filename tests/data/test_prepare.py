import csv

import numpy as np
import pytest

from mammo_hf import MammoImageProcessor, load
from mammo_hf.data.phantom import write_phantom
from mammo_hf.data.prepare import lesion_map, prepare
from mammo_hf.errors import DataError, UsageError
from mammo_hf.geometry import Geometry

TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom")
    write_phantom(root, patients=2, seed=0, size=(224, 112), num_proc=1, progress=False)
    return load(root)


def test_equals_the_processor_within_half_a_step(collection, tmp_path):
    processor = MammoImageProcessor(size=(64, 32))
    prepared = prepare(collection, processor, tmp_path, tasks=TASKS, lesion_task="pathology")
    assert len(prepared) == len(collection)
    for row, stored in zip(collection, prepared, strict=True):
        intensity, _ = processor.fit(row["path"])
        pixels = np.frombuffer(stored["pixels"], np.uint16).reshape(stored["size"]) / 65535
        assert np.abs(pixels - intensity).max() <= 0.5 / 65535 + 1e-7
        label = stored["labels"][0]
        assert (None if label < 0 else TASKS[0]["labels"][label]) == row["pathology"]


def test_every_labelled_phantom_has_its_lesion_in_place(collection, tmp_path):
    processor = MammoImageProcessor(size=(224, 112))
    prepared = prepare(collection, processor, tmp_path, tasks=TASKS, lesion_task="pathology")
    for stored in prepared:
        if stored["labels"][0] < 0:
            assert stored["lesions"] is None
        else:
            assert set(np.frombuffer(stored["lesions"], np.uint8)) == {0, 1 + stored["labels"][0]}


def test_a_broken_file_is_rejected_and_the_run_goes_on(tmp_path):
    write_phantom(tmp_path / "data", patients=2, seed=0, size=(224, 112), num_proc=1, progress=False)
    table = load(tmp_path / "data")
    broken = table[0]["path"]
    with open(broken, "rb+") as file:
        file.truncate(2000)
    processor = MammoImageProcessor(size=(64, 32))
    prepared = prepare(table, processor, tmp_path / "out", tasks=TASKS, lesion_task="pathology", num_workers=1)
    assert len(prepared) == len(table) - 1
    with (tmp_path / "out" / "rejected.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == [broken]
    assert rows[0]["reason"]


def test_nothing_readable_is_an_error(tmp_path):
    write_phantom(tmp_path / "data", patients=1, seed=0, size=(224, 112), num_proc=1, progress=False)
    table = load(tmp_path / "data")
    for row in table:
        open(row["path"], "w").close()
    with pytest.raises(DataError, match="none of"):
        prepare(table, MammoImageProcessor(size=(64, 32)), tmp_path / "out", tasks=TASKS, lesion_task="pathology")


def test_a_folder_that_cannot_be_made(collection, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        prepare(collection, MammoImageProcessor(size=(64, 32)), tmp_path / "file", tasks=TASKS, lesion_task="pathology")


def test_lesion_map_of_circles_boxes_and_unknowns():
    geometry = Geometry((64, 32), (0, 0, 64, 32), False, (64, 32), (0, 0), (64, 32))
    labels = ["benign", "malignant"]
    circle = {"pathology": "benign", "circle": [10, 10, 6], "mask_path": None, "box": None}
    box = {"pathology": "malignant", "box": [40, 8, 56, 24], "circle": None, "mask_path": None}
    cells = lesion_map([circle, box], geometry, labels)
    assert cells[2, 2] == 1
    assert (cells[10:14, 2:6] == 2).all()
    assert (cells == 2).sum() == 16
    assert lesion_map([{**box, "pathology": None}], geometry, labels).max() == 255
    assert lesion_map([circle, {**box, "box": None}], geometry, labels) is None
    assert lesion_map([], geometry, labels) is None
