from __future__ import annotations

import numpy as np
import pytest

from mammo_hf.phantom.anatomy import draw_habitus, draw_outline, upsample
from mammo_hf.phantom.film import digitise, expose, shoulder

SIZE = (448, 224)


def blank(laterality: str, view: str = "CC", seed: int = 0) -> np.ndarray:
    return digitise(np.zeros(SIZE, np.float32), laterality, view, np.random.default_rng(seed))


def test_air_is_nearly_black_and_never_quite_constant() -> None:
    film = blank("LEFT")
    assert film.dtype == np.uint16
    air = film[100:, :200]
    assert np.median(air) < 2000
    assert air.std() > 30
    assert np.unique(air).size > 200


@pytest.mark.parametrize("view", ["CC", "MLO"])
@pytest.mark.parametrize("seed", range(4))
def test_the_label_is_bright_and_away_from_the_chest_wall(view: str, seed: int) -> None:
    for laterality, near, far in (("LEFT", np.s_[:, :112], np.s_[:, 112:]), ("RIGHT", np.s_[:, 112:], np.s_[:, :112])):
        bright = blank(laterality, view, seed) > 55000
        assert bright[far][:60].sum() > 60
        assert bright[far][60:].sum() < 20  # dust at most
        assert bright[near].sum() < 20


def test_the_label_reads_the_right_way_on_both_sides() -> None:
    # the L of a left breast has its foot at the lower right; mirrored, it would be at the lower left
    uppers, lowers = [], []
    for seed in range(8):
        bright = blank("LEFT", "CC", seed)[:60, 112:] > 45000
        columns = np.flatnonzero(bright.sum(axis=0) > 0)
        letter = bright[:, columns.min() : columns.min() + 12]
        rows = np.flatnonzero(letter.any(axis=1))
        upper, lower = np.array_split(letter[rows.min() : rows.max() + 1], 2)
        uppers.append(np.nonzero(upper)[1].mean())
        lowers.append(np.nonzero(lower)[1].mean())
    assert np.mean(lowers) > np.mean(uppers) + 1.0


def test_the_shoulder_is_monotone_linear_below_and_bounded_above() -> None:
    values = np.linspace(0, 3, 1001)
    curve = shoulder(values)
    assert np.all(np.diff(curve) >= 0)
    np.testing.assert_array_equal(curve[values <= 0.78], values[values <= 0.78])
    assert curve.max() <= 0.93


def test_the_breast_darkens_to_its_edge_with_a_brighter_line_of_skin() -> None:
    habitus = draw_habitus(np.random.default_rng(2), 0.5)
    outline = draw_outline(habitus, "CC", 0.5, np.random.default_rng(3))
    size = (1024, 512)
    image = expose(outline, habitus, np.zeros(size, np.float32), np.random.default_rng(4))
    depth = outline.depth_on(size)

    def at(low: float, high: float) -> float:
        return float(image[(depth >= low) & (depth < high)].mean())

    assert image[depth < -0.005].max() < 0.01
    inner = [at(low, low + 0.01) for low in np.arange(0.012, 0.1, 0.01)]
    assert inner == sorted(inner)
    bare = np.sqrt(1 - (1 - 0.5 * habitus.skin / habitus.rim) ** 2) * inner[-1]
    assert at(0.3 * habitus.skin, 0.7 * habitus.skin) > bare * 1.15


def test_the_muscle_is_as_bright_as_dense_tissue() -> None:
    habitus = draw_habitus(np.random.default_rng(2), 0.5)
    outline = draw_outline(habitus, "MLO", 0.5, np.random.default_rng(3))
    fat = expose(outline, habitus, np.zeros(SIZE, np.float32), np.random.default_rng(4))
    dense = expose(outline, habitus, np.ones(SIZE, np.float32), np.random.default_rng(4))
    muscle, depth = upsample(outline.muscle, SIZE), outline.depth_on(SIZE)
    inside, front = muscle > 0.03, (muscle < -0.05) & (depth > habitus.rim)
    assert fat[inside].mean() > 1.7 * fat[front].mean()
    assert fat[inside].mean() == pytest.approx(dense[front].mean(), rel=0.2)
