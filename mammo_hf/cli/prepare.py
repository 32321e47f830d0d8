"""Read a collection once: every image at the model's size, 16 bits, in a folder that training takes as --dataset."""

from __future__ import annotations

import argparse

from .running import Parser, processor_settings, reading_options


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    example = "mammo-hf prepare data/cbis --output_dir data/cbis-896 --image_size 896 448 --num_workers 8"
    # defaults are those of the function: only what is given is passed on
    p = Parser("mammo-hf prepare", __doc__ or "", example, argument_default=argparse.SUPPRESS)
    p.add_argument("source", metavar="SOURCE", help="table of images, folder of a collection, or NAME:FOLDER")
    p.add_argument(
        "--output_dir", required=True, help="folder, or fsspec URL such as s3://bucket/folder; run again, it resumes"
    )
    images = p.add_argument_group("images")
    images.add_argument(
        "--image_size", type=int, nargs="+", help="height and width in pixels (default: the processor's, or 896 448)"
    )
    images.add_argument("--processor", help="folder with a preprocessor_config.json: how images are read and cropped")
    images.add_argument("--terms", help='terms of own images, such as "allowed: ethics vote 12/2024"')
    images.add_argument("--lesion_task", help="task that gives the lesions their label (default: the first)")
    images.add_argument(
        "--max_rejected_fraction",
        type=float,
        help="fraction of unreadable files, 0 to 1, above which the run ends in an error (default: 0.5)",
    )
    p.add_reading_options()
    p.add_processor_options()
    files = p.add_argument_group("files")
    files.add_argument("--format", choices=("arrow", "parquet"), help="memory-mapped, or compressed and streamable")
    files.add_argument("--shard_size", type=int, help="images per file (default: 128)")
    work = p.add_argument_group("processes")
    work.add_argument("--num_workers", type=int, help="processes in addition to the main one (default: none)")
    work.add_argument("--ray", action="store_true", help="use a Ray cluster, or a local Ray of --num_workers CPUs")
    work.add_argument("--ray_address", help="address of the cluster, such as auto or ray://head:10001")
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf prepare``."""
    given = vars(parser().parse_args(arguments))
    # imported here, so that --help is quick
    from ..hub.prepare import prepare
    from ..processing.geometry import parse_size

    source, out = given.pop("source"), given.pop("output_dir")
    reading = reading_options(given) | {name: given.pop(name) for name in ("terms",) if name in given}
    settings = processor_settings(given)
    if "image_size" in given:
        given["image_size"] = parse_size(given["image_size"])
    print(prepare(source, out, processor_settings=settings, **given, **reading))
    print(f"next: mammo-hf pretrain --dataset {out} --output_dir OUT")
