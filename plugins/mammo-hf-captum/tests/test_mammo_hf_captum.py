import pytest
import torch
from mammo_hf_captum import integrated_gradients, occlusion, smooth_grad

from mammo_hf.explainers import explain
from mammo_hf.testing import check_explainer, tiny_classifier

pytest.importorskip("captum")


@pytest.mark.parametrize("explainer", [integrated_gradients, smooth_grad, occlusion])
def test_keeps_the_contract(explainer):
    check_explainer(explainer)


def test_integrated_gradients_add_up_and_say_how_well():
    model, pixels = tiny_classifier(), torch.randn(2, 1, 112, 56)
    few, many = (
        explain(model, pixels, 1, integrated_gradients, steps=steps).facts["completeness error"] for steps in (4, 128)
    )
    assert max(many) < 0.1
    assert max(many) < max(few)


def test_of_a_linear_score_integrated_gradients_are_weight_times_input():
    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = tiny_classifier().config
            self.config.tasks = None
            self.config.num_labels = 2
            self.weight = torch.nn.Parameter(torch.randn(1, 112, 56))

        def forward(self, pixel_values):
            from transformers.modeling_outputs import ImageClassifierOutput

            seen = (pixel_values * self.weight).sum((1, 2, 3))
            return ImageClassifierOutput(logits=torch.stack([torch.zeros_like(seen), seen], dim=1))

    model, pixels = Linear(), torch.randn(1, 1, 112, 56)
    found, facts = integrated_gradients.explain_map(model, pixels, [1], steps=2)
    expected = torch.nn.functional.avg_pool2d((pixels - pixels.min()) * model.weight.detach(), 4)[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert facts["completeness error"][0] < 1e-3


def test_each_runs_by_its_module_through_explain():
    for explainer in (integrated_gradients, smooth_grad, occlusion):
        explanation = explain(tiny_classifier(), torch.randn(1, 1, 112, 56), "malignant", explainer)
        assert explanation.map.shape == (1, 112, 56)
        assert explanation.explainer == explainer.__name__.rsplit(".", 1)[-1]
