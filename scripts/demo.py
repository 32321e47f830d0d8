"""The whole way on phantoms: draw them, pre-train, classify with lesion annotations, explain, summarise.

python scripts/demo.py --output_dir demo
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from story import plot_story

import mammo_hf
from mammo_hf import Collection, MammoImageProcessor, MammoSwinForImageClassification, MammoSwinForMaskedImageModeling
from mammo_hf.cli.running import quiet, run_command
from mammo_hf.data.prepared_row import lesion_mask
from mammo_hf.data.splits import SPLIT_FILE
from mammo_hf.data.torch_datasets import LabelledImages, MaskedImages, rows_of
from mammo_hf.data.training_data import open_collection, prepared_images
from mammo_hf.explainers import explain
from mammo_hf.explainers.overlay import heat_overlay
from mammo_hf.files import writable_folder
from mammo_hf.inference.explain import SHOWN
from mammo_hf.models.checkpoint import read_tasks, write_metrics
from mammo_hf.models.own_figures import auc_text
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.studies.explanations import evaluate_explainers, lesion_cases
from mammo_hf.training.mim import reconstruct

SIZE = (224, 112)
SEED = 0
# what two cores can learn in minutes: masses alone, two and a half times as large as by default, and set off by a halo
# of dark fat rather than by brightness, which would leave nothing to find that the brightest pixel does not show
LESIONS: dict[str, Any] = {"mass_fraction": 1.0, "lesion_scale": 2.5, "lesion_contrast": 1.1, "lesion_halo": 1.4}
# where the demonstration departs from the recipe's defaults: few images at a small size take larger steps, so that the
# whole fits into minutes; images are so small that worker processes would cost more than they save
CHANGED: dict[str, Any] = {"learning_rate": 1e-3, "num_workers": 0, "seed": SEED}
LESION_LOSS = 4.0
CAPTIONS = {"classifier": "with lesion annotations", "image_labels_only": "image labels only"}


def main(arguments: list[str]) -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output_dir", default="demo")
    parser.add_argument("--patients", type=int, default=240, help="four views each (default %(default)s)")
    parser.add_argument("--mim_epochs", type=float, default=5, help="default %(default)s")
    parser.add_argument("--cls_epochs", type=float, default=16, help="default %(default)s")
    parser.add_argument(
        "--compare", action="store_true", help="train a second classifier on image labels alone, some minutes more"
    )
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    quiet()
    started, out = time.monotonic(), writable_folder(Path(args.output_dir))
    write_phantom(out / "phantom", patients=args.patients, seed=SEED, size=(2 * SIZE[0], 2 * SIZE[1]), **LESIONS)
    figures = _train(out, args)
    figures["explanations"] = _explain(out, figures)
    for name, of_stage in figures.items():
        write_metrics(out, name, of_stage)
    _sum_up(out, mammo_hf.load(out / "phantom"), figures, time.monotonic() - started)


def _train(out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Run stage 1 on all training images, then stage 2 with their lesion annotations, and without where asked."""
    images = mammo_hf.load(out / "phantom")
    common: dict[str, Any] = {"prepared_dir": str(out / "prepared"), "overwrite_output_dir": True}
    trained = {
        "mim": mammo_hf.pretrain(
            images,
            out / "mim",
            model="nano",
            image_size=list(SIZE),
            num_train_epochs=args.mim_epochs,
            **CHANGED,
            **common,
        )
    }
    for name in CAPTIONS if args.compare else ["classifier"]:
        trained[name] = mammo_hf.finetune(
            images,
            out / name,
            model=out / "mim",
            lesion_loss=LESION_LOSS if name == "classifier" else 0.0,
            num_train_epochs=args.cls_epochs,
            tasks=["pathology"],
            **CHANGED,
            **common,
        )
    return {name: dict(result.metrics) for name, result in trained.items()}


def _prepared(out: Path) -> tuple[datasets.Dataset, MammoImageProcessor]:
    """Return the prepared images with the classifier's split, and their processor."""
    processor = MammoImageProcessor.from_pretrained(out / "classifier")
    table = open_collection(out / "phantom", split_file=out / "classifier" / SPLIT_FILE)
    tasks = read_tasks(out / "classifier")
    return prepared_images(table, processor, out / "prepared", tasks=tasks), processor


def _explain(out: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """Draw explanations of test images and the story of the run; measure how often Grad-CAM points at the lesion."""
    prepared, processor = _prepared(out)
    labelled = [i for i in rows_of(prepared, ("test",)) if prepared[i]["lesions"] is not None]
    test = LabelledImages(prepared.select(labelled), processor)
    mammo_hf.explain(out / "classifier", prepared, out / "visualizations")
    masked = MaskedImages(test.prepared, processor, seed=SEED, masking=processor.masking(), fresh=False)
    inputs, masks, rebuilt = reconstruct(MammoSwinForMaskedImageModeling.from_pretrained(out / "mim"), masked, count=2)
    names = [name for name in CAPTIONS if name in figures]
    models = {name: MammoSwinForImageClassification.from_pretrained(out / name).eval() for name in names}
    scores = {CAPTIONS[name]: _scores(model, test) for name, model in models.items()}
    found = {CAPTIONS[name]: figures[name]["test"]["pathology"]["auroc_interval"] for name in names}
    labels = np.array(test.prepared["labels"])[:, 0]
    chosen = int(np.where(labels == 1, scores[CAPTIONS["classifier"]], -1).argmax())
    intensity, _, row = test.intensity_and_lesions(chosen)
    image, pixels = intensity[0].numpy(), test.normalized(intensity)[None]
    maps = {name: explain(models["classifier"], pixels, explainer=name).map[0] for name in SHOWN}
    plot_story(
        out / "story.png",
        inputs=inputs,
        masks=masks,
        reconstructions=rebuilt,
        references=labels,
        scores=scores,
        intervals={name: interval for name, interval in found.items() if interval is not None},
        image=image,
        lesion=lesion_mask(row),
        overlays={name: heat_overlay(image, values) for name, values in maps.items()},
        title="mammo_hf on phantoms",
        caption=f"{_about_lesions()}; seed {SEED}; {len(test)} test images; explained: the malignant one that "
        "scores highest",
    )
    return evaluate_explainers(
        models["classifier"],
        lesion_cases(test),
        ["grad_cam"],
        target="predicted",
        faithfulness_images=0,
        sanity_images=0,
        seed=SEED,
    )


def _scores(model: MammoSwinForImageClassification, images: LabelledImages) -> np.ndarray:
    """Return the probability of malignant for each image, float (images,)."""
    pixels = torch.stack([images[index]["pixel_values"] for index in range(len(images))])
    with torch.no_grad():
        logits = torch.cat([model(batch).logits for batch in pixels.split(16)])
    return np.asarray(model.probabilities(logits)["pathology"][:, 1])


def _about_lesions() -> str:
    return (
        f"masses alone, {LESIONS['lesion_scale']:g} times as large and {LESIONS['lesion_contrast']:g} times as bright "
        "as by default, in a halo of fat"
    )


def _sum_up(out: Path, table: Collection, figures: dict[str, Any], seconds: float) -> None:
    print(f"\nmammo_hf on {len(table)} phantom images: {_about_lesions()}")
    print(
        f"  stage 1: mean absolute error on hidden pixels of validation images {figures['mim']['validation_loss']:.3f}"
    )
    for name in (name for name in CAPTIONS if name in figures):
        result, training = figures[name]["test"]["pathology"], figures[name]["train_images"]
        print(f"  stage 2, {CAPTIONS[name]} ({training} training images): test {auc_text(result)}; interval by patient")
    print("  (lesion annotations of training rows supervise the tokens; those of test rows are never trained on)")
    maps = figures["explanations"]["explainers"]
    hits, bright = (maps[name]["pointing_game"]["value"] for name in ("grad_cam", "brightest tissue"))
    interval = maps["grad_cam"]["pointing_game_over"]["brightest tissue"]["interval"]
    print(
        f"  explanations: Grad-CAM's peak for the predicted label is in the lesion on {hits:.0%} of "
        f"{figures['explanations']['images']} test images, the brightest tissue on {bright:.0%}"
        + ("" if interval is None else "; 95 % interval of the difference {:+.0%} to {:+.0%}".format(*interval))
    )
    print(f"  look at {out / 'story.png'}, {out / 'visualizations'}, {out / 'classifier' / 'plots'}")
    print(f"  figures: {out / 'metrics.json'}")
    print(f"  {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(run_command(main))
