from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.figure import Figure
from PIL import Image

from mammo_hf import plotting as panels
from mammo_hf.errors import DataError
from mammo_hf.metrics.inputs import UndefinedMetric

SIZE = (48, 24)
# scripts are not on the import path
_SPEC = importlib.util.spec_from_file_location("story", Path(__file__).parents[2] / "scripts" / "story.py")
assert _SPEC is not None
assert _SPEC.loader is not None
story = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(story)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    save = panels.save_figure

    def keep(figure: Figure, path: Any) -> Path:
        figures.append(figure)
        return save(figure, path)

    for module in (panels, story):
        monkeypatch.setattr(module, "save_figure", keep)
    return figures


def _images(n: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smooth images, masks of blocks, and reconstructions that are 0.2 too bright."""
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] / SIZE[0]
    images = np.stack([0.4 + 0.2 * np.sin((k + 3) * rows) * np.cos(5 * columns) for k in range(n)])
    blocks = np.random.default_rng(0).random((n, 6, 3)) < 0.5
    return images, np.kron(blocks, np.ones((1, 8, 8), bool)).astype(bool), images + 0.2


def _shown(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


@given(
    arrays.arrays(np.float32, (6, 4), elements=st.floats(-0.5, 1.5, width=32)),
    arrays.arrays(np.bool_, (6, 4)),
)
def test_the_tint_lies_exactly_where_the_mask_hides(image: np.ndarray, mask: np.ndarray) -> None:
    picture = panels.masked_picture(image, mask)
    tinted = np.all(picture == panels.HIDDEN, axis=2)
    np.testing.assert_array_equal(tinted, mask)
    np.testing.assert_array_equal(picture[~mask], np.repeat(np.clip(image[~mask], 0, 1)[:, None], 3, axis=1))


def test_the_tint_is_no_grey_and_not_black() -> None:
    assert np.ptp(panels.HIDDEN) > 0.1
    assert min(panels.HIDDEN) > 0.3


def test_the_tint_reaches_the_picture(tmp_path: Path) -> None:
    images, _, reconstructions = _images(1)
    mask = np.zeros((1, *SIZE), bool)
    mask[:, : SIZE[0] // 2] = True
    path = panels.plot_reconstruction(images, mask, reconstructions, tmp_path / "panel.png")
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=int)
    tint = np.abs(pixels - np.rint(np.multiply(panels.HIDDEN, 255)).astype(int)).max(axis=2) <= 1
    rows, columns = np.flatnonzero(tint.sum(axis=1) > 50), np.flatnonzero(tint.sum(axis=0) > 50)
    # the upper half of one picture of 2 : 1, so a square, filled with nothing but the tint
    assert len(rows) == pytest.approx(len(columns), abs=3)
    assert tint[rows[1] : rows[-1], columns[1] : columns[-1]].all()


def test_a_row_is_input_masked_pasted_and_difference(tmp_path: Path, drawn: list[Figure]) -> None:
    images, masks, reconstructions = _images()
    path = panels.plot_reconstruction(images, masks, reconstructions, tmp_path / "panel.png", title="Stage 1")
    with Image.open(path) as picture:
        picture.verify()
        assert picture.format == "PNG"
        assert min(picture.size) > 500
    assert path.stat().st_size < 200_000
    shown = _shown(drawn[0])
    for row in range(2):
        image, masked, pasted, difference = shown[4 * row : 4 * row + 4]
        np.testing.assert_array_equal(image, images[row])
        np.testing.assert_array_equal(masked, panels.masked_picture(images[row], masks[row]))
        np.testing.assert_array_equal(pasted[~masks[row]], images[row][~masks[row]])
        np.testing.assert_array_equal(pasted[masks[row]], reconstructions[row][masks[row]])
        np.testing.assert_allclose(difference, np.where(masks[row], 0.2, 0.0), atol=1e-12)
    axes = [axes for axes in drawn[0].axes if axes.images]
    assert "mean |error| 0.200" in axes[3].get_xlabel()
    assert f"{100 * masks[1].mean():.0f} % hidden" in axes[5].get_xlabel()


def test_the_difference_has_one_symmetric_scale_that_one_bright_spot_does_not_set(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    images, _, reconstructions = _images()
    masks = np.ones_like(images, dtype=bool)
    reconstructions[0, 3, 3] = images[0, 3, 3] - 0.9
    panels.plot_reconstruction(images, masks, reconstructions, tmp_path / "panel.png")
    scales = {axes.images[0].get_clim() for axes in drawn[0].axes if axes.images and axes.get_xlabel()[:4] == "mean"}
    assert len(scales) == 1
    low, high = scales.pop()
    assert low == -high
    assert 0.2 <= high <= 0.25


def test_equal_and_unmasked_images_can_be_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    images, masks, _ = _images(1)
    assert panels.plot_reconstruction(images, masks, images, tmp_path / "equal.png").is_file()
    assert panels.plot_reconstruction(images, np.zeros_like(masks), images, tmp_path / "visible.png").is_file()
    assert "mean |error| not defined" in {axes.get_xlabel() for axes in drawn[1].axes}


def test_what_cannot_be_a_panel_is_an_error(tmp_path: Path) -> None:
    images, masks, reconstructions = _images()
    with pytest.raises(DataError, match="shapes"):
        panels.plot_reconstruction(images, masks[:1], reconstructions, tmp_path / "panel.png")
    with pytest.raises(DataError, match="at least one image"):
        panels.plot_reconstruction(images[:0], masks[:0], reconstructions[:0], tmp_path / "panel.png")
    with pytest.raises(DataError, match="bool"):
        panels.plot_reconstruction(images, masks.astype(float), reconstructions, tmp_path / "panel.png")


def _story(**changes: Any) -> dict[str, Any]:
    images, masks, reconstructions = _images()
    labels = np.arange(40) % 2
    scores = np.random.default_rng(0).normal(size=40) + labels
    overlay = np.repeat(images[0][..., None], 3, axis=2)
    lesion = np.zeros(SIZE)
    lesion[10:16, 8:14] = 1.0
    return {
        "inputs": images,
        "masks": masks,
        "reconstructions": reconstructions,
        "references": labels,
        "scores": {"token loss": scores, "image labels only": -scores},
        "intervals": {"token loss": (0.6, 0.9)},
        "image": images[0],
        "lesion": lesion,
        "overlays": {
            "attention": overlay,
            "grad_cam": (255 * overlay).astype(np.uint8),
            "grad_cam_attention": overlay,
        },
        "title": "A title",
        "caption": "A caption",
    } | changes


def test_the_story_is_one_picture_of_the_asked_size(tmp_path: Path, drawn: list[Figure]) -> None:
    path = story.plot_story(tmp_path / "story.png", **_story())
    with Image.open(path) as picture:
        picture.verify()
        assert picture.size == (1800, 1000)
    assert path.stat().st_size < 200_000
    assert len(_shown(drawn[0])) == 10
    titles = [axes.get_title() for axes in drawn[0].axes]
    assert titles[-4:] == ["test image", "attention", "Grad-CAM", "attention-weighted\nGrad-CAM"]
    assert {"A title", "A caption"} <= {text.get_text() for text in drawn[0].texts}
    # no axes overlap and none leaves the page
    boxes = [axes.get_position() for axes in drawn[0].axes]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1 and box.y1 <= 1 for box in boxes)
    assert not any(one.overlaps(two) for k, one in enumerate(boxes) for two in boxes[:k])


def test_the_lesions_outline_runs_along_its_edge(tmp_path: Path, drawn: list[Figure]) -> None:
    story.plot_story(tmp_path / "story.png", **_story())
    outlined = [axes for axes in drawn[0].axes if axes.collections]
    assert len(outlined) == 4
    for axes in outlined:
        points = np.vstack([path.vertices for path in axes.collections[0].get_paths()])
        # pixel centres are whole numbers, so rows 10 to 15 reach from 9.5 to 15.5
        assert (points[:, 1].min(), points[:, 1].max()) == (9.5, 15.5)
        assert (points[:, 0].min(), points[:, 0].max()) == (7.5, 13.5)
        assert axes.get_xlim() == (-0.5, SIZE[1] - 0.5)
        assert axes.get_ylim() == (SIZE[0] - 0.5, -0.5)


def test_the_story_without_a_lesion_and_with_one_image(tmp_path: Path, drawn: list[Figure]) -> None:
    few = {name: _story()[name][:1] for name in ("inputs", "masks", "reconstructions")}
    for number, lesion in enumerate((None, np.zeros(SIZE))):
        story.plot_story(tmp_path / f"{number}.png", **_story(lesion=lesion, **few))
        assert len(_shown(drawn[number])) == 7
        assert not any(axes.collections for axes in drawn[number].axes)


def test_what_does_not_fit_the_story_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="attention"):
        story.plot_story(tmp_path / "story.png", **_story(overlays={"attention": np.zeros((9, 9, 3))}))
    with pytest.raises(DataError, match="lesion"):
        story.plot_story(tmp_path / "story.png", **_story(lesion=np.zeros((9, 9))))
    with pytest.raises(UndefinedMetric):
        story.plot_story(tmp_path / "story.png", **_story(references=np.zeros(40)))
