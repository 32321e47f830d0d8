"""How well explainers find lesions, how true they are to the model, and whether they change with it; with baselines.

mammo-hf evaluate-explanations --model out/cls --dataset data/cbis --output_dir out/explanations
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..data.torch_datasets import LabelledImages, rows_of
from ..data.training_data import prepared_images
from ..errors import DataError, UsageError, check_number
from ..evaluation.study_tables import explanation_table, plot_study, sanity_table
from ..explainers import explainers, find_explainer
from ..models.checkpoint import load_model, load_processor, read_tasks, write_metrics
from ..models.modeling_mammo_swin import MammoSwinForImageClassification
from ..studies.explanations import evaluate_explainers, lesion_cases
from .running import check_outputs, log_to
from .stages import check_dataset, open_as_trained

# not occlusion: it asks the model a hundred times and more for each image
DEFAULT = (
    *("attention", "attention_rollout", "grad_cam", "grad_cam_attention", "hires_cam", "layer_cam", "legrad"),
    "lesion_head",
)
SPLITS = ("test", "validation", "train", "all")


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf evaluate-explanations``."""
    args = _parsed(arguments)
    model_folder, out = Path(args.model), Path(args.output_dir)
    tasks = read_tasks(model_folder)
    processor = load_processor(model_folder)
    check_outputs(out, out / "prepared")
    log_to("console", out)
    table = open_as_trained(args.dataset, model_folder)
    table = table if args.split == "all" else table.where(split=args.split)
    if not len(table):
        raise DataError(f"holds no image of the split {args.split!r}", source=args.dataset, remedy="use --split all")
    prepared = prepared_images(table, processor, out / "prepared", tasks=tasks, num_workers=args.num_workers)
    known = [
        place for place in rows_of(prepared, sorted(set(prepared["split"]))) if prepared[place]["lesions"] is not None
    ]
    if args.count is not None and args.count < len(known):
        known = [known[place] for place in np.linspace(0, len(known) - 1, args.count).round().astype(int)]
    cases = lesion_cases(LabelledImages(prepared.select(known), processor), args.spacing_mm)
    other = args.random_labels_model
    figures = evaluate_explainers(
        load_model(MammoSwinForImageClassification, model_folder).eval(),
        cases,
        args.explainers,
        target=args.target,
        faithfulness=args.faithfulness_images,
        sanity=args.sanity_images,
        random_labels=None if other is None else load_model(MammoSwinForImageClassification, other).eval(),
        seed=args.seed,
    )
    write_metrics(out, "explanations", figures)
    plot_study(figures, out / "explanations.png")
    text = _report(figures)
    (out / "explanations.md").write_text(text, encoding="utf-8")
    print(text)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="mammo-hf evaluate-explanations", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--model", required=True, help="folder of a classifier")
    p.add_argument("--dataset", required=True, help="folder of a collection that knows where lesions are")
    p.add_argument("--output_dir", required=True, help="folder for table, plot and metrics.json")
    p.add_argument("--explainers", nargs="+", default=list(DEFAULT), help="default: %(default)s")
    p.add_argument("--split", choices=SPLITS, default="test", help="default %(default)s")
    p.add_argument("--count", type=int, help="at most so many images, spread over all")
    p.add_argument(
        "--target", default="predicted", help="what is explained: predicted (default), label, or a label's name"
    )
    p.add_argument("--spacing_mm", type=float, help="side of a source pixel, for files that do not say it")
    p.add_argument("--faithfulness_images", type=int, default=24, help="default %(default)s; 0: not measured")
    p.add_argument("--sanity_images", type=int, default=16, help="default %(default)s; 0: not measured")
    p.add_argument("--random_labels_model", help="folder of the same model trained on permuted labels")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--num_workers", type=int, default=2)
    return p


def _parsed(arguments: list[str]) -> argparse.Namespace:
    args = parser().parse_args(arguments)
    for folder, option in ((args.model, "--model"), (args.random_labels_model, "--random_labels_model")):
        if folder is not None and not (Path(folder) / "config.json").is_file():
            raise UsageError(
                "there is no classifier here", source=folder, remedy=f"give {option} the folder that training wrote"
            )
    check_dataset(args.dataset, "--dataset")
    for option, value, least in (
        ("--count", args.count, 1),
        ("--faithfulness_images", args.faithfulness_images, 0),
        ("--sanity_images", args.sanity_images, 0),
        ("--seed", args.seed, 0),
        ("--num_workers", args.num_workers, 0),
    ):
        check_number(option, least if value is None else value, value is None or value >= least, f"{least} or more")
    if args.spacing_mm is not None:
        check_number("--spacing_mm", args.spacing_mm, args.spacing_mm > 0, "above 0")
    for name in args.explainers:
        find_explainer(name)  # before images are prepared
    return args


def _report(figures: dict) -> str:
    chance = figures["chance_of_pointing"]["value"]
    supervised = [name for name, row in figures["explainers"].items() if row["supervised"]]
    lines = [
        f"{figures['images']} images of {figures['patients']} patients; what is explained: {figures['target']}; means "
        "with 95 % intervals by patient.",
        f"A peak that falls anywhere in the breast hits a lesion with a chance of {chance:.2f}.",
        "",
        explanation_table(figures),
    ]
    if supervised:
        lines += [
            "",
            f"Supervised ({', '.join(supervised)}): taught from lesions' places, not why it decided.",
        ]
    lines += ["", "Pointing game, each explainer less each baseline on the same images:", "", _differences(figures)]
    if figures["sanity"]:
        lines += [
            "",
            f"Rank correlation with the map before, as weights are drawn anew ({figures['sanity']['images']} images):",
            "",
            sanity_table(figures),
        ]
    lines += [f"\nLeft out: {name}: {reason}" for name, reason in figures["failed"].items()]
    installed = sum(found.reason is None for found in explainers().values())
    return "\n".join(lines) + f"\n\n{installed} explainers are installed (mammo-hf explainers).\n"


def _differences(figures: dict) -> str:
    rows = {name: row["pointing_game_over"] for name, row in figures["explainers"].items() if not row["baseline"]}
    baselines = [name for name, row in figures["explainers"].items() if row["baseline"]]
    lines = ["| | " + " | ".join(baselines) + " |", "|---" * (len(baselines) + 1) + "|"]
    for name, over in rows.items():
        cells = []
        for baseline in baselines:
            value, interval = over[baseline]["value"], over[baseline]["interval"]
            cells.append(f"{value:+.2f}" + (f" ({interval[0]:+.2f} to {interval[1]:+.2f})" if interval else ""))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
