import dataclasses

import numpy as np
import pytest
from PIL import Image

from mammo_hf.errors import UsageError
from mammo_hf.explainers import Explanation
from mammo_hf.explainers.localisation import peak
from mammo_hf.explainers.overlay import OUTLINE
from mammo_hf.geometry import Geometry


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
        geometry=(Geometry((300, 200), (20, 10, 244, 122), True, (112, 56), (0, 0), (112, 56)),) * 2,
        heads=np.ones((2, 4, 14, 7), np.float32),
    )


def test_is_frozen_to_the_last_pixel(explanation):
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.map = None
    for array in (explanation.map, explanation.images, explanation.heads):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_saves_a_picture_or_the_arrays(explanation, tmp_path):
    assert np.array_equal(np.asarray(Image.open(explanation.save(tmp_path / "a.png"))), explanation.overlay())
    assert np.array_equal(np.asarray(Image.open(explanation.save(tmp_path / "b.PNG", 1))), explanation.overlay(1))
    saved = np.load(explanation.save(str(tmp_path / "a.npz")))
    for name in ("map", "target", "explainer", "flat", "heads"):
        np.testing.assert_array_equal(saved[name], getattr(explanation, name))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "a.png", "b.PNG"]


@pytest.mark.parametrize("suffix", [".png", ".npz"])
def test_saves_all_or_nothing(explanation, tmp_path, monkeypatch, suffix):
    path = tmp_path / f"a{suffix}"
    before = explanation.save(path).read_bytes()

    def full_disc(self, where, *args, **kwargs):
        where.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disc)
    monkeypatch.setattr(np, "savez_compressed", lambda where, **arrays: full_disc(None, where))
    with pytest.raises(UsageError, match="No space left"):
        explanation.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_to_is_one_line(explanation, tmp_path):
    (tmp_path / "file").write_text("")
    for path in ("a.gif", "a", "nowhere/a.png", "nowhere/a.npz", "file/a.png"):
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
