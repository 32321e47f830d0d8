"""A head that is evaluated on images embeds them with its own encoder, and gives what it gives on their features."""

from __future__ import annotations

import pytest
import torch

import mammo_hf
from mammo_hf import MammoBagConfig, MammoBagForClassification, MammoImageProcessor
from mammo_hf.encoders.store import features_about


@pytest.mark.slow
def test_images_are_embedded_with_the_encoder_of_the_head(collection, embedded, vit, tmp_path):
    about = features_about(embedded)
    record = about["encoder"] | {"name": str(vit)}
    tiles = {name: about[name] for name in ("tiles", "spacing", "overlap", "image_size")}
    tasks = [{**task, "level": "breast"} for task in collection.tasks[:1]]
    torch.manual_seed(0)
    config = MammoBagConfig(feature_size=2 * record["channels"], tasks=tasks, encoder_record=record, tiles=tiles)
    head = MammoBagForClassification(config)
    torch.nn.init.normal_(head.tile_attention.score)
    head.save_pretrained(tmp_path / "head")
    MammoImageProcessor.from_pretrained(embedded).save_pretrained(tmp_path / "head")
    options = {"split": "all", "device": "cpu", "resamples": 100, "num_workers": 0}
    first = mammo_hf.evaluate(tmp_path / "head", mammo_hf.load(embedded), tmp_path / "first", **options)
    second = mammo_hf.evaluate(tmp_path / "head", collection, tmp_path / "second", **options)
    assert (tmp_path / "second" / "features" / "features.json").is_file()
    order = [second.images.image_ids.index(image_id) for image_id in first.images.image_ids]
    for level in ("breast", "exam"):
        torch.testing.assert_close(
            torch.from_numpy(first.images.of_units[level]), torch.from_numpy(second.images.of_units[level][order])
        )
