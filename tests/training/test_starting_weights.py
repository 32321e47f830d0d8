import logging

import pytest
import torch
from transformers import SwinConfig, SwinForImageClassification, SwinForMaskedImageModeling

from mammo_hf import MammoSwinForImageClassification, MammoSwinForMaskedImageModeling
from mammo_hf.errors import UsageError
from mammo_hf.training.mim import starting_config
from mammo_hf.training.starting_weights import load_starting_weights

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
        new = load_starting_weights(model, tmp_path)
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


def test_another_window_interpolates_the_position_tables(tmp_path):
    stock = SwinForImageClassification(SwinConfig(**TINY, image_size=48, window_size=6, num_channels=1))
    table = stock.swin.encoder.layers[0].blocks[0].attention.relative_position_bias.relative_position_bias_table
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 11), torch.linspace(-1, 1, 11), indexing="ij")
    with torch.no_grad():
        table[:, 0] = (rows + 2 * columns).flatten()
    stock.save_pretrained(tmp_path)
    model = ours(tmp_path, (112, 56), window_size=7)
    load_starting_weights(model, tmp_path)
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


def test_simmims_own_checkpoints(tmp_path):
    config = starting_config("nano", (112, 112), **TINY | {"decoder": "linear"}, num_channels=1)
    published = spread(MammoSwinForMaskedImageModeling(config))
    torch.save({"model": simmim_names(published)}, tmp_path / "simmim.pth")
    model = ours(tmp_path / "simmim.pth", (112, 56), decoder="linear")
    assert (model.config.depths, model.config.num_heads, model.config.window_size) == ([2, 2], [1, 2], 7)
    assert load_starting_weights(model, tmp_path / "simmim.pth") == ["deep_mask_token"]
    pixels = torch.randn(1, 1, 112, 56)
    torch.testing.assert_close(model(pixels).reconstruction, published(pixels).reconstruction)


def test_going_on_from_our_own_takes_everything(tmp_path):
    first = spread(MammoSwinForMaskedImageModeling(starting_config("nano", (112, 112), **TINY, num_channels=1)))
    first.save_pretrained(tmp_path)
    model = ours(tmp_path, (112, 112))
    assert load_starting_weights(model, tmp_path) == []
    for name, value in first.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    classifier = MammoSwinForImageClassification.from_pretrained(tmp_path)
    assert torch.equal(classifier.swin.layernorm.weight, first.swin.layernorm.weight)


def test_what_is_no_swin_says_so(tmp_path):
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match="no Swin"):
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
        load_starting_weights(narrow, tmp_path / "wide")
