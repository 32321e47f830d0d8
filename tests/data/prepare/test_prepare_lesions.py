import numpy as np

from mammo_hf import MammoImageProcessor
from mammo_hf.data.prepare.folder import open_prepared
from mammo_hf.data.prepare.row import lesion_map
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.processing.geometry import Geometry


def test_every_labelled_phantom_has_its_lesion_in_place(collection, tmp_path):
    prepare_images(collection, MammoImageProcessor(size=(224, 112)), tmp_path)
    for stored in open_prepared(tmp_path):
        if stored["labels"][0] < 0:
            assert stored["lesions"] is None
        else:
            assert set(np.frombuffer(stored["lesions"], np.uint8)) == {0, 1 + stored["labels"][0]}


def test_lesion_map_of_circles_boxes_and_unknowns():
    geometry = Geometry((64, 32), (0, 0, 64, 32), "identity", (64, 32), (0, 0), (64, 32))
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
