"""Transfer: two models on the collection of one of them and on another, whose task has another name."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from mammo_hf import MammoImageProcessor
from mammo_hf.cli import main
from mammo_hf.data.loading import load
from mammo_hf.data.splits import save_training_split
from mammo_hf.errors import UsageError
from mammo_hf.evaluation.classifier import without_few
from mammo_hf.metrics.operating_points import RULES
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.studies.shortcuts import FREE, STATISTICS
from mammo_hf.studies.transfer import transfer
from mammo_hf.testing import tiny_classifier

pytestmark = pytest.mark.slow
MAP = "pathology=cancer:no=benign,yes=malignant"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Collections `here` and `there`, a model trained on the former, and one that says nothing of its training."""
    root = tmp_path_factory.mktemp("transfer")
    options = {"size": (224, 112), "num_workers": 1, "progress": False}
    write_phantom(root / "here", patients=20, seed=0, test_fraction=0.6, **options)
    write_phantom(root / "drawn", patients=10, seed=1, **options)
    here, drawn = load(root / "here"), load(root / "drawn")
    (root / "there").mkdir()
    with (root / "there" / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "patient", "side", "view", "cancer", "machine"])
        for row in drawn:
            cancer = "yes" if row["pathology"] == "malignant" else "no"
            side, machine = row["laterality"], "AB"[int(row["patient"], 16) % 2]
            writer.writerow([row["path"], f"P{row['patient']}", side, row["view"], cancer, machine])
    for seed, name in enumerate(("trained", "stranger")):
        model = tiny_classifier()
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.classifier.weight)
        point = {"threshold": 0.5, "sensitivity": 0.4, "specificity": 0.95}
        points = dict.fromkeys(RULES, point)
        model.config.operating_points = {"pathology": dict.fromkeys(("image", "breast", "patient"), points)}
        model.save_pretrained(root / name)
        MammoImageProcessor(size=(112, 56)).save_pretrained(root / name)
    save_training_split(here, root / "trained", seed=0)
    return root


def _run(place, out, **more):
    models, datasets = ([place / name for name in names] for names in (("trained", "stranger"), ("here", "there")))
    datasets = [datasets[0], datasets[1] / "labels.csv"]
    how = {"task_map": [MAP], "resamples": 100, "num_workers": 0, "near_duplicates": False, "baselines": False}
    how |= more
    return transfer(models, datasets, out, **how)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def figures(place, written):
    return _run(place, written)


def _cell(figures, model, dataset, task="pathology"):
    (found,) = (
        cell for cell in figures["cells"] if (cell["model"], cell["dataset"], cell["task"]) == (model, dataset, task)
    )
    return found


def test_home_is_where_the_split_is_from(figures):
    assert {(cell["model"], cell["dataset"]) for cell in figures["cells"] if cell["home"]} == {("trained", "here")}
    away = _cell(figures, "trained", "there")
    at_home = _cell(figures, "trained", "here")
    assert away["drop"] == pytest.approx(at_home["auroc"] - away["auroc"])
    assert away["drop_interval"][0] < away["drop"] < away["drop_interval"][1]
    assert "drop" not in at_home
    assert "drop" not in _cell(figures, "stranger", "there")  # its home is not known


def test_both_models_score_the_same_images_of_the_test_split(figures, place):
    here = load(place / "here")
    tested = here.where(split="test").where(lambda row: row["pathology"] is not None)
    for model in ("trained", "stranger"):
        assert _cell(figures, model, "here")["n_images"] == len(tested)
    assert _cell(figures, "trained", "there")["n_images"] == 40


def test_differences_are_paired_and_adjusted_together(figures):
    found = [one for one in figures["differences"] if one["task"] == "pathology" and one["dataset"] == "there"]
    (one,) = found
    first, second = (_cell(figures, one[name], "there") for name in ("first", "second"))
    assert one["difference"] == pytest.approx(second["auroc"] - first["auroc"])
    assert one["p_adjusted"] == pytest.approx(one["p"])  # the only pair
    within = second["within"]["patient"]["auroc"] - first["within"]["patient"]["auroc"]
    assert one["within_patient"] == pytest.approx(within)


def test_a_task_that_a_collection_lacks_has_a_reason(figures):
    cell = _cell(figures, "trained", "there", "density")
    assert cell["auroc"] is None
    assert "does not have this task" in cell["auroc_reason"]


def test_the_threshold_is_that_of_home_and_probabilities_are_judged_before_and_after(figures, written):
    away = _cell(figures, "trained", "there")
    assert away["operating_point"]["threshold"] == 0.5
    (saved,) = (path for path in written.rglob("scores.json") if path.parent.name == "trained" and "there" in str(path))
    scores = json.loads(saved.read_text())["tasks"]["pathology"]
    truth, called = np.array(scores["references"]), np.array(scores["after"])[:, 1] >= 0.5
    counts = [[int((called[truth == row] == column).sum()) for column in range(2)] for row in range(2)]
    assert np.sum(counts) == away["n_images"]
    published = [list(without_few(dict(enumerate(row))).values()) for row in counts]
    assert away["operating_point"]["confusion"] == published
    low, high = away["operating_point"]["sensitivity_within"]  # a count is below ten
    assert low <= counts[1][1] / sum(counts[1]) <= high
    assert all("None" not in text for text in (path.read_text() for path in written.glob("*.md")))
    # a quarter of ten patients is too few to recalibrate on
    assert away["recalibration"] is None
    assert "patients" in away["recalibration_reason"]


def test_a_second_run_scores_nothing_again(place, figures, tmp_path, monkeypatch):
    first = _run(place, tmp_path)
    monkeypatch.setattr("mammo_hf.studies.transfer.evaluate", lambda *a, **k: pytest.fail("it was scored again"))
    assert json.dumps(_run(place, tmp_path)) == json.dumps(first) == json.dumps(figures)


def test_films_that_a_model_was_trained_on_under_another_name_are_left_out(place, tmp_path):
    """The other collection holds a training film of the first one, of another patient by its name."""
    here = load(place / "here")
    film = next(row for row in here.where(split="train") if row["pathology"] is not None)
    rows = (place / "there" / "labels.csv").read_text().splitlines()
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "labels.csv").write_text("\n".join([*rows, f"{film['path']},Another,L,CC,yes,A"]) + "\n")
    found = transfer(
        [place / "trained"],
        [place / "here", folder / "labels.csv"],
        tmp_path / "out",
        task_map=[MAP],
        resamples=100,
        num_workers=0,
        baselines=False,
    )
    assert found["left_out"]["there"] == 1
    assert _cell(found, "trained", "there")["n_images"] == 40


def test_a_column_of_own_tables_is_the_stratum(place, tmp_path):
    how = {"task_map": [MAP], "resamples": 100, "num_workers": 0, "near_duplicates": False, "baselines": False}
    table, reading = place / "there" / "labels.csv", {"stratum": "machine"}
    cell = _cell(transfer([place / "trained"], [table], tmp_path, reading=reading, **how), "trained", "there")
    assert cell["within"]["stratum"]["n_pairs"] < cell["class_counts"]["benign"] * cell["class_counts"]["malignant"]


def test_the_command_prints_the_table_and_draws_a_heat_map(place, tmp_path, capsys):
    line = ["transfer", str(place / "trained"), str(place / "stranger"), "--datasets", str(place / "here")]
    line += [str(place / "there" / "labels.csv"), "--task_map", MAP, "--resamples", "100", "--num_workers", "0"]
    assert main([*line, "--keep_near_duplicates", "--output_dir", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "transfer.md").read_text() in printed
    assert "| trained | **0." in printed
    assert "stranger minus trained" in printed
    assert (tmp_path / "transfer_pathology.png").stat().st_size > 5_000
    # two models and three of what needs no network, on two collections and two tasks
    assert len(list(csv.DictReader((tmp_path / "transfer.csv").open()))) == 20
    found = json.loads((tmp_path / "transfer.json").read_text())
    for name in FREE:
        cell = _cell(found, f"{name} (here)", "there")
        assert cell["n_images"] == _cell(found, "trained", "there")["n_images"]
        assert "drop" in cell
    compared = {(one["first"], one["second"]) for one in found["differences"] if one["dataset"] == "there"}
    assert ("trained", f"{STATISTICS} (here)") in compared
    assert not any(first.startswith(STATISTICS) for first, _ in compared)
    told = {(one["features"], one["target"]): one for one in found["probe"]}
    assert {features for features, _ in told} == {STATISTICS, "acquisition statistics", "trained", "stranger"}
    one = told["trained", "collection"]
    assert one["values"] == ["here", "there"] or "fewer than two" in one["auroc_reason"]
    assert "## How well features distinguish collections and strata" in printed


@pytest.mark.parametrize("text", ["pathology", "pathology=cancer", "pathology=cancer:no", "=cancer:no=benign"])
def test_a_map_of_another_form_is_refused(place, tmp_path, text):
    with pytest.raises(UsageError, match="pathology=cancer:no=benign"):
        _run(place, tmp_path, task_map=[text])
