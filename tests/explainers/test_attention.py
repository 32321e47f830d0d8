import torch

from mammo_hf.explainers import attention, explain
from mammo_hf.testing import check_explainer, tiny_classifier


def test_keeps_the_contract():
    check_explainer(attention, depends_on_target=False)


def test_is_not_a_norm_of_features():
    # with all keys alike every token of a window is looked at equally, however large its features are
    model = tiny_classifier()
    last = model.swin.encoder.layers[-1].blocks[-1].attention
    with torch.no_grad():
        last.k_proj.weight.zero_()
        last.k_proj.bias.zero_()
        last.relative_position_bias.relative_position_bias_table.zero_()
    raw = attention.explain_map(model, torch.randn(1, 1, 112, 56), [0])
    torch.testing.assert_close(raw, torch.full((1, 14, 7), 1 / 49))
    assert explain(model, torch.randn(1, 1, 112, 56), explainer="attention").flat == (True,)


def test_looks_where_the_keys_stand_out():
    model = tiny_classifier()
    pixels = torch.zeros(1, 1, 112, 56)
    pixels[0, 0, 88:96, 8:16] = 4.0  # token (11, 1) of the last stage's 14 x 7 grid
    plain = attention.explain_map(model, torch.zeros(1, 1, 112, 56), [0])
    marked = attention.explain_map(model, pixels, [0])
    difference = (marked - plain).abs()[0]
    # the last stage has two windows of 7 x 7, one above the other: the upper one saw nothing of it
    assert difference[7:].max() > 0
    assert difference[7:].sum() > difference[:7].sum()
