"""The grid from a user's side: an estimate, a run that goes on where it was, a table."""

import json
import shutil

import numpy as np
import pytest
from families import save_family

from mammo_hf.cli import main
from mammo_hf.data.loading import load
from mammo_hf.data.splits import save_split
from mammo_hf.evaluation.evaluate import _label_efficiency_rows
from mammo_hf.models.configuration_mammo_swin import SIZES, MammoSwinConfig
from mammo_hf.models.modeling_mammo_swin import MammoSwinForMaskedImageModeling
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.processing.image_processing_mammo import MammoImageProcessor
from mammo_hf.studies import encoders as studied
from mammo_hf.studies import label_efficiency as running
from mammo_hf.training.options import ENOUGH_UPDATES


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=16, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "mim"
    MammoSwinForMaskedImageModeling(MammoSwinConfig(**SIZES["nano"], image_size=(112, 112))).save_pretrained(folder)
    MammoImageProcessor(size=112).save_pretrained(folder)
    return folder


def arguments(collection, out, *more):
    where = ["--dataset", str(collection), "--output_dir", str(out), "--image_size", "112", "--model", "nano"]
    return ["label-efficiency", *where, *map(str, more)]


@pytest.mark.slow
def test_heads_and_baselines_end_in_a_table_and_are_not_run_twice(collection, checkpoint, tmp_path, monkeypatch):
    grid = ("--init", "scratch", checkpoint, "--percentages", 100, "--seeds", 2, "--folds", 2)
    pools = ("--pool", "mean", "all_stages")
    assert main(arguments(collection, tmp_path, *grid, *pools)) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {row["arm"] for row in summary["rows"]} >= {"mim, frozen, mean features", "image statistics"}
    # these images are of one scanner and one format, which therefore tell nothing
    assert {row["arm"] for row in summary["rows"] if row["auroc"] is None} == {"scanner and file format"}
    assert len(summary["rows"][0]["by_seed"]) == 2
    assert (tmp_path / "label_efficiency.png").is_file()
    assert "| mim, frozen, mean features |" in (tmp_path / "table.md").read_text()
    # what the report of an evaluation takes
    assert _label_efficiency_rows(str(tmp_path / "summary.json")) == summary["rows"]
    monkeypatch.setattr(running, "Study", lambda settings: pytest.fail("everything is there"))
    assert main(arguments(collection, tmp_path, *grid, *pools)) == 0


@pytest.mark.slow
def test_any_encoder_is_an_arm_with_features_that_are_computed_once(collection, tmp_path, monkeypatch):
    vit = save_family("vit", tmp_path / "vit")
    grid = ("--init", "scratch", vit, "--tune", "head", "bag", "--pool", "whole", "tiles", "--seeds", 2, "--folds", 2)
    grid = (*grid, "--percentages", 100)
    computed = []
    taken = studied.embed
    monkeypatch.setattr(studied, "embed", lambda *a, **k: computed.append(k["encoder"]) or taken(*a, **k))
    assert main(arguments(collection, tmp_path / "out", *grid)) == 0
    assert len(computed) == 2  # the encoder and the random one, for all cells
    rows = {row["arm"]: row for row in json.loads((tmp_path / "out" / "summary.json").read_text())["rows"]}
    ways = ("whole view features", "whole view and tiles features", "head over bags")
    for arm in (f"{start}, frozen, {way}" for start in ("vit", "random") for way in ways):
        assert rows[arm]["auroc"] is not None
    assert rows["vit, frozen, head over bags"]["gain_interval"] is not None
    scored = [np.load(path) for path in (tmp_path / "out" / "cells").glob("*100pc_seed1_fold0.npz")]
    assert all(np.array_equal(one["images"], scored[0]["images"]) for one in scored)
    assert "vit" in (tmp_path / "out" / "terms.json").read_text()


def test_every_labelled_image_is_scored_once_a_seed(collection, tmp_path):
    assert main(arguments(collection, tmp_path, "--percentages", 100, "--seeds", 1, "--folds", 2)) == 0
    scored = [np.load(path)["images"] for path in (tmp_path / "cells").glob("image-statistics_*.npz")]
    images = np.concatenate(scored)
    assert len(scored) == 2
    assert len(images) == len(set(images)) == 32


def test_settings_of_how_images_are_read_belong_to_the_study(collection, tmp_path, capsys):
    assert main(arguments(collection, tmp_path, "--dry_run", "--on_missing_window", "robust")) == 0
    assert main(arguments(collection, tmp_path, "--dry_run")) == 2
    assert "another processor_settings" in capsys.readouterr().err


@pytest.mark.slow
def test_a_trained_arm_reports_its_updates_and_leaves_no_checkpoint(collection, checkpoint, tmp_path):
    grid = ("--init", checkpoint, "--tune", "last_stage", "--percentages", 100, "--seeds", 1, "--updates", 2)
    assert main(arguments(collection, tmp_path, *grid)) == 0
    rows = {row["arm"]: row for row in json.loads((tmp_path / "summary.json").read_text())["rows"]}
    assert rows["mim, last stage"]["updates"] == 2
    assert rows["stock, last stage"]["auroc"] is not None
    assert not list((tmp_path / "trainer").glob("*"))


@pytest.mark.slow
def test_an_encoder_is_not_tested_on_patients_from_whom_it_has_learnt(collection, checkpoint, tmp_path):
    learnt = tmp_path / "learnt"
    shutil.copytree(checkpoint, learnt)
    split = learnt / "split.json"
    save_split(load(collection).split(0.2, seed=0), split)
    grid = ("--init", learnt, "--percentages", 100, "--seeds", 1)
    name = "learnt, frozen, mean features"
    assert main(arguments(collection, tmp_path / "folds", *grid, "--folds", 2)) == 0
    rows = {row["arm"]: row for row in json.loads((tmp_path / "folds" / "summary.json").read_text())["rows"]}
    assert rows[name]["auroc"] is None
    assert "was pre-trained on" in rows[name]["reason"]
    assert rows["image statistics"]["auroc"] is not None
    assert main(arguments(collection, tmp_path / "split", *grid, "--split_file", split)) == 0
    rows = {row["arm"]: row for row in json.loads((tmp_path / "split" / "summary.json").read_text())["rows"]}
    assert rows[name]["auroc"] is not None


def test_a_dry_run_says_how_long_it_will_take_and_runs_nothing(collection, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(running, "_seconds_per_step", lambda settings, arm: 0.5)
    monkeypatch.setattr(running, "run_cells", lambda *_: pytest.fail("a dry run"))
    assert main(arguments(collection, tmp_path, "--tune", "full", "--updates", 1000, "--seeds", 3, "--dry_run")) == 0
    said = capsys.readouterr().out
    # scratch and stock, four percentages, three seeds, 1,000 updates of half a second and a fifth on top
    assert "about 4 hours in all" in said
    assert "updates a network trained in full may stay at chance" not in said
    assert main(arguments(collection, tmp_path / "few", "--tune", "full", "--updates", 100, "--dry_run")) == 0
    assert f"fewer than {ENOUGH_UPDATES} updates" in capsys.readouterr().out


def test_a_checkpoint_of_other_images_is_named_before_anything_runs(collection, checkpoint, tmp_path, capsys):
    other = shutil.copytree(checkpoint, tmp_path / "other")
    MammoImageProcessor(size=112, crop_margin=0.3).save_pretrained(other)
    assert main(arguments(collection, tmp_path, "--init", checkpoint, other, "--dry_run")) == 0
    said = capsys.readouterr().out
    assert f"warning: {other} was trained on images of crop_margin 0.3, not 0.02" in said
    assert f"warning: {checkpoint}" not in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--percentages", "0"], "--percentages: is 0"),
        (["--folds", "1"], "--folds: is 1"),
        (["--split_file", "nowhere.json"], "--split_file takes a file"),
        (["--seeds", "0"], "--seeds: is 0"),
        (["--init", "nowhere"], "nowhere"),
        (["--task", "cancer"], "no task 'cancer'"),
    ],
)
def test_wrong_arguments_are_one_line(collection, tmp_path, capsys, more, said):
    assert main(arguments(collection, tmp_path, *more)) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert said in error[-1]
