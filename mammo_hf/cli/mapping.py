"""Draft the mapping of an own table: what each column is, and what was seen of it; the draft is then corrected."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .running import Parser


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    p = Parser("mammo-hf mapping", __doc__ or "", "mammo-hf mapping data/labels.csv > data/own.toml")
    p.add_argument("table", metavar="TABLE", type=Path, help="table with a row per image, breast, exam or lesion")
    p.add_argument("--images", metavar="DIR", type=Path, help="folder of the images (default: the table's own)")
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf mapping``."""
    args = parser().parse_args(arguments)
    from ..data.datasets.contents import Files
    from ..data.datasets.own_table import draft, draft_text
    from ..data.datasets.tables import read_table
    from ..errors import DataError

    rows = read_table(args.table)
    if not rows:
        raise DataError("has no rows", source=args.table, remedy="give the whole table")
    folders = [args.table.parent, *([args.images] if args.images else [])]
    content, problems = draft(rows, Files(folders, [], is_own=True).find)
    print(draft_text(content, rows, problems, os.path.basename(args.table)), end="")
