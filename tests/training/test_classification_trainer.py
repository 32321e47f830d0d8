"""Stage 2's Trainer on images made up here: how an update may be split up, and what its losses are divided by."""

import sys
from types import SimpleNamespace

import datasets
import pytest
import torch
from made_labelled import classifier, images, trainer
from transformers import TrainingArguments
from transformers.hyperparameter_search import ALL_HYPERPARAMETER_SEARCH_BACKENDS, WandbBackend
from transformers.trainer_utils import BestRun, HPSearchBackend

from mammo_hf.data.torch_datasets import WithOtherBreast
from mammo_hf.errors import DataError, UsageError
from mammo_hf.training.trainer import ClassificationTrainer, PairTrainer

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


# As a transformers user has it: rows of their own, a search of hyperparameters.

TWO = [{"pixel_values": torch.randn(1, 112, 56), "labels": [number % 2, number % 3]} for number in range(8)]


def as_rows(kind):
    rows = datasets.Dataset.from_list([{**row, "pixel_values": row["pixel_values"].numpy()} for row in TWO])
    rows = rows.add_column("patient", [str(number) for number in range(8)]).with_format("torch")
    return {"list": TWO, "columns that no model takes": rows, "stream": rows.to_iterable_dataset()}[kind]


@pytest.mark.parametrize("kind", ["list", "columns that no model takes", "stream"])
def test_rows_of_any_kind_train(tmp_path, kind):
    rows = as_rows(kind)
    run = trainer(tmp_path, classifier(), rows, remove_unused_columns=True, train_sampling_strategy="random")
    assert run.train().global_step == 3
    if kind != "stream":
        prediction = run.predict(rows)
        assert prediction.label_ids.tolist() == [row["labels"] for row in TWO]
        assert prediction.metrics["test_loss"] > 0


class TwoTrials(WandbBackend):
    """A search of two learning rates, which needs no package."""

    @staticmethod
    def is_available():
        return True

    def run(self, trainer, n_trials, direction, **kwargs):
        found = []
        for number, trial in enumerate(trainer.hp_space(None)[:n_trials]):
            trainer.train(trial=trial)
            found.append(BestRun(str(number), trainer.objective, trial))
        return min(found, key=lambda run: run.objective)


def test_a_search_of_hyperparameters_trains_a_new_model_each_time(tmp_path, monkeypatch):
    monkeypatch.setitem(ALL_HYPERPARAMETER_SEARCH_BACKENDS, HPSearchBackend.WANDB, TwoTrials)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=SimpleNamespace(id="0", name="0")))
    made = []

    def make(trial=None):
        made.append(weights(classifier())["classifier.weight"])
        return classifier()

    settings = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "num_train_epochs": 2}
    settings |= {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    arguments = TrainingArguments(str(tmp_path), **settings)
    run = ClassificationTrainer(model_init=make, args=arguments, train_dataset=TWO, eval_dataset=TWO)
    space = [{"learning_rate": 1e-6}, {"learning_rate": 1e-2}]
    best = run.hyperparameter_search(lambda _: space, n_trials=2, backend="wandb", direction="minimize")
    assert best.hyperparameters["learning_rate"] == 1e-2
    assert len(made) >= 2
    assert all(torch.equal(one, made[0]) for one in made)


def test_smoothing_of_labels_is_the_models():
    with pytest.raises(UsageError, match=r"label_smoothing_factor: .*; give the model label_smoothing=0\.1"):
        ClassificationTrainer(classifier(), TrainingArguments(label_smoothing_factor=0.1, use_cpu=True))


# The loss of pairs.

SIDES = [("p0", "L", 0), ("p0", "R", 1), ("p1", "L", 1), ("p1", "R", 0), ("p2", "L", 0), ("p3", "L", 1)]


def breasts():
    made = images([(label, -100) for *_, label in SIDES])
    for number, name in enumerate(("patient", "laterality")):
        made.prepared = made.prepared.remove_columns(name).add_column(name, [row[number] for row in SIDES])
    return WithOtherBreast(made)


def test_an_image_brings_the_other_breast_of_its_patient_along_and_says_which_is_diseased():
    pairs = breasts()
    examples = [pairs[index] for index in range(len(pairs))]
    assert [int(example["pair_signs"]) for example in examples] == [-1, 1, 1, -1, 0, 0]
    assert torch.equal(examples[0]["other_breasts"], examples[1]["pixel_values"])
    assert not examples[4]["other_breasts"].any()
    alone = images([(0, -100), (1, -100)])  # of two patients
    with pytest.raises(DataError, match="each class in the same view: 2 of 2 training images have view, side and a"):
        WithOtherBreast(alone)
    alone.prepared = alone.prepared.remove_columns("view").add_column("view", [None, None])
    with pytest.raises(DataError, match=r"0 of 2 training images have view, side .*; .*give view and laterality"):
        WithOtherBreast(alone)


def test_the_loss_of_pairs_is_that_of_their_order_and_may_be_split_up(tmp_path):
    results = []
    for size, steps in ((4, 1), (1, 4)):
        model = classifier()
        before = weights(model)
        how = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "max_steps": 1}
        plain = trainer(tmp_path, model, breasts(), optim="sgd", learning_rate=0.1, **how)
        run = PairTrainer(model, plain.args, train_dataset=plain.train_dataset, pair_loss=3.0)
        if size == 4:
            batch = run.data_collator([run.train_dataset[index] for index in range(4)])
            alone = model(batch["pixel_values"]).logits
            odds = (alone[:, 1] - alone[:, 0]).detach()
            wanted = torch.nn.functional.softplus(-(odds - odds[[1, 0, 3, 2]]) * batch["pair_signs"]).mean()
            plain_batch = {name: batch[name] for name in ("pixel_values", "labels")}
            found = (run.compute_loss(model, batch) - run.compute_loss(model, plain_batch)).detach()
            assert float(found) == pytest.approx(3 * float(wanted), rel=1e-4)
        run.train()
        results.append(weights(model))
        assert not torch.equal(before["classifier.weight"], results[-1]["classifier.weight"])
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name], rtol=1e-4, atol=1e-6)
