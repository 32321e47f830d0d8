"""Write a checkpoint's model card anew, with what was measured or decided since its training.

mammo-hf card out/cls --license apache-2.0 --label_efficiency out/labels/summary.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..hub.model_card import write_card
from ..models.checkpoint import read_checkpoint, read_json
from .running import write_metrics
from .stages import tell


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="mammo-hf card", description=(__doc__ or "").split("\n")[0])
    p.add_argument("folder", help="what training wrote")
    p.add_argument("--license", help="of the model: an identifier of the Hub, such as apache-2.0")
    p.add_argument("--base_model", help="OWNER/NAME of the model that training started from")
    p.add_argument("--label_efficiency", help="summary.json that mammo-hf label-efficiency has written")
    p.add_argument("--explanations", help="metrics.json that mammo-hf evaluate-explanations has written")
    p.add_argument("--plots", help="folder of plots to show: training curves, ROC curve, and those of the two above")
    return p


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf card``."""
    args = parser().parse_args(arguments)
    folder = Path(args.folder)
    read_checkpoint(folder)
    if args.plots is not None and not Path(args.plots).is_dir():
        raise UsageError("is no folder", source=args.plots, remedy="give --plots the folder of the plots")
    for key, path, part in (
        ("label_efficiency", args.label_efficiency, "rows"),
        ("explanations", args.explanations, "explanations"),
    ):
        if path is not None:
            write_metrics(folder, key, _part(path, part, key))
    tell(folder, {"license": args.license, "base_model": args.base_model})
    print(f"written: {write_card(folder, plots=args.plots)}")


def _part(path: str, part: str, what: str) -> Any:
    found = read_json(Path(path)).get(part)
    if not found:
        command = what.replace("_", "-") if what == "label_efficiency" else "evaluate-explanations"
        raise UsageError(f"holds no {part!r}", source=path, remedy=f"give what mammo-hf {command} has written")
    return found
