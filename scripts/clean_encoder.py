"""Make an encoder that may be given away: from two open collections to a stage 1 checkpoint with a proven ancestry.

python scripts/clean_encoder.py --work clean --dry_run
python scripts/clean_encoder.py --work clean --model base --push_to lab/mammo-swin-base

CBIS-DDSM (CC BY 3.0) and CMMD (CC BY 4.0) come from the NCI Imaging Data Commons alone, so that the weights may be
published with attribution. Each is fetched and prepared; the encoder is trained on the first, and further on the
second, and its card and ``terms.json`` name both. Then a classifier is trained from it on each collection and evaluated
on both: ``transfer/transfer.md``. Their test patients are in no training. Every step resumes where it was interrupted,
by the same line. The tables of the labels are not at the Imaging Data Commons; the script says where they are.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mammo_hf
from mammo_hf import MammoImageProcessor, MammoSwinForMaskedImageModeling
from mammo_hf.cli import main as command
from mammo_hf.data.collection import Collection
from mammo_hf.data.datasets.download import fetch, incomplete, select, wanted_labels
from mammo_hf.dicom import mammogram_dataset
from mammo_hf.errors import DataError
from mammo_hf.files import size_text
from mammo_hf.models.checkpoint import METRICS, starting_config
from mammo_hf.training.trainer import last_whole_checkpoint

SUBSETS = {"cbis-ddsm": "full", "cmmd": "all"}  # whole films, in the order in which they are trained on
FILM = (4096, 3072)  # about the size of a film or of a detector, in pixels
MEASURED = 3  # updates and films that the time is measured on


def folder_of(args: argparse.Namespace, name: str) -> Path:
    """Return the folder of a collection's files."""
    path: Path = args.work / "data" / name
    return path


def download(args: argparse.Namespace) -> None:
    """Fetch what is missing of the files, and stop if the tables of the labels are not there."""
    missing = []
    for name, subset in SUBSETS.items():
        if not args.without_download:
            fetch(select(name, subset), folder_of(args, name))
        missing += [text for text in [wanted_labels(name, folder_of(args, name))] if text is not None]
    if missing:
        raise DataError("; ".join(missing), source=args.work, remedy="then give the same line again")


def images_of(args: argparse.Namespace, name: str) -> Collection:
    """Return the prepared images of a collection, prepared as far as they are not yet."""
    collection, folder = mammo_hf.load(name, folder_of(args, name)), args.work / "prepared" / name
    how: dict[str, Any] = {"image_size": tuple(args.image_size), "num_workers": args.num_workers}
    return mammo_hf.prepare(collection, folder, **how)


def train_encoder(args: argparse.Namespace) -> Path:
    """Train stage 1 on the first collection, and from its encoder on the next; return the last folder."""
    start: str | Path = args.model
    for number, name in enumerate(SUBSETS, 1):
        out = args.work / f"stage_1_{number}_{name}"
        _trained("pretrain", args, name, out, start, num_train_epochs=args.epochs, license=args.license)
        start = out
    return Path(start)


def train_classifiers(args: argparse.Namespace, encoder: Path) -> list[Path]:
    """Train the last stage of a classifier from the encoder on each collection."""
    found = []
    for number, name in enumerate(SUBSETS, 1):
        out = args.work / f"classifier_{name}"
        split = args.work / f"stage_1_{number}_{name}" / "split.json"
        options = {"tasks": ["pathology"], "tune": "last_stage", "num_train_epochs": args.classifier_epochs}
        _trained("finetune", args, name, out, encoder, split_file=str(split), **options)
        found.append(out)
    return found


def _trained(stage: str, args: argparse.Namespace, name: str, out: Path, start: str | Path, **options: Any) -> None:
    """Train a stage into a folder, or further from its last checkpoint; nothing if it is finished."""
    if (out / METRICS).is_file():
        return
    begun = last_whole_checkpoint(out) if out.is_dir() else None
    options |= {"num_workers": args.num_workers, "report_to": "none", "resume_from_checkpoint": begun}
    options["per_device_train_batch_size"] = args.batch_size
    print(f"{stage} on {name} from {start}, into {out}", flush=True)
    getattr(mammo_hf, stage)(images_of(args, name), out, model=start, **options)


# The dry run: gigabytes from the index, hours from a few updates and films on this machine.


def announce(args: argparse.Namespace) -> None:
    """Print what would be fetched, whether it fits, and how long this machine would take."""
    images, missing = 0, 0.0
    for name, subset in SUBSETS.items():
        selection = select(name, subset)
        left = incomplete(selection, folder_of(args, name))
        images += int(selection.series["instances"].sum())
        missing += float(left["megabytes"].sum()) * 1e6
        print(f"{name}: {selection.gigabytes:.1f} GB of {selection.patients} patients, {selection.licence}")
        print(f"  {size_text(float(left['megabytes'].sum()) * 1e6)} are still missing; cite {selection.doi}")
        print(f"  {wanted_labels(name, folder_of(args, name)) or 'labels: there'}")
    place = next(folder for folder in (args.work, *args.work.resolve().parents) if folder.exists())
    print(f"to fetch: {size_text(missing)}; free at {place}: {size_text(shutil.disk_usage(place).free)}")
    reading = seconds_per_film(args) * images / max(1, args.num_workers) / 3600
    training = seconds_per_image(args) * images * args.epochs / 3600
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"about {images:,} images: {reading:,.1f} hours of reading with {max(1, args.num_workers)} processes")
    print(f"{args.model}, {args.epochs:g} epochs: {training:,.1f} hours of stage 1 on this {device}")
    print(f"(measured on {MEASURED} films and {MEASURED} updates; --dry_run on another machine says its hours)")


def seconds_per_film(args: argparse.Namespace) -> float:
    """Measure how long a film takes from its file to the canvas, mean of a few."""
    processor = MammoImageProcessor(size=tuple(args.image_size))
    ramp = np.linspace(0, 4095, FILM[1], dtype=np.uint16)[::-1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.dcm"
        mammogram_dataset(np.tile(ramp, (FILM[0], 1)), laterality="L", view="CC").save_as(
            path, enforce_file_format=True
        )
        processor.fit(path)
        started = time.monotonic()
        for _ in range(MEASURED):
            processor.fit(path)
        return (time.monotonic() - started) / MEASURED


def seconds_per_image(args: argparse.Namespace) -> float:
    """Measure how long an image takes in an update of stage 1, mean of a few updates."""
    processor, device = MammoImageProcessor(size=tuple(args.image_size)), "cuda" if torch.cuda.is_available() else "cpu"
    network = MammoSwinForMaskedImageModeling(starting_config(args.model, processor.canvas)).train().to(device)
    pixels = torch.rand(args.batch_size, 1, *processor.canvas, device=device)
    masks = [processor.masking()(processor.canvas, seed=0, index=index) for index in range(args.batch_size)]
    mask, started = torch.from_numpy(np.stack(masks)).to(device), 0.0
    for update in range(MEASURED + 1):
        if update == 1:  # the first one warms up
            started = time.monotonic()
        network(pixels, bool_masked_pos=mask).loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
    return (time.monotonic() - started) / MEASURED / args.batch_size


def parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    p = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    p.add_argument("--work", type=Path, required=True, help="folder of all that is fetched and written")
    p.add_argument("--model", default="tiny", choices=("nano", "tiny", "small", "base"), help="default %(default)s")
    p.add_argument("--image_size", type=int, nargs=2, default=[896, 448], help="default: 896 448")
    p.add_argument("--epochs", type=float, default=100, help="of stage 1 on each collection (default %(default)s)")
    p.add_argument("--classifier_epochs", type=float, default=30, help="of stage 2 (default %(default)s)")
    p.add_argument("--batch_size", type=int, default=16, help="images per update (default %(default)s)")
    p.add_argument("--num_workers", type=int, default=2, help="processes that read images (default %(default)s)")
    p.add_argument("--dry_run", action="store_true", help="say gigabytes and hours, and stop")
    p.add_argument("--without_download", action="store_true", help="the files are in WORK/data already")
    p.add_argument("--license", help="licence of the encoder for its card, as cc-by-4.0; default: not stated")
    p.add_argument("--push_to", help="name on the Hub, OWNER/NAME, that the encoder is pushed to at the end")
    return p


def main(arguments: list[str] | None = None) -> None:
    """Run every step that is not done yet."""
    args = parser().parse_args(arguments)
    if args.dry_run:
        announce(args)
        return
    download(args)
    encoder = train_encoder(args)
    classifiers = train_classifiers(args, encoder)
    datasets = [str(args.work / "prepared" / name) for name in SUBSETS]
    line = ["transfer", *map(str, classifiers), "--datasets", *datasets, "--output_dir", str(args.work / "transfer")]
    if command([*line, "--num_workers", str(args.num_workers)]):
        raise SystemExit(1)
    print(
        f"the encoder: {encoder}; its card: {encoder / 'README.md'}; transfer: {args.work / 'transfer' / 'transfer.md'}"
    )
    if args.push_to:
        mammo_hf.push(encoder, args.push_to)


if __name__ == "__main__":
    main()
