import pytest
import torch
from dense_swin import stock_classifier
from transformers import SwinConfig

from mammo_hf.explainers import explain
from mammo_hf.explainers.cam import grad_cam, hires_cam, layer_cam
from mammo_hf.explainers.swin import default_stage
from mammo_hf.testing import check_explainer, tiny_classifier


@pytest.mark.parametrize("name", ["grad_cam", "hires_cam", "layer_cam"])
def test_keeps_the_contract(name):
    check_explainer(name)


def test_grad_cam_equals_the_result_by_hand_on_the_last_stage():
    # behind the last layer norm stand a mean over tokens and a linear layer: the gradient is the same at each token
    model, pixels = tiny_classifier(), torch.randn(2, 1, 112, 56)
    tokens = model.swin(pixels).last_hidden_state.detach()
    weight = model.classifier.weight.detach()
    expected = torch.stack([tokens[0] @ (weight[1] - weight[0]), tokens[1] @ (weight[0] - weight[1])]).relu() / 98
    maps = grad_cam.explain_map(model, pixels, [1, 0])
    torch.testing.assert_close(maps, expected.view(2, 14, 7), rtol=1e-4, atol=1e-6)


def test_grad_cam_equals_the_definition_on_an_inner_stage():
    # 56 x 56 pixels: the last stage's grid is 7 x 7, so the first one's 14 x 14 is taken, before the tokens are merged
    model, pixels = tiny_classifier(), torch.randn(1, 1, 56, 56)
    caught = []
    handle = (
        model.swin.encoder.layers[0]
        .blocks[-1]
        .register_forward_hook(
            lambda module, inputs, output: caught.append(output[0] if isinstance(output, tuple) else output)
        )
    )
    logits = model(pixels).logits
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[0, 1] - logits[0, 0], caught[0])
    expected = torch.einsum("btc,bc->bt", caught[0], gradient.mean(1)).relu().detach().view(1, 14, 14)
    assert expected.max() > 0
    torch.testing.assert_close(grad_cam.explain_map(model, pixels, [1]), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("token", [(0, 0), (3, 12), (13, 6), (20, 2), (27, 13)])
def test_grad_cam_goes_where_the_lesion_is(token):
    # a map that averages over windows shows all windows alike and cannot follow a patch from window to window
    model = stock_classifier((112, 56))
    with torch.no_grad():
        for block in model.swin.encoder.layers[0].blocks:
            for part in (block.attention.o_proj, block.mlp.fc2):
                part.weight.zero_()
                part.bias.zero_()
    pixels = torch.zeros(1, 1, 112, 56)
    row, column = (4 * place for place in token)
    pixels[..., row : row + 4, column : column + 4] = torch.randn(4, 4)
    plain = model(torch.zeros(1, 1, 112, 56)).logits[0]
    towards = int((model(pixels).logits[0] - plain).argmax())
    values = explain(model, pixels, towards).map[0]
    assert (values.argmax() // 56 // 4, values.argmax() % 56 // 4) == token
    beside = values.copy()
    beside[max(row - 8, 0) : row + 12, max(column - 8, 0) : column + 12] = 0
    assert beside.max() < 0.01


def test_stage_is_the_last_with_fourteen_rows():
    config = SwinConfig(patch_size=4, depths=[2, 2, 6, 2])
    assert default_stage(config, 896, 448) == 3
    assert default_stage(config, 448, 224) == 3
    assert default_stage(config, 224, 224) == 2
    assert default_stage(config, 40, 40) == 0


@pytest.mark.parametrize("size", [(112, 56), (56, 56)])
def test_only_what_lies_behind_the_stage_is_differentiated(size):
    # neither its gradients nor its graph: what runs before the stage must not record anything
    model, recorded = tiny_classifier(), {}
    for name, module in model.named_modules():
        module.register_forward_hook(
            lambda module, inputs, output, name=name: recorded.update({name: _requires_grad(output)})
        )
    grad_cam.explain_map(model, torch.randn(1, 1, *size), [1])
    assert recorded["classifier"]
    assert not recorded["swin.embeddings"]
    assert not recorded["swin.encoder.layers.0.blocks.1"]
    assert recorded["swin.encoder.layers.1.blocks.0"] == (size == (56, 56))


def _requires_grad(output):
    first = output[0] if isinstance(output, tuple) else output
    return bool(getattr(first, "requires_grad", False))


def test_hires_cam_equals_the_definition_on_an_inner_stage():
    model, pixels = tiny_classifier(), torch.randn(1, 1, 112, 56)
    caught = []
    block = model.swin.encoder.layers[0].blocks[-1]
    handle = block.register_forward_hook(lambda module, inputs, output: caught.append(output[0]))
    logits = model(pixels).logits
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[0, 1] - logits[0, 0], caught[0])
    expected = (caught[0] * gradient).sum(-1).relu().detach().view(1, 28, 14)
    assert expected.max() > 0
    torch.testing.assert_close(hires_cam.explain_map(model, pixels, [1], stage=0), expected, rtol=1e-4, atol=1e-8)


def test_hires_cam_is_grad_cam_where_only_pooling_and_a_linear_layer_follow():
    model, pixels = tiny_classifier(), torch.randn(2, 1, 112, 56)
    expected = grad_cam.explain_map(model, pixels, [1, 0])
    torch.testing.assert_close(hires_cam.explain_map(model, pixels, [1, 0]), expected, rtol=1e-4, atol=1e-7)


def test_layer_cam_equals_the_result_by_hand_on_the_last_stage():
    # the gradient at each token is the classifier's weight over the number of tokens; its negative part is left out
    model, pixels = tiny_classifier(), torch.randn(1, 1, 112, 56)
    tokens = model.swin(pixels).last_hidden_state.detach()[0]
    weight = model.classifier.weight.detach()
    expected = (tokens @ (weight[1] - weight[0]).relu()).relu() / 98
    found = layer_cam.explain_map(model, pixels, [1])
    torch.testing.assert_close(found, expected.view(1, 14, 7), rtol=1e-4, atol=1e-7)
