"""Stage 2 sees each split as it must: what is augmented, what chooses the epoch, what counts for the weights."""

from __future__ import annotations

import json
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from mammo_hf import MammoImageProcessor, MammoSwinForImageClassification
from mammo_hf.data.torch_datasets import LabelledImages
from mammo_hf.errors import DataError
from mammo_hf.models import training_statistics
from mammo_hf.models.training_statistics import pooled_features, read_statistics
from mammo_hf.training import classification
from mammo_hf.training.classification import ClassificationConfig
from mammo_hf.training.scoring import epoch_metrics

SIDE = 112
TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}]
# (split, label, how many): every split has its own balance
ROWS = (
    *(("train", 0, 6), ("train", 1, 2), ("validation", 0, 1), ("validation", 1, 1)),
    *(("test", 0, 1), ("test", 1, 9), ("unlabelled", -100, 3)),
)


@pytest.fixture
def prepared():
    rows = []
    for split, label, count in ROWS:
        for number in range(count):
            values = np.random.default_rng([label + 100, number]).integers(0, 65536, (SIDE, SIDE), dtype=np.uint16)
            rows.append(
                {
                    **{"image_id": f"{split}{label}{number}", "patient": f"{split}{label}{number}", "split": split},
                    **{"laterality": "L", "view": "CC", "labels": [label], "size": [SIDE, SIDE]},
                    **{"pixels": values.tobytes(), "lesions": None, "geometry": "{}"},
                }
            )
    return datasets.Dataset.from_list(rows)


def trained(prepared, out, **options):
    """Train as `finetune` does, from prepared images on; returns the metrics."""
    settings = {"num_train_epochs": 1, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "seed": 0} | options
    config = ClassificationConfig(str(out), use_cpu=True, num_workers=0, **settings)
    processor = MammoImageProcessor(size=SIDE)
    patients = tuple(prepared["patient"])  # of every split: only the training ones may count
    fitted = classification.fit_classifier(prepared, processor, config, model="nano", tasks=TASKS, patients=patients)
    return classification._evaluate_and_save(fitted, processor, config, fitted.figures)


@pytest.fixture
def trainer(prepared, tmp_path, monkeypatch):
    """The Trainer as stage 2 sets it up, untrained; `evaluated` holds the images it was asked about after."""
    seen = {"evaluated": []}
    monkeypatch.setattr(classification, "run", lambda made, resume: seen.update(trainer=made))
    monkeypatch.setattr(classification, "draw_curves", lambda *arguments: None)
    predicted = classification.predicted_logits

    def watched(made, images):
        seen["evaluated"].append(images)
        return predicted(made, images)

    monkeypatch.setattr(classification, "predicted_logits", watched)
    seen["figures"] = trained(prepared, tmp_path)
    return seen


@pytest.mark.slow
def test_statistics_of_the_training_images_are_kept_of_enough_patients(prepared, tmp_path, monkeypatch):
    trained(prepared, tmp_path)
    assert read_statistics(tmp_path) is None  # eight patients
    monkeypatch.setattr(training_statistics, "FEWEST_PATIENTS", 8)
    trained(prepared, tmp_path)
    found = read_statistics(tmp_path)
    assert found is not None
    network = MammoSwinForImageClassification.from_pretrained(tmp_path).eval()
    processor = MammoImageProcessor.from_pretrained(tmp_path)
    splits = np.array(prepared["split"])
    train, validation = (
        LabelledImages(prepared.select(np.flatnonzero(splits == name)), processor) for name in ("train", "validation")
    )
    with torch.no_grad(), pooled_features(network) as seen:
        for images in (train, validation):
            network(torch.stack([images[index]["pixel_values"] for index in range(len(images))]))
    assert np.allclose(found.mean, seen[0].mean(0).numpy(), atol=1e-5)
    assert found.threshold == pytest.approx(found.distances(seen[1].numpy()).max(), rel=1e-3)
    monkeypatch.undo()
    trained(prepared, tmp_path)
    assert read_statistics(tmp_path) is None  # those of another training are not left behind


def test_training_alone_is_augmented(trainer):
    made = trainer["trainer"]
    first, again = made.train_dataset[0]["pixel_values"], made.eval_dataset[0]["pixel_values"]
    made.train_dataset.epoch = made.eval_dataset.epoch = 1
    assert not torch.equal(first, made.train_dataset[0]["pixel_values"])
    assert torch.equal(again, made.eval_dataset[0]["pixel_values"])
    raw, _, _ = made.eval_dataset.intensity_and_lesions(0)
    stored = np.frombuffer(made.eval_dataset.prepared[0]["pixels"], np.uint16).reshape(1, SIDE, SIDE) / 65535
    np.testing.assert_allclose(raw.numpy(), stored, atol=1e-6)


def test_no_evaluated_image_is_augmented(trainer):
    assert [images.augmentation for images in trainer["evaluated"]] == [None, None]


def test_validation_chooses_the_epoch_and_the_test_split_is_read_once(trainer):
    made = trainer["trainer"]
    assert set(made.train_dataset.prepared["split"]) == {"train"}
    assert set(made.eval_dataset.prepared["split"]) == {"validation"}
    assert made.args.metric_for_best_model == "eval_pathology_auroc"
    assert made.args.load_best_model_at_end
    assert [set(images.prepared["split"]) for images in trainer["evaluated"]] == [{"validation"}, {"test"}]


def test_class_weights_count_training_rows_alone(trainer):
    assert trainer["figures"]["class_weights"] == {"pathology": [8 / (2 * 6), 8 / (2 * 2)]}
    assert trainer["trainer"].model.config.class_weights == trainer["figures"]["class_weights"]


def test_scores_that_are_not_finite_end_the_training(trainer):
    prediction = EvalPrediction(np.array([[0.0, np.nan]]), np.array([[1]]))
    with pytest.raises(DataError, match="diverged"):
        epoch_metrics(prediction, trainer["trainer"].model.config)


def test_without_a_validation_image_it_trains_to_the_last_epoch(prepared, tmp_path):
    rows = prepared.filter(lambda split: split != "validation", input_columns="split")
    figures = trained(rows, tmp_path, per_device_train_batch_size=8)
    assert figures["validation"] == {"reason": "no labelled image"}
    assert (tmp_path / "model.safetensors").is_file()


def test_the_last_epoch_is_kept_on_request_with_evaluations_still_compared_by_auc(prepared, tmp_path):
    figures = trained(prepared, tmp_path, load_best_model_at_end=False)
    assert "auroc" in figures["test"]["pathology"]
    states = sorted(tmp_path.glob("checkpoint-*/trainer_state.json"))
    best = json.loads(states[-1].read_text())["best_metric"]
    assert best is None or 0 <= best <= 1


def test_a_short_training_of_the_whole_network_is_warned_of(trainer, caplog):
    for options, warned in (({}, True), ({"tune": "head"}, False), ({"max_steps": 500}, False)):
        caplog.clear()
        config = trainer["trainer"].args.with_options(**options)
        classification._warn_of_few_updates(SimpleNamespace(get_train_dataloader=lambda: range(2)), config)
        assert ("updates are few" in caplog.text) is warned
