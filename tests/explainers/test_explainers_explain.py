from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dense_swin import stock_classifier

from mammo_hf import MammoSwinConfig, MammoSwinForImageClassification
from mammo_hf.errors import UsageError
from mammo_hf.explainers import explain
from mammo_hf.processing.geometry import Geometry
from mammo_hf.testing import tiny_classifier

ALL = ("attention", "grad_cam", "grad_cam_attention")


def returning(maps):
    return SimpleNamespace(__name__="lab.fixed", explain_map=lambda model, pixel_values, target: maps)


@pytest.mark.parametrize("explainer", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_maps_have_the_images_size_and_range(explainer, channels):
    pixels = torch.randn(2, channels, 112, 56)
    explanation = explain(tiny_classifier(channels), pixels, "malignant", explainer)
    assert explanation.map.shape == (2, 112, 56)
    assert explanation.map.dtype == np.float32
    assert (explanation.map.min(axis=(1, 2)) == 0).all()
    assert (explanation.map.max(axis=(1, 2)) == 1).all()
    assert explanation.target == ("pathology:malignant",) * 2
    assert explanation.explainer == explainer
    assert explanation.flat == (False, False)
    assert (explanation.images.min(), explanation.images.max()) == (0, 1)


@pytest.mark.parametrize("explainer", ALL)
def test_takes_stock_models_and_other_rectangles(explainer):
    explanation = explain(stock_classifier((56, 112)), torch.randn(1, 1, 64, 36), explainer=explainer)
    assert explanation.map.shape == (1, 64, 36)
    assert explanation.target[0] in ("LABEL_0", "LABEL_1")


def test_half_precision():
    model, pixels = tiny_classifier(), torch.randn(2, 1, 112, 56)
    for explainer in ALL:
        full = explain(model, pixels, 1, explainer).map
        half = explain(tiny_classifier().bfloat16(), pixels.bfloat16(), 1, explainer).map
        assert np.corrcoef(full.ravel(), half.ravel())[0, 1] > 0.95


def test_target_defaults_to_the_positive_of_two_labels_and_the_predicted_of_more():
    model, pixels = tiny_classifier(), torch.randn(4, 1, 112, 56)
    explanation = explain(model, pixels)
    assert explanation.target == ("pathology:malignant",) * 4
    assert explanation.predicted == (False,) * 4
    np.testing.assert_array_equal(explanation.map, explain(model, pixels, 1).map)
    sizes = {"embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "image_size": (112, 56), "num_channels": 1}
    graded = MammoSwinForImageClassification(MammoSwinConfig(**sizes, tasks={"density": list("abc")})).eval()
    places = graded(pixels).logits.argmax(-1).tolist()
    explanation = explain(graded, pixels)
    assert explanation.target == tuple(f"density:{'abc'[place]}" for place in places)
    assert explanation.predicted == (True,) * 4
    assert "(predicted)" in explanation.caption()
    other = explain(graded, pixels, [(place + 1) % 3 for place in places])
    assert other.predicted == (False,) * 4


def test_scores_are_calibrated_and_know_their_operating_point():
    model, pixels = tiny_classifier(), torch.randn(2, 1, 112, 56)
    model.config.calibration = {"pathology": {"method": "platt", "slope": 3.0, "intercept": -1.0}}
    point = {"threshold": 0.4, "sensitivity": 0.8, "specificity": 0.95}
    model.config.operating_points = {"pathology": {"image": {"specificity_95": point}}}
    found, logits = explain(model, pixels), model(pixels).logits.detach().double()
    assert found.score == pytest.approx(torch.sigmoid(3 * (logits[:, 1] - logits[:, 0]) - 1).tolist(), abs=1e-4)
    assert found.thresholds == (0.4, 0.4)
    assert explain(model, pixels, "benign").thresholds == (None, None)
    assert explain(model, pixels, operating_point="none").thresholds == (None, None)
    with pytest.raises(UsageError, match="operating_point"):
        explain(model, pixels, operating_point="specificity_99")


def test_heads_are_kept_and_averaged():
    heads = torch.zeros(1, 2, 2, 2)
    heads[0, 0, 0, 0], heads[0, 1, 1, 1] = 1.0, 3.0
    explanation = explain(tiny_classifier(), torch.randn(1, 1, 112, 56), 0, returning(heads))
    np.testing.assert_array_equal(explanation.heads, heads)
    assert explanation.explainer == "fixed"
    assert 0.2 < explanation.map[0, 0, 0] < 0.4  # a third of the other head's
    assert explanation.map[0, -1, -1] == 1
    assert explain(tiny_classifier(), torch.randn(1, 1, 112, 56)).heads is None


def test_a_coarse_map_is_upright_and_smooth():
    coarse = torch.zeros(1, 14, 7)
    coarse[0, 3, 5] = 1
    values = explain(tiny_classifier(), torch.randn(1, 1, 112, 56), 0, returning(coarse)).map[0]
    assert (values.argmax() // 56 // 8, values.argmax() % 56 // 8) == (3, 5)
    assert 0 < values[3 * 8 + 4, 5 * 8 - 2] < 1


def test_zero_gradients_give_a_flagged_empty_map():
    model = tiny_classifier()
    with torch.no_grad():
        model.classifier.weight.zero_()
    for explainer in ("grad_cam", "grad_cam_attention"):
        explanation = explain(model, torch.randn(1, 1, 112, 56), 0, explainer)
        assert explanation.flat == (True,)
        assert not explanation.map.any()


def test_a_weak_map_is_no_empty_one_and_rounding_is_no_map():
    weak = explain(tiny_classifier(), torch.randn(1, 1, 112, 56), 0, returning(1e-20 * torch.rand(1, 14, 7)))
    assert weak.flat == (False,)
    assert weak.map.max() == 1
    noise = 1 / 49 + 1e-9 * torch.rand(1, 14, 7)
    assert explain(tiny_classifier(), torch.randn(1, 1, 112, 56), 0, returning(noise)).flat == (True,)


def test_what_speaks_against_the_target_is_zero():
    signed = torch.zeros(1, 14, 7)
    signed[0, 2, 2], signed[0, 9, 4] = -5.0, 1.0
    explanation = explain(tiny_classifier(), torch.randn(1, 1, 112, 56), 0, returning(signed))
    assert explanation.map[0, 16:24, 16:24].max() == 0
    assert explanation.map[0, 72:80, 32:40].max() == 1
    assert explain(tiny_classifier(), torch.randn(1, 1, 112, 56), 0, returning(-signed.abs())).flat == (True,)


def test_a_score_and_a_map_come_from_one_pass():
    model, pixels, passes = tiny_classifier(), torch.randn(2, 1, 112, 56), []
    model.swin.register_forward_hook(lambda *args: passes.append(1))
    for name in (
        "attention",
        "attention_rollout",
        "grad_cam",
        "grad_cam_attention",
        "hires_cam",
        "layer_cam",
        "legrad",
    ):
        for target in (None, "malignant"):
            passes.clear()
            explanation = explain(model, pixels, target, name)
            assert len(passes) == 1, (name, target)
    passes.clear()
    logits = model(pixels).logits.detach()
    np.testing.assert_allclose(explanation.logits, logits, atol=1e-5)
    chances = logits[:, :2].softmax(-1)[:, 1].tolist()
    assert explanation.score == pytest.approx(chances, abs=1e-5)


def test_logits_are_those_of_the_images_as_they_are():
    def explain_map(model, pixel_values, target):
        model(pixel_values + 1)
        model(pixel_values[:1])
        return torch.rand(len(pixel_values), 14, 7)

    model, pixels = tiny_classifier(), torch.randn(2, 1, 112, 56)
    explanation = explain(model, pixels, 0, SimpleNamespace(explain_map=explain_map))
    np.testing.assert_allclose(explanation.logits, model(pixels).logits.detach(), atol=1e-6)


def test_an_option_reaches_the_explainer_and_an_unknown_one_is_refused():
    model, pixels = tiny_classifier(), torch.randn(1, 1, 112, 56)
    fine = explain(model, pixels, 1, "grad_cam", stage=0)
    assert (fine.map != explain(model, pixels, 1, "grad_cam").map).any()
    with pytest.raises(UsageError, match="grad_cam: has no option 'layer'; its options: stage"):
        explain(model, pixels, 1, "grad_cam", layer=3)
    with pytest.raises(UsageError, match="lesion_head: has no option 'stage'; its options: none"):
        explain(model, pixels, 1, "lesion_head", stage=1)


@pytest.mark.parametrize("name", ["attention", "attention_rollout", "grad_cam", "grad_cam_attention", "legrad"])
@pytest.mark.parametrize("stage", [2, -3, "last", 0.5])
def test_a_stage_that_the_model_has_not_is_refused(name, stage):
    with pytest.raises(UsageError, match=r"no stage.*use 0 to 1, or -1 for the last"):
        explain(tiny_classifier(), torch.zeros(1, 1, 112, 56), 1, name, stage=stage)


def test_facts_of_an_explainer_are_kept_and_checked():
    def reporting(facts):
        return SimpleNamespace(__name__="lab", explain_map=lambda *args: (torch.rand(2, 14, 7), facts))

    model, pixels = tiny_classifier(), torch.randn(2, 1, 112, 56)
    explanation = explain(model, pixels, 0, reporting({"completeness error": torch.tensor([0.5, 1.0]).tolist()}))
    assert explanation.facts["completeness error"] == (0.5, 1.0)
    with pytest.raises(TypeError):
        explanation.facts["other"] = (1, 2)
    for wrong in ({"error": [0.5]}, [0.5, 1.0]):
        with pytest.raises(UsageError, match="one number per image"):
            explain(model, pixels, 0, reporting(wrong))


def test_images_and_geometry_are_kept():
    images = np.random.default_rng(0).random((1, 112, 56))
    geometry = Geometry((224, 112), (0, 0, 224, 112), "identity", (112, 56), (0, 0), (112, 56))
    explanation = explain(tiny_classifier(), torch.randn(1, 1, 112, 56), images=images, geometry=[geometry])
    np.testing.assert_allclose(explanation.images, images, atol=1e-6)
    assert explanation.in_source().shape == (224, 112)
    images[:] = 0
    assert explanation.images.any()


def test_a_plugin_that_leaves_its_traces_leaves_none():
    def explain_map(model, pixel_values, target):
        model.train()
        model.swin.register_forward_hook(lambda *args: None)
        pixel_values.zero_()
        raise RuntimeError("half way")

    model, pixels = tiny_classifier(), torch.randn(1, 1, 112, 56)
    with pytest.raises(RuntimeError, match="half way"):
        explain(model, pixels, 0, SimpleNamespace(explain_map=explain_map))
    assert not model.training
    assert not model.swin._forward_hooks
    assert pixels.any()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.full((1, 1, 112, 56), float("nan")), "finite"),
        (torch.zeros(1, 112, 56), "not a batch"),
        (torch.zeros(0, 1, 112, 56), "not a batch"),
        (np.zeros((1, 1, 112, 56)), "not a batch"),
        (torch.zeros(1, 3, 112, 56), "3 channels, the model takes 1"),
        (torch.zeros(1, 1, 24, 24), "fit|small"),
    ],
)
def test_input_that_does_not_fit_is_refused(pixels, message):
    with pytest.raises(UsageError, match=message):
        explain(tiny_classifier(), pixels, 0)


@pytest.mark.parametrize("explainer", ALL)
def test_an_image_smaller_than_a_window_is_refused_also_by_stock_models(explainer):
    with pytest.raises(UsageError, match="too small"):
        explain(stock_classifier((56, 56)), torch.zeros(1, 1, 56, 24), 0, explainer)


@pytest.mark.parametrize(
    "extra",
    [
        {"images": np.zeros((2, 112, 56))},
        {"images": np.zeros((112, 56))},
        {"geometry": []},
        {"geometry": [Geometry((9, 9), (0, 0, 9, 9), "identity", (9, 9), (0, 0), (9, 9))]},
    ],
)
def test_images_or_geometry_of_others_are_refused(extra):
    with pytest.raises(UsageError, match=next(iter(extra))):
        explain(tiny_classifier(), torch.zeros(1, 1, 112, 56), 0, **extra)


@pytest.mark.parametrize(
    "maps",
    [None, torch.zeros(2, 14, 7), torch.zeros(14, 7), torch.full((1, 14, 7), float("nan")), np.zeros((1, 14, 7))],
)
def test_a_plugins_wrong_maps_are_refused_by_its_name(maps):
    with pytest.raises(UsageError, match=r"lab\.fixed: gave"):
        explain(tiny_classifier(), torch.zeros(1, 1, 112, 56), 0, returning(maps))
