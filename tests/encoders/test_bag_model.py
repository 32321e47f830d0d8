"""The head over bags: what it computes, what padding and order change, and how its configuration is checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForImageClassification

from mammo_hf import MammoBagConfig, MammoBagForClassification
from mammo_hf.encoders.bags import bag_image, collate_bags
from mammo_hf.errors import UsageError
from mammo_hf.models.losses import lesion_attention_loss

SIZE = 6
TASKS = [
    {"name": "pathology", "labels": ["benign", "malignant"], "level": "breast"},
    {"name": "density", "labels": ["a", "b", "c"], "level": "exam"},
]


def head(**changes):
    """A head whose every part does something: nothing is at its start, where attention is uniform."""
    torch.manual_seed(0)
    model = MammoBagForClassification(MammoBagConfig(feature_size=SIZE, hidden_size=8, tasks=TASKS, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        model.mean.normal_()
    return model


def image(seed, tiles, side="L", view="CC"):
    features = np.random.default_rng(seed).normal(size=(1 + tiles, SIZE)).astype(np.float16)
    scales = np.array([1] + [2] * tiles, np.uint8)
    return bag_image(features.tobytes(), scales.tobytes(), None, side, view)


def scored(model, *units):
    with torch.no_grad():
        return model(**collate_bags([{"images": list(unit)} for unit in units]))


EXAM = [image(0, 3, "L", "CC"), image(1, 2, "L", "MLO"), image(2, 4, "R", "CC"), image(3, 1, "R", "XCCL")]


def test_padding_changes_nothing():
    model = head()
    units = [EXAM, EXAM[:1], EXAM[1:3], [image(5, 0, None, None)]]
    together = scored(model, *units)
    for place, unit in enumerate(units):
        alone = scored(model, unit)
        torch.testing.assert_close(together.logits[place : place + 1], alone.logits)
        shown = together.attentions[place, : len(unit), : alone.attentions.shape[-1]]
        torch.testing.assert_close(shown, alone.attentions[0])


@settings(max_examples=20)
@given(st.permutations(range(4)), st.integers(0, 2))
def test_the_order_of_images_and_tiles_changes_nothing(order, roll):
    model, plain = head(), scored(head(), EXAM).logits
    turned = [EXAM[place] for place in order]
    turned = [
        one | {name: np.roll(one[name], roll, axis=0) for name in ("features", "scales", "lesion_targets")}
        for one in turned
    ]
    torch.testing.assert_close(scored(model, turned).logits, plain)


def test_attention_is_of_tiles_alone_and_sums_to_one_where_each_image_has_some():
    attentions = scored(head(), EXAM, EXAM[:1]).attentions
    torch.testing.assert_close(attentions.sum((1, 2)), torch.ones(2))
    assert float(attentions[:, :, 0].abs().max()) == 0  # whole views
    assert float(attentions[1, 1:].abs().max()) == 0  # padding


def test_an_exam_sees_the_difference_of_its_breasts_and_a_breast_does_not():
    model = head()
    with torch.no_grad():
        model.classifier.weight[:, : 2 * 8] = 0  # only the difference counts
        model.classifier.bias.zero_()
    assert float(scored(model, EXAM[:2]).logits.abs().max()) == 0
    both = scored(model, EXAM).logits
    assert float(both.abs().max()) > 0.01
    other = {"L": 2, "R": 1}
    with torch.no_grad():
        model.side.weight.zero_()
    swapped = [one | {"side": {1: other["L"], 2: other["R"]}[one["side"]]} for one in EXAM]
    torch.testing.assert_close(scored(model, swapped).logits, scored(model, EXAM).logits)


def test_a_unit_without_tiles_and_one_without_a_whole_view_have_finite_scores():
    model = head()
    tiles = image(7, 3)
    tiles = tiles | {name: tiles[name][1:] for name in ("features", "scales", "lesion_targets")}
    found = scored(model, [image(6, 0)], [tiles])
    assert bool(torch.isfinite(found.logits).all())
    assert float(found.attentions[0].abs().max()) == 0


def test_it_can_be_any_linear_classifier_on_mean_features():
    model = head()
    model.apply(model._init_weights)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            parameter.data[...] = 0 if parameter is not model.projection.weight else parameter.data
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(5, 2 * SIZE, generator=generator), torch.randn(5, generator=generator)
    model.start_from_linear(weight, bias)
    batch = collate_bags([{"images": unit} for unit in (EXAM, EXAM[:1], EXAM[2:])])
    means = model.mean_features(batch["features"], batch["scales"], batch["sides"]).nanmean(1)
    torch.testing.assert_close(model(**batch).logits, means @ weight.t() + bias, atol=1e-4, rtol=1e-4)


def test_a_new_head_attends_uniformly_and_is_small():
    torch.manual_seed(0)
    model = MammoBagForClassification(MammoBagConfig(tasks=TASKS)).eval()
    assert model.config.feature_size == 2 * 768
    assert model.num_parameters() < 100_000
    values = torch.randn(1, 1, 5, 1536)
    found = model(values, torch.tensor([[[1, 2, 2, 2, 0]]]), torch.ones(1, 1).long(), torch.ones(1, 1).long())
    torch.testing.assert_close(found.attentions[0, 0], torch.tensor([0, 1 / 3, 1 / 3, 1 / 3, 0]))


def test_lesion_labels_draw_the_attention():
    attention = torch.tensor([[0.0, 0.2, 0.8], [0.0, 0.5, 0.5]])
    targets = torch.tensor([[-100, 1, 0], [-100, -100, -100]])
    torch.testing.assert_close(lesion_attention_loss(attention, targets), torch.tensor(-np.log(0.2)).float())
    assert float(lesion_attention_loss(attention, torch.full_like(targets, -100))) == 0
    assert float(lesion_attention_loss(attention, torch.zeros_like(targets))) == 0
    model = head(lesion_loss_weight=1.0)
    batch = collate_bags([{"images": EXAM[:1]}])
    labels, lesions = torch.full((1, 2), -100), torch.tensor([[[-100, 0, 1, 0]]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    before = model(**batch).attentions[0, 0, 2]
    for _ in range(40):
        optimizer.zero_grad()
        model(**batch, labels=labels, lesion_targets=lesions).loss.backward()
        optimizer.step()
    assert float(before) < 0.7
    assert float(model(**batch).attentions[0, 0, 2]) > 0.95


def test_lesions_of_a_store_become_labels_of_tiles():
    scales = np.array([1, 2, 2, 2, 2], np.uint8)
    features = np.zeros((5, SIZE), np.float16).tobytes()
    lesions = np.array([1, 0.7, 0.2, 0, 0], np.float16)
    found = bag_image(features, scales.tobytes(), lesions.tobytes(), "L", "CC")["lesion_targets"]
    assert found.tolist() == [-100, 1, -100, 0, 0]
    grazed = np.array([1, 0.3, 0.2, 0, 0], np.float16)  # no tile holds half of it: the one with most of it counts
    found = bag_image(features, scales.tobytes(), grazed.tobytes(), "L", "CC")["lesion_targets"]
    assert found.tolist() == [-100, 1, -100, 0, 0]


def test_it_is_saved_and_found_by_the_auto_classes(tmp_path: Path):
    model = head(encoder_record={"name": "made", "weights": "abc"}, tiles={"tiles": "both"})
    model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert isinstance(again, MammoBagForClassification)
    torch.testing.assert_close(scored(again.eval(), EXAM).logits, scored(model, EXAM).logits)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, MammoBagConfig)
    assert (config.tasks, config.encoder_record) == (TASKS, {"name": "made", "weights": "abc"})
    assert config.id2label[1] == "pathology:malignant"


def test_it_answers_as_a_tuple_too():
    model, batch = head(), collate_bags([{"images": EXAM}])
    logits, attentions = model(**batch, return_dict=False)
    assert logits.shape == (1, 5)
    assert attentions.shape == (1, 4, 5)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"feature_size": 0}, "feature_size is 0"),
        ({"hidden_size": 10**6}, "hidden_size"),
        ({"dropout": 1.0}, "dropout"),
        ({"tasks": [{"name": "pathology", "labels": ["a", "b"], "level": "side"}]}, "level 'side'"),
        ({"class_weights": {"pathology": [1.0]}}, "class_weights"),
        ({"calibration": {"birads": {"method": "temperature", "temperature": 1.0}}}, "not among"),
    ],
)
def test_a_configuration_is_checked_however_it_changes(wrong, match, tmp_path):
    with pytest.raises(UsageError, match=match):
        MammoBagConfig(**{"tasks": TASKS, **wrong})
    config = MammoBagConfig(tasks=TASKS)
    with pytest.raises(UsageError, match=match):
        config.update(wrong)
    config.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=match):
        MammoBagConfig.from_pretrained(tmp_path, **wrong)
    changed = MammoBagConfig(tasks=TASKS)
    changed.__dict__ |= wrong  # as an attribute would change it, had it no check of its own
    with pytest.raises(UsageError, match=match):
        MammoBagForClassification(changed)


def test_inputs_are_checked_by_shape():
    model, batch = head(), collate_bags([{"images": EXAM}, {"images": EXAM[:1]}])
    with pytest.raises(UsageError, match=r"not \(units, images, vectors, 6\)"):
        model(**{**batch, "features": torch.zeros(2, 4, 5, 7)})
    with pytest.raises(UsageError, match="sides have shape"):
        model(**{**batch, "sides": batch["sides"][:, :1]})
    with pytest.raises(UsageError, match="labels have shape"):
        model(**batch, labels=torch.zeros(2, 3).long())


def test_other_tasks_are_refused_once_it_is_built(tmp_path):
    model = head()
    model.config.tasks = TASKS[:1]
    with pytest.raises(UsageError, match="has 5 rows"):
        model.save_pretrained(tmp_path)
