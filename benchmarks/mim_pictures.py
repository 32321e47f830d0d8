"""Reconstructions at 1024 x 512 by both decoders, side by side, from a nano Swin trained on phantoms here.

python benchmarks/mim_pictures.py --output_dir mim-pictures --picture docs/img/mim_decoders.png

Half of the blocks of 32 pixels are hidden. The picture shows validation images whole and, twice as large, a part of the
breast's edge and one of parenchyma. Printed for each decoder: masked L1, PSNR and SSIM inside the breast, and on hidden
pixels two marks of artefacts, each over what the image itself has there: a chequerboard (what alternates from pixel to
pixel both ways) and seams (steps across the borders of the last stage's tokens over steps next to them).
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mammo_hf import MammoImageProcessor, MammoSwinForMaskedImageModeling
from mammo_hf.data.collection import Collection
from mammo_hf.data.torch_datasets import MaskedImages, rows_of
from mammo_hf.data.training_data import open_collection, prepared_images, usable_tasks
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.plotting import masked_picture, save_figure
from mammo_hf.training.mim import pretrain, reconstruct

SIZE = (1024, 512)
WINDOW = 8  # its multiples are the grids of every stage at this size; those of 7 are not
TOKEN = 16  # pixels a side of a token of nano's last stage
PART = 160  # pixels a side of the parts that are enlarged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output_dir", default="mim-pictures")
    parser.add_argument("--picture", default="docs/img/mim_decoders.png")
    parser.add_argument("--patients", type=int, default=40, help="four views each")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch_size", type=int, default=4)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    out = Path(args.output_dir)
    if not (out / "phantom").is_dir():
        write_phantom(out / "phantom", patients=args.patients, seed=0, size=SIZE, progress=False)
    table = open_collection(out / "phantom", validation_fraction=0.15, seed=0)
    processor = MammoImageProcessor(size=SIZE, mask_block_size=32)
    prepared = prepared_images(table, processor, out / "prepared", tasks=usable_tasks(table, ("density",)))
    validation = MaskedImages(
        prepared.select(rows_of(prepared, ("validation",))), processor, masking=processor.masking(), fresh=False
    )
    made = {}
    for decoder in ("conv", "linear"):
        network, figures = _trained(table, out / decoder, decoder, args)
        made[decoder] = reconstruct(network, validation, count=8)
        print(json.dumps({"decoder": decoder} | figures | artefacts(*made[decoder])), flush=True)
    inputs, masks, _ = made["conv"]
    draw(inputs, masks, {name: rebuilt for name, (_, _, rebuilt) in made.items()}, Path(args.picture))


def _trained(
    table: Collection, folder: Path, decoder: str, args: argparse.Namespace
) -> tuple[MammoSwinForMaskedImageModeling, dict[str, Any]]:
    """Return a model that an earlier call has trained, or a new one, and the figures of its training."""
    record = folder / "figures.json"
    if not record.is_file():
        started = time.process_time()
        figures = pretrain(
            table,
            folder,
            prepared_dir=str(folder.parent / "prepared"),
            image_size=list(SIZE),
            mask_block_size=32,
            tasks=["density"],
            model="nano",
            mim_decoder=decoder,
            window_size=WINDOW,
            max_steps=args.steps,
            per_device_train_batch_size=args.batch_size,
            learning_rate=1e-3,
            seed=0,
            num_workers=0,
            disable_tqdm=True,
            eval_strategy="no",
            save_strategy="no",
            load_best_model_at_end=False,
            overwrite_output_dir=True,
        ).metrics
        quality = figures["hidden_inside_the_breast"]
        kept = {"masked_l1": figures["validation_loss"], "psnr": quality["psnr"], "ssim": quality["ssim"]}
        kept |= {"steps": args.steps, "train_images": figures["train_images"]}
        kept["cpu_seconds"] = round(time.process_time() - started)
        record.write_text(json.dumps(kept))
    return MammoSwinForMaskedImageModeling.from_pretrained(folder), json.loads(record.read_text())


def artefacts(inputs: np.ndarray, masks: np.ndarray, rebuilt: np.ndarray) -> dict[str, float]:
    """Chequerboard and seams on hidden pixels of the breast, each over the image's own."""
    hidden = masks & (inputs > 0.02)
    whole = hidden[:, ::2, ::2] & hidden[:, 1::2, ::2] & hidden[:, ::2, 1::2] & hidden[:, 1::2, 1::2]

    def alternating(images: np.ndarray) -> float:
        squares = images[:, ::2, ::2] - images[:, 1::2, ::2] - images[:, ::2, 1::2] + images[:, 1::2, 1::2]
        return float(np.abs(squares)[whole].mean())

    pairs = hidden[:, :, 1:] & hidden[:, :, :-1]
    border = np.zeros(pairs.shape[2], bool)
    border[TOKEN - 1 :: TOKEN] = True
    # a hidden block of 32 pixels has one border of tokens inside

    def seams(images: np.ndarray) -> float:
        steps = np.abs(np.diff(images, axis=2))
        return float(
            steps[:, :, border][pairs[:, :, border]].mean() / steps[:, :, ~border][pairs[:, :, ~border]].mean()
        )

    return {
        "chequerboard": round(alternating(rebuilt) / alternating(inputs), 3),
        "seams": round(seams(rebuilt) / seams(inputs), 3),
    }


def draw(inputs: np.ndarray, masks: np.ndarray, rebuilt: dict[str, np.ndarray], path: Path) -> None:
    """Two images whole, and of the first the part with most edge and the part with most parenchyma hidden, enlarged."""
    figure = Figure(figsize=(7.6, 8.3), dpi=110, layout="constrained", facecolor="white")
    rows = [(0, slice(None), slice(None)), *(_part(inputs[0], masks[0], kind) for kind in ("edge", "parenchyma"))]
    grid = figure.subplots(3, 4, height_ratios=[2, 1, 1])
    names = ("input", "masked", *(f"{name} decoder" for name in rebuilt))
    for axes, (image, down, across) in zip(grid, rows, strict=True):
        shown, hidden = inputs[image][down, across], masks[image][down, across]
        bright = np.quantile(shown, 0.999)
        guesses = [np.where(hidden, pictures[image][down, across], shown) / bright for pictures in rebuilt.values()]
        for one, picture in zip(axes, (shown / bright, masked_picture(shown / bright, hidden), *guesses), strict=True):
            one.imshow(np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1)
            one.set(xticks=[], yticks=[])
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, fontsize=10)
    for axes, name in zip(grid[:, 0], ("whole, 1024 x 512", "edge of the breast", "parenchyma"), strict=True):
        axes.set_ylabel(name, fontsize=10)
    save_figure(figure, path)


def _part(image: np.ndarray, mask: np.ndarray, kind: str) -> tuple[int, slice, slice]:
    """Find the square in which most of the edge, or of bright tissue, is hidden."""
    inside = image > 0.02
    steps = np.zeros(image.shape, bool)
    steps[:, 1:] = inside[:, 1:] != inside[:, :-1]
    worth = (steps if kind == "edge" else image * (image > 0.3)) * mask
    sums = worth.cumsum(0).cumsum(1)
    sums = np.pad(sums, ((1, 0), (1, 0)))
    sums = sums[PART:, PART:] - sums[:-PART, PART:] - sums[PART:, :-PART] + sums[:-PART, :-PART]
    row, column = np.unravel_index(sums.argmax(), sums.shape)
    return 0, slice(row, row + PART), slice(column, column + PART)


if __name__ == "__main__":
    main()
