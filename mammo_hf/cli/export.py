"""A classifier for programs that run no PyTorch.

mammo-hf export onnx out/cls out/cls-onnx
"""

from __future__ import annotations

import argparse

from ..inference.loading import load_classifier
from ..inference.onnx import export_onnx
from .running import quiet


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="mammo-hf export", description=(__doc__ or "").split("\n")[0])
    p.add_argument("format", choices=("onnx",))
    p.add_argument("model", help="folder of a classifier, or a name on the Hub, NAME[@REVISION]")
    p.add_argument("out", help="folder to write: model.onnx, preprocessor_config.json, tasks.json")
    return p


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf export``."""
    args = parser().parse_args(arguments)
    quiet()
    difference = export_onnx(*load_classifier(args.model), args.out)
    print(f"written: {args.out}; its logits differ by at most {difference:.1g} from PyTorch's")
