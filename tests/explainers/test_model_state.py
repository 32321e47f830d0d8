import random

import numpy as np
import pytest
import torch
from dense_swin import stock_classifier

from mammo_hf.explainers import explain, preserve_state
from mammo_hf.testing import tiny_classifier


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_all_comes_back(error):
    model = tiny_classifier()
    model.train()
    model.swin.encoder.eval()
    model.classifier.weight.requires_grad_(False)
    model.swin.layernorm.weight.grad = grad = torch.ones(16)
    mine = model.swin.register_forward_hook(lambda *args: None)
    block = model.swin.encoder.layers[0].blocks[1]
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()

    def disturb():
        with preserve_state(model):
            model.set_attn_implementation("eager")
            assert not any(module.training for module in model.modules())
            assert model.swin.layernorm.weight.grad is None
            model.swin.register_forward_hook(lambda *args: None)
            model.classifier.register_forward_pre_hook(lambda *args: None)
            model.classifier.register_full_backward_hook(lambda *args: None)
            mine.remove()
            for parameter in model.parameters():
                parameter.requires_grad_(True)
            model.train()
            model(torch.randn(1, 1, 112, 56)).logits.sum().backward()
            block.window_size, block.shift_size = 5, 0
            random.random(), np.random.rand()
            if error:
                raise error

    if error:
        with pytest.raises(error):
            disturb()
    else:
        disturb()
    assert model.training
    assert not model.swin.encoder.training
    assert model.config._attn_implementation == "sdpa"
    assert (block.window_size, block.shift_size) == (7, 3)
    assert not model.classifier.weight.requires_grad
    assert model.classifier.bias.requires_grad
    assert model.swin.layernorm.weight.grad is grad
    assert torch.equal(grad, torch.ones(16))
    assert model.classifier.bias.grad is None
    assert list(model.swin._forward_hooks) == [mine.id]
    assert not model.classifier._forward_pre_hooks
    assert not model.classifier._backward_hooks
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_equal(np.random.get_state(), numpy_state)
    assert random.getstate() == python_state


def test_an_eager_model_stays_eager():
    model = tiny_classifier()
    model.set_attn_implementation("eager")
    with preserve_state(model):
        model.set_attn_implementation("sdpa")
    assert model.config._attn_implementation == "eager"


def test_a_small_image_does_not_change_stock_swin():
    model = stock_classifier((112, 112))
    before = model(torch.ones(1, 1, 112, 112)).logits
    explain(model, torch.randn(1, 1, 56, 28), explainer="attention")
    assert model.swin.encoder.layers[-1].blocks[-1].shift_size == 3
    assert torch.equal(model(torch.ones(1, 1, 112, 112)).logits, before)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_there_where_the_caller_has_none(mode):
    model, pixels = tiny_classifier(), torch.randn(1, 1, 112, 56)
    expected = explain(model, pixels, 1).map
    with mode():
        found = explain(model, pixels * 1, 1).map
        assert torch.is_grad_enabled() is False
    np.testing.assert_array_equal(found, expected)


def test_a_caller_with_autocast_or_with_pixels_that_require_a_gradient_gets_the_map():
    model, pixels = tiny_classifier(), torch.randn(1, 1, 112, 56)
    expected = explain(model, pixels, 1).map
    np.testing.assert_array_equal(explain(model, pixels.clone().requires_grad_(), 1).map, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = explain(model, pixels, 1).map
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95
