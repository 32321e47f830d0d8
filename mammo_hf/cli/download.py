"""Fetch a public collection from the NCI Imaging Data Commons.

mammo-hf download cbis-ddsm data/cbis --subset full --dry_run
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data.datasets.download import COLLECTIONS, check_space, fetch, incomplete, select, wanted_labels
from ..errors import DataError


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="mammo-hf download", description=(__doc__ or "").split("\n")[0])
    p.add_argument("collection", help=", ".join(COLLECTIONS))
    p.add_argument("dest", type=Path, help="folder for the files; run again, the download goes on where it stopped")
    p.add_argument("--subset", default="all", help="all, a number of patients; for cbis-ddsm also full, mass or calc")
    p.add_argument("--dry_run", "--dry-run", action="store_true", help="say what would be fetched, and fetch nothing")
    return p


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf download``."""
    args = parser().parse_args(arguments)
    selection = select(args.collection, args.subset)
    here = len(selection.series) - len(incomplete(selection, args.dest))
    print(
        f"{selection.name}: {len(selection.series)} series of {selection.patients} patients, "
        f"{selection.gigabytes:.1f} GB; {here} of the series are there"
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
