"""The encoder on visible tokens, against stock Swin and against a dense one whose hidden keys are masked."""

import math

import pytest
import torch
from transformers.models.swin.modeling_swin import window_partition

from mammo_hf import BlockwiseMasking, MammoSwinConfig, MammoSwinForMaskedImageModeling
from mammo_hf.models.sparse_encoder import _drop_path

SHAPES = {
    "four stages": {"depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8], "image_size": (256, 128), "window_size": 4},
    "three stages": {"depths": [2, 3, 2], "num_heads": [1, 2, 4], "image_size": (112, 224), "window_size": 7},
    "absolute positions": {"depths": [1, 2], "num_heads": [2, 4], "image_size": 64, "use_absolute_embeddings": True},
}
SHAPES["absolute positions"]["window_size"] = 4


def model_of(shape, **changes):
    """With weights large enough that biases, shifts and attention matter."""
    config = MammoSwinConfig(**{"embed_dim": 8, "drop_path_rate": 0.0, **SHAPES[shape], **changes})
    model = MammoSwinForMaskedImageModeling(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def inputs(model, ratios=(0.5, 0.75), channels=1):
    """Images and masks; each image hides another share."""
    size = tuple(model.config.image_size)
    masks = [BlockwiseMasking(16, ratio)(size, seed=1, index=index) for index, ratio in enumerate(ratios)]
    return torch.randn(len(ratios), channels, *size), torch.stack([torch.from_numpy(mask) for mask in masks])


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_stock_where_nothing_is_hidden(shape, implementation):
    model = model_of(shape)
    model.set_attn_implementation(implementation)
    pixels, masks = inputs(model)
    wanted = {"output_hidden_states": True, "output_attentions": True}
    stock = model.swin(pixels, **wanted)
    ours = model(pixels, bool_masked_pos=torch.zeros_like(masks), **wanted)
    assert len(ours.attentions) == (len(model.config.depths) if implementation == "eager" else 0)
    for name in ("hidden_states", "reshaped_hidden_states", "attentions"):
        for one, other in zip(ours[name], stock[name], strict=True):
            assert one.shape == other.shape
            # rounding is in proportion to the largest that was added up
            assert (one - other).abs().max() <= 1e-5 * other.abs().max().clamp(min=1)
    torch.testing.assert_close(ours.reconstruction, model(pixels).reconstruction, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_hidden_content_influences_nothing(shape):
    model = model_of(shape)
    pixels, masks = inputs(model)
    rows, columns = model.config.stage_grids(*model.config.image_size)[0]
    hidden = masks.view(2, 1, rows, columns).repeat_interleave(4, 2).repeat_interleave(4, 3)
    before = model(pixels, bool_masked_pos=masks).reconstruction
    for content in (1e6, float("inf")):
        changed = torch.where(hidden, torch.tensor(content), pixels)
        assert torch.equal(model(changed, bool_masked_pos=masks).reconstruction, before)
    assert not torch.equal(model(torch.where(hidden, pixels, pixels + 1), bool_masked_pos=masks).reconstruction, before)


def masked_keys(layer, hidden, grid):
    """A replacement for ``get_attn_mask`` under which no token attends to a hidden one."""
    stock = layer.get_attn_mask

    def get_attn_mask(height, width, dtype, device):
        forbidden = window_partition(layer.cyclic_shift(hidden.view(-1, *grid, 1).to(dtype)), layer.window_size)
        forbidden = forbidden.view(-1, 1, layer.window_size**2).expand(-1, layer.window_size**2, -1) * -1e9
        mask = stock(height, width, dtype, device)
        return forbidden if mask is None else forbidden + mask.repeat(len(hidden), 1, 1)

    return get_attn_mask


def dense_reference(model, pixels, masks):
    """Every token is computed, hidden keys are masked, and the mask token is put in before the last merge."""
    swin, grids = model.swin, model.config.stage_grids(*pixels.shape[-2:])
    tokens, _ = swin.embeddings(pixels)
    hidden = masks
    for number, (stage, grid) in enumerate(zip(swin.encoder.layers, grids, strict=True)):
        last = number == len(grids) - 1
        for index, block in enumerate(stage.blocks):
            block.window_size = model.config.window_size
            block.shift_size = model.config.window_size // 2 if index % 2 else 0
            if not last:
                block.get_attn_mask = masked_keys(block, hidden, grid)
            tokens, _ = block(tokens, grid)
            block.__dict__.pop("get_attn_mask", None)
        if number == len(grids) - 2:
            tokens = torch.where(hidden[..., None], model.deep_mask_token, tokens)
        if not last:
            tokens = stage.downsample(tokens, grid)
            hidden = hidden.view(-1, *grid)[:, ::2, ::2].reshape(len(hidden), -1)
    return model.decoder(swin.layernorm(tokens).transpose(1, 2).unflatten(2, grids[-1]))


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_equal_dense_attention_with_masked_keys(shape):
    model = model_of(shape).double()
    pixels, masks = inputs(model, ratios=(0.25, 0.9))
    pixels, gradients = pixels.double(), []
    for compute in (lambda *given: model(*given).reconstruction, lambda *given: dense_reference(model, *given)):
        model.zero_grad()
        reconstruction = compute(pixels, masks)
        (reconstruction * torch.linspace(-1, 2, reconstruction.numel()).view_as(reconstruction)).sum().backward()
        gradients.append((reconstruction, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}))
    (ours, mine), (theirs, reference) = gradients
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, reference[name], rtol=1e-6, atol=1e-6)
        # softmax ignores what is added to every key
        assert "k_proj.bias" in name or gradient.abs().max() > 1e-3, name


@pytest.mark.parametrize("sparse", [True, False])
def test_sdpa_and_eager_agree(sparse):
    model = model_of("four stages", sparse_encoder=sparse)
    pixels, masks = inputs(model)
    results = []
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        output = model(pixels, bool_masked_pos=masks)
        output.loss.backward()
        results.append([output.reconstruction, *(p.grad for p in model.parameters() if p.requires_grad)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_an_image_that_is_hidden_whole_beside_one_that_is_not():
    model = model_of("four stages")
    pixels, masks = inputs(model)
    masks[0] = True
    both = model(pixels, bool_masked_pos=masks).reconstruction
    alone = model(pixels[1:], bool_masked_pos=masks[1:]).reconstruction
    torch.testing.assert_close(both[1:], alone, rtol=1e-5, atol=1e-5)
    assert torch.isfinite(both).all()


def test_no_token_attends_to_a_hidden_one():
    model = model_of("four stages")
    model.set_attn_implementation("eager")
    pixels, masks = inputs(model)
    output = model(pixels, bool_masked_pos=masks, output_attentions=True)
    assert model.swin.encoder.layers[0].blocks[-1].configured == (4, 2)
    shifted = window_partition(masks.view(2, 64, 32, 1).roll((-2, -2), (1, 2)), 4).flatten(1)
    some_visible = ~shifted.all(1)
    to_hidden = output.attentions[0] * shifted[:, None, None]
    assert to_hidden[some_visible].max() == 0
    assert output.attentions[0].sum(-1).min() > 0.999


def test_packed_and_called_modules_give_the_same_states_loss_and_gradients():
    model = model_of("four stages").double()
    pixels, masks = inputs(model)
    packed = model(pixels.double(), bool_masked_pos=masks)
    called = model(pixels.double(), bool_masked_pos=masks, output_hidden_states=[0, 2])
    torch.testing.assert_close(packed.reconstruction, called.reconstruction)
    assert [state is not None for state in called.hidden_states] == [True, False, True, False, False]
    kept = called.hidden_states[2]
    kept.retain_grad()
    gradients = []
    for output in (packed, called):
        model.zero_grad()
        output.loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)
    assert kept.grad.abs().sum() > 0


def test_gradient_checkpointing_changes_nothing():
    model = model_of("four stages").train()
    pixels, masks = inputs(model)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(pixels, bool_masked_pos=masks).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    assert len(gradients[0]) > 50
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_near_and_trains(dtype):
    model = model_of("four stages")
    pixels, masks = inputs(model)
    exact = model(pixels, bool_masked_pos=masks).loss
    with torch.autocast("cpu", dtype=dtype):
        output = model(pixels, bool_masked_pos=masks)
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    assert output.loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


def test_stochastic_depth_drops_whole_images():
    path = torch.nn.Module()
    path.drop_prob = 0.5
    images = torch.arange(40).repeat_interleave(3)
    dropped = _drop_path(path, torch.ones(120, 2), images, 40).view(40, -1)
    assert (dropped == dropped[:, :1]).all()
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(_drop_path(path.eval(), torch.ones(120, 2), images, 40), torch.ones(120, 2))


@pytest.mark.slow
def test_compiled_it_gives_the_same():
    model = model_of("absolute positions")
    pixels, masks = inputs(model)
    compiled = torch.compile(model, backend="aot_eager")
    loss = compiled(pixels, bool_masked_pos=masks).loss
    assert math.isfinite(loss.item())
    torch.testing.assert_close(loss, model(pixels, bool_masked_pos=masks).loss)
    loss.backward()
    assert model.deep_mask_token.grad.abs().sum() > 0
