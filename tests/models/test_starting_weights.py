import json
import logging
import sys
import types

import pytest
import torch
from transformers import (
    SwinConfig,
    SwinForImageClassification,
    SwinForMaskedImageModeling,
    SwinModel,
    ViTImageProcessor,
)

from mammo_hf import MammoImageProcessor, MammoSwinForImageClassification, MammoSwinForMaskedImageModeling
from mammo_hf.errors import UsageError
from mammo_hf.models.checkpoint import kind_of_start, load_starting_weights, starting_config

PROCESSOR = MammoImageProcessor()
TINY = {"embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "drop_path_rate": 0.0}


def spread(model):
    """Weights large enough to matter."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def ours(source, size, **changes):
    config = starting_config(str(source), size, num_channels=1, **changes)
    return MammoSwinForMaskedImageModeling(config).eval()


@pytest.mark.parametrize("kind", [SwinForImageClassification, SwinForMaskedImageModeling])
def test_a_stock_checkpoint_of_colour_images_gives_equal_features_on_grey_ones(kind, tmp_path, caplog):
    stock = spread(kind(SwinConfig(**TINY, image_size=56, encoder_stride=8)))
    stock.save_pretrained(tmp_path)
    model = ours(tmp_path, (112, 56))
    with caplog.at_level(logging.INFO):
        new = load_starting_weights(model, tmp_path, PROCESSOR)
    assert "deep_mask_token" in new
    assert "deep_mask_token" in caplog.text
    assert not [name for name in new if name.startswith("swin.") and "mask_token" not in name]
    grey = torch.randn(2, 1, 112, 56)
    torch.testing.assert_close(
        model.swin(grey).last_hidden_state,
        stock.swin(grey.expand(-1, 3, -1, -1)).last_hidden_state,
        rtol=1e-4,
        atol=1e-4,
    )


TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}]


def classifier_of(source, size, **changes):
    config = starting_config(str(source), size, num_channels=1, tasks=TASKS, lesion_task="pathology", **changes)
    return MammoSwinForImageClassification(config).eval()


@pytest.mark.parametrize("kind", [SwinForImageClassification, SwinForMaskedImageModeling, SwinModel])
def test_a_classifier_starts_from_a_stock_checkpoint_of_colour_images(kind, tmp_path):
    stock = spread(kind(SwinConfig(**TINY, image_size=56, encoder_stride=8)))
    stock.save_pretrained(tmp_path)
    model = classifier_of(tmp_path, (112, 56))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    new = load_starting_weights(model, tmp_path, PROCESSOR)
    assert set(new) == {name for name in before if name.startswith(("classifier.", "lesion_head."))}
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in new)
    grey = torch.randn(2, 1, 112, 56)
    encoder = stock if kind is SwinModel else stock.swin
    torch.testing.assert_close(
        model.swin(grey).last_hidden_state,
        encoder(grey.expand(-1, 3, -1, -1)).last_hidden_state,
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_head_of_other_labels_is_not_taken_over_though_its_shape_fits(tmp_path):
    stock = SwinForImageClassification(SwinConfig(**TINY, image_size=56, num_channels=1, id2label={0: "cat", 1: "dog"}))
    stock.save_pretrained(tmp_path / "stock")
    assert stock.classifier.weight.shape == (2, 16)
    assert "classifier.weight" in load_starting_weights(
        classifier_of(tmp_path / "stock", (56, 56)), tmp_path / "stock", PROCESSOR
    )
    first = spread(classifier_of(tmp_path / "stock", (56, 56)))
    first.save_pretrained(tmp_path / "ours")
    model = classifier_of(tmp_path / "ours", (56, 56))
    assert load_starting_weights(model, tmp_path / "ours", PROCESSOR) == []
    pixels = torch.randn(2, 1, 56, 56)
    torch.testing.assert_close(model(pixels).logits, first(pixels).logits)


def test_a_table_of_absolute_positions_is_interpolated_to_another_rectangle(tmp_path):
    stock = SwinModel(SwinConfig(**TINY, image_size=56, num_channels=1, use_absolute_embeddings=True))
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 14), torch.linspace(0, 1, 14), indexing="ij")
    with torch.no_grad():
        stock.embeddings.position_embeddings[0, :, 0] = (rows + 2 * columns).flatten()
    stock.save_pretrained(tmp_path)
    model = classifier_of(tmp_path, (112, 56))
    load_starting_weights(model, tmp_path, PROCESSOR)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 28), torch.linspace(0, 1, 14), indexing="ij")
    found = model.swin.embeddings.position_embeddings[0, :, 0]
    torch.testing.assert_close(found, (rows + 2 * columns).flatten(), rtol=0, atol=0.05)


def test_another_window_interpolates_the_position_tables(tmp_path):
    stock = SwinForImageClassification(SwinConfig(**TINY, image_size=48, window_size=6, num_channels=1))
    table = stock.swin.encoder.layers[0].blocks[0].attention.relative_position_bias.relative_position_bias_table
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 11), torch.linspace(-1, 1, 11), indexing="ij")
    with torch.no_grad():
        table[:, 0] = (rows + 2 * columns).flatten()
    stock.save_pretrained(tmp_path)
    model = ours(tmp_path, (112, 56), window_size=7)
    load_starting_weights(model, tmp_path, PROCESSOR)
    found = model.swin.encoder.layers[0].blocks[0].attention.relative_position_bias.relative_position_bias_table
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 13), torch.linspace(-1, 1, 13), indexing="ij")
    torch.testing.assert_close(found[:, 0], (rows + 2 * columns).flatten(), rtol=0, atol=0.05)
    assert model.swin.embeddings.norm.weight.equal(stock.swin.embeddings.norm.weight)


def simmim_names(model):
    """Our state under the names of the SimMIM repository, query, key and value in one."""
    state, names = {}, model.state_dict()
    for name, value in names.items():
        if name.startswith("decoder."):
            state[name] = value
            continue
        if name == "deep_mask_token" or "k_proj" in name or "v_proj" in name:
            continue
        key = name.removeprefix("swin.")
        if "q_proj" in name:
            value = torch.cat([names[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"])
        for ours_, theirs in (
            ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
            ("embeddings.norm", "patch_embed.norm"),
            ("embeddings.mask_token", "mask_token"),
            ("layernorm_before", "norm1"),
            ("layernorm_after", "norm2"),
            ("attention.q_proj", "attn.qkv"),
            ("attention.o_proj", "attn.proj"),
            ("attention.relative_position_bias.", "attn."),
            ("encoder.layers", "layers"),
        ):
            key = key.replace(ours_, theirs)
        state["encoder." + (key.replace("layernorm", "norm") if key.startswith("layernorm.") else key)] = value
    state["encoder.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49)
    return state


class CfgNode(dict):
    """As yacs has it: SimMIM saves its settings beside the weights."""


def test_simmims_own_checkpoints(tmp_path, monkeypatch):
    config = starting_config("nano", (112, 112), **TINY | {"mim_decoder": "linear"}, num_channels=1)
    published = spread(MammoSwinForMaskedImageModeling(config))
    yacs = types.ModuleType("yacs.config")
    yacs.CfgNode = CfgNode
    monkeypatch.setattr(CfgNode, "__module__", "yacs.config")
    settings = CfgNode(MODEL=CfgNode(TYPE="swin"))
    with monkeypatch.context() as installed:  # where it is saved, not where it is read
        installed.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
        installed.setitem(sys.modules, "yacs.config", yacs)
        torch.save({"model": simmim_names(published), "config": settings, "epoch": 3}, tmp_path / "simmim.pth")
    model = ours(tmp_path / "simmim.pth", (112, 56), mim_decoder="linear")
    assert (model.config.depths, model.config.num_heads, model.config.window_size) == ([2, 2], [1, 2], 7)
    assert load_starting_weights(model, tmp_path / "simmim.pth", PROCESSOR) == ["deep_mask_token"]
    classifier = classifier_of(tmp_path / "simmim.pth", (112, 56))
    new = load_starting_weights(classifier, tmp_path / "simmim.pth", PROCESSOR)
    assert new == ["classifier.weight", "classifier.bias", "lesion_head.weight", "lesion_head.bias"]
    for name, value in classifier.swin.state_dict().items():
        assert torch.equal(value, published.swin.state_dict()[name]), name
    pixels = torch.randn(1, 1, 112, 56)
    torch.testing.assert_close(model(pixels).reconstruction, published(pixels).reconstruction)


def test_going_on_from_our_own_takes_everything(tmp_path):
    first = spread(MammoSwinForMaskedImageModeling(starting_config("nano", (112, 112), **TINY, num_channels=1)))
    first.save_pretrained(tmp_path)
    model = ours(tmp_path, (112, 112))
    assert load_starting_weights(model, tmp_path, PROCESSOR) == []
    for name, value in first.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    classifier = MammoSwinForImageClassification.from_pretrained(tmp_path)
    assert torch.equal(classifier.swin.layernorm.weight, first.swin.layernorm.weight)


def test_what_a_start_was_is_recorded(tmp_path):
    config = starting_config("nano", (112, 56), **TINY)
    kinds = {
        "masked_image_modeling": MammoSwinForMaskedImageModeling,
        "classifier": MammoSwinForImageClassification,
        "checkpoint": SwinModel,
    }
    for name, kind in kinds.items():
        kind(config).save_pretrained(tmp_path / name)
        assert kind_of_start(tmp_path / name) == name
    torch.save({}, tmp_path / "swin.pth")
    assert kind_of_start(tmp_path / "swin.pth") == "checkpoint"


def test_a_model_that_is_not_a_swin_is_refused(tmp_path):
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match="has no parameters of a Swin"):
        starting_config(str(tmp_path / "other.pth"), (112, 56))
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises(UsageError, match="cannot be read"):
        starting_config(str(tmp_path / "text.pth"), (112, 56))
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UsageError, match="'vit'"):
        starting_config(str(tmp_path / "vit"), (112, 56))
    narrow = MammoSwinForMaskedImageModeling(starting_config("nano", (112, 56), **TINY | {"embed_dim": 4}))
    wide = MammoSwinForMaskedImageModeling(starting_config("nano", (112, 56), **TINY))
    wide.save_pretrained(tmp_path / "wide")
    with pytest.raises(UsageError, match="widths"):
        load_starting_weights(narrow, tmp_path / "wide", PROCESSOR)


def chain(folder, stock, grey):
    """The last tokens of a stock model, from 8-bit grey images, as its own processor prepares them."""
    found = json.loads((folder / "preprocessor_config.json").read_text())
    pixels = grey[:, None].repeat(1, 3, 1, 1).double() * (found["rescale_factor"] if found["do_rescale"] else 1)
    if found["do_normalize"]:
        mean, deviation = (torch.tensor(found[key], dtype=torch.float64) for key in ("image_mean", "image_std"))
        pixels = (pixels - mean[:, None, None]) / deviation[:, None, None]
    encoder = getattr(stock, "swin", stock)
    return encoder.embeddings(pixels.float())[0], encoder(pixels.float()).last_hidden_state


@pytest.mark.parametrize("kind", [SwinForImageClassification, SwinForMaskedImageModeling, SwinModel])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
        {"do_rescale": False, "image_mean": [123.7, 116.3, 103.5], "image_std": [58.4, 57.1, 57.4]},
        {"rescale_factor": 1 / 127.5},
        {"do_normalize": False},
    ],
)
def test_a_grey_image_gives_the_embeddings_of_the_stock_chain(kind, changes, tmp_path):
    stock = spread(kind(SwinConfig(**TINY, image_size=56, encoder_stride=8)))
    stock.save_pretrained(tmp_path)
    about = ViTImageProcessor(
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225], rescale_factor=1 / 255
    ).to_dict()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**about, **changes}))
    grey = torch.randint(0, 256, (2, 56, 56))
    embeddings, tokens = chain(tmp_path, stock, grey)
    for processor in (PROCESSOR, MammoImageProcessor(num_channels=3), MammoImageProcessor(image_mean=[0.1])):
        config = starting_config(tmp_path, (56, 56), num_channels=processor.num_channels, tasks=TASKS)
        model = MammoSwinForImageClassification(config).eval()
        load_starting_weights(model, tmp_path, processor)
        pixels = torch.from_numpy(processor.normalize_intensity(grey.numpy() / 255))
        torch.testing.assert_close(model.swin.embeddings(pixels)[0], embeddings, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.swin(pixels).last_hidden_state, tokens, rtol=1e-4, atol=1e-4)


def test_our_own_checkpoint_of_the_same_normalisation_is_left_as_it_is(tmp_path):
    first = spread(classifier_of("nano", (56, 56), **TINY))
    first.save_pretrained(tmp_path)
    for mean in (PROCESSOR.image_mean, [0.1]):
        MammoImageProcessor(image_mean=mean).save_pretrained(tmp_path)
        model = classifier_of(tmp_path, (56, 56))
        load_starting_weights(model, tmp_path, PROCESSOR)
        projections = [one.swin.embeddings.patch_embeddings.projection for one in (model, first)]
        assert torch.equal(projections[0].weight, projections[1].weight)  # the deviation is the same
        assert torch.equal(projections[0].bias, projections[1].bias) is (mean == PROCESSOR.image_mean)
