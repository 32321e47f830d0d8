import pytest
import torch
from dense_swin import dense_attention, dense_logits, stock_classifier

from mammo_hf.explainers import attention, grad_cam_attention
from mammo_hf.testing import check_explainer, tiny_classifier


def test_keeps_the_contract():
    check_explainer("grad_cam_attention")


@pytest.mark.parametrize(
    ("size", "depths"), [((112, 56), (2,)), ((64, 36), (2,)), ((36, 64), (1,)), ((112, 112), (2, 2))]
)
def test_equals_brute_force_over_pairs_of_tokens(size, depths):
    model, pixels = stock_classifier(size, depths), torch.randn(1, 1, *size)
    weights, image, value, tokens, grid = dense_attention(model, pixels)
    weights.requires_grad_(True)
    logits = dense_logits(model, weights, value, tokens)
    torch.testing.assert_close(logits, model(pixels).logits[0], rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(logits[1] - logits[0], weights)
    expected = (gradient * weights).relu().detach()[:, :, image].sum(1) / 49
    found = grad_cam_attention.explain_map(model, pixels, [1])[0]
    torch.testing.assert_close(found, expected.unflatten(1, grid), rtol=1e-3, atol=1e-7)


def test_a_head_that_is_not_heard_is_nothing():
    model, pixels = tiny_classifier(), torch.randn(1, 1, 112, 56)
    last = model.swin.encoder.layers[-1].blocks[-1].attention
    with torch.no_grad():
        last.o_proj.weight[:, :8] = 0  # what the first head says is not heard
    heads = grad_cam_attention.explain_map(model, pixels, [1])[0]
    assert not heads[0].any()
    assert heads[1].any()
    assert attention.explain_map(model, pixels, [1])[0, 0].any()
