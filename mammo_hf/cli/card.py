"""Write a checkpoint's model card again, with what was measured or decided since its training."""

from __future__ import annotations

from .running import Parser


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    p = Parser(
        "mammo-hf card",
        __doc__ or "",
        "mammo-hf card out/cls --license apache-2.0 --label_efficiency out/labels/summary.json",
    )
    p.add_argument("model", metavar="MODEL", help="folder that training wrote")
    p.add_argument("--license", help="licence of the model: an identifier of the Hub, such as apache-2.0")
    p.add_argument("--base_model", help="OWNER/NAME[@REVISION] of the model that training started from")
    p.add_argument("--results_dataset", help="data set on the Hub that the results are of, OWNER/NAME")
    p.add_argument("--label_efficiency", help="summary.json that mammo-hf label-efficiency wrote")
    p.add_argument("--explanations", help="metrics.json that mammo-hf evaluate-explanations wrote")
    p.add_argument("--plots", help="folder of plots to show: training curves, ROC curve, and those of the two above")
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf card``."""
    args = parser().parse_args(arguments)
    from ..hub.model_card import write_card  # imports torch, which --help should not

    print(f"written: {write_card(args.model, **{k: v for k, v in vars(args).items() if k != 'model'})}")
