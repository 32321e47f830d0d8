import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch

from mammo_hf import BlockwiseMasking, MammoImageProcessor
from mammo_hf.data.augmentation import Augmentation
from mammo_hf.data.prepared_row import SCHEMA
from mammo_hf.data.torch_datasets import LabelledImages, MaskedImages, balanced_rows, lesion_tokens, rows_of
from mammo_hf.errors import DataError

PROCESSOR = MammoImageProcessor(size=(64, 32))


def prepared(count=3):
    generator = np.random.default_rng(0)
    rows = []
    for index in range(count):
        lesions = np.zeros((16, 8), np.uint8)
        lesions[4:6, 2:4] = 2
        lesions[0, 0] = 255
        rows.append(
            {
                "image_id": str(index), "patient": str(index), "split": ["train", "validation", "test"][index % 3],
                "laterality": "L", "view": "CC", "labels": [1, -100], "size": [64, 32], "geometry": "{}",
                "pixels": generator.integers(0, 65536, (64, 32)).astype(np.uint16).tobytes(),
                "lesions": None if index == 2 else lesions.tobytes(),
                "breast": np.packbits(np.ones((16, 8), bool)).tobytes(),
            }
        )  # fmt: skip
    return datasets.Dataset(pa.Table.from_pylist(rows, schema=SCHEMA))


def test_training_is_fresh_each_epoch_and_evaluation_fixed():
    masking = BlockwiseMasking()
    training = MaskedImages(prepared(), PROCESSOR, augmentation=Augmentation(), masking=masking, fresh=True)
    fixed = MaskedImages(prepared(), PROCESSOR, masking=masking, fresh=False)
    first, still = training[0], fixed[0]
    again = training[0]
    assert all(torch.equal(first[key], again[key]) for key in first)
    training.epoch = fixed.epoch = 1
    assert not torch.equal(training[0]["bool_masked_pos"], first["bool_masked_pos"])
    assert not torch.equal(training[0]["pixel_values"], first["pixel_values"])
    assert all(torch.equal(fixed[0][key], still[key]) for key in still)


def test_evaluation_sees_the_image_as_the_processor_made_it():
    data = prepared()
    image = np.frombuffer(data[1]["pixels"], np.uint16).reshape(64, 32).astype(np.float32) / 65535
    example = LabelledImages(data, PROCESSOR)[1]
    np.testing.assert_array_equal(example["pixel_values"].numpy(), PROCESSOR.normalize_intensity(image))
    assert example["labels"].tolist() == [1, -100]
    assert "lesion_targets" not in example


def test_lesion_targets_on_the_last_grid():
    images = LabelledImages(prepared(), PROCESSOR, lesion_grid=(4, 2))
    expected = torch.zeros(4, 2, dtype=torch.long)
    expected[1, 0], expected[0, 0] = 2, -100
    assert torch.equal(images[0]["lesion_targets"], expected)
    assert (images[2]["lesion_targets"] == -100).all()  # no place is known: the row says nothing


def test_image_and_lesions_move_together():
    intensity, lesions = torch.zeros(1, 64, 32), torch.zeros(1, 16, 8)
    intensity[0, 24:40, 8:20], lesions[0, 6:10, 2:5] = 1, 1
    augmentation = Augmentation(gamma=0)
    for seed in range(20):
        moved, places = augmentation(intensity, lesions, view="CC", generator=np.random.default_rng(seed))
        assert set(places.unique().tolist()) <= {0.0, 1.0}
        grid = torch.nn.functional.interpolate(places[None], size=(64, 32))[0]
        overlap = (grid * (moved > 0.5)).sum() / torch.maximum(grid, (moved > 0.5).float()).sum()
        assert overlap > 0.5  # cells of 4 pixels, pixels of 1


def test_only_cranio_caudal_views_are_turned():
    image = torch.zeros(1, 64, 32)
    image[0, :8] = 1
    still = Augmentation(rotation=0, scale=0, shift=0, gamma=0)
    turned = {}
    for view in ("CC", "MLO", None):
        results = [still(image, image, view=view, generator=np.random.default_rng(s))[0] for s in range(20)]
        turned[view] = sum(bool(result[0, -1].any()) for result in results)
    assert turned["MLO"] == turned[None] == 0
    assert 0 < turned["CC"] < 20


def test_rows_of_splits():
    assert rows_of(prepared(), ("train", "test")) == [0, 2]


def test_a_token_that_a_lesion_only_grazes_is_not_judged():
    lesions = torch.zeros(1, 16, 8)
    lesions[0, 4:8, 0:4] = 2  # the whole of one token of 4 x 4 cells
    lesions[0, 8, 0:4] = 2
    lesions[0, 9, 0:3] = 2  # seven of sixteen cells of the next
    assert lesion_tokens(lesions, (4, 2)).tolist() == [[0, 0], [2, 0], [-100, 0], [0, 0]]
    lesions[0, 9, 3] = 2
    assert lesion_tokens(lesions, (4, 2)).tolist() == [[0, 0], [2, 0], [2, 0], [0, 0]]
    lesions[0, 9] = 0
    lesions[0, 4:8] = 0
    assert lesion_tokens(lesions, (4, 2)).tolist() == [[0, 0], [0, 0], [2, 0], [0, 0]]  # there is no better token


def test_balanced_rows_draw_each_class_equally_and_repeat_only_after_a_whole_round():
    labels = np.array([0] * 9 + [1] * 2 + [-100])
    drawn = balanced_rows(labels, np.random.default_rng(0))
    assert len(drawn) == len(labels)
    assert {label: int((labels[drawn] == label).sum()) for label in (0, 1, -100)} == {0: 4, 1: 4, -100: 4}
    assert len(set(drawn[labels[drawn] == 0])) == 4
    assert np.bincount(drawn[labels[drawn] == 1])[9:11].tolist() == [2, 2]
    other = balanced_rows(labels, np.random.default_rng(1))
    assert not np.array_equal(drawn, other)


def test_classes_are_drawn_equally_often_within_each_stratum():
    """The old scanner has few positives, the new one many; one of a single class is left out."""
    strata = np.array(["old"] * 12 + ["new"] * 8 + ["one class"] * 5)
    labels = np.array([0] * 10 + [1] * 2 + [0] * 2 + [1] * 6 + [1] * 5)
    drawn = balanced_rows(labels, np.random.default_rng(0), strata)
    assert len(drawn) == len(labels)
    found = {(s, c): int(((strata[drawn] == s) & (labels[drawn] == c)).sum()) for s in set(strata) for c in (0, 1)}
    assert found["one class", 1] == 0
    assert abs(found["old", 0] - found["old", 1]) <= 1
    assert abs(found["new", 0] - found["new", 1]) <= 1
    assert found["old", 0] + found["old", 1] == 15  # 12 of 20 of 25 rows
    with pytest.raises(DataError, match="no stratum has two classes"):
        balanced_rows(labels, np.random.default_rng(0), labels)
