"""What every model of transformers keeps, in our own words, for masked image modelling, sparse and dense."""

import logging

import numpy as np
import pytest
import torch
from transformers import AutoModel, SwinConfig, SwinForMaskedImageModeling

from mammo_hf import BlockwiseMasking, MammoSwinConfig, MammoSwinForMaskedImageModeling
from mammo_hf.errors import UsageError
from mammo_hf.models.sparse_encoder import visible_tokens, warn_dense

SHAPE = {"embed_dim": 8, "depths": [2, 2, 2], "num_heads": [1, 2, 4], "image_size": (224, 112), "drop_path_rate": 0.0}


def model_of(**changes):
    return MammoSwinForMaskedImageModeling(MammoSwinConfig(**SHAPE | changes)).eval()


def inputs(size=(224, 112), batch=2):
    masks = [torch.from_numpy(BlockwiseMasking()(size, seed=0, index=index)) for index in range(batch)]
    return torch.randn(batch, 1, *size), torch.stack(masks)


@pytest.mark.parametrize("changes", [{}, {"sparse_encoder": False}, {"mim_decoder": "linear", "normalized_patch": 16}])
def test_saved_and_loaded_it_is_the_same(changes, tmp_path):
    model = model_of(**changes)
    pixels, masks = inputs()
    model.save_pretrained(tmp_path)
    again, info = MammoSwinForMaskedImageModeling.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    same = [network.config.to_dict() | {"_name_or_path": ""} for network in (model, again)]
    assert same[0] == same[1]
    one, other = (network.eval()(pixels, bool_masked_pos=masks) for network in (model, again))
    assert torch.equal(one.loss, other.loss)
    assert torch.equal(one.reconstruction, other.reconstruction)
    assert again.swin.embeddings.mask_token.requires_grad == (not model.config.sparse_encoder)


def test_a_linear_decoder_makes_a_stock_checkpoint(tmp_path):
    model = model_of(mim_decoder="linear", image_size=(112, 112))
    model.save_pretrained(tmp_path)
    config = SwinConfig.from_pretrained(tmp_path)
    config.image_size = 112
    stock, info = SwinForMaskedImageModeling.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert not info["missing_keys"]
    assert set(info["unexpected_keys"]) == {"deep_mask_token"}
    pixels = torch.randn(1, 1, 112, 112)
    torch.testing.assert_close(stock.eval()(pixels).reconstruction, model(pixels).reconstruction, rtol=1e-5, atol=1e-5)
    assert type(AutoModel.from_pretrained(tmp_path)).__name__ == "SwinModel"


def test_parameters_are_drawn_as_they_should():
    model = model_of()
    assert 0 < model.deep_mask_token.abs().mean() < 3 * model.config.initializer_range
    assert not model.swin.embeddings.mask_token.any()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter).all(), name


def test_a_tuple_holds_what_the_output_holds():
    model = model_of()
    pixels, masks = inputs()
    whole = model(pixels, bool_masked_pos=masks, output_hidden_states=True)
    parts = model(pixels, bool_masked_pos=masks, output_hidden_states=True, return_dict=False)
    assert torch.equal(parts[0], whole.loss)
    assert torch.equal(parts[1], whole.reconstruction)
    assert [state.shape[1:] for state in whole.hidden_states] == [(1568, 8), (392, 16), (98, 32), (98, 32)]
    assert whole.reshaped_hidden_states[0].shape == (2, 8, 56, 28)


def test_hidden_states_and_attentions_keep_their_gradient():
    model = model_of()
    model.set_attn_implementation("eager")
    pixels, masks = inputs()
    output = model(pixels, bool_masked_pos=masks, output_hidden_states=True, output_attentions=True)
    kept = [output.hidden_states[0], output.attentions[0], output.attentions[-1]]
    for tensor in kept:
        tensor.retain_grad()
    output.hidden_states[-1].sum().backward()
    assert all(tensor.grad is not None for tensor in kept)


def test_another_size_in_between_changes_nothing():
    model = model_of()
    pixels, masks = inputs()
    before = model(pixels, bool_masked_pos=masks).reconstruction
    smaller, fewer = inputs((112, 112))
    assert model(smaller, bool_masked_pos=fewer).reconstruction.shape == smaller.shape
    assert torch.equal(model(pixels, bool_masked_pos=masks).reconstruction, before)


def test_a_size_of_padded_windows_runs_densely_and_says_so_once(caplog):
    warn_dense.cache_clear()
    with caplog.at_level(logging.WARNING):
        model = model_of(image_size=(128, 128))
    assert model.deep_mask_token is None
    assert model.swin.embeddings.mask_token.requires_grad
    assert "padded at 128 x 128" in caplog.text
    model = model_of()
    pixels, masks = inputs((128, 128))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            model(pixels, bool_masked_pos=masks).loss.backward()
    assert caplog.text.count("padded at 128 x 128") == 1
    assert model.deep_mask_token.grad is not None


def test_a_mask_of_single_patches_runs_densely_and_equals_stock():
    model = model_of(mim_decoder="linear", image_size=(112, 112))
    config = SwinConfig(**SHAPE | {"image_size": 112, "num_channels": 1, "encoder_stride": 16})
    stock = SwinForMaskedImageModeling(config).eval()
    stock.load_state_dict(model.state_dict(), strict=False)
    pixels, masks = torch.randn(2, 1, 112, 112), torch.rand(2, 784) < 0.5
    one, other = (network(pixels, bool_masked_pos=masks) for network in (model, stock))
    torch.testing.assert_close(one.reconstruction, other.reconstruction, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one.loss, other.loss, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"mim_decoder": "deep"}, {"loss_region": "breast"}, {"normalized_patch": 15}, {"normalized_patch": 1}]
)
def test_wrong_settings(wrong):
    with pytest.raises(UsageError):
        model_of(**wrong)


def test_wrong_inputs():
    model = model_of()
    pixels, masks = inputs()
    with pytest.raises(UsageError, match="bool_masked_pos has shape"):
        model(pixels, bool_masked_pos=masks[:, :-1])
    with pytest.raises(UsageError, match="224 x 112"):
        model(pixels[:, :, :223], bool_masked_pos=masks)
    with pytest.raises(UsageError, match="leave some visible"):
        model(pixels, bool_masked_pos=torch.ones_like(masks))
    with pytest.raises(UsageError, match="needs breast_mask"):
        model_of(loss_region="masked_breast")(pixels, bool_masked_pos=masks)


@pytest.mark.slow
def test_exports_without_torchscript():
    model = model_of(depths=[1, 1], num_heads=[1, 2], image_size=(112, 56), sparse_encoder=False)
    pixels = torch.randn(1, 1, 112, 56)
    exported = torch.export.export(model, (pixels,), strict=False)
    torch.testing.assert_close(exported.module()(pixels)["reconstruction"], model(pixels).reconstruction)


@pytest.mark.slow
@pytest.mark.parametrize("sparse", [True, False])
def test_compiled_it_is_one_graph_and_gives_the_same(sparse):
    model = model_of(depths=[1, 1], num_heads=[1, 2], image_size=(112, 56), sparse_encoder=sparse).train()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for seed in range(2):  # another mask leaves another number of visible tokens in each window
        masks = np.stack([BlockwiseMasking(8)((112, 56), seed=seed, index=index) for index in range(2)])
        packed = visible_tokens(masks, (28, 14), stages=2, window=7) if sparse else None
        given = {"bool_masked_pos": torch.from_numpy(masks), "visible": packed}
        pixels, results = torch.randn(2, 1, 112, 56), []
        for network in (model, compiled):
            model.zero_grad()
            loss = network(pixels, **given).loss
            loss.backward()
            results.append([loss, *(p.grad.clone() for p in model.parameters() if p.requires_grad)])
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
