import pytest
import torch
from torch import nn
from transformers import SwinConfig
from transformers.modeling_outputs import ImageClassifierOutput

from mammo_hf.errors import UsageError
from mammo_hf.explainers import explain
from mammo_hf.explainers.occlusion import occlusion
from mammo_hf.testing import check_explainer, tiny_classifier


class Spot(nn.Module):
    """A classifier of no known architecture: its score is the brightness of one square."""

    def __init__(self, rows, columns):
        super().__init__()
        self.config = SwinConfig(num_labels=2, num_channels=1)
        self.rows, self.columns = rows, columns

    def forward(self, pixel_values):
        seen = pixel_values[:, 0, self.rows, self.columns].mean((1, 2))
        return ImageClassifierOutput(logits=torch.stack([-seen, seen], dim=1))


@pytest.mark.slow
def test_keeps_the_contract():
    check_explainer("occlusion")


def test_finds_the_square_that_the_score_reads():
    model, pixels = Spot(slice(40, 48), slice(16, 24)), torch.zeros(1, 1, 112, 56)
    pixels[..., 40:48, 16:24] = 1.0
    found = occlusion.explain_map(model, pixels, [1])
    assert found.shape == (1, 14, 7)
    assert divmod(int(found.argmax()), 7) == (5, 2)
    # the square is hidden by the mean of 33 x 33 pixels around each of its own, which it fills to 64 / 1089
    assert float(found.max()) == pytest.approx(2 * (1 - 64 / 33**2), rel=1e-4)
    assert explain(model, pixels, 0, "occlusion").flat == (True,)  # nothing speaks for the other label


def test_of_a_plain_image_nothing_falls():
    found = occlusion.explain_map(tiny_classifier(), torch.full((1, 1, 112, 56), 0.3), [1])
    assert found.max() < 1e-4


@pytest.mark.parametrize("step", [0, -4, 57, 2.5, "8"])
def test_a_step_that_is_none_is_refused(step):
    with pytest.raises(UsageError, match="from 1 to 56"):
        explain(tiny_classifier(), torch.zeros(1, 1, 112, 56), 0, "occlusion", step=step)


def test_steps_that_do_not_tile_the_image():
    found = occlusion.explain_map(tiny_classifier(), torch.randn(1, 1, 112, 56), [1], step=30)
    assert found.shape == (1, 4, 2)
