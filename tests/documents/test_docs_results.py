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


def test_what_changes_an_arm_is_compared_with_the_arm_without_it(within, pairs):
    shares = {within.STATISTICS: 0.5, "random": 0.5, "teacher": 0.7}
    shares |= {f"teacher{within.RANKED}": 0.3, f"teacher{within.CURVED}": 0.9}
    cells = {(arm, 100.0): cell(100.0, share) for arm, share in shares.items()}
    own = {"own": (0.5, 0), "own, last stage": (0.5, 1), "own, last stage, pairs": (0.9, 1)}
    cells |= {(arm, 100.0): cell(100.0, share, seed=seed) for arm, (share, seed) in own.items()}
    table, sentences = within.table_of(cells, pairs, folds=3)
    (line,) = (line for line in table.splitlines() if line.startswith("| teacher, ranks"))
    assert "| -0.400 (" in line
    (line,) = (line for line in table.splitlines() if line.startswith("| own, last stage, pairs"))
    assert "| +0.400 (" in line
    text = " ".join(sentences)
    assert "that help, with all labels: own, last stage, pairs (+0.400); teacher, tone curves (+0.200)." in text
    assert "that harm, with all labels: teacher, ranks equalised (-0.400)." in text
    assert "nothing that is shown, with all labels: own, last stage (+0.000)." in text


def test_a_training_says_whether_it_has_left_chance(within):
    learned = {"updates": 300, "loss": [1.4, 0.7], "own": 0.9}
    found = within.figures_of_training({("own, whole", 100.0): [learned], ("own", 100.0): [{"scores": []}]})
    assert found.splitlines()[2:] == ["| own, whole | 100 % | 300 | 1.400 to 0.700 | 0.900 |"]
    assert within.figures_of_training({("own", 100.0): [{}]}) == ""


def test_tones_are_of_what_is_read_and_versions_are_kept_apart(within):
    image = np.linspace(0, 1, 32, dtype=np.float32).reshape(4, 8)
    draw = np.random.default_rng(0)
    assert [len(within._toned(f"x{tone}", image, draw)) for tone in ("", within.RANKED, within.CURVED)] == [1, 1, 1]
    (bent,) = within._toned(f"x{within.CURVED}", image, draw)
    assert not np.allclose(bent, image, atol=0.01)
    assert (np.diff(bent.ravel()) >= 0).all()
    assert within._versions(np.arange(4).reshape(2, 2, 1))[:, 0].tolist() == [0, 2, 1, 3]
