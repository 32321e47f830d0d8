import torch

from mammo_hf.explainers import attention, grad_cam_attention
from mammo_hf.testing import check_explainer, tiny_classifier


def test_keeps_the_contract():
    check_explainer(grad_cam_attention)


def test_heads_are_weighted_by_their_gradient():
    model = tiny_classifier()
    pixels = torch.randn(1, 1, 112, 56)
    last = model.swin.encoder.layers[-1].blocks[-1].attention
    with torch.no_grad():
        last.o_proj.weight[:, :8] = 0  # what the first head says is not heard
    before = grad_cam_attention.explain_map(model, pixels, [1])
    plain = attention.explain_map(model, pixels, [1])
    with torch.no_grad():
        last.q_proj.weight[:8] += torch.randn(8, 16)  # only the first head's attention changes
    torch.testing.assert_close(grad_cam_attention.explain_map(model, pixels, [1]), before)
    assert not torch.allclose(attention.explain_map(model, pixels, [1]), plain)
