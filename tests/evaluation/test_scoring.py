from __future__ import annotations

import json

import datasets
import numpy as np
import pytest
import torch

from mammo_hf import Collection, MammoImageProcessor
from mammo_hf.data.findings import finding
from mammo_hf.errors import DataError
from mammo_hf.evaluation.scored import facts_of, lesion_type, score_images, scored
from mammo_hf.processing.geometry import Geometry
from mammo_hf.testing import TASKS, tiny_classifier

SIZE = (112, 56)


def _lesions(cells: int) -> bytes:
    map_ = np.zeros((28, 14), np.uint8)
    map_.ravel()[:cells] = 1
    return map_.tobytes()


def _prepared(count: int = 6, spacing: tuple[float, float] | None = None) -> datasets.Dataset:
    geometry = Geometry((224, 112), (0, 0, 224, 112), "identity", SIZE, (0, 0), SIZE, spacing)
    rows = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 65536, SIZE, dtype=np.uint16)
        rows.append(
            {
                **{"image_id": f"{number:016x}", "patient": f"{number // 2:016x}", "split": "test"},
                **{"laterality": "L", "view": "CC", "labels": [number % 2, -100], "size": list(SIZE)},
                **{"pixels": pixels.tobytes(), "lesions": _lesions(4 * (number + 1)) if number else None},
                "geometry": json.dumps(geometry.to_dict()),
            }
        )
    return datasets.Dataset.from_list(rows)


def _table(count: int = 6) -> Collection:
    rows = [
        {
            **{
                "image_id": f"{number:016x}",
                "patient": f"{number // 2:016x}",
                "exam": None,
                "path": f"/x/{number}.dcm",
            },
            **{"laterality": "L", "view": "CC", "source": "made", "split": "test", "vendor": "ge"},
            **{"pathology": "malignant" if number % 2 else "benign", "density": None},
            "findings": [finding("mass", "malignant")] if number % 2 else [],
        }
        for number in reversed(range(count))  # in another order than the prepared rows
    ]
    return Collection.from_rows(rows, tasks=TASKS, salt_name="made")


def test_scores_are_the_models_logits_in_order_and_each_image_is_seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor, prepared = tiny_classifier(), MammoImageProcessor(size=SIZE), _prepared(5)
    seen = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda pixel_values: seen.append(len(pixel_values)) or forward(pixel_values=pixel_values)
    )
    model.train()
    found = score_images(model, prepared, processor, batch_size=2)
    assert (found.shape, found.dtype, model.training) == ((5, 5), np.float64, True)
    assert seen == [2, 2, 1]
    intensity = np.frombuffer(prepared[3]["pixels"], np.uint16).reshape(SIZE) / 65535
    pixels = torch.from_numpy(processor.normalize_intensity(intensity.astype(np.float32)))[None]
    with torch.no_grad():
        expected = model.eval()(pixel_values=pixels).logits
    np.testing.assert_allclose(found[3], expected[0], atol=1e-5)


def test_scores_that_are_not_finite_are_an_error() -> None:
    model = tiny_classifier()
    model.classifier.bias.data[0] = float("nan")
    with pytest.raises(DataError, match="2 of 2 images get scores that are not finite"):
        score_images(model, _prepared(2), MammoImageProcessor(size=SIZE))


def test_facts_follow_the_images_and_not_the_tables_order() -> None:
    facts = facts_of(_table(), _prepared())
    assert facts["lesion_type"] == ["none", "mass"] * 3
    assert facts["vendor"] == ["ge"] * 6
    images = scored(np.zeros((6, 5)), _prepared(), _table())
    assert images.labels[:, 0].tolist() == [0, 1] * 3
    assert images.image_ids == [f"{number:016x}" for number in range(6)]


def test_what_the_header_said_of_the_exposure_is_a_fact_where_any_image_has_it() -> None:
    prepared = _prepared().add_column("kvp_band", ["27-29", None] * 3).add_column("device", [None] * 6)
    facts = facts_of(_table(), prepared)
    assert facts["kvp_band"] == ["27-29", None] * 3
    assert "device" not in facts


def test_lesion_sizes_are_in_mm_where_the_spacing_is_known() -> None:
    # a cell is 4 x 4 canvas pixels, of two source pixels of 0.5 mm each: 16 mm2; four cells make a disc of 9.03 mm
    in_mm = facts_of(_table(), _prepared(spacing=(0.5, 0.5)))["lesion_size"]
    assert in_mm == [None, "10 to 20 mm", "10 to 20 mm", "10 to 20 mm", "above 20 mm", "above 20 mm"]
    in_pixels = facts_of(None, _prepared())["lesion_size"]
    assert in_pixels[0] is None
    assert [size[:2] for size in in_pixels[1:] if size] == ["1:", "1:", "2:", "3:", "3:"]


def test_lesion_types() -> None:
    mass, spot = finding("mass"), finding("calcification")
    assert [lesion_type(found) for found in ([], [mass], [mass, mass], [mass, spot], [finding(None)])] == [
        "none",
        "mass",
        "mass",
        "several",
        None,
    ]
