"""Export a classifier for programs that run no PyTorch."""

from __future__ import annotations

from .running import Parser


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    p = Parser("mammo-hf export", __doc__ or "", "mammo-hf export onnx out/cls --output_dir out/cls-onnx")
    p.add_argument("format", metavar="FORMAT", choices=("onnx",), help="format of the model: onnx")
    p.add_argument("model", metavar="MODEL", help="classifier: a folder, or a name on the Hub[@REVISION]")
    p.add_argument(
        "--output_dir",
        metavar="FOLDER",
        required=True,
        help="folder to write: model.onnx, preprocessor_config.json, tasks.json",
    )
    p.add_argument(
        "--encoder",
        metavar="ENCODER",
        help="encoder of a head over features, to write it too; one that was trained by mammo_hf always is",
    )
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf export``."""
    args = parser().parse_args(arguments)
    from ..inference.onnx import export_onnx  # imports torch, which --help should not
    from ..inference.scoring import load_classifier
    from .running import quiet

    quiet()
    loaded = load_classifier(args.model, encoder=args.encoder)
    difference = export_onnx(*loaded, args.output_dir, with_encoder=args.encoder is not None)
    print(f"written: {args.output_dir}; its logits differ by at most {difference:.1g} from PyTorch's")
    print(f"next: mammo-hf predict {args.output_dir} IMAGES --output scores.csv")
