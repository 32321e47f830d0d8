from __future__ import annotations

import numpy as np
import pytest

from mammo_hf.phantom.anatomy import draw_habitus, draw_outline
from mammo_hf.phantom.parenchyma import DENSE_FRACTION, DENSITIES, draw_pattern, draw_tissue

SIZE = (224, 112)


def paint(density: str, seed: int, view: str = "CC") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tissue, glandular share, and depth below the skin, of the same breast whatever the density."""
    habitus = draw_habitus(np.random.default_rng(seed), 0.5)
    outline = draw_outline(habitus, view, 0.5, np.random.default_rng(seed + 1))
    pattern = draw_pattern(np.random.default_rng(seed + 2), density)
    tissue, gland = draw_tissue(outline, pattern, np.random.default_rng(seed + 3), SIZE)
    return tissue, gland, outline.depth_on(gland.shape)


@pytest.mark.parametrize("seed", range(4))
def test_the_amount_of_gland_follows_the_density_class(seed: int) -> None:
    shares = []
    for density in DENSITIES:
        tissue, gland, depth = paint(density, seed)
        assert tissue.shape == SIZE
        assert tissue.dtype == np.float32
        assert np.isfinite(tissue).all()
        shares.append((gland > 0.5)[depth > 0.02].mean())
        low, high = DENSE_FRACTION[density]
        assert low - 0.06 < shares[-1] < high + 0.02
    assert shares == sorted(shares)
    assert shares[-1] - shares[0] > 0.4


def test_fat_lies_under_the_skin_and_gland_is_as_opaque_as_it_is_named() -> None:
    tissue, gland, depth = paint("d", 1)
    assert gland[(depth > 0) & (depth < 0.012)].max() < 0.2
    assert gland[depth < 0].max() == 0.0
    assert tissue[gland > 0.9].mean() == pytest.approx(0.8, abs=0.15)
    assert abs(tissue[(gland < 0.05) & (depth > 0.05)].mean()) < 0.15


def test_two_projections_share_the_patients_pattern_but_not_every_pixel() -> None:
    habitus = draw_habitus(np.random.default_rng(0), 0.5)
    outline = draw_outline(habitus, "CC", 0.5, np.random.default_rng(1))
    strangers, kin = [], []
    for seed in range(6):
        patterns = [draw_pattern(np.random.default_rng(10 * seed + k), "c") for k in (0, 0, 1)]
        first, second, other = (
            draw_tissue(outline, pattern, np.random.default_rng(100 + 10 * seed + k), SIZE)[0]
            for k, pattern in enumerate(patterns)
        )
        inside = outline.depth_on(SIZE) > 0.08
        kin.append(np.corrcoef(first[inside], second[inside])[0, 1])
        strangers.append(np.corrcoef(first[inside], other[inside])[0, 1])
        assert not np.array_equal(first, second)
    assert np.mean(kin) > np.mean(strangers) + 0.1
