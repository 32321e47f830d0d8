import torch

from mammo_hf.explainers import grad_cam, hires_cam
from mammo_hf.testing import check_explainer, tiny_classifier


def test_keeps_the_contract():
    check_explainer("hires_cam")


def test_equals_the_definition_on_an_inner_stage():
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


def test_is_grad_cam_where_only_pooling_and_a_linear_layer_follow():
    model, pixels = tiny_classifier(), torch.randn(2, 1, 112, 56)
    expected = grad_cam.explain_map(model, pixels, [1, 0])
    torch.testing.assert_close(hires_cam.explain_map(model, pixels, [1, 0]), expected, rtol=1e-4, atol=1e-7)
