from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mammo_hf.errors import UsageError
from mammo_hf.plotting import COLOURS, LARGEST_FILE, new_figure, save_figure


def _heavy_figure() -> Figure:
    """Noise in grey, which no PNG holds in little, between a flat tint and a coloured line."""
    figure, axes = new_figure(12, 20 / 3, 2)
    axes[0].imshow(np.random.default_rng(0).normal(0.5, 0.1, (900, 700)), cmap="gray", vmin=0, vmax=1)
    axes[1].plot([0, 1], [0, 1], color=COLOURS[0], linewidth=6)
    axes[1].axhspan(0.4, 0.5, color=COLOURS[1])
    return figure


def test_a_light_figure_is_written_as_drawn(tmp_path: Path) -> None:
    figure, (axes,) = new_figure(4, 2, 1)
    axes.plot([0, 1], [0, 1])
    path = save_figure(figure, tmp_path / "new" / "folder" / "plot.png")
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size == (600, 300)
        assert picture.mode == "RGB"
        assert picture.getpixel((2, 2)) == (255, 255, 255)


def test_a_heavy_figure_stays_under_the_limit_and_keeps_its_colours(tmp_path: Path) -> None:
    path = save_figure(_heavy_figure(), tmp_path / "plot.png")
    assert path.stat().st_size <= LARGEST_FILE
    with Image.open(path) as picture:
        assert picture.width >= 600
        assert picture.width / picture.height == pytest.approx(1.8, abs=0.01)
        colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    common = {colour for count, colour in colours if count > 300}
    assert {(0, 114, 178), (213, 94, 0)} <= common


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (save_figure(_heavy_figure(), tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second
    assert b"matplotlib" not in first.lower()


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    figure, _ = new_figure(2, 1, 1)
    with pytest.raises(UsageError, match="cannot be written"):
        save_figure(figure, tmp_path / "file" / "plot.png")
    with pytest.raises(UsageError, match=r"\.png"):
        save_figure(figure, tmp_path / "plot.jpg")
