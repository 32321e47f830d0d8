"""The kit for encoders passes a sound one, and names what is wrong with each other."""

from types import SimpleNamespace

import pytest
import torch

from mammo_hf.testing import check_encoder


def network(forward=lambda self, grid: grid, seed=0):
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            if seed is not None:
                torch.manual_seed(seed)
            self.patches = torch.nn.Conv2d(1, 8, 16, stride=16)

        def forward(self, pixels):
            return forward(self, self.patches(pixels))

    return Network()


def encoder(load, **changes):
    names = {"NAME": "ours", "TILE": 64, "MEAN": (0.25,), "STD": (0.25,), "LICENCE": "apache-2.0", "CITATION": "Doe"}
    return SimpleNamespace(**names | {"load": load} | changes)


def test_a_sound_encoder_passes():
    check_encoder(encoder(network))


def remembers(self, grid):
    self.seen = getattr(self, "seen", 0) + grid.mean().item()
    return grid + self.seen


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (encoder(network, MEAN=(0.25, 0.5)), "different numbers of channels"),
        (encoder(network, STD=(0.0,)), "STD is above 0"),
        (encoder(network, CITATION=""), "CITATION is empty"),
        (encoder(lambda: network(lambda self, grid: grid + torch.randn(()))), "the same call gave other features"),
        (encoder(lambda: network(remembers)), "the same call gave other features|encoded before"),
        (encoder(lambda: network(lambda self, grid: grid.flip(-1))), "upper right corner"),
        (encoder(lambda: network(lambda self, grid: grid.detach())), "gradient"),
        (encoder(lambda: network(lambda self, grid: grid * 1e9)), "fit into 16 bits"),
        (encoder(lambda: network(seed=None)), "other weights at each call"),
        (encoder(lambda: network(lambda self, grid: grid - grid.mean(0, keepdim=True))), "same everywhere|than alone"),
    ],
)
def test_what_breaks_the_contract_is_named(wrong, problem):
    with pytest.raises(AssertionError, match=problem):
        check_encoder(wrong)
