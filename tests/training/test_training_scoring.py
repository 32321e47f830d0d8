"""Where the lesion task's score comes from is chosen on validation images, and stays as it is without a reason."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_labelled import TASKS

from mammo_hf import MammoSwinConfig
from mammo_hf.errors import UsageError
from mammo_hf.models.modeling_mammo_swin import probabilities
from mammo_hf.training.classification import ClassificationConfig, choose_score
from mammo_hf.training.scoring import check_metric, choose_metric

LABELS = np.array([[0, 1], [1, -100], [0, 2], [1, 0], [-100, 1]])


def predicting(pooled, lesion):
    """A Trainer that predicts log-odds for malignant; the density's logits are all alike."""
    config = MammoSwinConfig(tasks=TASKS, lesion_task="pathology")
    logits = np.zeros((5, 5), np.float32)
    logits[:, 1] = pooled
    scores = np.stack([np.zeros(5), lesion], axis=1).astype(np.float32)
    prediction = SimpleNamespace(predictions=(logits, scores), label_ids=LABELS)
    accelerator = SimpleNamespace(unwrap_model=lambda model: model)
    return SimpleNamespace(
        accelerator=accelerator, model=SimpleNamespace(config=config), predict=lambda images: prediction
    )


@pytest.mark.parametrize(
    ("pooled", "lesion", "expected"),
    [
        ([-1, 1, 1, -1, 9], [-2, 2, -2, 2, -9], "lesion"),
        ([-2, 2, -2, 2, -9], [-1, 1, 1, -1, 9], "pooled"),
        ([-2, 2, -2, 2, 0], [-2, 2, -2, 2, 0], "pooled"),  # none is ahead
        ([-4, 4, 1, 0.5, 0], [0.5, 0, -4, 4, 0], "mean"),
    ],
)
def test_the_best_on_validation_is_kept(pooled, lesion, expected):
    trainer = predicting(pooled, lesion)
    assert choose_score(trainer, LABELS) == expected
    assert trainer.model.config.score_from == expected


def test_probabilities_follow_the_score():
    config = MammoSwinConfig(tasks=TASKS, lesion_task="pathology", score_from="mean")
    logits, lesion = torch.tensor([[0.0, 2.0, 0.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    shares = probabilities(config, logits, lesion)
    expected = (torch.sigmoid(torch.tensor(2.0)) + torch.sigmoid(torch.tensor(-1.0))) / 2
    torch.testing.assert_close(shares["pathology"][0, 1], expected)
    torch.testing.assert_close(shares["density"], torch.full((1, 3), 1 / 3))
    with pytest.raises(UsageError, match="lesion_scores"):
        probabilities(config, logits)


def test_an_epoch_is_chosen_by_auc_where_validation_has_both_classes():
    images = [np.array(labels) for labels in ([[0, 1], [1, -100]], [[0, 1], [-100, 0]])]
    for validation, metric, greater in zip(images, ("eval_pathology_auroc", "eval_loss"), (True, False), strict=True):
        config = ClassificationConfig("unused", use_cpu=True)
        choose_metric(config, validation, TASKS)
        assert (config.metric_for_best_model, config.greater_is_better) == (metric, greater)


def test_a_metric_that_is_asked_for_is_obeyed_or_refused():
    config = ClassificationConfig("unused", use_cpu=True, metric_for_best_model="density_accuracy")
    check_metric(config, TASKS)
    choose_metric(config, np.array([[0, 1], [1, 0]]), TASKS)
    assert (config.metric_for_best_model, config.greater_is_better) == ("density_accuracy", True)
    with pytest.raises(UsageError, match="metric_for_best_model: is 'f1'; use auto, loss, pathology_auroc"):
        check_metric(ClassificationConfig("unused", use_cpu=True, metric_for_best_model="f1"), TASKS)
