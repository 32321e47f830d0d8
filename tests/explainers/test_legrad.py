import pytest
import torch
from dense_swin import dense_attention, dense_logits, stock_classifier
from torch.nn import functional

from mammo_hf.explainers import explain, legrad
from mammo_hf.testing import check_explainer, tiny_classifier


def test_keeps_the_contract():
    check_explainer("legrad")


@pytest.mark.parametrize(("size", "depths"), [((112, 56), (1,)), ((64, 36), (1,)), ((112, 112), (2, 1))])
def test_of_the_last_block_equals_brute_force_over_pairs_of_tokens(size, depths):
    model, pixels = stock_classifier(size, depths), torch.randn(1, 1, *size)
    weights, image, value, tokens, grid = dense_attention(model, pixels)
    weights.requires_grad_(True)
    logits = dense_logits(model, weights, value, tokens)
    (gradient,) = torch.autograd.grad(logits[1] - logits[0], weights)
    # a pair in different windows has weight 0, whatever its gradient
    expected = (gradient.relu() * (weights > 0))[:, :, image].sum(1).mean(0) / 49
    found = legrad.explain_map(model, pixels, [1], stage=-1)[0]
    torch.testing.assert_close(found, expected.view(grid), rtol=1e-3, atol=1e-7)


def test_sums_over_blocks_and_stages_and_each_stage_counts_by_its_sum():
    model, pixels = stock_classifier((112, 56), (2, 2)), torch.randn(1, 1, 112, 56)
    model.set_attn_implementation("eager")
    weights = []
    for stage in model.swin.encoder.layers:
        for block in stage.blocks:
            block.attention.register_forward_hook(lambda module, inputs, output: weights.append(output[1]))
    logits = model(pixels).logits
    gradients = torch.autograd.grad(logits[0, 1] - logits[0, 0], weights)
    # without regard to places: the whole of each block
    whole = sum(float(gradient.relu().mean(1).sum()) / 49 for gradient in gradients)
    for stage in model.swin.encoder.layers:
        for block in stage.blocks:
            block.attention._forward_hooks.clear()
    found = legrad.explain_map(model, pixels, [1])
    assert found.shape == (1, 28, 14)
    assert float(found.sum()) == pytest.approx(whole, rel=1e-3)
    late = legrad.explain_map(model, pixels, [1], stage=-1)
    spread = functional.interpolate(late[:, None], size=(28, 14), mode="bilinear")[:, 0] / 4
    assert (found - spread).min() > -1e-7


def test_a_head_that_is_not_heard_is_nothing():
    model = tiny_classifier()
    with torch.no_grad():
        for stage in model.swin.encoder.layers:
            for block in stage.blocks:
                block.attention.o_proj.weight.zero_()
    assert explain(model, torch.randn(1, 1, 112, 56), 1, "legrad").flat == (True,)
