import mammo_hf_input_gradient
import torch

from mammo_hf.explainers import explain
from mammo_hf.testing import check_explainer, tiny_classifier


def test_keeps_the_contract():
    check_explainer(mammo_hf_input_gradient)


def test_equals_finite_differences():
    # what one pixel does to the score, by moving it; in float64, where differences are exact enough
    model, pixels = tiny_classifier().double(), torch.randn(1, 1, 112, 56, dtype=torch.float64)
    step = 1e-5
    slopes = []
    for row in range(40, 44):
        for column in range(20, 24):
            moved = pixels.repeat(2, 1, 1, 1)
            moved[0, 0, row, column] += step
            moved[1, 0, row, column] -= step
            with torch.no_grad():
                logits = model(moved).logits
            odds = logits[:, 1] - logits[:, 0]
            slopes.append(abs(float(odds[0] - odds[1])) / (2 * step))
    found = mammo_hf_input_gradient.explain_map(model, pixels, [1])[0, 10, 5]
    torch.testing.assert_close(float(found), sum(slopes) / 16, rtol=1e-4, atol=0)


def test_runs_through_explain():
    explanation = explain(tiny_classifier(), torch.randn(2, 1, 112, 56), "malignant", mammo_hf_input_gradient)
    assert explanation.explainer == "mammo_hf_input_gradient"
    assert explanation.map.shape == (2, 112, 56)
