"""The table of the comparison within patients: what its figures and sentences say, on cells that are made up."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="module")
def within(program):
    return program("benchmarks/within_patient.py")


@pytest.fixture
def pairs(within):
    patients = np.repeat([f"p{number:03d}" for number in range(100)], 2)
    images = [f"{side}{number}" for side in "ab" for number in range(200)]
    return within.Pairs(patients, images[:200], images[200:], dict.fromkeys(images, ("x", "A", "i.png")))


def cell(percentage, share, untested=0, seed=0):
    """A cell in which a fraction of the pairs is in order, spread over the patients."""
    order = np.random.default_rng(seed).permutation(200)
    scores: list[float | None] = np.where(order < round(200 * share), 1.0, -1.0).tolist()
    scores[:untested] = [None] * untested
    return [{"percentage": percentage, "train_pairs": 50.0, "scores": scores, "single": None}]


def test_a_tie_is_a_half_and_what_is_not_tested_is_left_out(within):
    found = within.concordance([{"scores": [2.0, 0.0, -1.0, None]}, {"scores": [1.0, 1.0, -1.0, None]}])
    assert found[:3].tolist() == [1, 0.75, 0]
    assert np.isnan(found[3])


def test_an_arm_must_be_above_what_is_free_and_random(within, pairs):
    shares = {within.STATISTICS: 0.55, "random": 0.5, "teacher": 0.8, "masked": 0.57}
    cells = {(arm, p): cell(p, share, seed=len(arm)) for arm, share in shares.items() for p in (10.0, 100.0)}
    table, sentences = within.table_of(cells, pairs, folds=3)
    (line,) = (line for line in table.splitlines() if line.startswith("| teacher | 100 %"))
    assert "| 200 | 0.800 (" in line
    assert "+0.250 (" in line
    (line,) = (line for line in table.splitlines() if line.startswith("| masked | 100 %"))
    assert line.count("[") >= 1  # next to a difference that is not shown
    text = " ".join(sentences)
    assert "Teacher: 0.800 with all labels; above best free baseline with 10, 100 % of the labels; above random" in text
    assert "Masked: 0.570 with all labels; never above best free baseline" in text
    assert "no reference" in text


def test_labels_are_saved_of_a_reference_that_has_learned(within, pairs):
    shares = {(within.STATISTICS, 0.5): (10.0, 100.0)}
    cells = {(arm, p): cell(p, share) for (arm, share), at in shares.items() for p in at}
    cells |= {("random", 10.0): cell(10.0, 0.6), ("random", 100.0): cell(100.0, 0.75)}
    cells |= {("teacher", 10.0): cell(10.0, 0.85), ("teacher", 100.0): cell(100.0, 0.9)}
    _, sentences = within.table_of(cells, pairs, folds=3)
    assert any(line.startswith("Labels saved: teacher reaches random features' 100 % with 10") for line in sentences)


def test_an_encoder_is_compared_on_the_women_whom_it_has_not_seen(within, pairs):
    cells = {(within.STATISTICS, 100.0): cell(100.0, 0.5), ("random", 100.0): cell(100.0, 0.5)}
    cells[("own", 100.0)] = cell(100.0, 0.9, untested=80)
    table, _ = within.table_of(cells, pairs, folds=3)
    (line,) = (line for line in table.splitlines() if line.startswith("| own"))
    assert "| 120 | 0." in line
