"""The AUC over pairs within strata, against a count of the pairs one by one."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo_hf.metrics.classification import auroc, auroc_within, auroc_within_rows
from mammo_hf.metrics.inputs import UndefinedMetric, Weighted
from mammo_hf.metrics.intervals import bootstrap_interval

IMAGE = st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 3), st.integers(0, 3))


def one_by_one(images: list[tuple[int, int, int, int]], *, nested: bool) -> float:
    """Count pairs; an image of weight w counts as w images, in a stratum of its own each time if it is nested."""
    concordant = pairs = 0.0
    for (truth, score, stratum, weight), (other, lower, same, times) in product(images, images):
        if truth == 1 and other == 0 and stratum == same:
            count = weight if nested else weight * times
            pairs += count
            concordant += count * ((score > lower) + (score == lower) / 2)
    return concordant / pairs if pairs else float("nan")


@given(st.lists(IMAGE, min_size=1, max_size=30), st.booleans())
def test_equals_a_count_of_pairs(images: list[tuple[int, int, int, int]], nested: bool) -> None:
    if nested:  # all images of a patient are drawn equally often
        images = [(truth, score, stratum, 1 + stratum % 3) for truth, score, stratum, _ in images]
    truth, scores, strata, weights = (np.array(column) for column in zip(*images, strict=True))
    found = auroc_within_rows(Weighted(truth, scores, weights[None].astype(float)), strata=strata, nested=nested)[0]
    np.testing.assert_allclose(found, one_by_one(images, nested=nested), rtol=1e-12)


def test_one_stratum_is_the_auc() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, 2, 50), rng.integers(0, 9, 50)
    assert auroc_within(truth, scores, strata=np.zeros(50, int)) == pytest.approx(auroc(truth, scores), abs=1e-12)


def test_what_tells_the_strata_apart_does_not_help() -> None:
    """A score that is the scanner alone has a high AUC, and one of 1/2 within scanners."""
    scanner = np.repeat([0, 1], 50)
    truth = np.r_[np.arange(50) < 10, np.arange(50) < 40].astype(int)
    assert auroc(truth, scanner) == pytest.approx(0.8)
    assert auroc_within(truth, scanner, strata=scanner) == 0.5


def test_strata_without_a_pair() -> None:
    with pytest.raises(UndefinedMetric, match="no stratum has both"):
        auroc_within([0, 1], [0.1, 0.9], strata=np.array([0, 1]))


def test_interval_of_strata_within_patients() -> None:
    """With one pair per patient the AUC is a fraction of patients, whose interval is known."""
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(300), 2)
    truth = np.tile([0, 1], 300)
    scores = np.where(truth == 1, np.repeat(rng.random(300) < 0.7, 2), 0.5)
    metric = partial(auroc_within, strata=patients, nested=True)
    found = metric(truth, scores)
    low, high = bootstrap_interval(metric, truth, scores, groups=patients, resamples=1000)
    half = 1.96 * np.sqrt(found * (1 - found) / 300)
    assert (low, high) == pytest.approx((found - half, found + half), abs=0.01)
