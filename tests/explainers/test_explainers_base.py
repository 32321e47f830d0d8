import numpy as np
import pytest
import torch
from PIL import Image

from mammo_hf import explain
from mammo_hf.errors import UsageError
from mammo_hf.explainers.localisation import peak, pointing_hit
from mammo_hf.explainers.model_state import lent
from mammo_hf.explainers.overlay import OUTLINE, side_by_side, tinted
from mammo_hf.geometry import Geometry
from mammo_hf.testing import tiny_classifier


def test_explanation_is_at_the_images_size_and_in_range(tmp_path):
    pixels = torch.randn(2, 1, 112, 56)
    explanation = explain(tiny_classifier(), pixels, target="malignant")
    assert explanation.map.shape == (2, 112, 56)
    assert explanation.map.min() == 0
    assert explanation.map.max() == 1
    assert explanation.target == ("pathology:malignant", "pathology:malignant")
    assert Image.open(explanation.save(tmp_path / "a.png")).size == (56, 112)
    np.testing.assert_array_equal(np.load(explanation.save(tmp_path / "a.npz"))["map"], explanation.map)
    with pytest.raises(UsageError):
        explanation.save(tmp_path / "a.gif")
    with pytest.raises(UsageError):
        explanation.save(tmp_path / "nowhere" / "a.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "a.png"]
    with pytest.raises(AttributeError):
        explanation.map = None


def test_target_defaults_to_what_the_first_task_predicts():
    model, pixels = tiny_classifier(), torch.randn(3, 1, 112, 56)
    predicted = model(pixels).logits[:, :2].argmax(-1)
    names = [f"pathology:{('benign', 'malignant')[i]}" for i in predicted]
    assert list(explain(model, pixels).target) == names


@pytest.mark.parametrize("target", ["nothing", 9, -1, ["benign"], "pathology:a"])
def test_unknown_targets_are_refused(target):
    with pytest.raises(UsageError):
        explain(tiny_classifier(), torch.randn(2, 1, 112, 56), target=target)


def test_nan_images_are_refused():
    with pytest.raises(UsageError, match="finite"):
        explain(tiny_classifier(), torch.full((1, 1, 112, 56), float("nan")))


def test_zero_gradients_give_a_flagged_empty_map():
    model = tiny_classifier()
    with torch.no_grad():
        model.classifier.weight.zero_()
    explanation = explain(model, torch.randn(1, 1, 112, 56), target=0)
    assert explanation.flat == (True,)
    assert not explanation.map.any()


def test_the_model_comes_back_also_after_an_error():
    model = tiny_classifier()
    model.train()
    model.classifier.weight.requires_grad_(False)
    with pytest.raises(UsageError), lent(model, eager=True):
        _hook_and_fail(model)
    assert model.training
    assert not model.classifier.weight.requires_grad
    assert model.classifier.bias.requires_grad
    assert model.config._attn_implementation == "sdpa"
    assert not model.swin._forward_hooks


def _hook_and_fail(model):
    model.swin.register_forward_hook(lambda *args: None)
    explain(model, torch.randn(1, 1, 112, 56), target="nothing")


def test_in_source_maps_the_peak_back():
    geometry = Geometry((300, 200), (20, 10, 244, 122), True, (112, 56), (0, 0), (112, 56))
    explanation = explain(tiny_classifier(), torch.randn(1, 1, 112, 56), geometry=[geometry])
    source = explanation.in_source()
    assert source.shape == (300, 200)
    row, column = peak(explanation.map[0])
    expected = geometry.to_source([[row + 0.5, column + 0.5]])[0]
    assert np.abs(np.array(peak(source)) + 0.5 - expected).max() <= 2


def test_overlay_leaves_the_image_untinted_where_the_map_is_zero():
    image, values = np.random.default_rng(0).random((20, 10)), np.zeros((20, 10))
    values[5, 5] = 1
    picture = tinted(image, values)
    grey = np.rint(image * 255).astype(np.uint8)
    untouched = values == 0
    assert (picture[untouched] == grey[untouched][:, None]).all()
    assert len(set(picture[5, 5])) > 1


def test_side_by_side_has_a_panel_a_map_and_the_outline():
    mask = np.zeros((112, 56))
    mask[40:60, 20:40] = 1
    page = np.asarray(side_by_side(np.zeros((112, 56)), {"attention": np.zeros((112, 56))}, mask))
    assert page.shape[1] > 2 * 112
    assert (page == OUTLINE).all(-1).any()


def test_pointing_takes_the_middle_of_a_plateau():
    values = np.zeros((20, 20))
    values[4:9, 4:9] = 1
    assert peak(values) == (6, 6)
    lesion = np.zeros((20, 20))
    lesion[6, 6] = 1
    assert pointing_hit(values, lesion)
    assert not pointing_hit(values[::-1], lesion)
