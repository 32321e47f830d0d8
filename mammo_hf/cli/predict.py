"""Score many mammograms as one table, in the order of the files; files that cannot be read are listed next to it."""

from __future__ import annotations

from ..errors import MammoError
from .running import Parser, print_next, processor_settings, quiet


class FinishedWithRejects(MammoError):  # noqa: N818 (a state of the run, not a fault)
    """All files were tried, and some could not be read."""

    exit_status = 3


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    example = "mammo-hf predict out/cls data/archive --output scores.csv"
    p = Parser("mammo-hf predict", f"{__doc__} The same command resumes an interrupted run.", example)
    p.add_argument(
        "model", metavar="MODEL", help="classifier, exported or not: a folder, or a name on the Hub[@REVISION]"
    )
    p.add_argument(
        "source", metavar="SOURCE", nargs="+", help="images, folders, .txt lists, or .csv tables with a column path"
    )
    p.add_argument("--output", metavar="FILE", required=True, help="table to write: scores.csv or scores.parquet")
    _add_scores(p)
    p.add_encoder_options()
    p.add_processor_options()
    speed = p.add_argument_group("speed")
    speed.add_argument(
        "--batch_size", type=int, help="images per batch (default: 32 on a GPU; on a CPU by their size, 2 of 448 x 224)"
    )
    speed.add_argument("--num_workers", type=int, help="processes that read (default: one per core)")
    speed.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: %(default)s)")
    speed.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="(default: %(default)s)"
    )
    return p


def _add_scores(p: Parser) -> None:
    scores = p.add_argument_group("scores and explanations")
    scores.add_argument(
        "--level",
        choices=("image", "breast", "exam"),
        help="rows for breasts or exams next to those of images (default: what a head over features was trained on)",
    )
    scores.add_argument(
        "--aggregate",
        choices=("mean", "max", "noisy_or"),
        default="mean",
        help="rule that combines images if the model scores images alone (default: %(default)s)",
    )
    scores.add_argument("--explainer", metavar="NAME", help="draw where the model looked into OUTPUT.explanations")
    p.add_shown_label(scores)
    scores.add_argument(
        "--write", metavar="NAME", nargs="+", default=[], help="outputs of plug-ins, by exam, into OUTPUT.written/NAME"
    )
    scores.add_argument(
        "--defer",
        type=float,
        metavar="FRACTION",
        help="note what is left to a person: the least sure, as many as this fraction of validation (default: none)",
    )
    scores.add_argument(
        "--tta", action="store_true", help="average over five rotated and scaled views: five times slower"
    )
    scores.add_argument(
        "--plain_exams",
        action="store_true",
        help="write StudyInstanceUID and AccessionNumber, not salted hashes of them: the table then identifies exams",
    )


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf predict``; exit status 3 means finished, with some files rejected."""
    args = parser().parse_args(arguments)
    from ..inference.predict import predict  # imports torch, which --help should not

    quiet()
    result = predict(
        args.model,
        args.source,
        args.output,
        level=args.level,
        aggregate=args.aggregate,
        explainer=args.explainer,
        target=args.target,
        operating_point=args.operating_point,
        defer=args.defer,
        write=args.write,
        tta=args.tta,
        plain_exams=args.plain_exams,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        device=None if args.device == "auto" else args.device,
        dtype=args.dtype,
        processor_settings=processor_settings(vars(args)),
        overrides=vars(args).get("overrides"),
        encoder=args.encoder,
        trust_remote_code=args.trust_remote_code,
    )
    if result is None:  # another process of a distributed run reports
        return
    print(result)
    if result.rejected:
        raise FinishedWithRejects(
            f"finished, but {result.rejected} files were rejected", source=result.rejects, remedy="the table says why"
        )
    print_next("explain", args.model, args.source[0], "--output_dir", "explanations")
