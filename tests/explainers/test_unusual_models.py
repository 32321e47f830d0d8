"""Frozen, compiled, quantised, or no classifier at all: each works, or says in one line why not."""

import numpy as np
import pytest
import torch
from dense_swin import stock_classifier
from torch import nn

from mammo_hf.errors import UsageError
from mammo_hf.explainers import explain
from mammo_hf.testing import tiny_classifier

GRADIENTS = ("grad_cam", "grad_cam_attention", "hires_cam", "layer_cam", "legrad")
ALL = (*GRADIENTS, "attention", "attention_rollout", "occlusion")


@pytest.fixture
def pixels():
    return torch.randn(1, 1, 112, 56)


@pytest.mark.parametrize("name", ALL)
def test_a_frozen_model(name, pixels):
    frozen = tiny_classifier().requires_grad_(False)
    np.testing.assert_array_equal(explain(frozen, pixels, 1, name).map, explain(tiny_classifier(), pixels, 1, name).map)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


@pytest.mark.parametrize("name", ["attention", pytest.param("grad_cam", marks=pytest.mark.slow)])
def test_a_compiled_model(name, pixels):
    expected = explain(tiny_classifier(), pixels, 1, name).map
    wrapped = torch.compile(tiny_classifier(), backend="eager")
    with torch.no_grad():
        wrapped(pixels)  # compiled before, as in use
    np.testing.assert_allclose(explain(wrapped, pixels, 1, name).map, expected, atol=1e-5)
    inside = tiny_classifier()
    inside.compile(backend="eager")
    with torch.no_grad():
        inside(pixels)
    call = inside._compiled_call_impl
    np.testing.assert_allclose(explain(inside, pixels, 1, name).map, expected, atol=1e-5)
    assert inside._compiled_call_impl is call


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_quantised_model(pixels):
    quantised = torch.ao.quantization.quantize_dynamic(tiny_classifier(), {nn.Linear}, dtype=torch.qint8)
    for name in ("attention", "attention_rollout", "occlusion"):
        full = explain(tiny_classifier(), pixels, 1, name).map
        found = explain(quantised, pixels, 1, name).map
        assert np.corrcoef(full.ravel(), found.ravel())[0, 1] > 0.5, name
    for name in GRADIENTS:
        with pytest.raises(UsageError, match=r"no gradient flows through this model.*use attention or occlusion"):
            explain(quantised, pixels, 1, name)


@pytest.mark.parametrize("name", ALL)
def test_all_zero_gradients_say_so(name, pixels):
    deaf = tiny_classifier()
    with torch.no_grad():
        deaf.classifier.weight.zero_()
    explanation = explain(deaf, pixels, 1, name)
    assert np.isfinite(explanation.map).all()
    if name in (*GRADIENTS, "occlusion"):
        assert explanation.flat == (True,)
        assert not explanation.map.any()
        assert "the map is empty" in explanation.caption()


def test_a_model_that_is_no_classifier_of_transformers(pixels):
    with pytest.raises(UsageError, match="Linear is not a classifier of transformers"):
        explain(nn.Linear(1, 1), pixels, 0)
    other = tiny_classifier()
    del other.swin
    with pytest.raises(UsageError, match="not a Swin classifier"):
        explain(other, pixels, 0)


@pytest.mark.parametrize("name", ALL)
def test_an_image_smaller_than_a_window(name):
    with pytest.raises(UsageError, match="too small"):
        explain(stock_classifier((56, 56)), torch.zeros(1, 1, 56, 24), 0, name)


def test_targets_that_do_not_exist(pixels):
    for target in ("maligant", "pathology:a", 17, ["malignant", "benign"]):
        with pytest.raises(UsageError, match="target"):
            explain(tiny_classifier(), pixels, target)
