"""The whole way on phantoms: draw them, pre-train, classify with and without the lesions' places, explain, sum up.

python scripts/demo.py --output_dir demo
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import datasets

from mammo_hf import MammoImageProcessor, MammoSwinForImageClassification, MammoSwinForMaskedImageModeling, MammoTable
from mammo_hf.commands.running import run_command, writable_folder, write_metrics
from mammo_hf.data import label_subset
from mammo_hf.data.phantom import write_phantom
from mammo_hf.explainers import explain
from mammo_hf.explainers.overlay import tinted
from mammo_hf.training.arguments import sensible_defaults
from mammo_hf.training.classification import train_classifier
from mammo_hf.training.collection import open_collection, prepared_images, usable_tasks
from mammo_hf.training.datasets import LabelledImages, MaskedImages, rows_of
from mammo_hf.training.mim import reconstruct, train_mim
from mammo_hf.training.panels import plot_story
from mammo_hf.training.visualization import SEED_EXPLAINERS, lesion_mask, pointing_figures, visualize

SIZE = (224, 112)
SEED = 0


def main(arguments: list[str]) -> None:
    """Runs the demonstration."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output_dir", default="demo")
    parser.add_argument("--patients", type=int, default=240, help="four views each")
    parser.add_argument("--mim_epochs", type=float, default=2)
    parser.add_argument("--cls_epochs", type=float, default=20)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    started, out = time.monotonic(), writable_folder(Path(args.output_dir))
    write_phantom(
        out / "phantom",
        patients=args.patients,
        seed=SEED,
        size=(448, 224),
        mass_share=1.0,
        lesion_scale=1.5,
        lesion_contrast=1.5,
    )
    table = open_collection(out / "phantom", seed=SEED)
    tasks = usable_tasks(table, ("pathology",))
    processor = MammoImageProcessor(size=SIZE)
    prepared = prepared_images(table, processor, out / "prepared", tasks=tasks, num_workers=2)
    figures = _train(out, table, prepared, processor, tasks, args)
    story = _tell(out, prepared, processor, figures)
    _sum_up(out, table, figures, story, time.monotonic() - started)


def _train(
    out: Path,
    table: MammoTable,
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    tasks: list[dict[str, Any]],
    args: argparse.Namespace,
) -> dict[str, Any]:
    stage_1 = sensible_defaults(
        str(out / "trainer" / "mim"),
        epochs=args.mim_epochs,
        batch_size=32,
        learning_rate=1e-3,
        seed=SEED,
        num_workers=0,
    )
    figures = {
        "mim": train_mim(prepared, processor, stage_1, model="nano", checkpoint=out / "mim", plots=out / "plots")
    }
    write_metrics(out, "mim", figures["mim"])
    patients = label_subset(table, percentage=100, seed=SEED)
    for name, lesion_loss in (("classifier", 4.0), ("image_labels_only", 0.0)):
        stage_2 = sensible_defaults(
            str(out / "trainer" / name),
            epochs=args.cls_epochs,
            batch_size=16,
            learning_rate=1e-3,
            seed=SEED,
            num_workers=0,
        )
        figures[name] = train_classifier(
            prepared,
            processor,
            stage_2,
            model=str(out / "mim"),
            tasks=tasks,
            patients=patients,
            lesion_loss=lesion_loss,
            checkpoint=out / name,
            plots=out / "plots" / name,
        )
        write_metrics(out, name, figures[name])
    return figures


def _tell(
    out: Path, prepared: datasets.Dataset, processor: MammoImageProcessor, figures: dict[str, Any]
) -> dict[str, Any]:
    model = MammoSwinForImageClassification.from_pretrained(out / "classifier").eval()
    test = LabelledImages(
        prepared.select([i for i in rows_of(prepared, ("test",)) if prepared[i]["lesions"]]), processor
    )
    pointing = pointing_figures(model, test)
    write_metrics(out, "explanations", {"grad_cam": pointing})
    visualize(out / "classifier", prepared, out / "visualizations")
    masked = MaskedImages(test.prepared, processor, seed=SEED, masking=processor.masking(), fresh=False)
    inputs, masks, rebuilt = reconstruct(MammoSwinForMaskedImageModeling.from_pretrained(out / "mim"), masked, count=2)
    labels = [row[0] for row in test.prepared["labels"]]
    scores = {
        caption: [_score(out / name, test, index) for index in range(len(test))]
        for caption, name in (("with lesion places", "classifier"), ("image labels only", "image_labels_only"))
    }
    intervals = {
        "with lesion places": figures["classifier"]["test"]["pathology"]["auroc_interval"],
        "image labels only": figures["image_labels_only"]["test"]["pathology"]["auroc_interval"],
    }
    malignant = [i for i, label in enumerate(labels) if label == 1]
    chosen = max(malignant, key=lambda index: scores["with lesion places"][index])
    intensity, _, row = test.intensity_and_lesions(chosen)
    image, pixels = intensity[0].numpy(), test.normalized(intensity)[None]
    lesion = lesion_mask(row, SIZE)
    overlays = {name: tinted(image, explain(model, pixels, explainer=name).map[0]) for name in SEED_EXPLAINERS}
    plot_story(
        out / "story.png",
        inputs=inputs,
        masks=masks,
        reconstructions=rebuilt,
        references=labels,
        scores=scores,
        intervals=intervals,
        image=image,
        lesion=lesion,
        overlays=overlays,
        title="mammo_hf on phantoms",
        caption=f"seed {SEED}, {len(test)} test images; explained is the malignant one with the highest score",
    )
    return pointing


_MODELS: dict[Path, MammoSwinForImageClassification] = {}


def _score(folder: Path, images: LabelledImages, index: int) -> float:
    if folder not in _MODELS:
        _MODELS[folder] = MammoSwinForImageClassification.from_pretrained(folder).eval()
    model = _MODELS[folder]
    pixels = images[index]["pixel_values"][None]
    return float(model.probabilities(model(pixels).logits.detach())["pathology"][0, 1])


def _sum_up(out: Path, table: MammoTable, figures: dict[str, Any], pointing: dict[str, Any], seconds: float) -> None:
    print("\nmammo_hf demonstration on phantoms (lesions enlarged 1.5 times, contrast 1.5 times, masses alone)")
    print(f"  {len(table)} images; masked L1 on validation {figures['mim'].get('validation_loss', float('nan')):.3f}")
    for name, caption in (
        ("classifier", "token loss on the training rows' lesions"),
        ("image_labels_only", "image labels"),
    ):
        result = figures[name]["test"]["pathology"]
        low, high = result["auroc_interval"]
        print(f"  {caption}: test AUC {result['auroc']:.2f} (95 % interval {low:.2f} to {high:.2f}, by patient)")
        print(
            f"    {'the interval lies above chance' if low > 0.5 else 'the interval contains chance: nothing is shown'}"
        )
    print(
        f"  Grad-CAM's peak lies in the lesion on {pointing['pointing_game']:.0%} of {pointing['images']} test images, "
        f"the brightest pixel on {pointing['brightest_pixel']:.0%}"
    )
    print(f"  {seconds:.0f} s. Look at {out / 'story.png'}, {out / 'visualizations'}, {out / 'plots'};")
    print(f"  all figures: {out / 'metrics.json'}")
    print(json.dumps({"seconds": round(seconds)}))


if __name__ == "__main__":
    sys.exit(run_command(main))
