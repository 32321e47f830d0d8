import math

import torch

from mammo_hf.models.configuration_mammo_swin import MammoSwinConfig
from mammo_hf.models.losses import (
    ELSEWHERE_WEIGHT,
    lesion_evidence_loss,
    lesion_token_loss,
    loss_counts,
    multi_task_loss,
    ranked_probability_score,
)

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


def test_an_update_is_divided_by_all_its_labels():
    config = MammoSwinConfig(tasks=TASKS, task_weights={"pathology": 3.0}, class_weights={"pathology": [3.0, 0.5]})
    logits, labels = torch.randn(4, 5), torch.tensor([[0, -100], [1, 2], [-100, 0], [0, -100]])
    tokens = torch.tensor([[0, 0, 2], [-100, -100, -100], [1, 0, 0], [0, 0, 0]]).unsqueeze(1)
    lesion, evidence = torch.randn(4, 3, 1, 3), torch.randn(4, 3, 2)
    counts = sum(loss_counts(labels[row : row + 1], tokens[row : row + 1]) for row in range(4))
    assert counts.tolist() == [3, 2, 2, 7]
    parts = [
        (
            multi_task_loss(logits[row : row + 1], labels[row : row + 1], config, counts),
            lesion_token_loss(lesion[row : row + 1], tokens[row : row + 1], 0.05, counts),
            lesion_evidence_loss(evidence[row : row + 1], tokens[row : row + 1].flatten(1), counts),
        )
        for row in range(4)
    ]
    whole = (
        multi_task_loss(logits, labels, config),
        lesion_token_loss(lesion, tokens, 0.05),
        lesion_evidence_loss(evidence, tokens.flatten(1)),
    )
    for one, several in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.stack(several).sum(), one)


def test_tasks_are_weighed_and_a_task_without_labels_takes_no_part():
    config = MammoSwinConfig(tasks=TASKS, task_weights={"pathology": 3.0})
    logits = torch.randn(2, 5)
    both = multi_task_loss(logits, torch.tensor([[0, 1], [1, 2]]), config)
    alone = [
        multi_task_loss(logits, torch.tensor(rows), config) for rows in ([[0, -100], [1, -100]], [[-100, 1], [-100, 2]])
    ]
    torch.testing.assert_close(both, (3 * alone[0] + alone[1]) / 4)


def test_ranked_probability_score_by_hand_and_by_distance():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
    # thresholds: P(<= 0) = 0.5 and P(<= 1) = 0.8 against the step of label 2, which is 0 and 0
    torch.testing.assert_close(ranked_probability_score(logits, torch.tensor([2])), torch.tensor([(0.25 + 0.64) / 2]))
    sure_of_a = torch.tensor([[30.0, 0.0, 0.0, 0.0]]).expand(4, 4)
    far = ranked_probability_score(sure_of_a, torch.arange(4))
    torch.testing.assert_close(far, torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]), atol=1e-6, rtol=0)


def test_an_ordinal_task_is_taught_by_it_and_the_others_are_not():
    config = MammoSwinConfig(tasks=TASKS, ordinal_tasks=["density"])
    logits, labels = torch.randn(3, 5), torch.tensor([[-100, 0], [-100, 2], [-100, 1]])
    expected = ranked_probability_score(logits[:, 2:], labels[:, 1]).mean()
    torch.testing.assert_close(multi_task_loss(logits, labels, config), expected)
    plain = torch.tensor([[0, -100], [1, -100], [1, -100]])
    torch.testing.assert_close(
        multi_task_loss(logits, plain, config), torch.nn.functional.cross_entropy(logits[:, :2], plain[:, 0])
    )


def test_label_smoothing_within_a_task_is_torchs():
    config = MammoSwinConfig(tasks=TASKS, label_smoothing=0.2)
    logits, labels = torch.randn(3, 5), torch.tensor([[-100, 0], [-100, 2], [-100, 1]])
    expected = torch.nn.functional.cross_entropy(logits[:, 2:], labels[:, 1], label_smoothing=0.2)
    torch.testing.assert_close(multi_task_loss(logits, labels, config), expected)
