"""Scores of many mammograms as one table, in the order of the files; what cannot be read is told of beside it.

mammo-hf predict out/cls data/archive --output scores.csv
accelerate launch -m mammo_hf.cli predict lab/mammo-swin list.txt --output scores.parquet --explainer grad_cam
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from ..errors import MammoError, UsageError, check_device, check_number
from ..explainers import find_explainer
from ..inference.loading import identity, load_classifier
from ..inference.onnx import is_exported, load_exported
from ..inference.predict import Finished, predict, rejects_path
from ..inference.reading import files_to_read
from ..models.checkpoint import locate
from ..processing.image_processing_mammo import MammoImageProcessor
from .running import quiet, writable_folder


class FinishedWithRejects(MammoError):  # noqa: N818 (a state of the run, not a fault)
    """All files were looked at, and some could not be read."""

    exit_status = 3


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(
        prog="mammo-hf predict",
        description=(__doc__ or "").split("\n")[0],
        epilog="The same command goes on with a run that was ended. Status 3: finished, and some files were rejected.",
    )
    p.add_argument("model", help="folder of a classifier, an exported one, or a name on the Hub, NAME[@REVISION]")
    p.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="images, folders, .txt lists, or .csv tables with a column path"
    )
    p.add_argument("--output", required=True, help="scores.csv or scores.parquet")
    p.add_argument("--parquet", action="store_true", help="write parquet, whatever the output is called")
    p.add_argument("--explainer", help="draws where the model looked into OUTPUT.explanations")
    p.add_argument(
        "--tta", action="store_true", help="mean over five slightly turned and scaled views: five times slower"
    )
    p.add_argument("--batch_size", type=int, help="default: 32 on a GPU; on a CPU by the images' size, 2 of 448 x 224")
    p.add_argument("--num_workers", type=int, help="processes that read (default: the cores)")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    return p


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf predict``."""
    args = parser().parse_args(arguments)
    _check(args)
    output = Path(args.output)
    if args.parquet:
        output = output.with_suffix(".parquet")
    files = files_to_read(args.inputs)
    writable_folder(output.parent)
    quiet()
    args.model = locate(args.model)
    model, processor = _load(args)
    finished = predict(
        model,
        processor,
        files,
        output,
        explainer=args.explainer,
        tta=args.tta,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        device=None if args.device == "auto" else args.device,
        name=identity(args.model, model),
    )
    if finished is not None:
        _tell(finished, len(files))


def _load(args: argparse.Namespace) -> tuple[Any, MammoImageProcessor]:
    if not is_exported(args.model):
        return load_classifier(args.model, dtype=getattr(torch, args.dtype))
    for name, plain in (("explainer", None), ("dtype", "float32")):
        if getattr(args, name) != plain:
            remedy = "give the checkpoint that it was exported from, or leave this out"
            raise UsageError("is not to be had of an exported model", source=f"--{name}", remedy=remedy)
    return load_exported(args.model)


def _check(args: argparse.Namespace) -> None:
    check_device(args.device)
    if args.batch_size is not None:
        check_number("--batch_size", args.batch_size, args.batch_size >= 1, "1 or more")
    if args.num_workers is not None:
        check_number("--num_workers", args.num_workers, args.num_workers >= 0, "0 or more")
    if args.explainer is not None:
        find_explainer(args.explainer)


def _tell(finished: Finished, total: int) -> None:
    before = total - finished.read
    print(f"{finished.images} images in {finished.output}" + (f", {before} of them from before" if before else ""))
    if finished.rejected:
        raise FinishedWithRejects(
            f"finished, but {finished.rejected} of {total} files were rejected",
            source=rejects_path(finished.output),
            remedy="it says why",
        )
