"""Draw where a classifier looked: on the images of a collection, or on any files."""

from __future__ import annotations

from ..errors import UsageError
from .running import Parser, opened, print_next, processor_settings, quiet, reading_options


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    example = "mammo-hf explain out/cls data/cbis --output_dir out/explanations"
    p = Parser("mammo-hf explain", __doc__ or "", example)
    p.add_argument("model", metavar="MODEL", help="classifier: a folder, or a name on the Hub[@REVISION]")
    p.add_argument(
        "source",
        metavar="SOURCE",
        nargs="+",
        help="a collection, or images, folders, .txt lists, .csv tables",
    )
    p.add_argument("--output_dir", metavar="FOLDER", required=True, help="folder for the pictures")
    what = p.add_argument_group("what is explained")
    what.add_argument(
        "--explainer",
        metavar="NAME",
        nargs="+",
        help="explainers, listed by mammo-hf explainers (default: attention grad_cam grad_cam_attention; "
        "of a head over features bag_attention grad_cam)",
    )
    what.add_argument(
        "--write", metavar="NAME", nargs="+", default=[], help="outputs of plug-ins, of files, into OUTPUT_DIR/NAME"
    )
    p.add_shown_label(what)
    what.add_argument(
        "--split",
        choices=("test", "validation", "train", "unlabelled", "all"),
        default="test",
        help="images of a collection that are drawn (default: %(default)s)",
    )
    what.add_argument("--count", type=int, help="most images to draw (default: 12 of a collection, all files)")
    p.add_reading_options()
    p.add_encoder_options()
    p.add_processor_options()
    speed = p.add_argument_group("speed")
    speed.add_argument("--num_workers", type=int, default=2, help="processes that read (default: %(default)s)")
    speed.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: %(default)s)")
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf explain``."""
    args = parser().parse_args(arguments)
    from ..inference.explain import explain  # imports torch, which --help should not

    quiet()
    settings = processor_settings(vars(args))
    source = args.source if len(args.source) > 1 else args.source[0]
    reading = reading_options(vars(args))
    if of_tables := [name for name in reading if name != "overrides"]:
        if len(args.source) > 1:
            raise UsageError("is for a single collection", source=f"--{of_tables[0]}", remedy="give one SOURCE")
        source, reading = opened(args.source[0], reading, settings), {}
    result = explain(
        args.model,
        source,
        args.output_dir,
        explainer=args.explainer,
        write=args.write,
        target=args.target,
        operating_point=args.operating_point,
        split=args.split,
        count=args.count,
        num_workers=args.num_workers,
        device=None if args.device == "auto" else args.device,
        processor_settings=settings,
        encoder=args.encoder,
        trust_remote_code=args.trust_remote_code,
        **reading,
    )
    print(result)
    print_next("app", args.model)
