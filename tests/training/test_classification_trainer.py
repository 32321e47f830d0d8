"""Stage 2's Trainer on images made up here: how an update may be split up, and what its losses are divided by."""

import pytest
import torch
from made_labelled import classifier, images, trainer

# in each micro-batch of one another task is unknown, and one has none at all
LABELS = [(0, -100), (1, 2), (-100, -100), (1, -100), (0, 1), (-100, 2), (1, 0), (0, 0)]


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize("places", [False, True])
def test_four_micro_batches_of_one_equal_one_of_four(tmp_path, places):
    results = []
    changes = {"class_weights": {"pathology": [0.7, 1.6]}, "ordinal_tasks": ["density"], "task_weights": {"density": 3}}
    for size, steps in ((4, 1), (1, 4)):
        model = classifier(lesion_task="pathology" if places else None, **changes)
        grid = model.config.stage_grids(112, 56)[-1] if places else None
        run = trainer(
            tmp_path,
            model,
            images(LABELS, places=places, lesion_grid=grid),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            optim="sgd",
            learning_rate=0.1,
        )
        run.train()
        results.append((weights(model), [entry["loss"] for entry in run.state.log_history if "loss" in entry]))
    (one, losses), (four, losses_of_four) = results
    assert losses == pytest.approx(losses_of_four, rel=1e-4)
    for name in one:
        torch.testing.assert_close(one[name], four[name], rtol=1e-4, atol=1e-6)
    assert not torch.equal(one["classifier.weight"], weights(classifier(**changes))["classifier.weight"])


def test_a_plain_trainer_does_not_hand_the_model_a_count_of_its_own():
    # Trainer counts the labels of all tasks as one number, which no task's loss may be divided by
    assert classifier().accepts_loss_kwargs is False
