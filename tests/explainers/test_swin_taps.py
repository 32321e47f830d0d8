import pytest
import torch
from torch import nn

from mammo_hf.errors import UsageError
from mammo_hf.explainers import preserve_state
from mammo_hf.explainers.swin import Windows, attention_tap, feature_tap, swin_of
from mammo_hf.testing import tiny_classifier


def test_any_stage_and_block_can_be_tapped():
    model, pixels = tiny_classifier(), torch.randn(2, 1, 112, 56)
    with preserve_state(model), attention_tap(model, (112, 56), stage=0, block=1) as tap:
        model(pixels)
    assert tap.windows == Windows((28, 14), 7, 3)
    assert tap.weights.shape == (2 * 8, 1, 49, 49)
    torch.testing.assert_close(tap.weights.sum(-1), torch.ones(16, 1, 49))
    assert not tap.weights.requires_grad


def test_features_are_those_behind_the_stage():
    model, pixels = tiny_classifier(), torch.randn(1, 1, 112, 56)
    with preserve_state(model), feature_tap(model, (112, 56), 1) as last, feature_tap(model, (112, 56), 0) as first:
        model(pixels)
    torch.testing.assert_close(last[0], model.swin(pixels).last_hidden_state)
    assert first[0].shape == (1, 28 * 14, 8)
    assert last[0].shape == (1, 14 * 7, 16)


def test_hooks_are_gone_also_after_an_error():
    model = tiny_classifier()
    for tap in (attention_tap(model, (112, 56), gradients=True), feature_tap(model, (112, 56), 0)):
        with pytest.raises(RuntimeError), tap:
            raise RuntimeError
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_an_image_smaller_than_a_window_is_refused():
    with pytest.raises(UsageError, match="stage 2 has 4 x 7 tokens"):
        swin_of(tiny_classifier(), 32, 56)


def test_a_model_without_swin_is_refused():
    with pytest.raises(UsageError, match="not a Swin classifier"):
        swin_of(nn.Linear(1, 1), 112, 56)
