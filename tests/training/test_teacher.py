"""A teacher in stage 1: where its features come from, how they move with the image, and what is left in the end."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np
import pytest
import torch
from families import save_family
from made_images import Made, network, trainer

import mammo_hf
from mammo_hf import MammoSwinForMaskedImageModeling
from mammo_hf.data.augmentation import Augmentation
from mammo_hf.data.terms import Terms, read_terms, write_terms
from mammo_hf.encoders import load_encoder, read_features
from mammo_hf.errors import UsageError
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.training.teacher import Teacher

GRID, CHANNELS = (14, 7), 3  # the last grid of the tiny network at 112 x 56
FAST = {
    **{"model": "nano", "use_cpu": True, "report_to": "none", "num_workers": 0, "disable_tqdm": True, "max_steps": 2},
    **{"per_device_train_batch_size": 4, "logging_steps": 1, "learning_rate": 1e-3},
}


class Taught(Made):
    def __getitem__(self, index):
        example = super().__getitem__(index)
        generator = torch.Generator().manual_seed(100 + index)
        example["teacher_cells"] = torch.randn(CHANNELS, *GRID, generator=generator)
        example["teacher_image"] = torch.randn(2 * CHANNELS, generator=generator)
        return example


def taught(**settings):
    teacher = {"channels": CHANNELS, "tokens": "all", "weight": 1.0, "l1_weight": 1.0} | settings
    return network(teacher=teacher)


def batch(count=4):
    examples = [Taught()[index] for index in range(count)]
    return {name: torch.stack([example[name] for example in examples]) for name in examples[0]}


@pytest.mark.parametrize("tokens", ["all", "hidden", "visible"])
def test_micro_batches_of_one_give_the_update_of_one_batch_of_four(tmp_path, tokens):
    results = []
    for size, steps in ((4, 1), (1, 4)):
        model = taught(tokens=tokens)
        arguments = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "learning_rate": 0.1}
        trainer(tmp_path, model, Taught(), optim="sgd", max_steps=2, **arguments).train()
        results.append({name: value.detach() for name, value in model.named_parameters()})
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name], rtol=1e-4, atol=1e-6)
    assert not torch.equal(results[0]["teacher_head.of_cells.weight"], taught().teacher_head.of_cells.weight)


def test_the_loss_is_the_weighted_sum_of_its_two_parts():
    given = batch()
    parts = [taught(weight=w, l1_weight=l)(**given).loss for w, l in ((1, 0), (0, 1), (0.5, 0.25))]  # noqa: E741
    torch.testing.assert_close(parts[2], 0.5 * parts[0] + 0.25 * parts[1])
    alone = network()(**{name: value for name, value in given.items() if not name.startswith("teacher")}).loss
    assert not torch.allclose(parts[0], parts[1])
    assert torch.isfinite(alone)


def test_hidden_and_visible_cells_share_the_breast():
    given = batch()
    masks = given["bool_masked_pos"], (112, 56), given["content_mask"], None
    weights = {tokens: taught(tokens=tokens).taught_cells(*masks) for tokens in ("all", "hidden", "visible")}
    torch.testing.assert_close(weights["hidden"] + weights["visible"], weights["all"])
    assert (weights["all"][0] == 1).all()
    assert weights["all"][3].sum() < weights["all"][0].sum()  # padding counts nothing


def test_a_flip_and_a_shift_move_the_features_with_the_image():
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 32), indexing="ij")
    image = (0.2 + 0.5 * rows + 0.2 * columns)[None]  # brighter below: what is flipped is seen
    moves = Augmentation(rotation=5, scale=0.05, shift=0.1, gamma=0)
    directions = set()
    for seed in range(8):
        cells = torch.nn.functional.avg_pool2d(image, 4)
        moved, features = moves(image, view="CC", generator=np.random.default_rng(seed), features=cells)
        inner = (slice(None), slice(4, -4), slice(2, -2))
        expected = torch.nn.functional.avg_pool2d(moved, 4)[inner]
        np.testing.assert_allclose(features[inner], expected, atol=0.02)
        directions.add(bool(features[0, 10, 4] > features[0, 5, 4]))
    assert directions == {True, False}  # some were flipped


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    root = tmp_path_factory.mktemp("taught")
    write_phantom(root / "cbis", patients=4, seed=0, size=(224, 112), num_workers=1, progress=False)
    mammo_hf.prepare(root / "cbis", root / "films", image_size=(112, 112))
    save_family("dinov2", root / "encoder")  # cells of 14 pixels, which do not fit the 16 of the Swin's
    return root


@pytest.mark.slow
def test_pretraining_with_a_teacher_ends_in_a_stock_swin_that_names_it(films, caplog):
    out = films / "out"
    with caplog.at_level(logging.INFO):
        result = mammo_hf.pretrain(
            films / "films", out, teacher=str(films / "encoder"), teacher_tokens="hidden", **FAST
        )
    config = json.loads((out / "config.json").read_text())
    assert config["teacher"] is None
    info = MammoSwinForMaskedImageModeling.from_pretrained(out, output_loading_info=True)[1]
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    metrics = json.loads((out / "metrics.json").read_text())["mim"]
    assert metrics["teacher"]["name"] == "encoder"
    assert metrics["teacher"]["tokens"] == "hidden"
    assert metrics["teacher"]["explained"]["image"] < 1
    assert "teacher" in str(result)
    assert "encoder" in {one.name for one in read_terms(out)}
    assert "predict the features of a teacher" in (out / "README.md").read_text()
    # the same features again, with nothing to compute; and a resumed run still has the head
    before = (out / "teacher" / "features.json").read_bytes()
    each = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    mammo_hf.pretrain(films / "films", films / "more", teacher=str(out / "teacher"), **each, **FAST)
    assert (films / "more" / "checkpoint-2").is_dir()
    assert (out / "teacher" / "features.json").read_bytes() == before


def test_features_are_of_the_very_pixels_that_are_trained_on(films):
    out = films / "grid"
    mammo_hf.embed(films / "films", out, encoder=films / "encoder", tiles="whole", image_size=(112, 112), grid=(7, 7))
    from mammo_hf.data.prepare.folder import open_prepared
    from mammo_hf.data.prepared_row import intensity_of

    encoder, row = load_encoder(films / "encoder"), open_prepared(films / "films")[0]
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(intensity_of(row))[None, None])[0].numpy()  # 8 x 8 cells of 14 pixels
    stored = next(one for one in read_features(out) if one["image_id"] == row["image_id"])
    grid = np.frombuffer(stored["grid"], np.float16).reshape(7, 7, -1)
    # the first of 7 cells of 16 pixels covers the first of 8 by 14 pixels and the second by 2
    corner = 14 * 14 * expected[:, 0, 0] + 14 * 2 * (expected[:, 0, 1] + expected[:, 1, 0]) + 2 * 2 * expected[:, 1, 1]
    np.testing.assert_allclose(grid[0, 0], corner / 16**2, atol=2e-2)
    np.testing.assert_allclose(grid.mean((0, 1)), expected.mean((1, 2)), atol=2e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": "none_of_these"}, "none_of_these"),
        ({"teacher": "encoder", "l1_weight": 1.5}, "from 0 to 1"),
        ({"teacher": "encoder", "teacher_tokens": "some"}, "all, hidden, visible"),
        ({"teacher": "encoder", "streaming": True}, "streamed"),
        ({"l1_weight": 0.0}, "there is no teacher"),
        ({"teacher": "whole"}, "without a grid"),
        ({"teacher": "coarse"}, "--grid 7 7"),
        ({"teacher": "few"}, "no features of"),
    ],
)
def test_what_cannot_teach_is_refused_in_one_sentence(films, change, message):
    def made(name, **options):
        if not (films / name).exists():
            options = {"encoder": films / "encoder", "tiles": "whole", "image_size": (112, 112)} | options
            mammo_hf.embed(options.pop("images", films / "films"), films / name, **options)

    made("whole")
    made("coarse", grid=(3, 3))
    made("few", grid=(7, 7), images=mammo_hf.load(films / "films").where(view="CC"))
    name = change.get("teacher")
    if name and (films / name).exists():
        change = change | {"teacher": str(films / name)}
    with pytest.raises(UsageError, match=message) as caught:
        mammo_hf.pretrain(films / "films", films / "refused", **FAST | change)
    assert str(caught.value).count("\n") == 0


def test_a_teacher_whose_terms_forbid_it_is_refused_before_a_push(films):
    closed = films / "closed"
    save_family("vit", closed)
    terms = Terms("closed data", "agreement", weights="not allowed", clause="no derived models")
    write_terms(closed, [terms])
    assert dataclasses.asdict(Teacher(str(closed)).terms[0]) == dataclasses.asdict(terms)
    with pytest.raises(UsageError, match="no derived models"):
        mammo_hf.pretrain(films / "films", films / "pushed", teacher=str(closed), push_to_hub=True,
                          hub_model_id="lab/model", **FAST)  # fmt: skip
