import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mammo_hf.errors import UsageError
from mammo_hf.explainers import Explanation
from mammo_hf.explainers.explanation import peak
from mammo_hf.explainers.overlay import OUTLINE
from mammo_hf.processing.geometry import Geometry


@pytest.fixture
def explanation():
    rows, columns = np.mgrid[:112, :56]
    blob = np.exp(-((rows - 30) ** 2 + (columns - 20) ** 2) / 100).astype(np.float32)
    return Explanation(
        map=np.stack([blob, np.zeros_like(blob)]),
        target=("pathology:malignant", "pathology:benign"),
        explainer="grad_cam",
        flat=(False, True),
        images=np.random.default_rng(0).random((2, 112, 56), np.float32),
        geometry=(
            Geometry((300, 200), (20, 10, 244, 122), "flip_left_right", (112, 56), (0, 0), (112, 56), (0.2, 0.2)),
        )
        * 2,
        heads=np.ones((2, 4, 14, 7), np.float32),
        logits=np.array([[0.0, 1.1], [1.1, 0.0]], np.float32),
        score=(0.75, 0.75),
        facts={"completeness error": [0.1, 0.2]},
    )


def test_is_frozen_to_the_last_pixel(explanation):
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.map = None
    for array in (explanation.map, explanation.images, explanation.heads):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_saves_a_picture_the_arrays_or_the_places(explanation, tmp_path):
    assert np.array_equal(np.asarray(Image.open(explanation.save(tmp_path / "a.png"))), explanation.overlay())
    assert np.array_equal(np.asarray(Image.open(explanation.save(tmp_path / "b.PNG", 1))), explanation.overlay(1))
    drawn = explanation.save(tmp_path / "c.png", style="contour")
    assert np.array_equal(np.asarray(Image.open(drawn)), explanation.overlay(style="contour"))
    saved = np.load(explanation.save(str(tmp_path / "a.npz")))
    for name in ("map", "target", "explainer", "flat", "heads", "logits", "score"):
        np.testing.assert_array_equal(saved[name], getattr(explanation, name))
    np.testing.assert_array_equal(saved["fact_completeness error"], [0.1, 0.2])
    said = json.loads(explanation.save(tmp_path / "a.json").read_text())
    assert (said["target"], said["score"], said["flat"]) == ("pathology:malignant", 0.75, False)
    assert said["facts"] == {"completeness error": 0.1}
    assert said["peaks"][0]["model"] == [30.5, 20.5]
    assert Geometry.from_dict(said["geometry"]) == explanation.geometry[0]
    names = ["a.json", "a.npz", "a.png", "b.PNG", "c.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("suffix", [".png", ".npz", ".json"])
def test_saves_all_or_nothing(explanation, tmp_path, monkeypatch, suffix):
    path = tmp_path / f"a{suffix}"
    before = explanation.save(path).read_bytes()

    def full_disk(self, content):
        with self.open("wb") as file:
            file.write(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(UsageError, match="the disk is full"):
        explanation.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_to_is_one_line(explanation, tmp_path):
    (tmp_path / "file").write_text("")
    for path in ("a.gif", "a", "nowhere/a.png", "nowhere/a.npz", "nowhere/a.json", "file/a.png"):
        with pytest.raises(UsageError, match="a"):
            explanation.save(tmp_path / path)


def test_an_image_that_is_not_there_is_refused(explanation, tmp_path):
    for ask in (explanation.overlay, explanation.in_source, lambda index: explanation.save(tmp_path / "a.png", index)):
        for index in (2, -1):
            with pytest.raises(UsageError, match="no image"):
                ask(index)


def test_overlay_draws_the_lesions_rim(explanation):
    mask = np.zeros((112, 56), bool)
    mask[50:60, 30:40] = True
    assert (np.asarray(explanation.overlay(outline=mask)) == OUTLINE).all(-1).any()
    assert not (np.asarray(explanation.overlay()) == OUTLINE).all(-1).any()


def test_in_source_maps_the_peak_back(explanation):
    source = explanation.in_source()
    assert source.shape == (300, 200)
    expected = explanation.geometry[0].to_source([[30.5, 20.5]])[0]
    assert np.abs(np.array(peak(source)) + 0.5 - expected).max() <= 1
    assert not source[:20].any()
    with pytest.raises(UsageError, match="geometry"):
        dataclasses.replace(explanation, geometry=None).in_source()


def test_peaks_are_given_in_model_pixels_source_pixels_and_mm(explanation):
    (only,) = explanation.peaks(5)
    assert (only.value, only.model) == (1.0, (30.5, 20.5))
    # 112 rows show 224 of the source from row 20 on, mirrored
    assert only.source == pytest.approx((20 + 2 * 30.5, 122 - 2 * 20.5))
    assert only.mm == pytest.approx(tuple(0.2 * value for value in only.source))
    assert explanation.peaks(5, index=1) == []
    plain = dataclasses.replace(explanation, geometry=None)
    assert (plain.peaks()[0].source, plain.peaks()[0].mm) == (None, None)
    with pytest.raises(UsageError, match="n: is 0"):
        explanation.peaks(0)


def test_boxes_hold_what_reaches_the_threshold(explanation):
    (box,) = explanation.boxes(0.5)
    top, left, bottom, right = (int(side) for side in box.model)
    reached = explanation.map[0] >= 0.5
    assert reached[top:bottom, left:right].sum() == reached.sum()
    assert reached[top].any()
    assert reached[bottom - 1].any()
    assert box.source[0] < box.source[2]  # in order although mirrored
    assert box.source[1] < box.source[3]
    assert box.mm == pytest.approx(tuple(0.2 * side for side in box.source))
    assert explanation.boxes(0.5, index=1) == []
    for threshold in (0, 1.1, -1, float("nan")):
        with pytest.raises(UsageError, match="threshold"):
            explanation.boxes(threshold)


def test_styles(explanation):
    heat, contour = explanation.overlay(style="heat", scale=2), explanation.overlay(style="contour", scale=2)
    assert heat.size == contour.size
    assert explanation.overlay(style="side_by_side").width > 2 * 112
    for wrong in ({"style": "rainbow"}, {"scale": 0}, {"scale": 1.5}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            explanation.overlay(**wrong)


def test_the_scale_bar_has_its_length_and_covers_nothing(explanation):
    # a model pixel shows two source pixels of 0.2 mm
    with_bar = np.asarray(explanation.overlay(scale=2))
    plain = dataclasses.replace(explanation, geometry=None)
    without = np.asarray(plain.overlay(scale=2))
    assert np.array_equal(with_bar[:224], without[:224])
    strip = with_bar[224:]
    assert strip.shape[0] > without[224:].shape[0] > 0  # the result is below every picture
    lit = max(((row == 255).all(-1) for row in strip), key=lambda row: row[4:40].sum())
    length = int(np.argmin(lit[4:]))  # from the bar's left end on
    assert length == round(10 / 0.2)  # 10 mm of 0.2 mm a screen pixel, within a third of the picture and its colours


def test_what_the_map_is_worth_is_said(explanation):
    assert explanation.caption(0) == "pathology:malignant 75 %; Grad-CAM"
    assert explanation.caption(1) == "pathology:benign 75 %, the map is empty; Grad-CAM"
    assert "trained on lesion annotations" in dataclasses.replace(explanation, supervised=True).caption()
    doubted = dataclasses.replace(
        explanation, doubts=("at chance",), remarks=("Test AUC 0.51.",), predicted=(True, False)
    )
    assert doubted.text() == "pathology:malignant (predicted) 75 %, at chance\nTest AUC 0.51."


def test_below_the_operating_point_no_map_is_drawn(explanation):
    low = dataclasses.replace(explanation, thresholds=(0.8, None))
    assert (low.strength(0), low.strength(1)) == (0, 0.75)
    assert low.result(0) == "pathology:malignant 75 %, no map below the operating point of 80 %"
    grey = np.asarray(low.overlay(0, scale=2))[:224, :112]
    assert (np.ptp(grey, axis=2) == 0).all()
    assert np.ptp(np.asarray(explanation.overlay(0, scale=2))[:224, :112], axis=2).any()
    assert low.map[0].max() == explanation.map[0].max()  # measures see the map as it is


def test_one_image_of_a_batch_is_a_batch_of_one(explanation):
    one = explanation.of_image(1)
    assert np.array_equal(one.map, explanation.map[1:])
    assert np.array_equal(one.logits, explanation.logits[1:])
    assert (one.target, one.score, one.flat) == (("pathology:benign",), (0.75,), (True,))
    assert one.to_dict(0) == explanation.to_dict(1)
    with pytest.raises(UsageError, match="no image 2"):
        explanation.of_image(2)
