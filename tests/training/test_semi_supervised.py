"""What unlabelled images teach: views, thresholds, teachers, counts; the same however an update is split up."""

import math

import numpy as np
import pytest
import torch
from made_labelled import SIZE, TASKS, classifier, images, prepared, trainer

from mammo_hf import MammoImageProcessor, MammoSwinConfig
from mammo_hf.training.semi_supervised import ClassThresholds, TwoViews, WithUnlabelled, ramp

LABELLED = [(0, 0), (1, 2), (0, 1), (1, 0)]
HIDDEN = [(1, -100), (0, 1), (1, 2), (0, -100), (1, 1)]


def views(ratio=2):
    unlabelled = TwoViews(prepared(HIDDEN, seed=1), MammoImageProcessor(size=SIZE))
    return WithUnlabelled(images(LABELLED), unlabelled, ratio)


def test_an_example_brings_two_views_of_the_same_images_along():
    training = views()
    first = training[1]
    assert first["weak_views"].shape == first["strong_views"].shape == (2, 1, *SIZE)
    plain = training.unlabelled.normalized(training.unlabelled.intensity_and_lesions(0)[0])
    apart = {name: [] for name in ("weak_views", "strong_views")}
    for index in range(4):
        example = training[index]
        for name, distances in apart.items():
            distances.append((example[name].mean(0) - plain).abs().mean())
    assert np.mean(apart["strong_views"]) > np.mean(apart["weak_views"]) > 0
    again = views()[1]
    assert torch.equal(first["strong_views"], again["strong_views"])
    training.epoch = 1
    assert not torch.equal(first["weak_views"], training[1]["weak_views"])


def test_every_unlabelled_image_comes_before_one_comes_twice():
    training = views(ratio=3)  # 4 labelled bring 12 places for 5 images
    drawn = [tuple(labels) for index in range(4) for labels in training[index]["hidden_labels"].tolist()]
    assert sorted(drawn[:5]) == sorted(HIDDEN)
    assert drawn[:5] == drawn[5:10]


def test_a_class_that_is_rarely_predicted_needs_less_confidence():
    thresholds = ClassThresholds(MammoSwinConfig(tasks=TASKS), 0.9, decay=0.5)
    assert thresholds.of("pathology").tolist() == pytest.approx([0.9, 0.9])
    thresholds.update({"pathology": torch.tensor([0.9, 0.1])})
    # means 0.7 and 0.3 after one step of 0.5 from 0.5
    assert thresholds.of("pathology").tolist() == pytest.approx([0.9, 0.9 * 0.3 / 0.7])
    assert thresholds.of("density").tolist() == pytest.approx([0.9] * 3)


def test_thresholds_come_back_from_a_checkpoint(tmp_path):
    thresholds = ClassThresholds(MammoSwinConfig(tasks=TASKS), 0.9)
    thresholds.update({"density": torch.tensor([0.7, 0.2, 0.1])})
    thresholds.save(tmp_path)
    other = ClassThresholds(MammoSwinConfig(tasks=TASKS), 0.9)
    other.load(tmp_path)
    assert other.of("density").tolist() == thresholds.of("density").tolist()


def test_the_weight_grows_and_then_stays():
    assert ramp(0, 100) == pytest.approx(math.exp(-5))
    assert ramp(0, 100) < ramp(20, 100) < ramp(39, 100) < 1
    assert ramp(40, 100) == ramp(100, 100) == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pseudo_label", "mean_teacher"])
def test_four_micro_batches_of_one_equal_one_of_four(tmp_path, method):
    results = []
    for size, steps in ((4, 1), (1, 4)):
        model = classifier(class_weights={"pathology": [0.5, 2.0]})
        run = trainer(
            tmp_path,
            model,
            images(LABELLED),
            unlabelled=HIDDEN,
            method=method,
            confidence=1e-6,  # all views count, so that the thresholds' own steps decide nothing
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            optim="sgd",
            learning_rate=0.1,
        )
        run.train()
        results.append({name: value.detach().clone() for name, value in model.named_parameters()})
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["pseudo_label", "mean_teacher"])
def test_unlabelled_images_change_what_is_learnt(tmp_path, method):
    ends = []
    for consistency in (0.0, 5.0):
        model = classifier()
        run = trainer(tmp_path, model, images(LABELLED), unlabelled=HIDDEN, method=method, confidence=1e-6)
        run.consistency_weight = consistency
        run.train()
        ends.append(model.swin.layernorm.weight.detach().clone())
    assert not torch.equal(*ends)


def test_hidden_labels_are_counted_and_never_learnt_from(tmp_path):
    ends, logs = [], []
    for hidden in (HIDDEN, [(1 - a, -100) for a, _ in HIDDEN]):
        model = classifier()
        run = trainer(tmp_path, model, images(LABELLED), confidence=1e-6, method="pseudo_label", unlabelled=HIDDEN)
        rows = prepared(HIDDEN, seed=1).remove_columns("labels").add_column("labels", [list(own) for own in hidden])
        run.train_dataset.unlabelled.prepared = rows
        run.train()
        ends.append(model.classifier.weight.detach().clone())
        logs.append([entry for entry in run.state.log_history if "pathology_pseudo_labels" in entry])
    assert torch.equal(*ends)
    for right, wrong in zip(*logs, strict=True):
        assert right["pathology_pseudo_labels"] == wrong["pathology_pseudo_labels"] == 8
        assert right["pathology_pseudo_label_share"] == 1
        assert 0 <= right["pathology_pseudo_label_agreement"] <= 1
        # the labels are each other's opposite, so what is right of one is wrong of the other
        assert right["pathology_pseudo_label_accuracy"] + wrong["pathology_pseudo_label_accuracy"] == pytest.approx(1)
        assert "density_pseudo_label_accuracy" not in wrong


@pytest.mark.parametrize("method", ["pseudo_label", "mean_teacher"])
def test_an_unsure_teacher_teaches_nothing(tmp_path, method):
    ends = []
    for unlabelled in (HIDDEN, HIDDEN[::-1]):
        model = classifier()
        run = trainer(tmp_path, model, images(LABELLED), unlabelled=unlabelled, method=method, confidence=0.999999)
        run.thresholds.decay = 1.0
        run.train()
        ends.append(model.classifier.weight.detach().clone())
        assert all(entry.get("pathology_pseudo_labels", 0) == 0 for entry in run.state.log_history)
    assert torch.equal(*ends)


def test_the_teacher_is_the_average_and_leaves_the_model_as_it_was(tmp_path):
    model = classifier()
    run = trainer(tmp_path, model, images(LABELLED), unlabelled=HIDDEN, method="mean_teacher")
    model.train()
    weak = torch.randn(2, 1, *SIZE)
    with torch.no_grad():
        before = run._teach(model, weak)
        model.classifier.weight.mul_(3.0)
        same = run._teach(model, weak)
        run.average.average["classifier.weight"] = run.average.average["classifier.weight"] * 3
        other = run._teach(model, weak)
    assert torch.equal(before["pathology"], same["pathology"])
    assert not torch.equal(before["pathology"], other["pathology"])
    assert model.training


@pytest.mark.slow
def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path):
    ends = []
    for name, resumes in (("whole", False), ("broken", True)):
        arguments = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "per_device_train_batch_size": 2}
        run = trainer(
            tmp_path / name, classifier(), images(LABELLED), unlabelled=HIDDEN, method="mean_teacher", **arguments
        )
        run.train()
        if resumes:
            run = trainer(
                tmp_path / name, classifier(), images(LABELLED), unlabelled=HIDDEN, method="mean_teacher", **arguments
            )
            run.train(resume_from_checkpoint=str(tmp_path / name / "checkpoint-2"))
        ends.append((run.average.average["classifier.weight"], run.thresholds.of("density")))
    (weight, threshold), (weight_again, threshold_again) = ends
    assert torch.equal(weight, weight_again)
    assert torch.equal(threshold, threshold_again)
