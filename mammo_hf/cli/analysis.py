"""The original command: pre-train, classify and explain on a CBIS-DDSM folder.

mammo-hf analysis --root_dir /data/CBIS-DDSM --train_mim --train_cls --visualize
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data import READING
from ..errors import UsageError, check_file
from .running import Parser, check_outputs, log_to, named_as_flags, processor_settings, reading_options
from .stages import MODEL_HELP, check_dataset

if TYPE_CHECKING:
    from ..data.collection import Collection

RESULTS = ("metrics.json", "visualizations", "checkpoints")


def parser() -> Parser:
    """Return the parser: the original twelve flags with their defaults, and a few more."""
    p = Parser(
        "mammo-hf analysis",
        "Pre-train, classify and explain on a CBIS-DDSM folder, with the flags of the original script.",
        "mammo-hf analysis --root_dir /data/CBIS-DDSM --train_mim --train_cls --visualize",
    )
    own = p.add_argument_group("original flags")
    own.add_argument("--root_dir", required=True, help="folder of the collection, SOURCE:FOLDER, or a mapping")
    own.add_argument("--dicom_path", help="text file with one DICOM path per line: more unlabelled images for stage 1")
    own.add_argument("--output_dir", default="./outputs", help="default %(default)s")
    own.add_argument("--mim_epochs", type=float, default=3, help="default %(default)s")
    own.add_argument("--cls_epochs", type=float, default=3, help="default %(default)s")
    own.add_argument(
        "--missing_label_percentage",
        type=float,
        default=100,
        help="percentage of the labelled training data that IS USED, by patient (default %(default)s: all)",
    )
    own.add_argument("--batch_size", type=int, default=4, help="default %(default)s")
    own.add_argument("--num_workers", type=int, default=2, help="processes that read images (default %(default)s)")
    own.add_argument("--train_mim", action="store_true", help="run stage 1, masked image modelling")
    own.add_argument("--train_cls", action="store_true", help="run stage 2, classification")
    own.add_argument("--visualize", action="store_true", help="draw explanations of test images")
    own.add_argument("--log_mode", choices=("console", "file"), default="console", help="file: training_log.txt")
    p.add_reading_options(*(name for name in READING if name != "dicom_path"))
    p.add_processor_options(overrides=False)  # which is an option of reading too
    more = p.add_argument_group("further options, as in pretrain and finetune", argument_default=argparse.SUPPRESS)
    more.add_argument("--model", default="tiny", help=MODEL_HELP)
    more.add_argument("--image_size", type=int, nargs="+", help="height and width in pixels, or one number")
    more.add_argument("--tasks", nargs="+", help="tasks, the main one first")
    more.add_argument("--lesion_loss", type=float, help="weight of the token loss")
    more.add_argument("--label_file", help="label_subset.json of a checkpoint: its patients' labels are used")
    more.add_argument("--mim_learning_rate", type=float, help="peak learning rate of stage 1")
    more.add_argument("--cls_learning_rate", type=float, help="peak learning rate of stage 2")
    more.add_argument("--validation_fraction", type=float, help="fraction of the training patients for validation")
    more.add_argument("--test_fraction", type=float, help="fraction of the patients for a test split if there is none")
    more.add_argument("--split_file", help="saved split, such as the split.json of a checkpoint")
    more.add_argument("--near_duplicates", action="store_true", help="compare the images' pixels across splits too")
    more.add_argument("--seed", type=int, help="random seed")
    more.add_argument("--use_cpu", action="store_true", help="train on the CPU even if there is a GPU")
    more.add_argument("--overwrite_output_dir", action="store_true", help="replace finished stages in --output_dir")
    more.add_argument("--resume", action="store_true", help="resume each stage from its newest checkpoint")
    return p


SHARED = (
    *("image_size", "tasks", "validation_fraction", "test_fraction", "split_file", "near_duplicates", "seed"),
    *("use_cpu", "overwrite_output_dir", "num_workers"),
)


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf analysis``."""
    args = parser().parse_args(arguments)
    out = Path(args.output_dir)
    mim, classifier = out / "checkpoints" / "mim", out / "checkpoints" / "classifier"
    _check_flags(args, classifier)
    log_to(args.log_mode, out)
    from ..data.loading import HEADER, load
    from ..models.checkpoint import write_metrics
    from ..training.classification import finetune
    from ..training.mim import pretrain

    # Check both stages and the collection's labels before the first stage begins
    options = {"mim": _options(args, mim, "mim"), "cls": _options(args, classifier, "cls")}
    reading = {name: value for name, value in reading_options(vars(args)).items() if value is not None}
    header = {name: value for name, value in _settings(args).items() if name in HEADER}
    collection = load(args.root_dir, **reading, **header)
    _check_stages(args, collection, {"mim": mim, "cls": classifier}, options)
    results = {}
    if args.train_mim:
        results["mim"] = pretrain(collection, mim, model=args.model, **options["mim"])
    if args.train_cls:
        start = mim if (mim / "config.json").is_file() else args.model
        if not args.train_mim and start != mim:
            print(f"note: {mim} holds no pre-trained encoder: the classifier starts from {start} (see --train_mim)")
        results["classifier"] = finetune(collection, classifier, model=start, **options["cls"])
    for stage, result in results.items():
        write_metrics(out, stage, dict(result.metrics))
        print(result)
    if args.visualize:
        from ..inference.explain import explain

        explain(classifier, _prepared(collection, classifier, out / "prepared"), out / "visualizations")
    print(f"done; look at {', '.join(str(out / name) for name in RESULTS if (out / name).exists())}")


def _check_flags(args: argparse.Namespace, classifier: Path) -> None:
    check_dataset(args.root_dir, "--root_dir")
    check_file("--dicom_path", args.dicom_path, "a text file with one path per line")
    if not (args.train_mim or args.train_cls or args.visualize):
        raise UsageError("nothing to do", remedy="give --train_mim, --train_cls, --visualize, or several of them")
    if args.visualize and not args.train_cls and not (classifier / "config.json").is_file():
        raise UsageError("there is no classifier yet", source=classifier, remedy="give --train_cls too")


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    return processor_settings(dict(vars(args)))


def _options(args: argparse.Namespace, output: Path, stage: str) -> dict[str, Any]:
    """Return the options of a stage, from the flags that were given."""
    given = {name: getattr(args, name) for name in SHARED if hasattr(args, name)}
    given |= {
        "num_train_epochs": getattr(args, f"{stage}_epochs"),
        "per_device_train_batch_size": args.batch_size,
        "prepared_dir": str(Path(args.output_dir) / "prepared"),
        "disable_tqdm": args.log_mode == "file",
        "processor_settings": _settings(args),
    }
    if hasattr(args, f"{stage}_learning_rate"):
        given["learning_rate"] = getattr(args, f"{stage}_learning_rate")
    if stage == "cls":
        given["label_percentage"] = args.missing_label_percentage
        given |= {name: getattr(args, name) for name in ("lesion_loss", "label_file") if hasattr(args, name)}
    if hasattr(args, "resume") and any(output.glob("checkpoint-*")):
        given["resume_from_checkpoint"] = "true"
    return given


def _check_stages(
    args: argparse.Namespace, collection: Collection, folders: dict[str, Path], options: dict[str, dict[str, Any]]
) -> None:
    """Refuse now what the second stage would refuse only after hours of the first.

    Raises:
        MammoError: An option, an output folder or the collection's labels do not allow what was asked for.
    """
    from ..data.prepare.folder import folder_of
    from ..data.training_data import check_labels, check_test_images, open_collection, usable_tasks
    from ..training.classification import REFUSED_HERE, ClassificationConfig
    from ..training.mim import MimConfig
    from ..training.trainer import check_output, resolve_config

    wanted = [stage for stage, asked in (("mim", args.train_mim), ("cls", args.train_cls)) if asked]
    for stage in wanted:
        kind = MimConfig if stage == "mim" else ClassificationConfig
        with named_as_flags(_flags(stage)):
            config = resolve_config(kind, None, folders[stage], options[stage], REFUSED_HERE)
        check_output(folders[stage], config.resume_from_checkpoint, overwrite=config.overwrite_output_dir)
    if hasattr(args, "resume") and wanted and not any("resume_from_checkpoint" in options[stage] for stage in wanted):
        raise UsageError("has no checkpoint to resume from", source=args.output_dir, remedy="start without --resume")
    names = ("validation_fraction", "test_fraction", "split_file", "seed")
    splits = {name: getattr(args, name) for name in names if hasattr(args, name)}
    opened = open_collection(collection, **splits)
    if args.train_cls:
        check_labels(opened, usable_tasks(opened, getattr(args, "tasks", None)))
    if args.visualize:
        check_test_images(opened)
    out = Path(args.output_dir)
    shown = [out / "visualizations"] if args.visualize else []
    prepared = [] if folder_of(collection) else [out / "prepared"]
    check_outputs(out, *prepared, *(folders[stage] for stage in wanted), *shown)


def _flags(stage: str) -> dict[str, str]:
    """Return the original flag of each option that it names differently."""
    flags = {name: f"--{name}" for name in (*SHARED, "lesion_loss")}
    flags |= {"num_train_epochs": f"--{stage}_epochs", "learning_rate": f"--{stage}_learning_rate"}
    return flags | {"per_device_train_batch_size": "--batch_size", "label_percentage": "--missing_label_percentage"}


def _prepared(collection: Collection, classifier: Path, folder: Path) -> Any:
    """Return the collection's prepared images with the split that the classifier was trained with."""
    from ..data.splits import SPLIT_FILE
    from ..data.training_data import open_collection, prepared_images
    from ..models.checkpoint import load_processor, read_tasks

    table = open_collection(collection, split_file=classifier / SPLIT_FILE)
    return prepared_images(table, load_processor(classifier), folder, tasks=read_tasks(classifier))
