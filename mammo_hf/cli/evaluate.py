"""Evaluate a classifier on a collection, its own or another: figures with intervals, plots, checklists, one report."""

from __future__ import annotations

from typing import Any

from ..notes import counts_text
from .running import Parser, log_to, opened, processor_settings

FROM_CHECKPOINT = "from-checkpoint"


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    p = Parser(
        "mammo-hf evaluate",
        __doc__ or "",
        "mammo-hf evaluate out/cls --dataset data/inbreast --split all --external --output_dir out/inbreast",
    )
    p.add_argument("model", metavar="MODEL", help="classifier: folder that training wrote, or Hub name[@revision]")
    images = p.add_argument_group("images")
    images.add_argument("--dataset", required=True, help="table, collection's folder, NAME:FOLDER, or prepared folder")
    images.add_argument("--split", default="test", help="test, validation, train, or all images (default: %(default)s)")
    images.add_argument("--external", action="store_true", help="the model was not trained on this collection")
    p.add_reading_options()
    p.add_processor_options()
    p.add_encoder_options()
    report = p.add_argument_group("report")
    report.add_argument("--output_dir", default="evaluation", help="folder of the report (default: %(default)s)")
    report.add_argument(
        "--operating_point",
        default=FROM_CHECKPOINT,
        help=f"{FROM_CHECKPOINT} (default), or a threshold from 0 to 1 for every task with two labels",
    )
    report.add_argument(
        "--comparison",
        choices=("pooled", "within_patient", "within_stratum", "within_vendor", "within_source"),
        default="pooled",
        help="pairs of images whose AUC is printed; the report has them all (default: %(default)s)",
    )
    report.add_argument("--without_pictures", action="store_true", help="show no image of a patient in the report")
    report.add_argument("--label_efficiency", help="summary.json of mammo-hf label-efficiency, whose plot is shown")
    p.add_scoring_options()
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf evaluate``."""
    given: dict[str, Any] = vars(parser().parse_args(arguments))
    from ..evaluation.evaluate import evaluate  # imports torch, which --help should not

    log_to("console")
    model, settings = given.pop("model"), processor_settings(given)
    images = opened(given.pop("dataset"), given, settings)
    given["processor_settings"] = settings
    given["pictures"] = not given.pop("without_pictures")
    given["operating_point"] = _threshold(given["operating_point"])
    evaluation = evaluate(model, images, **given)
    for warning in evaluation.warnings:
        print(f"note: {warning}")
    print(f"{evaluation}{counts_text(evaluation.notes, evaluation.refusals)}")
    print(f"read {evaluation.folder}/report.html; publish the model with: mammo-hf push {model} OWNER/NAME")


def _threshold(text: str) -> float | None:
    from ..errors import UsageError

    if text == FROM_CHECKPOINT:
        return None
    try:
        return float(text)
    except ValueError:
        remedy = f"use {FROM_CHECKPOINT}, or a threshold from 0 to 1"
        raise UsageError(f"is {text!r}", source="operating_point", remedy=remedy) from None
