import math

import torch

from mammo_hf.classification_loss import ELSEWHERE_WEIGHT, lesion_evidence_loss, lesion_token_loss, multi_task_loss
from mammo_hf.configuration_mammo_swin import MammoSwinConfig

TASKS = [{"name": "pathology", "labels": ["malignant", "benign"]}, {"name": "density", "labels": ["d", "a", "c"]}]


def test_loss_is_divided_by_the_number_of_known_labels():
    weighted = MammoSwinConfig(tasks=TASKS, class_weights={"pathology": [3.0, 0.5], "density": [1.0, 1.0, 1.0]})
    logits = torch.randn(4, 5)
    labels = torch.tensor([[0, -100], [0, 2], [-100, -100], [0, -100]])
    log_p, log_d = logits[:, :2].log_softmax(-1), logits[:, 2:].log_softmax(-1)
    pathology = -3.0 * (log_p[0, 0] + log_p[1, 0] + log_p[3, 0]) / 3  # one class only: the weight must stay
    density = -log_d[1, 2]
    torch.testing.assert_close(multi_task_loss(logits, labels, weighted), (pathology + density) / 2)


def test_token_loss_leaves_rows_without_places_untouched():
    logits = torch.randn(2, 3, 14, 7, requires_grad=True)
    labels = torch.zeros(2, 14, 7, dtype=torch.long)
    labels[0, 3, 3], labels[1] = 2, -100
    lesion_token_loss(logits, labels, 0.05).backward()
    assert logits.grad[0].abs().sum() > 0
    assert logits.grad[1].abs().sum() == 0


def test_evidence_belongs_into_lesions_and_nowhere_else():
    labels = torch.tensor([[0, 2, -100, 0]])
    right = torch.tensor([[[0.0, 0.0], [-20.0, 20.0], [50.0, -50.0], [0.0, 0.0]]])
    assert lesion_evidence_loss(right, labels).item() < 1e-6
    elsewhere = right.clone()
    elsewhere[0, 0] = torch.tensor([-2.0, 2.0])
    # the divergence of (p, 1 - p) from a fair coin, over the two tokens known to have no lesion
    p = 1 / (1 + math.exp(4.0))
    divergence = -0.5 * (math.log(p) + math.log(1 - p)) - math.log(2)
    torch.testing.assert_close(lesion_evidence_loss(elsewhere, labels), torch.tensor(ELSEWHERE_WEIGHT * divergence / 2))
    missing = right.clone()
    missing[0, 1] = 0.0
    torch.testing.assert_close(lesion_evidence_loss(missing, labels), torch.tensor(math.log(2)))


def test_many_tokens_without_a_lesion_do_not_drown_the_one_with_it():
    evidence, labels = torch.zeros(1, 100, 2), torch.zeros(1, 100, dtype=torch.long)
    labels[0, 0] = 1
    torch.testing.assert_close(lesion_evidence_loss(evidence, labels), torch.tensor(math.log(2)))


def test_evidence_is_not_judged_where_no_place_is_known():
    evidence = torch.randn(2, 5, 3, requires_grad=True)
    loss = lesion_evidence_loss(evidence, torch.full((2, 5), -100))
    loss.backward()
    assert loss.item() == 0.0
    assert not evidence.grad.any()
