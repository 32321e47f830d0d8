"""Fetch a public collection from the NCI Imaging Data Commons."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import DataError
from .running import Parser, print_next


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    p = Parser("mammo-hf download", __doc__ or "", "mammo-hf download cbis-ddsm data/cbis --subset full --dry_run")
    p.add_argument("collection", help="cbis-ddsm, cmmd, breast-cancer-screening-dbt or victre")
    p.add_argument("dest", type=Path, help="folder for the files; a second run resumes the download")
    p.add_argument("--subset", default="all", help="all, a number of patients; for cbis-ddsm also full, mass or calc")
    p.add_argument("--dry_run", action="store_true", help="say what would be fetched, and fetch nothing")
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf download``."""
    args = parser().parse_args(arguments)
    from ..data.datasets.download import check_space, fetch, incomplete, select, wanted_labels

    selection = select(args.collection, args.subset)
    present = len(selection.series) - len(incomplete(selection, args.dest))
    print(
        f"{selection.name}: {len(selection.series)} series of {selection.patients} patients, "
        f"{selection.gigabytes:.1f} GB; {present} of the series are complete"
    )
    print(f"licence: {selection.licence}; cite {selection.doi}")
    if args.dry_run:
        try:
            check_space(selection, args.dest)
        except DataError as error:
            print(f"would not fit: {error}")
    else:
        fetch(selection, args.dest)
        print(f"fetched into {args.dest}; the licence is in {args.dest / 'LICENCE.txt'}")
    labels = wanted_labels(args.collection, args.dest)
    if labels is not None:
        print(labels)
    print_next("load", f"{args.collection}:{args.dest}")
