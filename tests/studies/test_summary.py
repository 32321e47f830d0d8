"""What a grid says: means over seeds, folds pooled by rank, paired differences, labels needed."""

import numpy as np
import pytest

from mammo_hf.evaluation.study_tables import csv_table, markdown_table, remarks
from mammo_hf.metrics.classification import auroc
from mammo_hf.metrics.intervals import bootstrap_interval
from mammo_hf.studies.cells import Arm, Cell
from mammo_hf.studies.label_efficiency import Results, StudySettings, gather, interval, labels_needed, summarise

PRETRAINED, RANDOM, IMAGES = Arm("out/mim", "head"), Arm("random", "head"), Arm("image statistics", "baseline")


def result(signal, seed, n=120, shift=0.0):
    generator = np.random.default_rng([seed, 1])
    labels = np.arange(n) % 2
    scores = np.random.default_rng(seed).standard_normal(n) + signal * labels + shift
    positive = 1 / (1 + np.exp(-scores))
    return {
        "images": np.array([f"i{number}" for number in range(n)]),
        "patients": np.array([f"p{number // 2:03d}" for number in generator.permutation(n)]),
        "labels": labels,
        "probabilities": np.stack([1 - positive, positive], 1),
        "facts": {"train_images": 30, "train_patients": 15, "seconds": 2.0},
    }


@pytest.fixture
def results(tmp_path):
    made = Results(tmp_path, StudySettings("data", "pathology", tmp_path, (224, 112)))
    for percentage, signals in ((10, (2.2, 0.0, 0.6)), (100, (2.5, 1.8, 0.6))):
        for seed in range(3):
            for arm, signal in zip((PRETRAINED, RANDOM, IMAGES), signals, strict=True):
                one = result(signal, seed)
                shared = one | {"patients": result(0, 99)["patients"]}
                made.save(Cell(arm, percentage, seed, -1), shared)
    return made


def test_an_arm_is_the_mean_over_its_seeds(results):
    facts, one = gather(results, PRETRAINED, 10, seeds=3, folds=0)
    areas = [auroc(result(2.2, seed)["labels"], result(2.2, seed)["probabilities"][:, 1]) for seed in range(3)]
    assert facts["by_seed"] == pytest.approx(areas)
    assert one[0] == pytest.approx(np.mean(areas))
    _, alone = gather(results, PRETRAINED, 10, seeds=1, folds=0)
    stored = results.load(Cell(PRETRAINED, 10, 0, -1))
    assert interval(alone) == pytest.approx(
        bootstrap_interval(auroc, stored["labels"], stored["probabilities"][:, 1], groups=stored["patients"])
    )


def test_folds_whose_scores_lie_apart_are_not_compared(tmp_path):
    made = Results(tmp_path, StudySettings("data", "pathology", tmp_path, (224, 112), folds=2))
    for fold, shift in ((0, 0.0), (1, 5.0)):
        one = result(1.0, fold, shift=shift)
        # one fold holds more of the positives: pooled as they are, its shift would count
        kept = one["labels"] == 1 if fold else np.ones(120, bool)
        kept[: 20 + 40 * fold] = True
        parts = {name: one[name][kept] for name in ("images", "labels", "probabilities")}
        parts["patients"] = np.char.add(one["patients"][kept], str(fold))
        made.save(Cell(PRETRAINED, 10, 0, fold), one | parts)
    pooled = [made.load(Cell(PRETRAINED, 10, 0, fold)) for fold in (0, 1)]
    labels, scores = (np.concatenate([p[name] for p in pooled]) for name in ("labels", "probabilities"))
    naive = auroc(labels, scores[:, 1])
    within = np.mean([auroc(p["labels"], p["probabilities"][:, 1]) for p in pooled])
    assert abs(naive - within) > 0.05
    assert abs(gather(made, PRETRAINED, 10, seeds=1, folds=2)[1][0] - within) < 0.02


def test_gains_are_paired_and_the_best_baseline_must_be_beaten(results):
    rows = summarise(results, [PRETRAINED, RANDOM, IMAGES], [10, 100], seeds=3, folds=0)
    at = {(row["arm"], row["percentage"]): row for row in rows}
    row = at[PRETRAINED.name, 10]
    assert row["reference"] == RANDOM.name
    assert row["gain"] == pytest.approx(row["auroc"] - at[RANDOM.name, 10]["auroc"])
    assert row["gain_interval"][0] > 0
    assert row["best_baseline"] == IMAGES.name
    assert row["beats_baselines"] is True
    assert "beats_baselines" not in at[IMAGES.name, 10]
    (needed,) = labels_needed(rows)
    assert needed["percentage"] == 10
    assert needed["percentage_interval"][0] == 10
    assert needed["of"] == at[RANDOM.name, 100]["auroc"]
    assert at[RANDOM.name, 100]["beats_free"]


def test_no_label_is_saved_of_a_reference_that_learned_nothing(results):
    for seed in range(3):
        results.save(Cell(RANDOM, 100, seed, -1), result(0.5, seed) | {"patients": result(0, 99)["patients"]})
    rows = summarise(results, [PRETRAINED, RANDOM, IMAGES], [10, 100], seeds=3, folds=0)
    (needed,) = labels_needed(rows)
    assert needed["no_reference"]
    assert needed["percentage"] is None
    told = remarks(rows, [needed])
    assert any("no reference" in line for line in told)
    assert any("prevalence 50.0%" in line for line in told)


def test_the_smallest_difference_that_would_have_been_shown_is_next_to_none(results):
    for seed in range(3):
        results.save(Cell(PRETRAINED, 10, seed, -1), result(0.6, seed + 50) | {"patients": result(0, 99)["patients"]})
    rows = summarise(results, [PRETRAINED, IMAGES], [10], seeds=3, folds=0)
    (row,) = (row for row in rows if row["arm"] == PRETRAINED.name)
    low, high = row["apart_interval"]
    assert low <= 0 <= high
    assert row["apart_detectable"] > (high - low) / 2
    assert any(f"of {row['apart_detectable']:.2f} one would have been" in line for line in remarks(rows, []))


def test_what_unlabelled_images_add_is_paired_too(results):
    teacher = Arm("out/mim", "full", semi_supervised="mean_teacher")
    labelled = Arm("out/mim", "full")
    for seed in range(3):
        for arm, signal in ((teacher, 2.0), (labelled, 0.5)):
            results.save(Cell(arm, 10, seed, -1), result(signal, seed))
    row, alone = summarise(results, [teacher, labelled], [10], seeds=3, folds=0)
    assert row["unlabelled_reference"] == labelled.name
    assert row["unlabelled_gain"] == pytest.approx(row["auroc"] - alone["auroc"])
    assert row["unlabelled_gain_interval"][0] > 0
    assert "unlabelled_gain" not in alone
    assert any(line.endswith(f"over {labelled.name}") for line in remarks([row, alone], []))


def test_what_has_not_been_run_or_could_not_is_said(results):
    results.fail(Cell(RANDOM, 50, 0, -1), "the training subset has labels of one class only")
    rows = summarise(results, [PRETRAINED, RANDOM], [50], seeds=1, folds=0)
    assert [row["auroc"] for row in rows] == [None, None]
    said = remarks(rows, labels_needed(rows))
    assert f"{PRETRAINED.name}: not run yet" in said
    assert any("one class only" in line for line in said)
    assert "no arm beats the best baseline at any percentage, so none has shown a benefit" in said
    assert "| – |" in markdown_table(rows)


def test_table_and_csv_hold_every_arm(results):
    rows = summarise(results, [PRETRAINED, RANDOM, IMAGES], [10, 100], seeds=3, folds=0)
    table = markdown_table(rows)
    assert f"| {PRETRAINED.name} | " in table
    assert f"| *{IMAGES.name}* | " in table
    assert table.count("★") == 2
    lines = csv_table(rows).splitlines()
    assert len(lines) == 1 + len(rows)
    assert lines[0].startswith("arm,tune,baseline,percentage")
