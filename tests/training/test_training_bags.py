"""Training of heads over features through `finetune`: its start, its records, what it refuses, and a resume."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
from made_features import made_store
from transformers import TrainerCallback

import mammo_hf
from mammo_hf import MammoBagConfig, MammoBagForClassification
from mammo_hf.encoders.store import features_about
from mammo_hf.encoders.units import Bags, features_of, score_bags
from mammo_hf.errors import DataError, UsageError
from mammo_hf.models.checkpoint import read_checkpoint
from mammo_hf.models.training_statistics import STATISTICS, pooled_features
from mammo_hf.training import bags as training
from mammo_hf.training.bags import BagFit, breast_features, fit_standardisation, left_right_differences, unit_means
from mammo_hf.training.classification import ClassificationConfig

QUIET = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "num_train_epochs": 1, "logging_steps": 1}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return made_store(tmp_path_factory.mktemp("features"), patients=40)


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "bag"
    return mammo_hf.finetune(store, out, tasks=["pathology", "density"], level=["breast", "exam"], **QUIET)


def fit(store, out, **options):
    tasks = [{**task, "level": "breast"} for task in store.tasks]
    config = ClassificationConfig(str(out), **{**QUIET, **options})
    about = features_about(store[0]["path"].partition("#")[0])
    return BagFit(features_of(store, tasks), tasks, tuple(store.column("patient")), about, config)


def test_everything_that_a_training_writes_is_there(trained):
    written = {path.name for path in trained.output_dir.iterdir()}
    assert written >= {"config.json", "model.safetensors", "split.json", "label_subset.json", "terms.json", "run.yaml"}
    assert written >= {"metrics.json", "README.md", "preprocessor_config.json", "plots"}
    assert "prepared" not in written
    metrics = read_checkpoint(trained.output_dir).figures
    assert metrics["class_weights"]["pathology"] == pytest.approx([2 / 3, 2])  # one breast of two, of half the patients
    assert metrics["train_units"] == 24 * 2 + 24  # breasts for one task, exams for the other
    for task, level in (("pathology", "breast"), ("density", "exam")):
        of_task = metrics["test"][task]
        assert of_task["level"] == level
        assert of_task["units"].keys() == {"breast", "exam", "patient"}
        assert "auroc" in of_task["units"][level]["head"]
        assert of_task["units"]["exam"]["differences"].keys() == {"mean", "max", "noisy_or"}
        assert "logistic regression" in metrics["baselines"][task]
    card = (trained.output_dir / "README.md").read_text()
    assert "a head of" in card
    assert "| logistic regression |" in card
    assert "Swin" not in card
    assert "test by breast AUC" in str(trained)


def test_the_head_is_not_worse_than_the_regression_that_it_starts_from(trained):
    for of_task in trained.metrics["baselines"].values():
        assert of_task["logistic regression"]["difference"] > -0.1


def test_it_keeps_what_training_images_have_in_common_if_there_are_fifty_patients(trained, tmp_path):
    assert not (trained.output_dir / STATISTICS).exists()  # 24 patients
    fitted = fit(made_store(tmp_path / "many", patients=100), tmp_path / "out")
    found = fitted.training_statistics()
    hidden = fitted.network.config.hidden_size
    assert found.mean.shape == (4 * hidden,)
    assert (found.mean[2 * hidden :] == 0).all()  # one image has no left-right difference
    other = fit(made_store(tmp_path / "other", patients=10, signal=30.0), tmp_path / "out")
    flags = []
    for rows in (fitted.rows, other.rows):
        bags = Bags(rows, fitted.tasks, level="image")
        with pooled_features(fitted.network) as seen:
            score_bags(fitted.network, bags)
        shifted = (bags.labels[:, 0] == 1) if rows is other.rows else np.ones(len(bags), bool)
        flags.append(found.unlike(torch.cat(seen).numpy())[shifted].mean())
    assert flags[0] < 0.1
    assert flags[1] == 1


def test_it_is_evaluated_from_its_folder(trained, store, tmp_path):
    found = mammo_hf.evaluate(trained.output_dir, store, tmp_path / "report", device="cpu", resamples=100)
    assert found.split == "test"
    units = found.figures["pathology"]["units"]
    assert (units["breast"]["n_units"], units["exam"]["n_units"]) == (16, 8)
    again = trained.metrics["test"]["pathology"]["units"]["breast"]["head"]["auroc"]
    assert units["breast"]["head"]["auroc"] == again
    assert "head" in (tmp_path / "report" / "report.html").read_text()


def test_features_of_another_encoder_or_other_tiles_are_refused(trained, store, tmp_path):
    folder = tmp_path / "other"
    other = made_store(folder, patients=8)
    about = json.loads((folder / "features.json").read_text())
    (folder / "features.json").write_text(json.dumps(about | {"spacing": 0.2}))
    with pytest.raises(UsageError, match=r"with spacing 0\.2, the head was trained on spacing 0\.1"):
        mammo_hf.evaluate(trained.output_dir, other, tmp_path / "report", split="all", device="cpu")
    record = about["encoder"] | {"weights": "1" * 64, "name": "another"}
    (folder / "features.json").write_text(json.dumps(about | {"encoder": record}))
    with pytest.raises(UsageError, match="the encoder another, the head was trained on the encoder made"):
        mammo_hf.evaluate(trained.output_dir, other, tmp_path / "report", split="all", device="cpu")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"model": "nano"}, "model: features have an encoder already"),
        ({"image_size": [64, 32]}, "image_size: is for images"),
        ({"tune": "head"}, "tune: is for images"),
        ({"sampling": "balanced"}, "sampling: is 'balanced'"),
        ({"level": ["side"]}, "level"),
        ({"level": ["breast", "exam", "image"], "tasks": ["pathology", "density"]}, "level: 3 levels for the tasks"),
    ],
)
def test_options_that_features_cannot_honour_are_refused(store, tmp_path, options, match):
    with pytest.raises(UsageError, match=match):
        mammo_hf.finetune(store, tmp_path, **QUIET, **options)
    assert not (tmp_path / "model.safetensors").exists()


def test_patients_whom_the_encoder_was_trained_on_are_not_tested(tmp_path):
    store = made_store(tmp_path / "features", patients=20)
    splits = dict.fromkeys(store.column("patient"), "train")
    (tmp_path / "features" / "split.json").write_text(json.dumps({"salt_name": "private", "splits": splits}))
    with pytest.raises(DataError, match="an earlier stage"):
        mammo_hf.finetune(store, tmp_path / "out", **QUIET)


def test_a_fraction_of_the_labels_is_by_patient(store, tmp_path):
    found = fit(store, tmp_path)
    patients = tuple(sorted(set(store.where(split="train").column("patient")))[:6])
    some = BagFit(found.rows, found.tasks, patients, {"encoder": found.figures["encoder"]}, found.config)
    assert set(some.units["train"].patients) == set(patients)
    assert len(some.units["validation"]) == len(found.units["validation"])


def test_it_starts_as_the_regression_and_keeps_that_start_if_no_epoch_is_better(store, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    found = fit(store, tmp_path, learning_rate=1e-12, save_strategy="epoch")
    fit_standardisation(found.network, found.units["train"])
    found.start_from_logistic()
    means = unit_means(breast_features(found.network, found.units["test"]))
    expected = np.concatenate([means @ weight.T + bias for weight, bias in found.logistic.values()], axis=1)
    np.testing.assert_allclose(score_bags(found.network, found.units["test"]), expected, atol=1e-4)
    found.train([], None)
    assert found.figures["start_is_kept"]
    assert "no epoch was better" in caplog.text
    np.testing.assert_allclose(score_bags(found.network, found.units["test"]), expected, atol=1e-4)


def test_without_validation_the_attention_alone_is_trained(store, tmp_path):
    found = fit(store, tmp_path, learning_rate=0.1)
    found.units["validation"] = Bags(found.rows.select([]), found.tasks)
    found.train([], None)
    assert found.figures["attention_alone"]
    assert found.network.tile_attention.score.any()
    start = fit(store, tmp_path)
    fit_standardisation(start.network, start.units["train"])
    start.start_from_logistic()
    for name, value in start.network.state_dict().items():
        if "attention" not in name:
            torch.testing.assert_close(found.network.state_dict()[name], value)
    assert all(parameter.requires_grad for parameter in found.network.parameters())


def test_lesions_are_trained_on_where_they_are_located(store, tmp_path):
    found = fit(store, tmp_path)
    assert found.figures["lesion_loss_weight"] == 1
    example = found.units["train"][0]
    assert example["lesions"]
    assert not found.units["validation"][0]["lesions"]
    assert fit(store, tmp_path, lesion_loss=0.0).figures["lesion_loss_weight"] == 0


def test_left_right_differences(store):
    tasks = [{**task, "level": "breast"} for task in store.tasks]
    rows = features_of(store, tasks)
    network = MammoBagForClassification(MammoBagConfig(feature_size=8, tasks=tasks))
    for level in ("image", "breast", "exam"):
        bags = Bags(rows, tasks, level=level)
        breasts = breast_features(network, bags)
        found = left_right_differences(breasts, bags, rows, level)
        assert found.shape == (len(bags), 16)
        assert np.abs(found).max() > 0
        if level == "breast":  # left and right of an exam follow each other in the store
            np.testing.assert_allclose(found[0::2], -found[1::2], atol=1e-5)
            exams = Bags(rows, tasks, level="exam")
            of_exams = left_right_differences(breast_features(network, exams), exams, rows, "exam")
            np.testing.assert_allclose(np.abs(found[0::2]), of_exams, atol=1e-5)


def test_units_of_each_level(store):
    tasks = [{**store.tasks[0], "level": "breast"}, {**store.tasks[1], "level": "exam"}]
    rows = features_of(store, tasks)
    mixed = Bags(rows, tasks)
    assert len(mixed) == 80 + 40
    assert set(mixed.labels[:80, 1]) == {-100}
    assert set(mixed.labels[80:, 0]) == {-100}
    exams = Bags(rows, tasks, level="exam")
    assert {len(unit) for unit in exams.units} == {4}
    assert exams.labels[:, 0].tolist() == [patient % 2 for patient in range(40)]  # the most severe of both breasts
    shuffled = store.where(lambda row: row["view"] == "CC")
    assert len(features_of(shuffled, tasks)) == 80


class StopAfter(TrainerCallback):
    """Ends a training as a kill would, after the checkpoint of an epoch."""

    def on_save(self, args, state, control, **kwargs):
        """Raise in the middle of the run."""
        raise KeyboardInterrupt


@pytest.mark.slow
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(store, tmp_path, monkeypatch):
    options = {**QUIET, "num_train_epochs": 3, "tasks": ["pathology"], "seed": 3}
    monkeypatch.setattr(training.BagFit, "baselines", lambda self: {})
    mammo_hf.finetune(store, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        mammo_hf.finetune(store, tmp_path / "cut", callbacks=[StopAfter()], **options)
    other = options | {"tasks": ["density", "pathology"]}
    with pytest.raises(UsageError, match=r"is of the tasks pathology, .* and not of density, pathology"):
        mammo_hf.finetune(store, tmp_path / "cut", resume_from_checkpoint=True, **other)
    mammo_hf.finetune(store, tmp_path / "cut", resume_from_checkpoint=True, **options)
    models = [MammoBagForClassification.from_pretrained(tmp_path / name) for name in ("whole", "cut")]
    for first, second in zip(*(model.state_dict().values() for model in models), strict=True):
        torch.testing.assert_close(first, second)
