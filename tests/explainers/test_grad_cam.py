from types import SimpleNamespace

import torch
from torch import nn

from mammo_hf.explainers import grad_cam
from mammo_hf.testing import check_explainer, tiny_classifier


def test_keeps_the_contract():
    check_explainer(grad_cam)


def test_equals_the_result_by_hand_on_the_last_stage():
    # behind the last layer norm stand a mean over tokens and a linear layer: the gradient is the same at each token
    model = tiny_classifier()
    pixels = torch.randn(2, 1, 112, 56)
    tokens = model.swin(pixels).last_hidden_state.detach()
    weight = model.classifier.weight.detach()
    expected = torch.stack([tokens[0] @ (weight[1] - weight[0]), tokens[1] @ (weight[0] - weight[1])]).relu() / 98 / 1
    maps = grad_cam.explain_map(model, pixels, [1, 0])
    torch.testing.assert_close(maps, expected.view(2, 14, 7), rtol=1e-4, atol=1e-6)


def test_is_spatial():
    # a map that averages over windows would be the same at each token of a window
    maps = grad_cam.explain_map(tiny_classifier(), torch.randn(1, 1, 112, 56), [1])
    assert maps[0, :7].std() > 0
    assert maps[0, :7].flatten().unique().numel() > 10


def test_stage_is_the_last_with_fourteen_rows():
    config = SimpleNamespace(patch_size=4, depths=[2, 2, 6, 2])
    assert grad_cam._stage(config, 896, 448) == (3, (28, 14))
    assert grad_cam._stage(config, 448, 224) == (3, (14, 7))
    assert grad_cam._stage(config, 224, 224) == (2, (14, 14))
    assert grad_cam._stage(config, 40, 40) == (0, (10, 10))


def test_an_inner_stage_keeps_its_own_grid():
    model = tiny_classifier()
    maps = grad_cam.explain_map(model, torch.randn(1, 1, 56, 56), [1])
    assert maps.shape == (1, 14, 14)  # the last stage's grid is 7 x 7 here


def test_only_what_lies_behind_the_stage_is_differentiated(monkeypatch):
    model = tiny_classifier()
    reached = []
    model.swin.embeddings.patch_embeddings.projection.register_full_backward_hook(lambda *args: reached.append(1))
    grad_cam.explain_map(model, torch.randn(1, 1, 112, 56), [1])
    assert not reached
    assert isinstance(model.classifier, nn.Linear)
