"""Export a classifier for programs that run no PyTorch."""

from __future__ import annotations

from typing import Any

from .running import Parser, opened, print_next, processor_settings


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    p = Parser("mammo-hf export", __doc__ or "", "mammo-hf export onnx out/cls --output_dir out/cls-onnx")
    p.add_argument("format", metavar="FORMAT", choices=("onnx", "openvino"), help="format: onnx or openvino")
    p.add_argument("model", metavar="MODEL", help="classifier: a folder, or a name on the Hub[@REVISION]")
    p.add_argument(
        "--output_dir",
        metavar="FOLDER",
        required=True,
        help="folder to write: the model, preprocessor_config.json, tasks.json",
    )
    p.add_argument(
        "--encoder",
        metavar="ENCODER",
        help="encoder of a head over features, to write it too; one that was trained by mammo_hf always is",
    )
    int8 = p.add_argument_group("INT8")
    int8.add_argument("--int8", action="store_true", help="weights and activations of 8 bits, if scores stay the same")
    int8.add_argument(
        "--dataset", help="images for --int8: those of the training split calibrate, those of the test split compare"
    )
    int8.add_argument("--num_workers", type=int, default=2, help="processes that prepare images (default: %(default)s)")
    int8.add_argument("--seed", type=int, default=0, help="seed of calibration images and bootstrap (default: 0)")
    p.add_reading_options()
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf export``."""
    given: dict[str, Any] = vars(parser().parse_args(arguments))
    from ..errors import UsageError
    from ..inference.exported import export_classifier  # imports torch, which --help should not
    from ..inference.scoring import load_classifier
    from .running import quiet

    quiet()
    model, out, encoder = given.pop("model"), given.pop("output_dir"), given.pop("encoder")
    dataset, format = given.pop("dataset"), given.pop("format")
    if given.pop("int8"):
        if dataset is None:
            problem, remedy = "is needed to calibrate INT8 and to compare its scores", "name images with labels"
            raise UsageError(problem, source="dataset", remedy=remedy)
        from ..inference.int8 import export_int8  # imports what reads collections, which no other export needs

        images = opened(dataset, given, processor_settings(given))
        found = export_int8(model, images, out, format=format, num_workers=given["num_workers"], seed=given["seed"])
        for name, task in found["tasks"].items():
            low, high = task["auroc_interval"]
            change = f"probabilities change by {task['mean_change']:.4f} in the mean"
            print(
                f"{name}: AUC {task['auroc'][0]:.3f}, INT8 {task['auroc'][1]:.3f} ({low:+.4f} to {high:+.4f}); {change}"
            )
        print(f"written: {out}")
    else:
        if dataset is not None:
            raise UsageError("is for INT8 alone", source="dataset", remedy="leave it out, or give --int8 too")
        loaded = load_classifier(model, encoder=encoder)
        difference = export_classifier(*loaded, out, format=format, with_encoder=encoder is not None)
        print(f"written: {out}; its logits differ by at most {difference:.1g} from PyTorch's")
    print_next("predict", out, "IMAGES", "--output", "scores.csv")
