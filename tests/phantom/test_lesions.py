from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mammo_hf.phantom.lesions import KINDS, PATHOLOGIES, Lesion, draw_lesion, project_lesion

HEIGHT = 1024


def both(lesion: Lesion, seed: int, height: int = HEIGHT) -> list[tuple[np.ndarray, np.ndarray]]:
    return [project_lesion(lesion, pathology, np.random.default_rng(seed), height) for pathology in PATHOLOGIES]


def raggedness(mask: np.ndarray) -> float:
    """Perimeter squared over area: 4 pi for a disc."""
    edge = mask & ~ndimage.binary_erosion(mask)
    return float(edge.sum()) ** 2 / float(mask.sum())


@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 10_000),
    height=st.sampled_from([224, 448, 1024]),
    scale=st.sampled_from([1.0, 1.7]),
)
@settings(max_examples=25)
def test_only_the_shape_differs_between_benign_and_malignant(kind: str, seed: int, height: int, scale: float) -> None:
    lesion = draw_lesion(np.random.default_rng(seed), kind, scale=scale)
    (smooth, smooth_mask), (ragged, ragged_mask) = both(lesion, seed, height)
    assert smooth.shape == ragged.shape
    assert ragged.sum() == pytest.approx(smooth.sum(), rel=0.01)
    # the smooth mass's outline holds its lobules of fat too, about a sixth of it
    held = 0.25 if kind == "mass" else 0.01
    assert 0.99 * ragged_mask.sum() - 2 <= smooth_mask.sum() <= (1 + held) * ragged_mask.sum() + 2
    # at the picture's own resolution blur takes a little from thin structures; the brightest stay alike
    if height * lesion.grain > 8:
        assert ragged.max() == pytest.approx(smooth.max(), rel=0.05)
        np.testing.assert_allclose(np.square(ragged).sum(), np.square(smooth).sum(), rtol=0.12)


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_a_finding_lies_within_its_reach(kind: str) -> None:
    for seed in range(5):
        lesion = draw_lesion(np.random.default_rng(seed), kind)
        for added, mask in both(lesion, seed):
            half = added.shape[0] // 2
            assert added.shape == (2 * half + 1, 2 * half + 1) == mask.shape
            edge = np.concatenate([added[0], added[-1], added[:, 0], added[:, -1]])
            assert np.abs(edge).max() < 1e-4
            rows, columns = np.nonzero(mask)
            assert np.hypot(rows - half, columns - half).max() <= lesion.reach * HEIGHT + 2
            centre = ndimage.center_of_mass(mask)
            assert np.hypot(centre[0] - half, centre[1] - half) < 0.2 * lesion.diameter * HEIGHT


@pytest.mark.parametrize("height", [224, 1024])
def test_a_malignant_mass_is_spiculated_and_a_benign_one_is_not(height: int) -> None:
    smooth, ragged = [], []
    for seed in range(12):
        lesion = draw_lesion(np.random.default_rng(seed), "mass")
        (_, benign), (_, malignant) = both(lesion, seed, height)
        smooth.append(raggedness(benign))
        ragged.append(raggedness(malignant))
    assert min(ragged) > 1.8 * max(smooth)


def test_a_mass_has_the_diameter_and_contrast_it_was_given() -> None:
    for seed in range(5):
        lesion = draw_lesion(np.random.default_rng(seed), "mass")
        assert 0.04 <= lesion.diameter <= 0.06
        for added, mask in both(lesion, seed):
            tissue = (added > 0.25 * lesion.contrast).sum()
            assert tissue == pytest.approx(np.pi / 4 * (lesion.diameter * HEIGHT) ** 2, rel=0.05)
            assert (added > 0.25 * lesion.contrast)[~mask].sum() < 0.06 * tissue
            assert added.max() == pytest.approx(lesion.contrast, rel=0.02)


def test_calcifications_are_as_many_but_of_unequal_size_where_malignant() -> None:
    counts, spread = {pathology: [] for pathology in PATHOLOGIES}, {pathology: [] for pathology in PATHOLOGIES}
    for seed in range(12):
        lesion = draw_lesion(np.random.default_rng(seed), "calcification")
        for pathology, (added, mask) in zip(PATHOLOGIES, both(lesion, seed, 2048), strict=True):
            labels, count = ndimage.label(added > 0.25 * lesion.contrast)
            sizes = np.bincount(labels.ravel())[1:]
            counts[pathology].append(count / lesion.count)
            spread[pathology].append(sizes.std() / sizes.mean())
            assert mask[added > 0.25 * lesion.contrast].mean() > 0.95
    assert np.mean(counts["benign"]) == pytest.approx(1.0, abs=0.05)
    assert np.mean(counts["malignant"]) == pytest.approx(1.0, abs=0.15)
    assert np.min(spread["malignant"]) > np.max(spread["benign"])


@pytest.mark.parametrize("kind", KINDS)
def test_scale_and_contrast_enlarge_and_strengthen(kind: str) -> None:
    plain = draw_lesion(np.random.default_rng(0), kind)
    large = draw_lesion(np.random.default_rng(0), kind, scale=2.0, contrast=1.5)
    assert large.diameter == pytest.approx(2 * plain.diameter)
    for (small_added, small_mask), (added, mask) in zip(both(plain, 1), both(large, 1), strict=True):
        assert mask.sum() == pytest.approx(4 * small_mask.sum(), rel=0.02)
        assert added.sum() == pytest.approx(6 * small_added.sum(), rel=0.02)


def test_a_benign_mass_has_as_much_edge_as_a_malignant_one() -> None:
    def edge(added: np.ndarray) -> float:
        return float(np.square(added - ndimage.uniform_filter(added, 5)).sum())

    for halo in (0.0, 1.4):
        ratios = []
        for seed in range(12):
            lesion = draw_lesion(np.random.default_rng(seed), "mass", scale=2.0, halo=halo)
            (smooth, _), (ragged, _) = both(lesion, seed, 224)
            ratios.append(edge(smooth) / edge(ragged))
        assert 0.8 < np.mean(ratios) < 1.25


@pytest.mark.parametrize("kind", KINDS)
def test_a_halo_darkens_around_a_finding_and_tells_no_pathology(kind: str) -> None:
    plain = draw_lesion(np.random.default_rng(0), kind)
    haloed = draw_lesion(np.random.default_rng(0), kind, halo=1.2)
    sums = []
    for (bare, mask), (added, same_mask) in zip(both(plain, 1), both(haloed, 1), strict=True):
        assert same_mask.sum() == pytest.approx(mask.sum(), rel=0.02)
        assert added.max() <= bare.max() * 1.01  # set off, not brighter
        assert added[~same_mask].min() < -0.3 * bare.max()
        assert abs(added[0].min()) < 0.05 * bare.max()  # it fades away before its reach ends
        sums.append(added.sum())
    assert sums[0] == pytest.approx(sums[1], rel=0.02)
