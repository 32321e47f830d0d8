"""The tables of docs/explanations.md: the demonstration's maps on its phantoms and on films, by evaluate-explanations.

python benchmarks/explanation_tables.py demo --mini_mias mini-mias --cdd_cesm cdd-cesm

What is in the demonstration's folder already is not measured again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from results_tables import fill, filled

DOCS = Path(__file__).parents[1] / "docs"


def commands(demo: Path, mini_mias: Path, cdd_cesm: Path) -> dict[str, tuple[Any, ...]]:
    """From the name of a table to the options of the command that measures it."""
    learned = ("--random_labels", demo / "mim", "--faithfulness_images", 2, "--sanity_images", 8)
    films = ("--split", "all", "--faithfulness_images", 12, "--sanity_images", 12)
    return {
        "phantom": ("--dataset", demo / "phantom", "--spacing_mm", 0.536, *learned),
        "mini_mias": ("--dataset", f"mini-mias:{mini_mias}", "--spacing_mm", 0.2, *films),
        "cdd_cesm": ("--dataset", f"cdd-cesm-index:{cdd_cesm}", *films),
    }


def measured(name: str, demo: Path, options: tuple[Any, ...]) -> Path:
    """Return the folder of a table, measured if it is not there."""
    out = demo / "explanations" / name
    if not (out / "explanations.md").is_file():
        command = ["evaluate-explanations", demo / "classifier", "--target", "predicted", *options, "--output_dir", out]
        subprocess.run([sys.executable, "-m", "mammo_hf", *map(str, command)], check=True)
    return out


def main() -> None:
    """Measure what is missing, and put the tables and the plot of the phantoms into the docs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("demo", type=Path, help="folder that make demo wrote")
    parser.add_argument("--mini_mias", type=Path, required=True, help="the collection's folder")
    parser.add_argument("--cdd_cesm", type=Path, required=True, help="the collection's folder")
    args = parser.parse_args()
    every = commands(args.demo, args.mini_mias, args.cdd_cesm)
    folders = {name: measured(name, args.demo, options) for name, options in every.items()}
    page = DOCS / "explanations.md"
    before = filled(page)
    tables = {name: (folder / "explanations.md").read_text(encoding="utf-8") for name, folder in folders.items()}
    # without the list of what is installed
    tables = {name: table.rpartition("\n\n")[0] for name, table in tables.items()}
    fill(page, lambda name: f"\n{tables[name].strip()}\n\n" if name in tables else before[name])
    shutil.copyfile(folders["phantom"] / "explanations.png", DOCS / "img" / "explanations.png")


if __name__ == "__main__":
    main()
