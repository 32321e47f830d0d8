"""Evaluate several classifiers on several collections: how each fares at home and away, in one table."""

from __future__ import annotations

from pathlib import Path

from .running import Parser, log_to, reading_options


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    p = Parser(
        "mammo-hf transfer",
        __doc__ or "",
        "mammo-hf transfer out/cbis out/vindr --datasets data/cbis data/vindr data/inbreast --output_dir out/transfer",
    )
    p.add_argument("models", nargs="+", metavar="MODEL", help="classifiers: folders or Hub names[@revision]")
    images = p.add_argument_group("images")
    images.add_argument(
        "--datasets", nargs="+", required=True, help="tables, collections' folders, or prepared folders"
    )
    images.add_argument(
        "--task_map",
        nargs="+",
        default=[],
        metavar="MAP",
        help="a model's task elsewhere, as pathology=cancer:no=benign,yes=malignant",
    )
    images.add_argument(
        "--keep_near_duplicates",
        action="store_true",
        help="do not look for films that a model was trained on under another name",
    )
    images.add_argument(
        "--without_baselines",
        action="store_true",
        help="leave out classifiers without a network, and the probe of how well features distinguish collections",
    )
    p.add_reading_options("stratum", "max_missing", "accept")
    p.add_argument("--output_dir", default="transfer", help="folder of tables and reports (default: %(default)s)")
    p.add_scoring_options()
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf transfer``."""
    given = vars(parser().parse_args(arguments))
    from ..evaluation.study_tables import plot_transfer, transfer_csv, transfer_table
    from ..files import write_whole
    from ..plotting import save_figure
    from ..studies.transfer import transfer

    log_to("console")
    out = Path(given["output_dir"])
    given["near_duplicates"] = not given.pop("keep_near_duplicates")
    given["baselines"] = not given.pop("without_baselines")
    given["reading"] = reading_options(given)
    figures = transfer(given.pop("models"), given.pop("datasets"), **given)
    table = transfer_table(figures)
    write_whole(out / "transfer.md", table)
    write_whole(out / "transfer.csv", transfer_csv(figures))
    for task in dict.fromkeys(cell["task"] for cell in figures["cells"]):
        save_figure(plot_transfer(figures, task), out / f"transfer_{task}.png")
    print(table)
    print(
        f"written: {out / 'transfer.md'}, transfer.csv, transfer.json, a heat map per task; reports in {out / 'cells'}"
    )
