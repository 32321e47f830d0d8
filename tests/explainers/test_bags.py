"""Explanations of a head over features: on the pixels of its tiles, and back in those of the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bag_heads import write_head
from families import save_family
from small_archive import write_dicom

from mammo_hf import MammoImageProcessor
from mammo_hf.encoders import load_encoder
from mammo_hf.encoders.classifier import load_bag_classifier
from mammo_hf.encoders.views import Picture, drawn
from mammo_hf.errors import UsageError
from mammo_hf.explainers import explain, score
from mammo_hf.explainers.bags import bag_attention, bag_cam, token_attention
from mammo_hf.explainers.cam import grad_cam, hires_cam
from mammo_hf.testing import tiny_classifier


@pytest.fixture(scope="module", params=["both", "native"])
def model(request, tmp_path_factory):
    return load_bag_classifier(write_head(tmp_path_factory.mktemp("bag") / "head", tiles=request.param))


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Views of one file, with pixels of 0.2 mm, by the views of a model."""
    path = write_dicom(tmp_path_factory.mktemp("file") / "1.dcm", 1, ImagerPixelSpacing=[0.2, 0.2], laterality="R")

    def views_of(model):
        return drawn(Picture.of_image(path, MammoImageProcessor(size=(64, 32))), model.views, model.encoder.tile)

    return views_of


def pixels_of(seen):
    pixels, geometry = seen.finest
    return torch.from_numpy(pixels)[None, None], geometry


def test_a_score_of_the_pixels_is_nearly_that_of_the_file(model, seen):
    views = seen(model)
    _, image = model.bag(views, "R", "CC")
    pixels, _ = pixels_of(views)
    of_pixels = model(pixels).logits[0]
    image["side"], image["view"] = 0, 0  # pixels alone say nothing of them
    of_file = torch.from_numpy(model.unit_logits([image]))
    torch.testing.assert_close(of_pixels.double(), of_file, atol=0.05, rtol=0.02)


def test_attention_is_drawn_at_the_tile_that_has_it(model, seen):
    pixels, geometry = pixels_of(seen(model))
    weights = model(pixels).attentions[0, 0].detach()
    corners = model.tiles(pixels[0, 0])
    assert len(corners) > 6
    (drawn_map,) = bag_attention.explain_map(model, pixels, [0])
    assert drawn_map.sum() == pytest.approx(1, rel=1e-4)
    found = explain(model, pixels, 1, bag_attention, geometry=[geometry])
    strongest = corners[int(weights[-len(corners) :].argmax())]
    row, column = np.unravel_index(found.map[0].argmax(), found.map[0].shape)
    side = model.encoder.tile
    assert 0 <= row - strongest[0] < side
    assert 0 <= column - strongest[1] < side
    assert found.in_source().shape == geometry.source_size


@pytest.mark.parametrize("family", ["vit", "dinov2_with_registers", "dinov3", "siglip", "clip", "swin", "convnext"])
def test_the_attention_of_a_tile_falls_on_the_tokens_that_it_is_about(family, tmp_path, monkeypatch):
    encoder = load_encoder(save_family(family, tmp_path))
    tiles = torch.rand(2, 1, encoder.tile, encoder.tile, generator=torch.Generator().manual_seed(0))
    tiles[:, :, : encoder.multiple] = 0  # no breast in the first row of tokens
    with torch.no_grad():
        before, layers = encoder(tiles), encoder.attentions(tiles)
        assert torch.equal(encoder(tiles), before)
        if family in ("swin", "convnext"):  # windows, or none at all
            assert layers == []
            assert token_attention(encoder, tiles) is None
            return
        rows, skipped = encoder.tile // encoder.multiple, encoder.grid.before
        assert [one.shape for one in layers] == [(2, 2, skipped + rows**2, skipped + rows**2)] * 2
        torch.testing.assert_close(layers[0].sum(-1), torch.ones_like(layers[0][..., 0]))
        # by hand, from the pooled tokens to those of the input
        start = torch.zeros(skipped + rows**2)
        start[skipped + rows :] = 1 / (rows**2 - rows)
        first, last = ((one[0].mean(0) + torch.eye(len(start))) / 2 for one in layers)
        expected = (start @ last @ first)[skipped:].reshape(rows, rows)
        found = token_attention(encoder, tiles)
        torch.testing.assert_close(found[0], expected / expected.sum())
        # one token that has the attention of all has half of the map after one layer
        one_hot = torch.zeros_like(layers[0])
        one_hot[..., skipped + 2 * rows + 1] = 1
        monkeypatch.setattr(encoder, "attentions", lambda pixels: [one_hot])
        assert float(token_attention(encoder, tiles)[1, 2, 1]) == pytest.approx(0.5 + 0.5 / (rows**2 - rows))


def test_gradients_flow_through_the_grids_of_whole_view_and_tiles(model, seen):
    pixels, geometry = pixels_of(seen(model))
    both = [explain(model, pixels, target, hires_cam, geometry=[geometry]) for target in (0, 1)]
    assert not np.allclose(both[0].map, both[1].map)
    assert explain(model, pixels, 0, grad_cam).map.shape == (1, *pixels.shape[-2:])
    # a cell's value is the sum over the pixels that it is spread over: here 1 for each of 4 x 4 or 4 x 2 cells
    ones = bag_cam(lambda tokens, gradient: torch.ones_like(tokens[..., 0]), model, pixels, [1])
    whole = 8 if model.views.tiles == "both" else 0
    assert float(ones.sum()) == pytest.approx(16 * len(model.tiles(pixels[0, 0])) + whole, rel=1e-4)


def test_the_gradient_of_a_cell_is_what_changing_it_does(model, seen):
    pixels, _ = pixels_of(seen(model))

    def score_after(change):
        batches = []

        def nudge(module, inputs, output):
            batches.append(output.shape)
            output = output.clone()
            if len(batches) == 1:
                output[0, 2, 1, 1] += change
            return output

        hook = model.encoder.register_forward_hook(nudge)
        found = float(score(model(pixels).logits, [1], model.config).detach())
        hook.remove()
        return found

    grids = []
    bag_cam(lambda tokens, gradient: grids.append(gradient) or tokens[..., 0], model, pixels, [1])
    step = 0.02  # a smaller one would be lost in what float32 rounds
    slope = (score_after(step) - score_after(-step)) / (2 * step)
    assert float(grids[0][0, 1, 1, 2]) == pytest.approx(slope, abs=1e-4, rel=0.01)


def test_other_models_and_bags_without_tiles_are_refused(seen, tmp_path):
    with pytest.raises(UsageError, match="attends to no tiles"):
        explain(tiny_classifier(), torch.rand(1, 1, 112, 56), 0, bag_attention)
    whole = load_bag_classifier(write_head(tmp_path / "head", tiles="whole"))
    pixels, geometry = pixels_of(seen(whole))
    assert tuple(pixels.shape[-2:]) == (64, 32)
    with pytest.raises(UsageError, match="no tiles to attend to"):
        explain(whole, pixels, 0, bag_attention)
    assert not explain(whole, pixels, 0, grad_cam, geometry=[geometry]).flat[0]
    with pytest.raises(UsageError, match="not a Swin classifier"):
        explain(whole, pixels, 0, "attention")
    assert explain(whole, pixels, 0, "occlusion").map.max() == 1
