"""Read a collection once: every image at the model's size, 16 bits, in a folder that trainings take as --dataset.

mammo-hf prepare data/cbis data/cbis-896 --size 896 448 --num_proc 8
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data.loading import load
from ..data.prepare.layout import FORMATS, Folder
from ..data.prepare.running import SHARD_SIZE, Summary, prepare
from ..data.training_data import is_phantom, training_processor
from ..errors import UsageError
from ..files import MARKER
from ..hub.dataset_card import write_dataset_card
from ..processing.geometry import parse_size


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="mammo-hf prepare", description=(__doc__ or "").split("\n")[0])
    p.add_argument("source", help="folder of the collection, recognised by its files")
    p.add_argument("out", help="folder to write, or an fsspec URL such as s3://bucket/folder; a second run goes on")
    p.add_argument(
        "--size", type=int, nargs="+", help="height and width in pixels (default: the processor's, or 896 448)"
    )
    p.add_argument("--processor", help="folder with a preprocessor_config.json: how images are read and cut")
    p.add_argument("--num_proc", type=int, default=0, help="processes beside the main one (default %(default)s: none)")
    p.add_argument("--dicom_path", help="text file of DICOM paths, one a line: more unlabelled images")
    p.add_argument("--lesion_task", help="the task whose label the lesions' places get (default: the first)")
    p.add_argument("--format", choices=FORMATS, help="arrow: mapped into memory; parquet: compressed, streams")
    p.add_argument("--shard_size", type=int, default=SHARD_SIZE, help="images a file (default %(default)s)")
    p.add_argument(
        "--max_rejected", type=float, default=0.5, help="share of unreadable files that is an error (%(default)s)"
    )
    p.add_argument("--ray", action="store_true", help="prepare on a Ray cluster, or on a local Ray of --num_proc CPUs")
    p.add_argument("--ray_address", help="address of the cluster, such as auto or ray://head:10001")
    return p


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf prepare``."""
    args = parser().parse_args(arguments)
    if args.ray_address and not args.ray:
        raise UsageError("is for a run on Ray", source="--ray_address", remedy="give --ray too")
    size = parse_size(args.size) if args.size else None if args.processor else (896, 448)
    processor = training_processor(args.source, named=args.processor, size=size)
    table = load(args.source, **({} if args.dicom_path is None else {"dicom_path": args.dicom_path}))
    executor = None
    if args.ray:
        from ..data.prepare.ray_data import ray_executor

        executor = ray_executor(args.ray_address, num_cpus=args.num_proc or None)
    summary = prepare(
        table,
        processor,
        args.out,
        lesion_task=args.lesion_task,
        num_workers=args.num_proc,
        # what Ray writes lies in an object store more often than on a disk that can be mapped
        format=args.format or ("parquet" if args.ray else "arrow"),
        shard_size=args.shard_size,
        max_rejected=args.max_rejected,
        executor=executor,
    )
    if is_phantom(args.source):
        Folder(args.out).write_text(MARKER, (Path(args.source) / MARKER).read_text(encoding="utf-8"))
    write_dataset_card(args.out)
    print("\n".join(describe(summary)))


def describe(summary: Summary) -> list[str]:
    """A run's figures in lines."""
    lines = [
        f"{summary.images} images in {summary.out}, {summary.rejected} left out"
        + (" (rejected.csv says why)" if summary.rejected else ""),
        f"{summary.read} read now in {summary.seconds:.1f} s, {summary.read / max(summary.seconds, 1e-9):.1f} images/s",
    ]
    if summary.images:
        lines.append(f"{summary.size / summary.images / 1e3:.0f} kB on disk an image")
    return lines
