"""The published results: runs every command, and writes its table and plot into docs/results.md.

python benchmarks/results.py --work results --mini_mias mini-mias --ddsm ddsm-299 --ddsm_films ddsm-films \
    --cdd_cesm cdd-cesm
python benchmarks/results.py ... --only tissue_head tables      # a part; what is there already is not run again
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from results_collections import write_exams, write_tables
from results_tables import put_tables

SIZE = ("--image_size", 224, 112)
NANO = (*SIZE, "--model", "nano")
# as little as two cores can do; a GPU's grid is --model small --image_size 896 448, more seeds, and 3,000 updates
QUIET = (
    *("--num_workers", 0, "--dataloader_pin_memory", "false"),
    # the schedule that the published figures were made with
    *("--lr_scheduler_type", "linear", "--warmup_steps", 0, "--weight_decay", 0),
    *("--report_to", "none", "--disable_tqdm", "true", "--seed", 0),
)
MIM = (
    *("--mask_ratio", 0.75, "--mask_within", "breast", "--per_device_train_batch_size", 16, "--learning_rate", 1e-3),
    *("--eval_strategy", "steps", "--eval_steps", 300, "--logging_steps", 50, "--save_strategy", "no", *QUIET),
    *("--load_best_model_at_end", "false"),
)
# what within_patient.py compares: half of the breast hidden, the package's own schedule
HALF = (
    *("--mask_ratio", 0.5, "--mask_within", "breast", "--per_device_train_batch_size", 32, "--learning_rate", 1e-3),
    *("--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"),
    *("--num_workers", 0, "--dataloader_pin_memory", "false", "--report_to", "none", "--seed", 0),
)
WITHIN = (
    *("scanner and file format", "image statistics", "image statistics, boosted", "random", "teacher"),
    # what is done about tone
    *("image statistics, ranks equalised", "image statistics, ranks equalised, boosted"),
    *("image statistics, tone curves, boosted", "teacher, ranks equalised", "teacher, tone curves"),
)
TUNED = ("masked_500, last stage", "masked_500, last stage, pairs")
# the demonstration's phantoms, scripts/demo.py
PHANTOM = (
    *("--patients", 240, "--image_size", 448, 224, "--mass_fraction", 1, "--lesion_scale", 2.5),
    *("--lesion_contrast", 1.1, "--lesion_halo", 1.4, "--num_workers", 1),
)
FROZEN = ("--tune", "head", "--pool", "mean")
TRAINED = ("--seeds", 3, "--batch_size", 8, "--learning_rate", 2e-3)
SHARES, ENDS = ("--percentages", 10, 25, 50, 100), ("--percentages", 10, 100)


def study(dataset: str, task: str, init: str, *more: Any) -> tuple[Any, ...]:
    """Return a label-efficiency command without its output folder."""
    return ("label-efficiency", "--dataset", dataset, "--task", task, "--init", "scratch", init, *NANO, *more)


def teacher(dataset: str, init: str, tune: str, updates: int, out: str) -> tuple[Any, ...]:
    """Return the command of a mean teacher and of a tenth of the labels alone."""
    asked = ("label-efficiency", "--dataset", dataset, "--init", init, *NANO, *TRAINED, "--lesion_loss", 4)
    few = ("--percentages", 10, "--updates", updates, "--output_dir", out)
    return (*asked, "--tune", tune, "--semi_supervised", "none", "mean_teacher", *few)


def within_commands(work: Path, ddsm_films: Path) -> dict[str, tuple[Any, ...]]:
    """From a result's name to the command that gives it, of the comparison within patients."""
    mim = ("pretrain", *SIZE, *HALF, "--test_fraction", 0.3, "--validation_fraction", 0.05)
    mim += ("--dataset", f"{work}/films", "--model")
    taught = ("--teacher", "efficientnet-lite0", "--max_steps")
    encoders = ("--encoders", f"{work}/masked_500", f"{work}/taught_500")
    end = ("--work", f"{work}/within")
    within = ("within_patient.py", "--ddsm", ddsm_films, "--folds", 3, "--percentages")
    whole = (*within, 1, 5, *SHARES[1:], "--seeds", 2, "--only", *WITHIN, *encoders)
    few = (*within, 100, "--only", *WITHIN[:4])
    return {
        "films": ("prepare", f"ddsm:{ddsm_films}", *SIZE),
        "masked_500": (*mim, "nano", "--max_steps", 500),
        "taught_500": (*mim, "nano", *taught, 500),
        "taught_2000": (*mim, f"{work}/masked_500", *taught, 2000),
        "within_patient": (*whole, *end),
        "within_patient_longer": (*few, "--seeds", 3, *encoders, f"{work}/taught_2000", *end),
        "within_patient_tuned": (*few, "--seeds", 1, "--updates", 200, *encoders, "--tuned", *TUNED, *end),
    }


def exam_commands(work: Path, ddsm_films: Path) -> dict[str, tuple[Any, ...]]:
    """From a result's name to the command that gives it, of heads over the features of a frozen encoder."""
    embed = ("--encoder", "efficientnet-lite0", "--tiles", "whole", "--num_workers", 1)
    exams = f"{work}/tables/exams"
    few = ("--dataloader_pin_memory", "false", "--report_to", "none", "--disable_tqdm", "true", "--seed", 0)
    return {
        "exam_features": ("embed", f"ddsm:{ddsm_films}", *embed),
        "exam_head": ("finetune", "--dataset", f"{work}/exam_features", "--tasks", "cancer", "--level", "exam", *few),
        "exam_scores": ("predict", f"{work}/exam_head", f"{exams}/films.txt", "--overrides", f"{exams}/exams.csv",
                        "--num_workers", 1, "--output", f"{work}/exam_scores.csv"),
        "external_features": ("embed", f"{work}/tables/breasts/breasts.toml", *embed),
        "external_head": ("finetune", "--dataset", f"{work}/external_features", "--tasks", "pathology", *few),
    }  # fmt: skip


def commands(work: Path, mini_mias: Path, ddsm: Path, ddsm_films: Path) -> dict[str, tuple[Any, ...]]:
    """From a result's name to the command that gives it, in the order in which they are run."""
    films, drawn, phantom = f"{work}/ddsm_mim", f"{work}/phantom_mim", f"{work}/phantom"
    mias, abnormal = f"mini-mias:{mini_mias}", f"{work}/tables/abnormal/abnormal.toml"
    dense, breasts = f"{work}/tables/dense/dense.toml", f"{work}/tables/breasts/breasts.toml"
    few, many = ("--percentages", 10, 25, 100, "--updates", 300), ("--percentages", 10, 25, 100, "--updates", 400)
    # one folder for two commands: an arm that both name is trained once
    last_folder, full_folder = f"{work}/phantom_trained", f"{work}/phantom_full"
    last = ("--tune", "last_stage", "--max_steps", 300, "--learning_rate", 1e-3, "--per_device_train_batch_size", 8)
    last += ("--eval_strategy", "steps", "--eval_steps", 100, "--save_strategy", "steps", "--save_steps", 100)
    last += ("--load_best_model_at_end", "true", "--save_total_limit", 1, *QUIET)
    return {
        **within_commands(work, ddsm_films),
        **exam_commands(work, ddsm_films),
        "ddsm_mim": ("pretrain", "--dataset", f"ddsm:{ddsm}", "--test_fraction", 0.3, "--validation_fraction", 0.05,
                     *NANO, *MIM, "--max_steps", 1200),
        "tissue_head": study(mias, "tissue", films, *FROZEN, "all_stages", *SHARES, "--seeds", 3, "--folds", 5),
        "phantom": ("phantom", *PHANTOM),
        "phantom_mim": ("pretrain", "--dataset", phantom, *NANO, *MIM, "--max_steps", 400),
        "phantom_density_head": study(phantom, "density", drawn, *FROZEN, *SHARES, "--seeds", 3),
        "ddsm_head": study(f"ddsm:{ddsm}", "pathology", films, *FROZEN, *SHARES, "--seeds", 3,
                           "--split_file", f"{films}/split.json"),
        "external_dense": study(dense, "dense", films, *FROZEN, *ENDS, "--seeds", 3),
        "external_pathology": study(breasts, "pathology", films, *FROZEN, *ENDS, "--seeds", 3),
        "abnormal_head": study(abnormal, "abnormal", films, *FROZEN, *ENDS, "--seeds", 3, "--folds", 5),
        "phantom_pathology_head": study(phantom, "pathology", drawn, *FROZEN, *SHARES, "--seeds", 3),
        "phantom_last_stage": study(phantom, "pathology", drawn, *TRAINED, "--lesion_loss", 0, 4, "--tune",
                                    "last_stage", *few, "--output_dir", last_folder),
        "phantom_teacher": teacher(phantom, drawn, "last_stage", 300, last_folder),
        "phantom_density_last_stage": study(phantom, "density", drawn, *TRAINED, "--tune", "last_stage", *few),
        "tissue_last_stage": study(mias, "tissue", films, *TRAINED, "--tune", "last_stage", *ENDS, "--updates", 300,
                                   "--folds", 5),
        "breasts_classifier": ("finetune", "--dataset", breasts, "--tasks", "pathology", "--model",
                               films, *SIZE, *last),
        "breasts_evaluation": ("evaluate", f"{work}/breasts_classifier", "--dataset", breasts, "--split", "test",
                               "--external", "--without_pictures", "--num_workers", 0),
        "phantom_full": study(phantom, "pathology", drawn, *TRAINED, "--lesion_loss", 0, 4, "--tune", "full", *many,
                              "--output_dir", full_folder),
        "phantom_full_teacher": teacher(phantom, drawn, "full", 400, full_folder),
        "tissue_bag": study(mias, "tissue", "efficientnet-lite0", "--tune", "head", "bag", "--pool", "whole", "tiles",
                            *ENDS, "--seeds", 1, "--folds", 5),
        "phantom_density_full": study(phantom, "density", drawn, *TRAINED, "--tune", "full", *many),
    }  # fmt: skip


def run(name: str, command: tuple[Any, ...], work: Path) -> None:
    """Run a command once; its output folder has its name, and its seconds are kept."""
    done = work / "commands" / f"{name}.json"
    if done.is_file():
        return
    script = str(command[0]).endswith(".py")
    own_folder = script or "--output_dir" in command or "--output" in command
    words = [str(word) for word in (*command, *(() if own_folder else ("--output_dir", work / name)))]
    print(("python " if script else "mammo-hf ") + shlex.join(words), flush=True)
    started, before = time.monotonic(), os.times()
    program = [Path(__file__).with_name(words[0]), *words[1:]] if script else ["-m", "mammo_hf", *words]
    subprocess.run([sys.executable, *program], check=True)
    cpu = os.times().children_user - before.children_user
    done.parent.mkdir(exist_ok=True)
    folder = Path(words[-1])
    # the next may write there too
    for kept in ("summary.json", "metrics.json", "report.json", "label_efficiency.png", "table.md", "sentences.json"):
        if (folder / kept).is_file():
            shutil.copyfile(folder / kept, done.with_name(f"{name}.{kept}"))
    done.write_text(json.dumps({"words": words, "seconds": time.monotonic() - started, "cpu_seconds": cpu}))


def main() -> None:
    """Run the chosen commands."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of all that is written")
    for name in ("--mini_mias", "--ddsm", "--ddsm_films", "--cdd_cesm"):
        parser.add_argument(name, type=Path, required=True, help="the collection's folder")
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    parser.add_argument("--only", nargs="+", help="names of results, and tables; default: all")
    args = parser.parse_args()
    places = args.work, args.mini_mias, args.ddsm
    every = commands(*places, args.ddsm_films)
    args.work.mkdir(parents=True, exist_ok=True)
    write_tables(*places, args.cdd_cesm)
    write_exams(args.work / "tables" / "exams", args.ddsm_films)
    for name, command in every.items():
        if args.only is None or name in args.only:
            run(name, command, args.work)
    if args.only is None or "tables" in args.only:
        folders = {"DDSM": args.ddsm, "DDSM_FILMS": args.ddsm_films, "MINI_MIAS": args.mini_mias, "WORK": args.work}
        put_tables(args.docs, args.work, folders)


if __name__ == "__main__":
    main()
