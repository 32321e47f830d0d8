"""Encode a collection once with a frozen encoder: the features of each whole breast and its tiles, in a folder."""

from __future__ import annotations

import argparse

from .running import Parser, processor_settings, reading_options


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    example = "mammo-hf embed data/cbis --encoder facebook/dinov2-base --output_dir data/cbis-dinov2 --limit 8"
    # defaults are those of the function: only what is given is passed on
    p = Parser("mammo-hf embed", __doc__ or "", example, argument_default=argparse.SUPPRESS)
    p.add_argument("source", metavar="SOURCE", help="table of images, folder of a collection, prepared folder")
    p.add_argument(
        "--encoder", required=True, help="folder of a checkpoint, a plug-in's name, or a name on the Hub with @REVISION"
    )
    p.add_argument(
        "--output_dir", required=True, help="folder, or fsspec URL such as s3://bucket/folder; run again, it resumes"
    )
    p.add_argument(
        "--limit", type=int, metavar="N", help="a trial with N images: it foretells time and size and draws tiles.png"
    )
    views = p.add_argument_group("views")
    views.add_argument(
        "--tiles", choices=("both", "whole", "native"), help="the whole breast, tiles of it, or both (default: both)"
    )
    views.add_argument("--spacing", type=float, help="millimetres per pixel of the tiles (default: 0.1)")
    views.add_argument("--overlap", type=float, help="fraction of its side that a tile shares (default: 0.25)")
    views.add_argument(
        "--image_size", type=int, nargs="+", help="height and width of the whole view (default: the encoder's)"
    )
    images = p.add_argument_group("images")
    images.add_argument("--processor", help="folder with a preprocessor_config.json: how images are read and cropped")
    images.add_argument("--terms", help='terms of own images, such as "allowed: ethics vote 12/2024"')
    images.add_argument(
        "--max_rejected_fraction",
        type=float,
        help="fraction of unreadable files, 0 to 1, above which the run ends in an error (default: 0.5)",
    )
    p.add_reading_options()
    p.add_processor_options()
    model = p.add_argument_group("encoder")
    model.add_argument("--device", choices=("auto", "cpu", "cuda"), help="device of the encoder (default: auto)")
    model.add_argument("--trust_remote_code", action="store_true", help="run code of the encoder's own repository")
    model.add_argument("--model_terms", help="terms of the encoder, if neither its folder nor its card has any")
    files = p.add_argument_group("files")
    files.add_argument("--format", choices=("arrow", "parquet"), help="memory-mapped, or compressed and streamable")
    files.add_argument("--shard_size", type=int, help="images per file (default: 128)")
    work = p.add_argument_group("processes")
    work.add_argument("--num_workers", type=int, help="processes in addition to the main one (default: none)")
    work.add_argument("--ray", action="store_true", help="use a Ray cluster, or a local Ray of --num_workers CPUs")
    work.add_argument("--ray_address", help="address of the cluster, such as auto or ray://head:10001")
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf embed``."""
    given = vars(parser().parse_args(arguments))
    # imported here, so that --help is quick
    from ..encoders.embed import embed
    from ..processing.geometry import parse_size

    source, out = given.pop("source"), given.pop("output_dir")
    reading = reading_options(given) | {name: given.pop(name) for name in ("terms",) if name in given}
    settings = processor_settings(given)
    if "image_size" in given:
        given["image_size"] = parse_size(given["image_size"])
    print(embed(source, out, processor_settings=settings, **given, **reading))
    following = f"mammo-hf finetune --dataset {out} --output_dir OUT"
    print(f"next: {'the same command without --limit' if 'limit' in given else following}")
