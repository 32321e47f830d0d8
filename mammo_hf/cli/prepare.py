"""Read a collection once: every image at the model's size, 16 bits, in a folder that training takes as --dataset."""

from __future__ import annotations

import argparse

from .running import Parser, preparing_options, print_next


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    example = "mammo-hf prepare data/cbis --output_dir data/cbis-896 --image_size 896 448 --num_workers 8"
    # defaults are those of the function: only what is given is passed on
    p = Parser("mammo-hf prepare", __doc__ or "", example, argument_default=argparse.SUPPRESS)
    p.add_argument("source", metavar="SOURCE", help="table of images, folder of a collection, or NAME:FOLDER")
    images = p.add_argument_group("images")
    images.add_argument(
        "--image_size", type=int, nargs="+", help="height and width in pixels (default: the processor's, or 896 448)"
    )
    images.add_argument(
        "--store",
        choices=("fixed", "native"),
        help="fixed: images of this size; native: stored values, from which any size is drawn (default: fixed)",
    )
    images.add_argument("--lesion_task", help="task that gives the lesions their label (default: the first)")
    p.add_preparing_options(images)
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf prepare``."""
    given = vars(parser().parse_args(arguments))
    # imported here, so that --help is quick
    from ..hub.prepare import prepare

    source, out, options = preparing_options(given)
    print(prepare(source, out, **options))
    print_next("pretrain", "--dataset", out, "--output_dir", "OUT")
