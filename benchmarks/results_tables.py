"""Results of the studies, put between the marks of docs/results.md; no figure is typed by hand."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mammo_hf.evaluation.study_tables import markdown_table, saved_labels
from mammo_hf.models.own_figures import main_figures

_PLACE = re.compile(r"(<!-- (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
PLOTTED = ("tissue_head", "phantom_density_head", "phantom_full")


def put_tables(docs: Path, work: Path, places: Mapping[str, Path]) -> None:
    """Fill each ``<!-- name --> ... <!-- end -->`` of results.md from the folder of that result, and copy the plots.

    The text of a result that is not in the folder stays as it is.

    Args:
        docs: Holds results.md and img/.
        work: Folder of the studies.
        places: What stands for a folder in the commands that are shown, and the folder.
    """
    before = filled(docs / "results.md")
    fill(docs / "results.md", lambda name: _section(name, work, places) or before[name] or "Not run yet.\n")
    for name in PLOTTED:
        plot = work / "commands" / f"{name}.label_efficiency.png"
        if plot.is_file():
            shutil.copyfile(plot, docs / "img" / f"results_{name}.png")


def fill(page: Path, text_of: Callable[[str], str]) -> None:
    """Fill each ``<!-- name --> ... <!-- end -->`` of a page with the text of that name."""
    text = page.read_text(encoding="utf-8")
    page.write_text(_PLACE.sub(lambda found: f"{found[1]}{text_of(found[2])}{found[4]}", text), encoding="utf-8")


def filled(page: Path) -> dict[str, str]:
    """Return the texts that are between the marks of a page, by name."""
    return {found[2]: found[3] for found in _PLACE.finditer(page.read_text(encoding="utf-8"))}


def _section(name: str, work: Path, places: Mapping[str, Path]) -> str:
    if name == "in_short":
        path = work / "commands" / "within_patient.sentences.json"
        lines = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        return "".join(f"- {line}\n" for line in lines)
    done = work / "commands" / f"{name}.json"
    if not done.is_file():
        return ""
    about = json.loads(done.read_text(encoding="utf-8"))
    name_of_command, *words = about["words"]
    is_script = name_of_command.endswith(".py")
    program = ("python", f"benchmarks/{name_of_command}") if is_script else ("mammo-hf", name_of_command)
    command = shlex.join([*program, *words])
    for short, folder in sorted(places.items(), key=lambda place: -len(str(place[1]))):
        command = command.replace(str(folder), short)
    text = f"\n```bash\n{_wrapped(command)}\n```\n\n"
    for kept, told in (("summary", _study), ("report", _evaluation), ("metrics", _stage)):
        path = done.with_name(f"{name}.{kept}.json")
        if path.is_file():
            text += told(json.loads(path.read_text(encoding="utf-8")))
    table = done.with_name(f"{name}.table.md")
    if is_script and table.is_file():  # its cells may be of earlier runs, so its time says little
        return text + table.read_text(encoding="utf-8").split("\n- ")[0] + "\n"
    return f"{text}{about['cpu_seconds'] / 60:.1f} minutes of one core.\n\n"


def _wrapped(command: str) -> str:
    """Format a command on lines of at most a hundred characters."""
    lines = [""]
    for word in shlex.split(command):
        word = shlex.quote(word)
        if len(lines[-1]) + len(word) > 100 and word.startswith("--"):
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)


def _study(summary: Mapping[str, Any]) -> str:
    rows, seeds, folds = summary["rows"], summary["seeds"], summary["folds"]
    tested = f"cross-validation in {folds} folds by patient" if folds else "one test split"
    text = (
        f"AUC on test images, mean of {seeds} seeds; {tested}; 95 % by patient in brackets.\n\n{markdown_table(rows)}\n"
    )
    gains = [line for row in rows for of in ("", "unlabelled_") if (line := _gain(row, of))]
    if gains:
        text += f"| | labels | paired difference | from |\n|---|---|---|---|\n{''.join(gains)}\n"
    pretrained = [row for row in rows if not row["baseline"]]
    if not any(row.get("beats_baselines") for row in pretrained):
        text += "No arm beats the best baseline with an interval above 0, at any percentage of the labels.\n\n"
    needed = summary["labels_needed"] if len({row["percentage"] for row in rows}) > 1 else []
    text += "".join(f"- {saved_labels(one)}.\n" for one in needed if one["of"] is not None)
    return f"{text}\n" if needed else text


def _gain(row: Mapping[str, Any], of: str) -> str:
    if row.get(f"{of}gain_interval") is None:
        return ""
    low, high = row[f"{of}gain_interval"]
    figure = f"{row[f'{of}gain']:+.3f} ({low:+.3f} to {high:+.3f})"
    if low > 0 or high < 0:
        figure = f"**{figure}**"
    return f"| {row['arm']} | {row['percentage']:g} % | {figure} | {row[f'{of}reference']} |\n"


def _evaluation(report: Mapping[str, Any]) -> str:
    text = "| | AUC | 95 % by patient |\n|---|---|---|\n"
    for task, figures in report["tasks"].items():
        for unit, part in (("images", figures), ("patients, mean", figures["units"]["patient"]["mean"])):
            reach = part["auroc_interval"]
            if part["auroc"] is not None and reach is not None:
                text += f"| {task}, {unit} | {part['auroc']:.3f} | {reach[0]:.3f} to {reach[1]:.3f} |\n"
    return f"{text}\n"


def _head(figures: Mapping[str, Any]) -> str:
    """Return the test figures of a head over features, next to those of the regressions on the same features."""
    text = f"{figures['train_units']} training units of {figures['train_patients']} patients.\n\n"
    text += "| | tested | AUC | the head's minus this |\n|---|---|---|---|\n"
    for task, found in figures["test"].items():
        own, baselines = main_figures(found), figures["baselines"][task]
        tested = next(iter(baselines.values()))["n_units"]
        auc = _interval(own["auroc"], own["auroc_interval"], ".3f")
        text += f"| {task} by {found['level']}, head | {tested} | {auc} | |\n"
        for name, one in baselines.items():
            texts = [_interval(one["auroc"], one["interval"], ".3f")]
            texts.append(_interval(one["difference"], one["difference_interval"], "+.3f"))
            text += f"| {task} by {found['level']}, {name} | {one['n_units']} | {' | '.join(texts)} |\n"
    return f"{text}\n"


def _interval(value: float | None, reach: Any, form: str) -> str:
    return (
        "not defined" if value is None or reach is None else f"{value:{form}} ({reach[0]:{form}} to {reach[1]:{form}})"
    )


def _stage(metrics: Mapping[str, Any]) -> str:
    (figures,) = metrics.values()
    if "baselines" in figures:
        return _head(figures)
    inside = figures.get("hidden_inside_the_breast")
    if inside is None:
        return f"{figures['train_images']} training images, {figures['updates']} updates.\n"
    return (
        f"{figures['train_images']} training images; on {figures['validation_images']} validation images masked L1 "
        f"{figures['validation_loss']:.3f}, and inside the breast PSNR {inside['psnr']:.1f} dB, "
        f"SSIM {inside['ssim']:.3f}.\n"
    )
