import torch

from mammo_hf.explainers import layer_cam
from mammo_hf.testing import check_explainer, tiny_classifier


def test_keeps_the_contract():
    check_explainer("layer_cam")


def test_equals_the_result_by_hand_on_the_last_stage():
    # the gradient at each token is the classifier's weight over the number of tokens; its negative part is left out
    model, pixels = tiny_classifier(), torch.randn(1, 1, 112, 56)
    tokens = model.swin(pixels).last_hidden_state.detach()[0]
    weight = model.classifier.weight.detach()
    expected = (tokens @ (weight[1] - weight[0]).relu()).relu() / 98
    found = layer_cam.explain_map(model, pixels, [1])
    torch.testing.assert_close(found, expected.view(1, 14, 7), rtol=1e-4, atol=1e-7)
