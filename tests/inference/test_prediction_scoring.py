import numpy as np
import pytest
import torch

from mammo_hf.inference.scoring import VIEWS, calibrated_scores, image_logits, label_of
from mammo_hf.models.modeling_mammo_swin import score_logits
from mammo_hf.testing import tiny_classifier


def test_the_logits_are_those_that_the_configuration_scores_from():
    model = tiny_classifier(lesion_task="pathology")
    pixels = torch.randn(2, 1, 112, 56)
    with torch.no_grad():
        output = model(pixel_values=pixels)
        pooled = image_logits(model, pixels)
        model.config.score_from = "lesion"
        lesion = image_logits(model, pixels)
    assert torch.equal(pooled, output.logits)
    assert torch.allclose(lesion, score_logits(model.config, output.logits, output.lesion_scores))
    assert not torch.allclose(lesion[:, :2], pooled[:, :2])


def test_views_at_test_time_are_averaged_and_keep_the_background(processor):
    seen = []

    class Recorder(torch.nn.Module):
        config = tiny_classifier().config

        def forward(self, pixel_values):
            seen.append(pixel_values)
            return type(
                "Output", (), {"logits": pixel_values.mean((1, 2, 3))[:, None].expand(-1, 5), "lesion_scores": None}
            )

    intensity = np.zeros((2, 112, 56), np.float32)
    intensity[:, 20:90, :40] = 0.8
    pixels = torch.from_numpy(processor.normalize_intensity(intensity))
    logits = image_logits(Recorder(), pixels, processor, tta=True)
    assert len(seen) == len(VIEWS)
    assert torch.allclose(seen[0], pixels, atol=1e-4)
    corner = processor.normalize_intensity(np.zeros((1, 1), np.float32)).item()
    for view in seen:
        # a corner of the canvas that shows nothing is background, not the mean intensity
        assert view[0, 0, 0, -1].item() == pytest.approx(corner, abs=1e-5)
        assert view[0, 0, -1, -1].item() == pytest.approx(corner, abs=1e-5)
    sums = [float((view - corner).sum()) for view in seen]
    assert sums[3] < sums[0] < sums[4]
    assert torch.allclose(logits[:, 0], torch.stack([view.mean((1, 2, 3)) for view in seen]).mean(0), atol=1e-6)


def test_scores_are_calibrated_by_task():
    config = tiny_classifier().config
    logits = np.array([[0.0, 2.0, 1.0, 0.0, -1.0]])
    plain = calibrated_scores(config, logits)
    assert plain["pathology"][0, 1] == pytest.approx(1 / (1 + np.exp(-2)))
    config.calibration = {"pathology": {"method": "temperature", "temperature": 2.0}}
    warm = calibrated_scores(config, logits)
    assert warm["pathology"][0, 1] == pytest.approx(1 / (1 + np.exp(-1)))
    assert np.array_equal(warm["density"], plain["density"])
    assert label_of(config, 1) == "malignant"
