"""A model's card, made of what its folder holds: a section whose facts are missing says that they are not measured."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import ModelCard

from ..evaluation.report.writing import METRIC_NAMES, metrics_table
from ..evaluation.subgroups import FACTS
from ..label_efficiency.table import markdown_table, remarks
from ..training.explanation_report import explanation_table
from ..training.training_words import training_in_words
from .checkpoint import CARD, PICTURES, Checkpoint, read_checkpoint
from .model_index import card_data, plain
from .processor_words import preprocessing_in_words
from .pushed_files import REPOSITORY

# curves alone: whatever shows an image of a patient stays where it is
DRAWN = {
    "roc.png": "ROC curve on the test images",
    "classifier_loss.png": "loss of the classifier's training",
    "classifier_metrics.png": "metrics on validation images, epoch by epoch",
    "mim_loss.png": "loss of the masked image modelling",
    "label_efficiency.png": "AUC by the share of the labels",
    "explanations.png": "explainers beside their baselines",
}
_COLUMNS = {("by image", ""): "by image", ("by breast", "mean"): "by breast", ("by patient", "mean"): "by patient"}


def write_card(folder: str | os.PathLike[str], *, plots: str | os.PathLike[str] | None = None) -> Path:
    """Writes ``README.md`` into a checkpoint's folder, and the card's pictures beside it.

    Args:
        folder: What training wrote: configuration, weights, ``metrics.json``.
        plots: Where its curves were drawn; ``None``: the pictures of an earlier card stay.

    Returns:
        The card's path.

    Raises:
        UsageError: There is no model in the folder.
        DataError: One of its files is damaged.
    """
    checkpoint = read_checkpoint(folder)
    if plots is not None:
        _take_pictures(Path(plots), checkpoint.folder / PICTURES)
    path = checkpoint.folder / CARD
    path.write_text(str(model_card(checkpoint)), encoding="utf-8")
    return path


def model_card(checkpoint: Checkpoint) -> ModelCard:
    """The card of a checkpoint.

    Raises:
        UsageError: The folder holds no weights.
    """
    metadata = card_data(checkpoint).to_yaml()
    content = templates().get_template("model_card.md.j2").render(**_facts(checkpoint), repository=REPOSITORY)
    return ModelCard(f"---\n{metadata}\n---\n\n{content.strip()}\n")


def templates() -> jinja2.Environment:
    """The cards' templates, in which every name goes through ``name``."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("mammo_hf.publish", ""),
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters |= {"name": escaped, "figure": _figure}
    return found


def escaped(text: object) -> str:
    """A name as Markdown shows it, whatever characters it has: no mark-up and no table cell of its own."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>|#~" else c for c in plain(text))


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    figures, metrics = checkpoint.figures, checkpoint.metrics
    test = {name: part for name, part in (figures.get("test") or {}).items() if isinstance(part, Mapping)}
    efficiency = metrics.get("label_efficiency") or []
    explanations = metrics.get("explanations")
    return {
        "stage": checkpoint.stage,
        "config": checkpoint.config,
        "tasks": checkpoint.config.get("tasks") or [],
        "parameters": checkpoint.parameters(),
        "collection": figures.get("collection") or {},
        "figures": figures,
        "run": figures.get("run") or {},
        "words": training_in_words(figures),
        "steps": preprocessing_in_words(checkpoint.processor) if checkpoint.processor else [],
        "results": {name: _results(part) for name, part in test.items()},
        "subgroups": {name: _subgroups(part) for name, part in test.items()},
        "calibrations": {name: _calibration(part) for name, part in test.items()},
        "efficiency": markdown_table(efficiency) if efficiency else "",
        "efficiency_remarks": remarks(efficiency, []) if efficiency else [],
        "explanations": explanations,
        "explanation_table": explanation_table(explanations) if explanations else "",
        "pictures": _pictures(checkpoint.folder),
    }


def _results(figures: Mapping[str, Any]) -> dict[str, Any]:
    table = metrics_table(figures)
    places = [table["columns"].index(column) for column in _COLUMNS if column in table["columns"]]
    return {
        "columns": [_COLUMNS[table["columns"][place]] for place in places],
        "rows": [(name, [cells[place] for place in places]) for name, cells in table["rows"]],
        "n_images": figures["n_images"],
        "n_patients": figures["n_patients"],
        "counts": figures["class_counts"],
    }


def _subgroups(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for fact, of_fact in (figures.get("subgroups") or {}).items():
        for value, cell in of_fact["cells"].items():
            shown = (cell.get("auroc"), cell.get("auroc_interval"))
            rows.append({"of": FACTS[fact], "value": value, "auroc": shown, **_counted(cell)})
    return rows


def _counted(cell: Mapping[str, Any]) -> dict[str, int]:
    return {"n_images": cell["n_images"], "n_patients": cell["n_patients"]}


def _calibration(figures: Mapping[str, Any]) -> dict[str, Any]:
    before = figures.get("uncalibrated") or {}
    return {
        "fit": figures.get("calibration"),
        "reason": figures.get("calibration_reason"),
        "values": [
            (METRIC_NAMES[metric], before.get(metric), (figures.get(metric), figures.get(f"{metric}_interval")))
            for metric in ("brier", "ece")
        ],
    }


def _figure(value: float | Sequence[Any] | None) -> str:
    """A number, or a pair of a number and its interval."""
    number, interval = value if isinstance(value, (tuple, list)) else (value, None)
    if number is None:
        return "not defined"
    return f"{number:.3f}" + ("" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})")


def _take_pictures(plots: Path, target: Path) -> None:
    found = [plots / name for name in DRAWN if (plots / name).is_file()]
    if found:
        target.mkdir(exist_ok=True)
    for picture in found:
        shutil.copyfile(picture, target / picture.name)


def _pictures(folder: Path) -> dict[str, str]:
    return {f"{PICTURES}/{name}": text for name, text in DRAWN.items() if (folder / PICTURES / name).is_file()}
