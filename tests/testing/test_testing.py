from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mammo_hf.errors import UsageError
from mammo_hf.explainers import preserve_state
from mammo_hf.explainers.cam import grad_cam
from mammo_hf.testing import check_explainer, tiny_classifier

ITS_OWN = torch.Generator()


def breaking(before=None, after=lambda maps: maps):
    """Grad-CAM with one fault: something done to the model before, or to its maps after."""

    def explain_map(model, pixel_values, target):
        maps = grad_cam.explain_map(model, pixel_values, target)
        if before is not None:
            before(model, pixel_values)
        return after(maps)

    return SimpleNamespace(REQUIRES=(), available=lambda: True, explain_map=explain_map)


@pytest.mark.slow
def test_a_right_one_passes_by_name_and_as_a_module():
    check_explainer("grad_cam")
    check_explainer(grad_cam)
    check_explainer(breaking())


def test_an_unknown_name_is_refused():
    with pytest.raises(UsageError, match="is not a known explainer"):
        check_explainer("grad_camera")


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (lambda maps: maps.numpy(), "returns a tensor"),
        (lambda maps: maps[0], "not \\(14, 7\\)"),
        (lambda maps: maps[:1], "1 maps for 2 images"),
        (lambda maps: maps.transpose(1, 2), "7 x 14 is not the image's rectangle"),
        (lambda maps: maps / 0, "NaN"),
        (lambda maps: torch.ones_like(maps), "same everywhere"),
        (lambda maps: maps * torch.arange(len(maps))[:, None, None], "same everywhere"),
        (lambda maps: maps.requires_grad_(True), "graph"),
        (lambda maps: maps + torch.rand(maps.shape, generator=ITS_OWN), "another map"),
        (lambda maps: maps / maps.sum(), "one by one"),
    ],
)
def test_wrong_maps_are_told(after, message):
    with pytest.raises(AssertionError, match=message):
        check_explainer(breaking(after=after))


def fill_gradients(model, pixels):
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (lambda model, pixels: pixels.add_(1), "pixel values"),
        (lambda model, pixels: model.swin.layernorm.weight.data.copy_(model.swin.layernorm.weight.flip(0)), "weights"),
        (fill_gradients, "gradients"),
        (lambda model, pixels: model.requires_grad_(True), "requires_grad"),
        (lambda model, pixels: model.eval(), "modes"),
        (lambda model, pixels: model.swin.register_forward_hook(lambda *args: None), "hooks"),
        (lambda model, pixels: model.set_attn_implementation("eager"), "attention implementation"),
        (lambda model, pixels: setattr(model.swin.encoder.layers[0].blocks[1], "shift_size", 0), "windows"),
        (lambda model, pixels: torch.rand(1), "random state of torch"),
        (lambda model, pixels: np.random.rand(), "random state of numpy"),
    ],
)
def test_a_model_that_comes_back_otherwise_is_told(before, message):
    with pytest.raises(AssertionError, match=message):
        check_explainer(breaking(before))


def test_one_that_does_not_hear_the_target_is_told():
    def explain_map(model, pixel_values, target):
        return grad_cam.explain_map(model, pixel_values, [1] * len(target))

    deaf = SimpleNamespace(REQUIRES=(), available=lambda: True, explain_map=explain_map)
    with pytest.raises(AssertionError, match="another target"):
        check_explainer(deaf)
    check_explainer(deaf, depends_on_target=False)


def test_one_that_mixes_images_up_is_told():
    def explain_map(model, pixel_values, target):
        with preserve_state(model):
            return grad_cam.explain_map(model, pixel_values.flip(0), target)

    with pytest.raises(AssertionError, match="one by one"):
        check_explainer(SimpleNamespace(REQUIRES=(), available=lambda: True, explain_map=explain_map))


def test_one_that_keeps_what_it_saw_is_told():
    kept = []

    def explain_map(model, pixel_values, target):
        kept.append(pixel_values.clone())
        return grad_cam.explain_map(model, pixel_values, target)

    with pytest.raises(AssertionError, match="leaves 1 tensors in memory"):
        check_explainer(SimpleNamespace(REQUIRES=(), available=lambda: True, explain_map=explain_map))


def test_one_that_fails_in_half_precision_is_told():
    def explain_map(model, pixel_values, target):
        maps = grad_cam.explain_map(model, pixel_values, target)
        return maps / 0 if pixel_values.dtype == torch.bfloat16 else maps

    with pytest.raises(AssertionError, match="in bfloat16"):
        check_explainer(SimpleNamespace(REQUIRES=(), available=lambda: True, explain_map=explain_map))


def test_one_that_reports_facts_beside_its_maps_passes():
    def explain_map(model, pixel_values, target):
        return grad_cam.explain_map(model, pixel_values, target), {"error": [0.0] * len(target)}

    check_explainer(SimpleNamespace(REQUIRES=(), available=lambda: True, explain_map=explain_map))


def test_one_that_lacks_its_package_is_told():
    lacking = SimpleNamespace(REQUIRES=("captum",), available=lambda: False)
    with pytest.raises(AssertionError, match="needs captum"):
        check_explainer(lacking)


def test_the_tiny_model_is_the_same_each_time_and_leaves_the_random_state():
    state = torch.get_rng_state()
    one, other = tiny_classifier(), tiny_classifier()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(tiny_classifier(seed=1).classifier.weight, one.classifier.weight)
