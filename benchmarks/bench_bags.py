"""Heads over bags of features: the time that a training takes, and whether it is worth it.

python benchmarks/bench_bags.py speed                          # a tenth of 10,000 bags, 768 channels
python benchmarks/bench_bags.py speed --bags 10000 --epochs 10 # all of them: 1 GB of features in a temporary folder
python benchmarks/bench_bags.py quality FEATURES --task tissue --percentages 10 100 --seeds 5
python benchmarks/bench_bags.py phantoms --work WORK --encoder efficientnet-lite0

``speed`` trains on drawn features, one epoch, and prints the seconds of CPU time of what happens once (the regressions
that the head starts from, and their penalty) and of an epoch, and what 10,000 bags would take at the default number of
epochs if all of it grew with their number, which the choice of the penalty does not.

``quality`` trains a head on stores that mammo-hf embed wrote, at each percentage of the labels and each seed of the
split, and prints the test AUC of the head, of the logistic regression on the same mean and maximum features, and of
their difference: the mean over the seeds, and their range in brackets.

``phantoms`` draws phantoms of 2048 x 1024, embeds those that have a label, whole and in tiles, and prints how long that
took and the ``quality`` of their features.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from recipe import LESIONS
from transformers import TrainerCallback

from mammo_hf.data.collection import Collection
from mammo_hf.data.loading import load
from mammo_hf.data.training_data import labelled_patients, usable_tasks
from mammo_hf.encoders.embed import embed
from mammo_hf.encoders.store import features_about
from mammo_hf.encoders.units import features_of
from mammo_hf.phantom import write_phantom
from mammo_hf.training.bags import DEFAULTS, BagFit, with_levels
from mammo_hf.training.classification import ClassificationConfig

TASK = [{"name": "pathology", "labels": ["benign", "malignant"], "level": "breast"}]


def settings(folder: str, **options: Any) -> ClassificationConfig:
    """Return the configuration of a run that saves no more than Trainer must."""
    quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "log_level": "error", "save_total_limit": 1}
    return ClassificationConfig(folder, **{**DEFAULTS, **quiet, **options})


def drawn(folder: Path, bags: int, tiles: int, channels: int) -> datasets.Dataset:
    """Write a store of one image per bag, and return its rows; every fourth bag is malignant in its first tile."""

    def rows() -> Any:
        generator = np.random.default_rng(0)
        for bag in range(bags):
            vectors = generator.standard_normal((1 + tiles, 2 * channels), dtype=np.float32)
            vectors[:2, :8] += bag % 4 == 0
            yield {
                **{"patient": f"{bag}", "exam": None, "laterality": "L", "view": "CC", "lesions": None},
                **{"features": vectors.astype(np.float16).tobytes(), "labels": [int(bag % 4 == 0)]},
                **{"scales": np.array([1] + [2] * tiles, np.uint8).tobytes()},
                "split": "train" if bag % 10 else ("validation", "test")[bag // 10 % 2],
            }

    names = ("patient", "exam", "laterality", "view", "split")
    kinds = {name: datasets.Value("string") for name in names}
    kinds |= {name: datasets.Value("binary") for name in ("features", "scales", "lesions")}
    features = datasets.Features({**kinds, "labels": datasets.List(datasets.Value("int64"))})
    found: datasets.Dataset = datasets.Dataset.from_generator(rows, features=features, cache_dir=str(folder))
    return found


class Clock(TrainerCallback):
    """The time at which Trainer's loop began and ended."""

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.began = time.process_time()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.ended = time.process_time()


def speed(bags: int, tiles: int, channels: int, epochs: int) -> None:
    """Print the seconds of a training, and those of 10,000 bags."""
    with tempfile.TemporaryDirectory() as folder:
        rows = drawn(Path(folder), bags, tiles, channels)
        patients = tuple(rows["patient"])
        clock, start = Clock(), time.process_time()
        fit = BagFit(rows, TASK, patients, _about(channels), settings(folder + "/out", num_train_epochs=epochs))
        fit.train([clock], None)
        whole = time.process_time() - start
    epoch = (clock.ended - clock.began) / epochs
    once, scale, planned = whole - epoch * epochs, 10_000 / bags, DEFAULTS["num_train_epochs"]
    print(f"{bags:,} bags of 1 + {tiles} vectors of {2 * channels:,}: once {once:.1f} s, an epoch {epoch:.1f} s")
    total, each = scale * (once + planned * epoch), bags / epoch
    print(f"10,000 such bags, {planned} epochs: about {total:.0f} s of CPU time ({each:,.0f} bags a second)")


def _about(channels: int) -> dict[str, Any]:
    return {"encoder": {"name": "drawn", "channels": channels, "weights": ""}}


def quality(folder: str, task: str | None, percentages: list[float], seeds: int, options: dict[str, Any]) -> None:
    """Print the test AUC of head and regressions on one store."""
    collection, about = load(folder), features_about(folder)
    for percentage in percentages:
        found: dict[str, list[tuple[float, float]]] = {}
        kept = 0
        for seed in range(seeds):
            split = collection.split(0.2, seed, task, test_fraction=0.3)
            tasks = with_levels(usable_tasks(split, [task] if task else None)[:1], options.get("level", ()), split)
            patients = labelled_patients(split, tasks[0]["name"], percentage=percentage, seed=seed)
            with tempfile.TemporaryDirectory() as out:
                fit = BagFit(features_of(split, tasks), tasks, patients, about, settings(out, seed=seed, **options))
                fit.train([], None)
            kept += fit.figures["start_is_kept"]
            for name, one in fit.baselines()[tasks[0]["name"]].items():
                found.setdefault(name, []).append((one["auroc"], one["difference"]))
        for name, values in found.items():
            area, difference = np.array(values, dtype=float).T
            low, high = difference.min(), difference.max()
            print(
                f"{Path(folder).name}, {percentage:g} % of labels, {name}: {area.mean():.3f}; the head "
                f"{(area + difference).mean():.3f}, difference {difference.mean():+.3f} ({low:+.3f} to {high:+.3f}); "
                f"start kept {kept} of {seeds}"
            )


def phantoms(work: Path, encoder: str, patients: int, seeds: int, options: dict[str, Any]) -> None:
    """Draw phantoms of the demonstration's kind at the size of a film, embed the labelled ones, and print the AUCs."""
    if not (work / "phantoms").is_dir():
        write_phantom(work / "phantoms", patients=patients, size=(2048, 1024), num_workers=1, progress=False, **LESIONS)
    collection = load(work / "phantoms")
    # each seed divides all patients again: their own test split has a quarter of them
    rows = [row | {"split": "train"} for row in collection if row["pathology"] is not None]
    labelled = Collection.from_rows(rows, tasks=collection.tasks, salt_name=collection.salt_name)
    features = work / f"features_{Path(encoder).name}"
    print(f"{patients} patients, {len(labelled)} labelled images: {embed(labelled, features, encoder=encoder).run}")
    print(f"{features_about(features)['vectors'] / len(labelled):.1f} views per image", flush=True)
    started = time.process_time()
    quality(str(features), "pathology", [100], seeds, options)
    print(f"{time.process_time() - started:.0f} s of CPU time for {seeds} trainings")


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fast = commands.add_parser("speed")
    fast.add_argument("--bags", type=int, default=1000)
    fast.add_argument("--tiles", type=int, default=30)
    fast.add_argument("--channels", type=int, default=768)
    fast.add_argument("--epochs", type=int, default=1)
    good = commands.add_parser("quality")
    good.add_argument("features", nargs="+")
    good.add_argument("--task")
    good.add_argument("--level", nargs="*", default=[])
    good.add_argument("--percentages", type=float, nargs="*", default=[100])
    good.add_argument("--seeds", type=int, default=5)
    good.add_argument("--learning_rate", type=float, default=DEFAULTS["learning_rate"])
    good.add_argument("--epochs", type=int, default=DEFAULTS["num_train_epochs"])
    drawn_films = commands.add_parser("phantoms")
    drawn_films.add_argument("--work", type=Path, required=True)
    drawn_films.add_argument("--encoder", required=True)
    drawn_films.add_argument("--patients", type=int, default=40)
    drawn_films.add_argument("--level", nargs="*", default=[])
    drawn_films.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    if given.command == "phantoms":
        phantoms(given.work, given.encoder, given.patients, given.seeds, {"level": given.level})
        return
    if given.command == "speed":
        speed(given.bags, given.tiles, given.channels, given.epochs)
        return
    options = {"level": given.level, "learning_rate": given.learning_rate, "num_train_epochs": given.epochs}
    for folder in given.features:
        quality(folder, given.task, given.percentages, given.seeds, options)


if __name__ == "__main__":
    main()
