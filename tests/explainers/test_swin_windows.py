import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import SwinConfig
from transformers.models.swin.modeling_swin import window_partition

from mammo_hf.explainers.swin import Windows, stage_grids

SIDES = st.integers(1, 20)


@given(SIDES, SIDES, st.integers(1, 7), st.data())
def test_undoes_padding_shift_and_partition(rows, columns, window, data):
    shift = data.draw(st.integers(0, window - 1))
    plane = torch.arange(2 * rows * columns, dtype=torch.float32).view(2, rows, columns) + 1
    windows = Windows((rows, columns), window, shift)
    padded = torch.nn.functional.pad(plane, (0, windows.padded[1] - columns, 0, windows.padded[0] - rows))
    shifted = torch.roll(padded, (-shift, -shift), dims=(1, 2))
    cut = window_partition(shifted[..., None], window).view(-1, window**2)
    assert torch.equal(windows.to_plane(cut), plane)
    heads = torch.stack([cut, -cut], dim=1)
    assert torch.equal(windows.to_plane(heads), torch.stack([plane, -plane], dim=1))


@given(SIDES, SIDES, st.integers(1, 7), st.data())
def test_what_is_received_is_what_the_images_tokens_give(rows, columns, window, data):
    # every query looks at its own window evenly: all that image tokens give to image tokens must arrive, no more
    shift = data.draw(st.integers(0, window - 1))
    windows = Windows((rows, columns), window, shift)
    count = windows.padded[0] * windows.padded[1] // window**2
    received = windows.received(torch.full((count, 1, window**2, window**2), 1 / window**2))
    is_image = window_partition(torch.roll(_indicator(windows), (-shift, -shift), dims=(1, 2))[..., None], window).view(
        count, -1
    )
    images_in_window = is_image.sum(1)
    expected = (images_in_window**2 / window**2).sum() / window**2
    assert received.shape == (1, 1, rows, columns)
    assert received.sum().item() == pytest.approx(expected.item(), rel=1e-5)


def _indicator(windows):
    plane = torch.zeros(1, *windows.padded)
    plane[:, : windows.grid[0], : windows.grid[1]] = 1
    return plane


def test_an_even_share_is_one_over_the_windows_tokens():
    received = Windows((14, 14), 7, 3).received(torch.full((8, 3, 49, 49), 1 / 49))
    torch.testing.assert_close(received, torch.full((2, 3, 14, 14), 1 / 49))


def test_grids_of_the_stages():
    config = SwinConfig(depths=[2, 2, 6, 2], patch_size=4)
    assert stage_grids(config, 896, 448) == [(224, 112), (112, 56), (56, 28), (28, 14)]
    # sides that are no multiple are rounded up, as patch embedding and merging pad
    assert stage_grids(config, 226, 112) == [(57, 28), (29, 14), (15, 7), (8, 4)]
