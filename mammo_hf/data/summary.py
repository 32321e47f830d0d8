"""Summary of a collection in numbers: its splits, labels, views and vendors, as a record, as text and as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..notes import Note, counts_text
from .schema import AGE_BANDS, SPLITS
from .splits import label_of_patients

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from .collection import Collection

Counts = dict[str, dict[str, int]]  # from each value to the number of images or patients by split
FACTS = ("view", "laterality", "vendor", "stratum", "age_band", "source")
UNKNOWN = "not known"
_PANELS = 3  # per row of the picture
_SHOWN = 8  # values of one column; the others are counted together


class Summary(dict[str, Any]):
    """Summary of a collection in counts, ready for JSON; ``str()`` is the text that ``mammo-hf load`` prints.

    ``name`` and ``licence`` are those of the collection. ``splits``: from each split that occurs to its patients,
    exams, breasts and images. ``tasks``: from each task and label to the images by split, and to the patients by their
    most severe label. ``facts``: from each of view, laterality, vendor, stratum, age band and source to the images by
    value and split. ``moved``: patients (hashes) with before, after and reason. ``rejected``: number of files and table
    rows that are left out, and ``rejected_by_code`` by reason. ``notes``: notes of the collection, ``notes_by_code``
    their number by code.

    Args:
        collection: Collection to count.
    """

    def __init__(self, collection: Collection) -> None:
        splits = collection.column("split")
        present = [split for split in SPLITS if split in splits]
        sources = sorted(set(collection.column("source")))
        facts = {
            name: _cross(collection.column(name), splits, present, AGE_BANDS if name == "age_band" else None)
            for name in FACTS
        }
        super().__init__(
            name=" and ".join(sources),
            licence="; ".join(one.images for one in collection.terms if one.images) or None,
            splits=_sizes(collection, splits, present),
            tasks={task["name"]: _labels(collection, task, splits, present) for task in collection.tasks},
            facts={name: counts for name, counts in facts.items() if set(counts) != {UNKNOWN}},
            moved=[moved._asdict() for moved in collection.moved],
            rejected=len(collection.rejected),
            rejected_by_code=dict(Counter(entry.code for entry in collection.rejected)),
            notes_by_code=dict(Counter(note.code for note in collection.notes if isinstance(note, Note))),
            notes=list(collection.notes),
        )

    def to_pandas(self) -> pd.DataFrame:
        """Return the counts of images as a DataFrame: one row per task or fact and value, one column per split."""
        import pandas as pd

        tables = {name: counts["images"] for name, counts in self["tasks"].items()} | self["facts"]
        rows = [
            {"column": name, "value": value, **counts} for name, one in tables.items() for value, counts in one.items()
        ]
        sizes = [
            {"column": what, "value": "all", **{split: counts[what] for split, counts in self["splits"].items()}}
            for what in self._counted()
        ]
        return pd.DataFrame([*sizes, *rows])

    def _counted(self) -> list[str]:
        """Return what is counted of the splits: without sides there are no breasts to count."""
        counts = self["splits"].values()
        return [what for what in ("patients", "exams", "breasts", "images") if any(one[what] for one in counts)]

    def __str__(self) -> str:
        splits = self["splits"]
        images, patients = (sum(one[what] for one in splits.values()) for what in ("images", "patients"))
        lines = [f"{self['name'] or 'empty collection'}: {images} images of {patients} patients", ""]
        lines += _table("split", splits, self._counted())
        for name, counts in self["tasks"].items():
            if set(counts["images"]) != {UNKNOWN}:
                lines += ["", *_table(f"images by {name}", counts["images"], tuple(splits))]
        if self["notes"]:
            lines += ["", "notes:", *(f"  {note}" for note in self["notes"])]
        counts = counts_text(self["notes_by_code"], self["rejected_by_code"])
        lines += ["", f"left out: {self['rejected']} files and table rows{counts}"]
        return "\n".join([*lines, f"terms: {self['licence'] or UNKNOWN}"])


def _sizes(collection: Collection, splits: list[str], present: list[str]) -> Counts:
    patients = Counter(split for _, split in set(zip(collection.column("patient"), splits, strict=True)))
    exams = Counter(splits[group.rows[0]] for group in collection.by_exam())
    breasts = Counter(splits[group.rows[0]] for group in collection.by_breast() if group.laterality is not None)
    images = Counter(splits)
    counted = {"patients": patients, "exams": exams, "breasts": breasts, "images": images}
    return {split: {what: counts[split] for what, counts in counted.items()} for split in present}


def _labels(
    collection: Collection, task: Mapping[str, Any], splits: list[str], present: list[str]
) -> dict[str, Counts]:
    worst = label_of_patients(collection, task)
    patients = _cross(list(worst.values()), [split for _, split in worst], present, task["labels"])
    return {"images": _cross(collection.column(task["name"]), splits, present, task["labels"]), "patients": patients}


def _cross(
    values: list[str | None], splits: list[str], present: list[str], order: Sequence[str] | None = None
) -> Counts:
    """Count by value and split: values in the given order or by name, the unknown ones last."""
    counts = Counter(zip(values, splits, strict=True))
    known = {value for value in values if value is not None}
    ordered = sorted(known) if order is None else [value for value in order if value in known]
    table = {value: {split: counts[value, split] for split in present} for value in ordered}
    if None in values:
        table[UNKNOWN] = {split: counts[None, split] for split in present}
    return table


def _table(title: str, rows: Mapping[str, Mapping[str, int]], columns: Sequence[str]) -> list[str]:
    first = max([len(title), *map(len, rows)])
    lines = [title.ljust(first) + "".join(f"{column:>12}" for column in columns)]
    return lines + [
        name.ljust(first) + "".join(f"{row[column]:>12}" for column in columns) for name, row in rows.items()
    ]


def draw_summary(summary: Mapping[str, Any], path: Path) -> Path:
    """Draw a summary: for each task and fact the percentage of each split's images per value, with the counts.

    Args:
        summary: Summary of a collection.
        path: PNG file to write.
    """
    from matplotlib.figure import Figure

    from ..plotting import INK, save_figure

    panels = {name: _shortened(counts["images"]) for name, counts in summary["tasks"].items()}
    panels |= {name.replace("_", " "): _shortened(counts) for name, counts in summary["facts"].items()}
    # a value that all images share says nothing about the split
    panels = {name: counts for name, counts in panels.items() if len(counts) > 1} or panels
    sizes = {name: counts["images"] for name, counts in summary["splits"].items()}
    rows = -(-len(panels) // _PANELS)
    tallest = max(len(counts) for counts in panels.values())
    height = 1.6 + rows * (0.9 + 0.16 * tallest * len(sizes))
    figure = Figure(figsize=(11, height), dpi=150, layout="constrained", facecolor="white")
    axes = list(figure.subplots(rows, _PANELS, squeeze=False).ravel())
    for one, (name, counts) in zip(axes, panels.items(), strict=False):
        _draw_panel(one, name, counts, sizes)
    for empty in axes[len(panels) :]:
        empty.set_visible(False)
    figure.suptitle(_headline(summary), fontsize=11, color=INK, x=0.01, ha="left")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=len(names), frameon=False, fontsize=9, labelcolor=INK)
    return save_figure(figure, path)


def _draw_panel(axes: Axes, name: str, counts: Counts, sizes: Mapping[str, int]) -> None:
    from ..plotting import COLOURS, INK, dress

    dress(axes, "percentage of the split's images", "", name)
    width = 0.8 / len(sizes)
    for number, (split, total) in enumerate(sizes.items()):
        heights = [row + (number - (len(sizes) - 1) / 2) * width for row in range(len(counts))]
        percentages = [100 * by_split[split] / total for by_split in counts.values()]
        axes.barh(heights, percentages, width, color=COLOURS[number % len(COLOURS)], label=split)
        for height, percentage, by_split in zip(heights, percentages, counts.values(), strict=True):
            axes.text(percentage + 1, height, f"{by_split[split]:,}", va="center", fontsize=7, color=INK)
    axes.set(yticks=range(len(counts)), yticklabels=list(counts), xlim=(0, 115), xticks=[0, 50, 100])
    axes.grid(False, axis="y")
    axes.invert_yaxis()


def _shortened(counts: Counts) -> Counts:
    """Keep the most frequent values in their order and count the others as one."""
    if len(counts) <= _SHOWN:
        return counts
    frequent = sorted(counts, key=lambda value: -sum(counts[value].values()))[: _SHOWN - 1]
    kept = {value: by_split for value, by_split in counts.items() if value in frequent}
    others = [by_split for value, by_split in counts.items() if value not in frequent]
    kept[f"{len(others)} others"] = {split: sum(by_split[split] for by_split in others) for split in others[0]}
    return kept


def _headline(summary: Mapping[str, Any]) -> str:
    counts = summary["splits"].items()
    splits = "; ".join(f"{name} {one['patients']:,} patients, {one['images']:,} images" for name, one in counts)
    moved = f"; {len(summary['moved'])} patients moved" if summary["moved"] else ""
    return f"{summary['name']}: {splits}{moved}"
