"""Who stands on which side of a split: counts by task, class, view, vendor and age, and who was moved and why.

mammo-hf split-report /data/CBIS-DDSM out/split --validation_fraction 0.15 --seed 0
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..data.collection import Collection
from ..data.leaks import assert_no_leak
from ..data.loading import load
from ..data.splits import TEST_FRACTION, VALIDATION_FRACTION, complete_split, save_split, split_report
from ..files import write_record
from ..plotting import COLOURS, INK, dress, save_figure
from .running import writable_folder

_COLUMNS = 3
_SHOWN = 8  # values of one column; the rest is counted together


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="mammo-hf split-report", description=(__doc__ or "").split("\n")[0])
    p.add_argument("dataset", help="folder of the collection, SOURCE:FOLDER, a mapping's file, or a prepared folder")
    p.add_argument("out", type=Path, help="folder for split.json, split.png and patients.json (the saved split)")
    p.add_argument("--source", help="the collection's name, where its files do not tell it")
    p.add_argument("--mapping", help="with --source csv: the mapping's TOML file")
    p.add_argument(
        "--validation_fraction", type=float, default=VALIDATION_FRACTION, help="share of the training patients"
    )
    p.add_argument(
        "--test_fraction",
        "--test",
        type=float,
        default=TEST_FRACTION,
        help="share for a test split, where none is official (default %(default)s, as training has it)",
    )
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--task", help="what to stratify by (default: the first)")
    p.add_argument("--split_file", "--saved", help="a saved split: its patients stand as they stood there")
    return p


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf split-report``."""
    args = parser().parse_args(arguments)
    table = complete_split(
        _load(args),
        validation_fraction=args.validation_fraction,
        test_fraction=args.test_fraction,
        seed=args.seed,
        task=args.task,
        saved=args.split_file,
    )
    assert_no_leak(table)
    report = split_report(table)
    out = writable_folder(args.out)
    write_record(report, out / "split.json")
    about = {name: getattr(args, name) for name in ("seed", "validation_fraction", "test_fraction", "task")}
    save_split(table, out / "patients.json", **about)
    draw_report(report, out / "split.png", table[0]["source"])
    for split, counts in report["splits"].items():
        print(f"{split}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    for note in report["notes"]:
        print(note)
    print(f"no leak found; written: {out / 'split.json'}, split.png, patients.json")


def _load(args: argparse.Namespace) -> Collection:
    options = {} if args.mapping is None else {"mapping": args.mapping}
    name = args.source or ("csv" if options else None)
    return load(args.dataset) if name is None else load(name, args.dataset, **options)


def draw_report(report: dict[str, Any], path: Path, title: str) -> Path:
    """Draws a report: for each task and fact the share of each split's images that a value has, with the counts.

    Args:
        report: What `mammo_hf.data.splits.split_report` gave.
        path: The PNG.
        title: The collection's name.
    """
    panels = {name: _shortened(counts["images"]) for name, counts in report["tasks"].items()}
    panels |= {name.replace("_", " "): _shortened(counts) for name, counts in report["facts"].items()}
    # what is the same for all images says nothing about the split
    panels = {name: counts for name, counts in panels.items() if len(counts) > 1} or panels
    splits = {name: counts["images"] for name, counts in report["splits"].items()}
    rows = -(-len(panels) // _COLUMNS)
    tallest = max(len(counts) for counts in panels.values())
    height = 1.6 + rows * (0.9 + 0.16 * tallest * len(splits))
    figure = Figure(figsize=(11, height), dpi=150, layout="constrained", facecolor="white")
    axes = list(figure.subplots(rows, _COLUMNS, squeeze=False).ravel())
    for place, (name, counts) in zip(axes, panels.items(), strict=False):
        _draw_panel(place, name, counts, splits)
    for empty in axes[len(panels) :]:
        empty.set_visible(False)
    figure.suptitle(_headline(report, title), fontsize=11, color=INK, x=0.01, ha="left")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=len(names), frameon=False, fontsize=9, labelcolor=INK)
    return save_figure(figure, path)


def _draw_panel(axes: Axes, name: str, counts: dict[str, dict[str, int]], splits: dict[str, int]) -> None:
    dress(axes, "share of the split's images (%)", "", name)
    width = 0.8 / len(splits)
    for number, (split, total) in enumerate(splits.items()):
        places = [place + (number - (len(splits) - 1) / 2) * width for place in range(len(counts))]
        shares = [100 * by_split[split] / total for by_split in counts.values()]
        axes.barh(places, shares, width, color=COLOURS[number % len(COLOURS)], label=split)
        for place, share, by_split in zip(places, shares, counts.values(), strict=True):
            axes.text(share + 1, place, f"{by_split[split]:,}", va="center", fontsize=7, color=INK)
    axes.set(yticks=range(len(counts)), yticklabels=list(counts), xlim=(0, 115), xticks=[0, 50, 100])
    axes.grid(False, axis="y")
    axes.invert_yaxis()


def _shortened(counts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The commonest values in their order; what is left over as one."""
    if len(counts) <= _SHOWN:
        return counts
    common = sorted(counts, key=lambda value: -sum(counts[value].values()))[: _SHOWN - 1]
    kept = {value: by_split for value, by_split in counts.items() if value in common}
    rest = [by_split for value, by_split in counts.items() if value not in common]
    kept[f"{len(rest)} others"] = {split: sum(by_split[split] for by_split in rest) for split in rest[0]}
    return kept


def _headline(report: dict[str, Any], title: str) -> str:
    counts = report["splits"].items()
    sides = "; ".join(f"{name} {side['patients']:,} patients, {side['images']:,} images" for name, side in counts)
    moved = f"; {len(report['moved'])} patients moved" if report["moved"] else ""
    return f"{title}: {sides}{moved}"
