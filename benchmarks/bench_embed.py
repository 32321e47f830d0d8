"""embed against its bound: reading and drawing an image, and the bare encoder on its views, and nothing else.

python benchmarks/bench_embed.py                       drawn films of 2048 x 1024, a random ViT of 12 layers
python benchmarks/bench_embed.py --encoder facebook/dinov2-base --images 16

Both sides are processor time, with that of reader processes, which others' work does not lengthen. With as many workers
as cores, each with one thread, images per second are cores / (t_model + t_read) of these, which is never less than
1 / (t_model + t_read / cores) with a model that is spread over the cores. Files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
import torch
from transformers import ViTConfig, ViTModel

import mammo_hf
from mammo_hf.data.prepare.folder import folder_of, open_prepared
from mammo_hf.encoders import Encoder, Picture, Views, bag_of, features_about, load_encoder
from mammo_hf.encoders.views import drawn
from mammo_hf.phantom.writing import write_phantom

TARGET = 0.95  # of the bound, and of the bare encoder from a prepared folder


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--encoder", help="as for mammo-hf embed; default: a random ViT")
    parser.add_argument("--hidden_size", type=int, default=192, help="of the random ViT: 192 as ViT-Ti, 384 as ViT-S")
    parser.add_argument("--images", type=int, default=8, help="at most")
    parser.add_argument("--spacing", type=float, default=0.1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        encoder = args.encoder or random_vit(work / "vit", args.hidden_size)
        films = drawn_films(work / "films", args.images)
        print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before the start; seed 0", flush=True)
        compare("from DICOM of 2048 x 1024", films, work / "features", encoder, args.spacing)
        prepared = mammo_hf.prepare(films, work / "prepared", image_size=(2048, 1024))
        compare("from a prepared folder", prepared, work / "of-prepared", encoder, args.spacing)


def random_vit(folder: Path, hidden_size: int) -> Path:
    """Save a ViT/16 of 12 layers with random weights and the files of a repository."""
    torch.manual_seed(0)
    heads = hidden_size // 64
    config = ViTConfig(hidden_size=hidden_size, num_attention_heads=heads, intermediate_size=4 * hidden_size)
    ViTModel(config).save_pretrained(folder)
    facts = {"size": {"height": 224, "width": 224}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    return folder


def drawn_films(folder: Path, images: int) -> mammo_hf.Collection:
    """Draw phantoms with pixels of 0.1 mm."""
    write_phantom(folder, patients=-(-images // 4), seed=0, size=(2048, 1024), num_workers=1, progress=False)
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.ImagerPixelSpacing = [0.1, 0.1]
        dataset.save_as(path)
    collection = mammo_hf.load(folder)
    wanted = set(collection.column("image_id")[:images])
    return collection.where(lambda row: row["image_id"] in wanted)


def processor_time() -> float:
    return sum(os.times()[:4])


def compare(what: str, images: mammo_hf.Collection, out: Path, encoder: Path | str, spacing: float) -> None:
    started, clock = processor_time(), time.perf_counter()
    done = mammo_hf.embed(images, out, encoder=encoder, spacing=spacing)
    whole, wall = processor_time() - started, time.perf_counter() - clock
    started = processor_time()
    loaded = load_encoder(encoder)
    _ = loaded.record
    whole -= processor_time() - started  # loading is not per image
    views = Views.of(features_about(out))
    t_read, t_model = bound(images, out, loaded, views)
    number, vectors = done.run.images, features_about(out)["vectors"]
    print(f"\n{what}: {number} images, {vectors / number:.1f} vectors each")
    print(f"reading and drawing {t_read:.3f} s, bare encoder {t_model:.3f} s, embed {whole / number:.3f} s per image")
    print(f"{number / whole:.2f} images/s per core ({number / wall:.2f} by the clock), {vectors / whole:.1f} views/s")
    print(f"of the bound: {(t_read + t_model) * number / whole:.1%} (target {TARGET:.0%})")
    print(f"of the bare encoder: {t_model * number / whole:.1%}")
    print(f"{done.run.size / number / 1e3:.0f} kB per image")


def bound(images: mammo_hf.Collection, out: Path, encoder: Encoder, views: Views) -> tuple[float, float]:
    """Return processor seconds per image of reading with drawing, and of the encoder on what was drawn."""
    processor = mammo_hf.MammoImageProcessor.from_pretrained(out)
    reading, encoding = [], []
    folder = folder_of(images)
    rows = {row["image_id"]: row for row in open_prepared(folder)} if folder else {}
    for row in images:
        started = processor_time()
        stored = rows.get(row["image_id"])
        picture = Picture.of_prepared(stored, processor) if stored else Picture.of_image(row["path"], processor)
        seen = drawn(picture, views, encoder.tile)
        reading.append(processor_time() - started)
        started = processor_time()
        bag_of(seen, encoder, views)
        encoding.append(processor_time() - started)
    return float(np.mean(reading)), float(np.mean(encoding))


if __name__ == "__main__":
    main()
