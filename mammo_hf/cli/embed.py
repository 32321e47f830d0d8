"""Encode a collection once with a frozen encoder: the features of each whole breast and its tiles, in a folder."""

from __future__ import annotations

import argparse

from .running import Parser, preparing_options, print_next
from .stages import leave_together


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
    views.add_argument(
        "--grid",
        type=int,
        nargs=2,
        metavar=("ROWS", "COLUMNS"),
        help="keep the features of so many cells of the whole view too, for --teacher of pretrain",
    )
    p.add_preparing_options(p.add_argument_group("images"))
    model = p.add_argument_group("encoder")
    model.add_argument("--device", choices=("auto", "cpu", "cuda"), help="device of the encoder (default: auto)")
    model.add_argument("--trust_remote_code", action="store_true", help="run code of the encoder's own repository")
    model.add_argument("--model_terms", help="terms of the encoder, if neither its folder nor its card has any")
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf embed``."""
    given = vars(parser().parse_args(arguments))
    # imported here, so that --help is quick
    from ..encoders.embed import embed

    source, out, options = preparing_options(given)
    result = embed(source, out, **options)
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(result)
        if "limit" in options:
            print("next: the same command without --limit")
        else:
            print_next("finetune", "--dataset", out, "--output_dir", "OUT")
    leave_together()
