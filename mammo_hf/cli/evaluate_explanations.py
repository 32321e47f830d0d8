"""Measure how well explainers locate lesions, how faithful they are to a model, and whether they change with it."""

from __future__ import annotations

from ..errors import check_number
from .running import Parser, opened, processor_settings


def parser() -> Parser:
    """Return the command's arguments."""
    p = Parser(
        "mammo-hf evaluate-explanations",
        __doc__ or "",
        "mammo-hf evaluate-explanations out/cls --dataset data/cbis --output_dir out/explanations",
    )
    p.add_argument("model", help="folder or Hub name of a classifier")
    p.add_argument("--dataset", required=True, help="folder of a collection with lesion annotations")
    p.add_argument("--output_dir", required=True, help="folder for table, plot and metrics.json")
    p.add_argument(
        "--explainer",
        nargs="+",
        dest="explainers",
        metavar="NAME",
        help="explainers (default: all of such a model but occlusion)",
    )
    p.add_argument(
        "--target",
        default="shown",
        help="explained label: shown (default: the one that maps show, on images of it), predicted, label, or its name",
    )
    p.add_argument("--seed", type=int, default=0, help="random seed (default %(default)s)")
    p.add_argument("--num_workers", type=int, default=2, help="processes that prepare images (default %(default)s)")
    images = p.add_argument_group("images")
    images.add_argument("--split", choices=("test", "validation", "train", "all"), default="test")
    images.add_argument("--count", type=int, help="highest number of images, spread over all")
    images.add_argument("--spacing_mm", type=float, help="side of a source pixel, for files that do not state it")
    images.add_argument("--faithfulness_images", type=int, default=24, help="default %(default)s; 0: not measured")
    images.add_argument("--sanity_images", type=int, default=16, help="default %(default)s; 0: not measured")
    p.add_reading_options()
    p.add_encoder_options()
    p.add_processor_options(overrides=False)  # which is an option of reading too
    sanity = p.add_argument_group("second sanity check")
    sanity.add_argument(
        "--random_labels",
        metavar="START",
        help="size or checkpoint that the model's training started from: trains it on permuted labels and compares",
    )
    sanity.add_argument(
        "--random_label_updates", type=int, default=1000, help="updates of that training (default %(default)s)"
    )
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf evaluate-explanations``."""
    args = parser().parse_args(arguments)
    for option, value, least in (
        ("--count", args.count, 1),
        ("--faithfulness_images", args.faithfulness_images, 0),
        ("--sanity_images", args.sanity_images, 0),
        ("--random_label_updates", args.random_label_updates, 1),
        ("--seed", args.seed, 0),
        ("--num_workers", args.num_workers, 0),
    ):
        check_number(option, least if value is None else value, value is None or value >= least, f"{least} or more")
    if args.spacing_mm is not None:
        check_number("--spacing_mm", args.spacing_mm, args.spacing_mm > 0, "above 0")
    from pathlib import Path

    from ..explainers import find_explainer
    from ..models.checkpoint import check_model, is_bag, load_processor, locate
    from ..studies.explanations import study_explanations
    from .running import check_outputs, log_to
    from .stages import check_dataset

    # Whatever can be wrong is found before images are prepared
    check_dataset(args.dataset, "--dataset")
    for name in args.explainers or ():
        find_explainer(name)
    folder, out = locate(args.model), Path(args.output_dir)
    if args.random_labels is not None and not is_bag(folder):
        check_model(args.random_labels, load_processor(folder).canvas)
    check_outputs(out, out / "prepared")
    log_to("console", out)
    settings = processor_settings(vars(args))
    collection = opened(args.dataset, vars(args), settings)
    options = {name: value for name, value in vars(args).items() if name not in ("model", "dataset", "output_dir")}
    print(study_explanations(folder, collection, out, processor_settings=settings, **options))
