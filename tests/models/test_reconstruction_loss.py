import pytest
import torch

from mammo_hf.errors import UsageError
from mammo_hf.models.losses import (
    counted_pixels,
    denormalized,
    mean_absolute_error,
    normalized_target,
    spread_over_pixels,
)

SIZE, GRID = (16, 8), (4, 2)


def masks():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.rand(2, 8, generator=generator) < 0.5
    content = torch.rand(2, *SIZE, generator=generator) < 0.7
    breast = torch.rand(2, *SIZE, generator=generator) < 0.6
    return hidden, content, breast


@pytest.mark.parametrize("region", ["masked", "masked_breast", "all"])
def test_against_a_plain_loop(region):
    hidden, content, breast = masks()
    counted = counted_pixels(hidden, SIZE, GRID, region=region, content_mask=content, breast_mask=breast)
    guess, truth = torch.randn(2, 3, *SIZE), torch.randn(2, 3, *SIZE)
    total, pixels = 0.0, 0
    for image in range(2):
        for row in range(16):
            for column in range(8):
                counts = bool(content[image, row, column])
                if region != "all":
                    counts = counts and bool(hidden[image, (row // 4) * 2 + column // 4])
                if region == "masked_breast":
                    counts = counts and bool(breast[image, row, column])
                assert counted[image, row, column] == counts
                if counts:
                    total += (guess - truth)[image, :, row, column].abs().mean().item()
                    pixels += 1
    assert mean_absolute_error(guess, truth, counted).item() == pytest.approx(total / pixels, rel=1e-5)


def test_micro_batches_with_the_common_count_add_up():
    hidden, content, _ = masks()
    counted = counted_pixels(hidden, SIZE, GRID, region="masked", content_mask=content)
    guess, truth = torch.randn(2, 1, *SIZE), torch.randn(2, 1, *SIZE)
    assert counted[0].sum() != counted[1].sum()
    parts = [mean_absolute_error(*(t[i : i + 1] for t in (guess, truth, counted)), counted.sum()) for i in range(2)]
    torch.testing.assert_close(sum(parts), mean_absolute_error(guess, truth, counted))


def test_nothing_counted_is_an_exact_zero():
    guess = torch.randn(1, 1, *SIZE, requires_grad=True)
    mean_absolute_error(guess, torch.randn(1, 1, *SIZE), torch.zeros(1, *SIZE, dtype=torch.bool)).backward()
    assert not guess.grad.any()


def test_normalised_patches_have_no_mean_and_unit_deviation_and_come_back():
    pixels = 3 + 5 * torch.randn(2, 1, 32, 16)
    target = normalized_target(pixels, 8)
    patches = target.unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)
    torch.testing.assert_close(patches.mean(-1), torch.zeros(2, 1, 4, 2), rtol=0, atol=1e-4)
    torch.testing.assert_close(patches.std(-1), torch.ones(2, 1, 4, 2), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(denormalized(target, pixels, 8), pixels, rtol=1e-4, atol=1e-4)


def test_a_flat_patch_has_a_target_of_zero():
    assert normalized_target(torch.full((1, 1, 8, 8), 0.25), 8).abs().max() < 1e-2


def test_masks_that_do_not_fit():
    hidden, content, _ = masks()
    with pytest.raises(UsageError, match="needs breast_mask"):
        counted_pixels(hidden, SIZE, GRID, region="masked_breast")
    with pytest.raises(UsageError, match="content_mask has shape"):
        counted_pixels(hidden, SIZE, GRID, region="masked", content_mask=content[:, :8])
    assert spread_over_pixels(hidden, SIZE, GRID)[0, 4:8, :4].all() == hidden[0, 2]
