"""Report of an evaluation: ``report.html``, one file that needs no network, and ``report.json``."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import platform
import re
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...files import write_whole, writing_errors
from ...models.own_figures import FEWEST_PATIENTS
from ..classifier import FACTS, Evaluation, published
from ..scored import HEAD, RULES
from ..study_tables import plot_label_efficiency
from ..task_figures import OF_PREDICTIONS, OF_SEVERAL_CLASSES, OF_TWO_CLASSES
from .facts import checklist_facts, cohort_table, filled, part_name, template_environment
from .plots import as_svg, task_plots

Rows = list[dict[str, Any]]
METRIC_NAMES = {
    "auroc": "AUROC",
    "auprc": "average precision",
    "partial_auroc": "partial AUROC (false positive rate up to 10 %)",
    "sensitivity_at_90_specificity": "sensitivity at 90 % specificity",
    "sensitivity_at_95_specificity": "sensitivity at 95 % specificity",
    "specificity_at_90_sensitivity": "specificity at 90 % sensitivity",
    "specificity_at_95_sensitivity": "specificity at 95 % sensitivity",
    "pf1": "probabilistic F1",
    "brier": "Brier score (lower is better)",
    "ece": "calibration error (lower is better)",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "quadratic_kappa": "quadratic kappa",
}
UNIT_NAMES = {"breast": "by breast", "exam": "by exam", "patient": "by patient"}
PRIVATE_COLLECTION = "a private collection"  # in place of a name that is not public


# What a report leaves out if it is not given; see `write_report`.
DEFAULTS: dict[str, Any] = {
    "training": {},
    "processor": {},
    "trained_here": None,
    "seed": 0,
    "resamples": 2000,
    "flow": [],
    "errors": {},
    "label_efficiency": [],
    "environment": {},
    "command": "",
}


def write_report(evaluation: Evaluation, out: str | os.PathLike[str], about: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.json`` into a folder.

    Neither holds a patient's key, a path or a date of an examination; the pictures of errors are images of patients.

    Args:
        evaluation: Result of `evaluate_classifier`.
        out: Folder of the report.
        about: What else the report states. Required: ``checkpoint`` and ``collection`` (names, no paths), ``tasks``
            (``config.tasks``), ``model`` (``image_size``, ``parameters``, ``size`` as text). Optional: ``training`` (a
            stage's part of ``metrics.json``), ``processor`` (``preprocessor_config.json``), ``trained_here`` (whether
            the model was trained on another split of the same collection, ``None`` if not known), ``seed``,
            ``resamples``, ``flow`` (`facts.flow`), ``errors`` (`pictures.confident_errors`), ``label_efficiency``
            (rows of such a study), ``environment`` and ``command`` (functions of this module).

    Returns:
        The two paths.

    Raises:
        UsageError: They cannot be written.
    """
    folder = Path(out)
    with writing_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    about = {**DEFAULTS, **about}
    about["flow"], evaluation = published(about["flow"]), replace(evaluation, figures=published(evaluation.figures))
    cohort = cohort_table(evaluation.images, about["tasks"])
    checklists = filled(checklist_facts(evaluation, about))
    page, record = folder / "report.html", folder / "report.json"
    write_whole(page, _html(evaluation, about, cohort, checklists))
    write_whole(record, _json(evaluation, about, cohort, checklists))
    return page, record


def _json(evaluation: Evaluation, about: Mapping[str, Any], cohort: Rows, checklists: Mapping[str, Rows]) -> str:
    errors = {
        name: [{key: value for key, value in error.items() if key != "picture"} for error in of_task]
        for name, of_task in about["errors"].items()
    }
    content = {
        "checkpoint": about["checkpoint"],
        "collection": about["collection"],
        "split": evaluation.split,
        "model": about["model"],
        "seed": about["seed"],
        "resamples": about["resamples"],
        "warnings": evaluation.warnings,
        "flow": about["flow"],
        "cohort": cohort,
        "tasks": evaluation.figures,
        "confident_errors": errors,
        "label_efficiency": about["label_efficiency"],
        "checklists": checklists,
        "environment": about["environment"],
        "command": about["command"],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _html(evaluation: Evaluation, about: Mapping[str, Any], cohort: Rows, checklists: Mapping[str, Rows]) -> str:
    templates = template_environment(autoescape=True)
    templates.filters |= {"figure": _figure, "interval": _interval, "picture": _picture}
    plots = {
        name: task_plots(scores, evaluation.figures[name], about["seed"]) for name, scores in evaluation.scores.items()
    }
    tables = {name: metrics_table(figures) for name, figures in evaluation.figures.items()}
    study = about["label_efficiency"]
    return templates.get_template("report.html.j2").render(
        about=about,
        evaluation=evaluation,
        cohort=cohort,
        checklists=checklists,
        plots=plots,
        tables=tables,
        efficiency=as_svg(plot_label_efficiency(study)) if study else None,
        part=part_name(evaluation.split),
        facts=FACTS,
        fewest=FEWEST_PATIENTS,
    )


def metrics_table(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return one task's metrics as a table.

    Returns:
        ``columns`` of unit and rule, ``groups`` of unit and number of columns, ``rows`` of name and cells, ``notes``.
    """
    parts: dict[tuple[str, str], Mapping[str, Any]] = {("by image", ""): figures}
    for unit, of_unit in figures.get("units", {}).items():
        for rule in (*([HEAD] if HEAD in of_unit else []), *RULES):
            parts[UNIT_NAMES.get(unit, unit), rule.replace("_", "-")] = of_unit[rule]
    order = {**OF_TWO_CLASSES, **OF_SEVERAL_CLASSES, **OF_PREDICTIONS, "quadratic_kappa": None}
    rows: list[tuple[str, list[Any]]] = []
    notes: dict[str, list[str]] = {}
    for name in (name for name in order if name in figures):
        cells = []
        for (unit, rule), part in parts.items():
            cells.append((part.get(f"{name}_within") or part[name], part[f"{name}_interval"]))
            reason, no_interval = part.get(f"{name}_reason"), part.get(f"{name}_interval_reason")
            where = f"{METRIC_NAMES[name]}, {unit} {rule}".strip()
            if reason is not None:
                notes.setdefault(f"Not defined, because {reason}", []).append(where)
            elif no_interval is not None:
                notes.setdefault(f"No interval, because {no_interval}", []).append(where)
        rows.append((METRIC_NAMES[name], cells))
    groups = list(Counter(unit for unit, _ in parts).items())
    return {"columns": list(parts), "groups": groups, "rows": rows, "notes": notes}


def _figure(value: float | Sequence[float] | None, digits: int = 2) -> str:
    if isinstance(value, Sequence):  # the step of ten counts that it is in
        return "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}".join(f"{end:.{digits}f}" for end in value)
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}"


def _interval(interval: Sequence[float] | None, digits: int = 2) -> str:
    return "" if interval is None else f"{interval[0]:.{digits}f}\N{EN DASH}{interval[1]:.{digits}f}"


def _picture(svg: str) -> str:
    # One picture each, so that identifiers inside one SVG cannot clash with those of another.
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


# What a run was made with, without anything that would name a person or a machine.

_TOKEN = re.compile(r"--([a-z]+[_-])*token")
_PACKAGES = ("mammo-hf", "torch", "transformers", "datasets", "numpy", "scipy", "pydicom")


def environment(device: str) -> dict[str, Any]:
    """Return the packages' versions, the kind of machine, the device of the model, and the day."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "packages": versions,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
        "date": datetime.now(UTC).date().isoformat(),
    }


def command_line(arguments: Sequence[str] | None = None) -> str:
    """Return the command line without tokens, and only the last part of each path, since folders may name a person."""
    given = _without_tokens(sys.argv if arguments is None else arguments)
    return shlex.join(Path(part).name if "/" in part and not part.startswith("-") else part for part in given)


def _without_tokens(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for part in arguments:
        name, mark, _ = part.partition("=")
        if kept and _TOKEN.fullmatch(kept[-1]):
            kept.append("...")
        else:
            kept.append(f"{name}=..." if mark and _TOKEN.fullmatch(name) else part)
    return kept
