"""The whole way on phantoms: draw them, pre-train, classify with and without the lesions' places, explain, sum up.

python scripts/demo.py --output_dir demo
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch

from mammo_hf import Collection, MammoImageProcessor, MammoSwinForImageClassification, MammoSwinForMaskedImageModeling
from mammo_hf.cli.running import quiet, run_command, writable_folder
from mammo_hf.data.splits import label_subset
from mammo_hf.data.torch_datasets import LabelledImages, MaskedImages, rows_of
from mammo_hf.data.training_data import open_collection, prepared_images, usable_tasks
from mammo_hf.evaluation.after_training import Origin
from mammo_hf.evaluation.report.pictures import SEED_EXPLAINERS, lesion_mask, pointing_figures, visualize
from mammo_hf.explainers import explain
from mammo_hf.explainers.overlay import tinted
from mammo_hf.models.checkpoint import write_metrics
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.plotting import plot_story
from mammo_hf.training.classification import train_classifier
from mammo_hf.training.mim import reconstruct, train_mim
from mammo_hf.training.options import ClassificationSettings, sensible_defaults

SIZE = (224, 112)
SEED = 0
# what two cores can learn in minutes: masses alone, two and a half times as large as by default, and set off by a halo
# of dark fat rather than by brightness, which would leave nothing to find that the brightest pixel does not show
LESIONS: dict[str, Any] = {"mass_fraction": 1.0, "lesion_scale": 2.5, "lesion_contrast": 1.1, "lesion_halo": 1.4}
LESION_LOSS = 4.0
CAPTIONS = {"classifier": "with lesion places", "image_labels_only": "image labels only"}


def main(arguments: list[str]) -> None:
    """Runs the demonstration."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output_dir", default="demo")
    parser.add_argument("--patients", type=int, default=240, help="four views each (default %(default)s)")
    parser.add_argument("--mim_epochs", type=float, default=5, help="default %(default)s")
    parser.add_argument("--cls_epochs", type=float, default=21, help="default %(default)s")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    quiet()
    started, out = time.monotonic(), writable_folder(Path(args.output_dir))
    shutil.rmtree(out / "trainer", ignore_errors=True)  # an earlier demonstration's checkpoints
    write_phantom(out / "phantom", patients=args.patients, seed=SEED, size=(2 * SIZE[0], 2 * SIZE[1]), **LESIONS)
    table = open_collection(out / "phantom", seed=SEED)
    tasks = usable_tasks(table, ("pathology",))
    processor = MammoImageProcessor(size=SIZE)
    prepared = prepared_images(table, processor, out / "prepared", tasks=tasks, num_workers=2)
    figures = _train(out, table, prepared, processor, tasks, args)
    figures["explanations"] = _explain(out, prepared, processor, figures)
    write_metrics(out, "explanations", figures["explanations"])
    _sum_up(out, table, figures, time.monotonic() - started)


def _train(
    out: Path,
    table: Collection,
    prepared: datasets.Dataset,
    processor: MammoImageProcessor,
    tasks: list[dict[str, Any]],
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Stage 1 on all training images, then stage 2 twice: with the places of the training rows' lesions, without."""
    figures = {
        "mim": train_mim(
            prepared,
            processor,
            _arguments(out, "mim", args.mim_epochs, batch_size=16, learning_rate=1e-3),
            model="nano",
            checkpoint=out / "mim",
            plots=out / "plots",
        )
    }
    patients = label_subset(table, percentage=100, seed=SEED)
    for name, lesion_loss in (("classifier", LESION_LOSS), ("image_labels_only", 0.0)):
        figures[name] = train_classifier(
            prepared,
            processor,
            _arguments(out, name, args.cls_epochs, batch_size=8, learning_rate=2e-3),
            model=str(out / "mim"),
            tasks=tasks,
            patients=patients,
            settings=ClassificationSettings(lesion_loss=lesion_loss),
            checkpoint=out / name,
            plots=out / "plots" / name,
            origin=Origin.of(table, prepared, tasks=tasks, dataset=out / "phantom", folder=out / "prepared"),
        )
    for name, of_stage in figures.items():
        write_metrics(out, name, of_stage)
    return figures


def _arguments(out: Path, name: str, epochs: float, batch_size: int, learning_rate: float) -> Any:
    return sensible_defaults(
        str(out / "trainer" / name),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=SEED,
        num_workers=0,
    )


def _explain(
    out: Path, prepared: datasets.Dataset, processor: MammoImageProcessor, figures: dict[str, Any]
) -> dict[str, Any]:
    """Pictures of test images, the story of the run, and how often Grad-CAM points at the lesion."""
    labelled = [i for i in rows_of(prepared, ("test",)) if prepared[i]["lesions"] is not None]
    test = LabelledImages(prepared.select(labelled), processor)
    visualize(out / "classifier", prepared, out / "visualizations")
    masked = MaskedImages(test.prepared, processor, seed=SEED, masking=processor.masking(), fresh=False)
    inputs, masks, rebuilt = reconstruct(MammoSwinForMaskedImageModeling.from_pretrained(out / "mim"), masked, count=2)
    models = {name: MammoSwinForImageClassification.from_pretrained(out / name).eval() for name in CAPTIONS}
    scores = {CAPTIONS[name]: _scores(model, test) for name, model in models.items()}
    labels = np.array(test.prepared["labels"])[:, 0]
    chosen = int(np.where(labels == 1, scores[CAPTIONS["classifier"]], -1).argmax())
    intensity, _, row = test.intensity_and_lesions(chosen)
    image, pixels = intensity[0].numpy(), test.normalized(intensity)[None]
    maps = {name: explain(models["classifier"], pixels, explainer=name).map[0] for name in SEED_EXPLAINERS}
    plot_story(
        out / "story.png",
        inputs=inputs,
        masks=masks,
        reconstructions=rebuilt,
        references=labels,
        scores=scores,
        intervals={caption: figures[name]["test"]["pathology"]["auroc_interval"] for name, caption in CAPTIONS.items()},
        image=image,
        lesion=lesion_mask(row, SIZE),
        overlays={name: tinted(image, values) for name, values in maps.items()},
        title="mammo_hf on phantoms",
        caption=f"{_about_lesions()}; seed {SEED}; {len(test)} test images; explained: the malignant one that "
        "scores highest",
    )
    return {"grad_cam": pointing_figures(models["classifier"], test)}


def _scores(model: MammoSwinForImageClassification, images: LabelledImages) -> np.ndarray:
    """The probability of malignant for each image, float (images,)."""
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
    for name, caption in CAPTIONS.items():
        result, training = figures[name]["test"]["pathology"], figures[name]["train_images"]
        low, high = result["auroc_interval"]
        verdict = "above chance" if low > 0.5 else "chance is inside: nothing is shown"
        print(
            f"  stage 2, {caption} ({training} training images): test AUC {result['auroc']:.2f}, "
            f"95 % interval by patient {low:.2f} to {high:.2f}, {verdict}"
        )
    print("  (the places of the training rows' lesions teach the tokens; those of test rows are never trained on)")
    pointing = figures["explanations"]["grad_cam"]
    print(
        f"  explanations: Grad-CAM's peak lies in the lesion on {pointing['pointing_game']:.0%} of "
        f"{pointing['images']} test images, the breast's brightest pixel on {pointing['brightest_pixel']:.0%}"
    )
    print(f"  look at {out / 'story.png'}, {out / 'visualizations'}, {out / 'plots'}; figures: {out / 'metrics.json'}")
    print(f"  {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(run_command(main))
