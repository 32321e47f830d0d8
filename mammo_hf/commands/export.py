"""A classifier for programs that run no PyTorch.

mammo-hf export onnx out/cls out/cls-onnx
"""

from __future__ import annotations

import argparse

from ..export import export_onnx
from ..prediction import load_classifier
from .running import quiet


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf export``."""
    parser = argparse.ArgumentParser(prog="mammo-hf export", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("format", choices=("onnx",))
    parser.add_argument("model", help="folder of a classifier, or its name on the Hub")
    parser.add_argument("out", help="folder to write: model.onnx, preprocessor_config.json, tasks.json")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    args = parser.parse_args(arguments)
    quiet()
    difference = export_onnx(*load_classifier(args.model, revision=args.revision), args.out)
    print(f"written: {args.out}; its logits differ by at most {difference:.1g} from PyTorch's")
