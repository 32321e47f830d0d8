#!/usr/bin/env python
"""Recipes of both stages compared on phantoms: the experiment that the defaults of training are chosen by.

    python benchmarks/recipe.py --output_dir recipe
    python benchmarks/recipe.py --output_dir recipe --only finetune_nano_5e-4 --dry_run

Stage 1 is judged by the masked L1 on validation images and by the AUC that stage 2 reaches from it, stage 2 by the AUC
on test patients, each recipe with several seeds, two sizes of the training set, all labels and a quarter of them; the
test patients are the same everywhere. Differences from the old
recipe are paired, with intervals by bootstrap over patients. Every cell of the grid is a file, so that an interrupted
run resumes; table.md and curves.png are written from the cells that are there. With --films the recipes of stage 1 also
train on real films, which are asked only whether the training diverges and what masked L1 it reaches.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from results_tables import fill
from scipy.special import softmax
from transformers import TrainerCallback

import mammo_hf
from mammo_hf.cli.running import quiet
from mammo_hf.data.splits import in_hash_order, label_subset
from mammo_hf.data.training_data import open_collection, prepared_images, usable_tasks
from mammo_hf.files import write_record, write_whole
from mammo_hf.metrics.classification import auroc
from mammo_hf.metrics.intervals import bca, resampled, rows_of, without_each
from mammo_hf.phantom import write_phantom
from mammo_hf.plotting import COLOURS, dress, new_figure, save_figure
from mammo_hf.processing.image_processing_mammo import MammoImageProcessor
from mammo_hf.training.classification import ClassificationConfig, fit_classifier
from mammo_hf.training.scoring import predicted_logits

SIZE, TASK = (224, 112), "pathology"
# the demonstration's phantoms, scripts/demo.py
LESIONS: dict[str, Any] = {"mass_fraction": 1.0, "lesion_scale": 2.5, "lesion_contrast": 1.1, "lesion_halo": 1.4}

COSINE = {"lr_scheduler_type": "cosine", "warmup_steps": 0.1, "weight_decay": 0.05, "load_best_model_at_end": True}
# what Trainer does of itself, as the commands did: no warm-up, no weight decay, no choice of the epoch
LINEAR = {"lr_scheduler_type": "linear", "warmup_steps": 0, "weight_decay": 0.0, "load_best_model_at_end": False}
FINETUNE: dict[str, dict[str, Any]] = {
    "old": {"learning_rate": 5e-5, "num_train_epochs": 3, **LINEAR},
    "5e-5 linear": {"learning_rate": 5e-5, "num_train_epochs": 20, **LINEAR},
    "2e-4": {"learning_rate": 2e-4, "num_train_epochs": 20, **COSINE},
    "5e-4": {"learning_rate": 5e-4, "num_train_epochs": 20, **COSINE},
    "1e-3": {"learning_rate": 1e-3, "num_train_epochs": 20, **COSINE},
    "2e-3": {"learning_rate": 2e-3, "num_train_epochs": 20, **COSINE},
}
PRETRAIN: dict[str, dict[str, Any]] = {
    "old": {"learning_rate": 5e-5, "num_train_epochs": 3, "per_device_train_batch_size": 8, **LINEAR},
    "5e-4": {"learning_rate": 5e-4, "num_train_epochs": 10, **COSINE},
    "1e-3": {"learning_rate": 1e-3, "num_train_epochs": 10, **COSINE},
}
REFERENCE = "5e-4"  # the recipe of the other stage that a stage's recipes are compared with
SECONDS_PER_UPDATE = {"pretrain": 0.5, "finetune": 0.25}  # nano on one core, until a cell has been timed
SLOWER = {"nano": 1, "tiny": 6}  # times an update of the nano model, likewise


class Cell(NamedTuple):
    """One training of the grid.

    Attributes:
        stage: Either "pretrain", "finetune" or "films".
        recipe: Name of the recipe of that stage.
        start: Name of the recipe of stage 1 that stage 2 starts from; empty for stage 1.
        patients: Number of training patients.
        percentage: Percentage of the labels; 0 for stage 1.
        seed: Random seed of the training and of the label subset.
        model: Size of the model.
    """

    stage: str
    recipe: str
    start: str
    patients: int
    percentage: float
    seed: int
    model: str

    @property
    def key(self) -> str:
        """Name of the cell's file, without suffix."""
        parts = [
            self.stage,
            self.model,
            self.recipe,
            *([f"from {self.start}", f"{self.percentage:g}pc"] if self.start else []),
        ]
        return "_".join([*parts, f"{self.patients}patients", f"seed{self.seed}"]).replace(" ", "-")


def grid(args: argparse.Namespace) -> Iterator[Cell]:
    """List the cells seed by seed, those of stage 1 first: stage 2 starts from them."""
    for seed, model, patients in product(range(args.seeds), args.models, args.train_patients):
        yield from (Cell("pretrain", name, "", patients, 0, seed, model) for name in PRETRAIN)
        for percentage in args.percentages:
            yield from (Cell("finetune", name, REFERENCE, patients, percentage, seed, model) for name in FINETUNE)
            others = [name for name in PRETRAIN if name != REFERENCE]
            yield from (Cell("finetune", REFERENCE, name, patients, percentage, seed, model) for name in others)
    if args.films:
        yield from (Cell("films", name, "", 0, 0, 0, args.models[0]) for name in PRETRAIN)


class Curve(TrainerCallback):
    """One figure of every evaluation against the updates made until then.

    Args:
        name: Name of the figure in Trainer's metrics.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.points: list[tuple[int, float]] = []

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **others: Any) -> None:
        """Record the figure, if it is defined."""
        value = (metrics or {}).get(self.name)
        if value is not None and math.isfinite(value):
            self.points.append((state.global_step, value))


class Bench:
    """Phantoms, prepared once, and the training of any cell on them.

    Args:
        args: Arguments of the command.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out = args, Path(args.output_dir)
        if not (self.out / "phantom").is_dir():
            size = (2 * SIZE[0], 2 * SIZE[1])
            write_phantom(self.out / "phantom", patients=args.patients, seed=0, size=size, num_workers=1, **LESIONS)
        # One split for all seeds: the trainings and the label subsets vary
        whole = open_collection(self.out / "phantom", test_fraction=0.4, validation_fraction=0.15, seed=0)
        self.tables = {patients: _with_fewer(whole, patients) for patients in args.train_patients}
        self.tasks = usable_tasks(whole, (TASK,))
        self.processor = MammoImageProcessor(size=SIZE)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train a cell and return its figures."""
        started = time.monotonic()
        figures = self._finetune(cell) if cell.stage == "finetune" else self._pretrain(cell)
        return cell._asdict() | figures | {"seconds": time.monotonic() - started}

    def _options(self, cell: Cell, recipes: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Return every argument of a training: the recipe, evaluated at each epoch to draw its curve."""
        options = {**recipes[cell.recipe], "seed": cell.seed, "num_workers": 0, "disable_tqdm": True}
        options |= {"eval_strategy": "epoch", "save_total_limit": 1, "overwrite_output_dir": True}
        options["save_strategy"] = "epoch" if options["load_best_model_at_end"] else "no"
        if self.args.max_steps:
            options |= {"max_steps": self.args.max_steps}
        return options

    def _prepared(self, cell: Cell) -> Path:
        return self.out / f"prepared_{cell.patients or 'films'}"

    def _pretrain(self, cell: Cell) -> dict[str, Any]:
        films = cell.stage == "films"
        curve, folder = Curve("eval_loss"), self.out / cell.stage / cell.key
        trained = mammo_hf.pretrain(
            self.args.films if films else self.tables[cell.patients],
            folder,
            model=cell.model,
            image_size=list(SIZE),
            prepared_dir=str(self._prepared(cell)),
            callbacks=[curve],
            **self._options(cell, PRETRAIN),
        )
        return {"masked_l1": trained.metrics["validation_loss"], "updates": curve.points[-1][0], "curve": curve.points}

    def _finetune(self, cell: Cell) -> dict[str, Any]:
        curve, folder, table = Curve(f"eval_{TASK}_auroc"), self.out / "trainer" / cell.key, self.tables[cell.patients]
        prepared = prepared_images(table, self.processor, self._prepared(cell), tasks=self.tasks, num_workers=0)
        start = cell._replace(stage="pretrain", recipe=cell.start, start="", percentage=0).key
        fitted = fit_classifier(
            prepared,
            self.processor,
            ClassificationConfig(str(folder), **self._options(cell, FINETUNE)),
            model=str(self.out / "pretrain" / start),
            tasks=self.tasks,
            patients=label_subset(table, percentage=cell.percentage, seed=cell.seed, task=TASK),
            callbacks=[curve],
        )
        shutil.rmtree(folder)  # the best and the last weights: only the scores are needed
        test = fitted.images["test"].prepared
        scores = softmax(predicted_logits(fitted.trainer, fitted.images["test"]), axis=-1)[:, 1]
        return {
            "images": list(test["image_id"]),
            "patients_of_images": list(test["patient"]),
            "labels": [labels[0] for labels in test["labels"]],
            "scores": scores.tolist(),
            "updates": fitted.figures["updates"],
            "curve": curve.points,
        }


def _with_fewer(table: mammo_hf.Collection, patients: int) -> mammo_hf.Collection:
    """Keep so many training patients, a fifth as many validation patients, and all test patients."""
    kept: set[str] = set()
    for split, number in (("train", patients), ("validation", patients // 5)):
        own = {row["patient"] for row in table if row["split"] == split}
        kept |= set(in_hash_order(own, purpose="recipe", seed=0)[:number])
    return table.where(lambda row: row["split"] == "test" or row["patient"] in kept)


# The tables, from the cells that are there.


class Tables:
    """Figures of the finished cells of a folder.

    Args:
        folder: Folder of the cells' files.
        args: Arguments of the command.
    """

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self.args = args
        self.cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
        self.estimate = cache(self._estimate)

    def text(self) -> str:
        """Return all tables as Markdown."""
        parts = ["## Stage 2\n", self._recipes(FINETUNE, lambda name: (name, REFERENCE))]
        parts += ["\n## Stage 1\n", self._recipes(PRETRAIN, lambda name: (REFERENCE, name)), "", self._masked_l1()]
        parts += ["\n## Updates\n", "Mean AUC of validation images after so many updates of stage 2:\n"]
        return "\n".join([*parts, self._curves()]) + "\n"

    def _of(
        self, stage: str, recipe: str, model: str, *, start: str = "", patients: int = 0, percentage: float = 0
    ) -> list[dict[str, Any]]:
        wanted = {"stage": stage, "recipe": recipe, "model": model}
        wanted |= {"start": start, "patients": patients, "percentage": percentage}
        found = [cell for cell in self.cells if wanted.items() <= cell.items()]
        return sorted(found, key=lambda cell: cell["seed"])

    def _sets(self) -> list[tuple[str, int, float]]:
        """List the models and training sets that any stage 2 was trained with: model, patients, percentage."""
        trained = {(cell["model"], cell["patients"], cell["percentage"]) for cell in self.cells}
        return [
            one for one in product(self.args.models, self.args.train_patients, self.args.percentages) if one in trained
        ]

    def _estimate(
        self, recipe: str, start: str, model: str, patients: int, percentage: float
    ) -> tuple[float, np.ndarray, np.ndarray] | None:
        """Return the mean AUC over the seeds, on each resample of the patients, and with each patient left out."""
        own = self._of("finetune", recipe, model, start=start, patients=patients, percentage=percentage)
        if len(own) < self.args.seeds:
            return None
        rows, parts = {"": rows_of(auroc)}, []
        for cell in own:
            labels, scores, groups = (np.array(cell[name]) for name in ("labels", "scores", "patients_of_images"))
            draws = resampled(rows, labels, scores, groups=groups, resamples=2000)[""]
            parts.append((auroc(labels, scores), draws, without_each(rows, labels, scores, groups=groups)[""]))
        values, draws, left_out = zip(*parts, strict=True)
        return float(np.mean(values)), np.mean(draws, axis=0), np.mean(left_out, axis=0)

    def _recipes(self, recipes: dict[str, Any], place: Callable[[str], tuple[str, str]]) -> str:
        """Return a table of AUCs and paired differences from the old recipe."""
        lines = ["| model | patients | labels | recipe | updates | AUC | over the old recipe |", "|---" * 7 + "|"]
        for (model, patients, percentage), name in product(self._sets(), recipes):
            old, own = (self.estimate(*place(each), model, patients, percentage) for each in ("old", name))
            recipe, start = place(name)
            cells = self._of("finetune", recipe, model, start=start, patients=patients, percentage=percentage)
            if not cells:
                continue
            updates, better = f"{np.mean([cell['updates'] for cell in cells]):.0f}", ""
            if own is not None and old is not None and name != "old":
                better = _shown((own[0] - old[0], own[1] - old[1], own[2] - old[2]), "+.3f")
            lines.append(f"| {model} | {patients} | {percentage:g} % | {name} | {updates} | {_shown(own)} | {better} |")
        return "\n".join(lines)

    def _masked_l1(self) -> str:
        """Return a table of the masked L1 of stage 1, on phantoms and on real films."""
        lines = ["| model | images | recipe | updates | masked L1 of each seed |", "|---" * 5 + "|"]
        named = [(f"{patients} phantom patients", "pretrain", patients) for patients in self.args.train_patients]
        sets = product(self.args.models, [*named, ("films", "films", 0)], PRETRAIN)
        for model, (images, stage, patients), name in sets:
            own = self._of(stage, name, model, patients=patients)
            if own:
                updates = f"{np.mean([cell['updates'] for cell in own]):.0f}"
                values = ", ".join(f"{cell['masked_l1']:.4f}" for cell in own)
                lines.append(f"| {model} | {images} | {name} | {updates} | {values} |")
        return "\n".join(lines)

    def curves(self) -> Iterator[tuple[str, tuple[str, int, float], np.ndarray, np.ndarray]]:
        """List recipe, model and set, updates and mean AUC of the curves of stage 2 on validation images."""
        for (model, patients, percentage), name in product(self._sets(), FINETUNE):
            found = self._of("finetune", name, model, start=REFERENCE, patients=patients, percentage=percentage)
            own = [cell["curve"] for cell in found if cell["curve"]]
            if own:
                steps = np.array([step for step, _ in own[0]])
                values = [np.interp(steps, *np.transpose(points)) for points in own]
                yield name, (model, patients, percentage), steps, np.mean(values, axis=0)

    def _curves(self) -> str:
        """Return the curves as a table, from which a warning threshold of updates can be read."""
        marks = (50, 100, 150, 200, 300, 400, 500, 600)
        lines = ["| model | patients | labels | recipe | " + " | ".join(map(str, marks)) + " |"]
        lines.append("|---" * (4 + len(marks)) + "|")
        for name, (model, patients, percentage), steps, values in self.curves():
            at = [f"{np.interp(mark, steps, values):.3f}" if steps[0] <= mark <= steps[-1] else "" for mark in marks]
            lines.append("| " + " | ".join([model, str(patients), f"{percentage:g} %", name, *at]) + " |")
        return "\n".join(lines)

    def plot(self, path: Path) -> None:
        """Draw the curves of stage 2."""
        sets = self._sets()
        figure, panels = new_figure(4.2 * len(sets), 4.2, len(sets))
        for axes, one in zip(panels, sets, strict=True):
            model, patients, percentage = one
            title = f"{model}, {patients} patients, {percentage:g} % of the labels"
            dress(axes, "updates", "AUC on validation images", title)
            for number, name in enumerate(FINETUNE):
                for _, _, steps, values in (curve for curve in self.curves() if curve[:2] == (name, one)):
                    axes.plot(steps, values, color=COLOURS[number % len(COLOURS)], label=name)
            axes.axhline(0.5, color="#888888", linewidth=0.8, linestyle=":")
            axes.set_ylim(0.3, 1.0)
        panels[0].legend(fontsize=8, frameon=False)
        save_figure(figure, path)

    def seconds(self, cell: Cell) -> float:
        """Estimate the seconds of a cell from the finished ones of its stage and recipe, or else of its stage."""
        stage = "pretrain" if cell.stage == "films" else cell.stage
        alike = ("stage", "recipe", "model", "patients", "percentage")
        same = [one for one in self.cells if all(one[name] == getattr(cell, name) for name in alike)]
        if same:
            return float(np.mean([one["seconds"] for one in same]))
        recipe = {"per_device_train_batch_size": 8 if stage == "finetune" else 16}
        recipe |= (FINETUNE if stage == "finetune" else PRETRAIN)[cell.recipe]
        # Two of the four images of each patient have labels
        images = (cell.patients or 120) * (4 if stage == "pretrain" else 2 * cell.percentage / 100)
        updates = math.ceil(images / recipe["per_device_train_batch_size"]) * recipe["num_train_epochs"]
        timed = [
            one["seconds"] / one["updates"] for one in self.cells if (one["stage"], one["model"]) == (stage, cell.model)
        ]
        each = float(np.mean(timed)) if timed else SECONDS_PER_UPDATE[stage] * SLOWER.get(cell.model, 20)
        return (self.args.max_steps or updates) * each


def _shown(estimate: tuple[float, np.ndarray, np.ndarray] | None, form: str = ".3f") -> str:
    if estimate is None:
        return ""
    value, draws, left_out = estimate
    low, high = bca(draws, value, left_out, len(left_out))
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def main() -> None:
    """Run the cells that are not there yet, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output_dir", default="recipe", help="folder of phantoms, cells and tables")
    parser.add_argument("--patients", type=int, default=240, help="number of phantom patients (default %(default)s)")
    parser.add_argument("--models", nargs="+", default=["nano"], help="sizes of the model (default: nano)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default %(default)s)")
    parser.add_argument("--percentages", type=float, nargs="+", default=[100, 25], help="percentages of the labels")
    parser.add_argument("--train_patients", type=int, nargs="+", default=[120, 40], help="sizes of the training set")
    parser.add_argument("--films", help="collection of real films: stage 1 is tried on them too")
    parser.add_argument("--only", nargs="+", help="beginnings of the names of the cells to run (default: all)")
    parser.add_argument("--max_steps", type=int, help="updates of every training, to try the script")
    parser.add_argument("--write", type=Path, help="page to put the tables into, between its two marks")
    parser.add_argument("--dry_run", action="store_true", help="list the cells and estimate their time, and stop")
    args = parser.parse_args()
    out, logger = Path(args.output_dir), logging.getLogger("mammo_hf")
    folder = out / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [cell for cell in grid(args) if not args.only or cell.key.startswith(tuple(args.only))]
    left = [cell for cell in chosen if not (folder / f"{cell.key}.json").is_file()]
    tables = Tables(folder, args)
    seconds = {cell: tables.seconds(cell) for cell in left}
    print(f"{len(chosen)} cells, {len(left)} of them left; about {sum(seconds.values()) / 3600:.1f} hours")
    if args.dry_run:
        print("\n".join(f"{cell.key}: {seconds[cell] / 60:.1f} minutes" for cell in left))
        return
    logger.setLevel(logging.ERROR)
    quiet()
    bench = Bench(args) if left else None
    for number, cell in enumerate(left, 1):
        print(f"{number} of {len(left)}: {cell.key}", flush=True)
        assert bench is not None
        write_record(bench.run(cell), folder / f"{cell.key}.json")
    tables = Tables(folder, args)
    tables.plot(out / "curves.png")
    write_whole(out / "table.md", tables.text())
    print(tables.text())
    if args.write:
        fill(args.write, lambda _: tables.text())


if __name__ == "__main__":
    main()
