"""The whole way on a CBIS-DDSM folder: pre-train, classify, explain.

mammo-hf analysis --root_dir /data/CBIS-DDSM --train_mim --train_cls --visualize
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..data.collection import Collection
from ..data.prepare.reading import is_prepared
from ..data.splits import SPLIT_FILE, TEST_FRACTION, VALIDATION_FRACTION, read_seen, save_subset, save_training_split
from ..data.training_data import (
    check_labels,
    check_near_duplicates,
    check_test_images,
    collection_facts,
    labelled_patients,
    open_collection,
    prepared_images,
    training_processor,
    usable_tasks,
)
from ..errors import UsageError, check_file, check_number
from ..evaluation.after_training import Origin
from ..evaluation.report.pictures import visualize
from ..hub.push import finish_checkpoint
from ..models.checkpoint import check_model, load_processor, write_metrics
from ..processing.geometry import parse_size
from ..training.classification import train_classifier
from ..training.mim import train_mim
from ..training.options import ClassificationSettings, check_split, sensible_defaults
from ..training.trainer import clear_for_a_new_start
from .running import check_outputs, log_to
from .stages import check_dataset

if TYPE_CHECKING:
    import datasets
    from transformers import TrainingArguments

    from ..processing.image_processing_mammo import MammoImageProcessor

RESULTS = ("metrics.json", "plots", "visualizations", "checkpoints")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="mammo-hf analysis", description=(__doc__ or "").split("\n")[0])
    p.add_argument(
        "--root_dir",
        required=True,
        help="folder of the collection, SOURCE:FOLDER, a mapping's file, or what mammo-hf prepare wrote",
    )
    p.add_argument("--dicom_path", help="text file of DICOM paths, one a line: more unlabelled images for stage 1")
    p.add_argument("--output_dir", default="./outputs", help="default %(default)s")
    p.add_argument("--mim_epochs", type=float, default=3, help="default %(default)s")
    p.add_argument("--cls_epochs", type=float, default=3, help="default %(default)s")
    p.add_argument(
        "--missing_label_percentage",
        type=float,
        default=100,
        help="the share in percent of the labelled training data that IS USED, by patient (default %(default)s: all)",
    )
    p.add_argument(
        "--label_file", help="a checkpoint's label_subset.json: its patients' labels are used, instead of a share"
    )
    p.add_argument("--batch_size", type=int, default=4, help="default %(default)s")
    p.add_argument("--num_workers", type=int, default=2, help="processes that read images (default %(default)s)")
    p.add_argument("--train_mim", action="store_true", help="run stage 1, masked image modelling")
    p.add_argument("--train_cls", action="store_true", help="run stage 2, classification")
    p.add_argument("--visualize", action="store_true", help="draw explanations of test images")
    p.add_argument("--log_mode", choices=("console", "file"), default="console", help="file: training_log.txt")
    p.add_argument("--model", default="tiny", help="nano, tiny, small, base, large or a checkpoint folder")
    p.add_argument(
        "--image_size",
        type=int,
        nargs="+",
        help="height and width, or one number (default: as prepared or pre-trained, or else 448 224)",
    )
    p.add_argument(
        "--tasks",
        nargs="+",
        help="the main one first (default: pathology and density, or else the collection's first)",
    )
    p.add_argument("--lesion_loss", type=float, help="weight of the token loss; default 1 where findings have places")
    p.add_argument("--mim_learning_rate", type=float, default=5e-4, help="default %(default)s")
    p.add_argument("--cls_learning_rate", type=float, default=5e-4, help="default %(default)s")
    p.add_argument(
        "--validation_fraction",
        type=float,
        default=VALIDATION_FRACTION,
        help="share of training patients (default %(default)s)",
    )
    p.add_argument(
        "--test_fraction",
        type=float,
        default=TEST_FRACTION,
        help="share of the patients for a test split, where the collection has none of its own (default %(default)s)",
    )
    p.add_argument("--split_file", help="a saved split, such as a checkpoint's split.json: patients stand as there")
    p.add_argument(
        "--near_duplicates",
        action="store_true",
        help="also look for films that stand on two sides under two names, by their pixels",
    )
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--resume", action="store_true", help="go on from the newest checkpoint of each stage")
    return p


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf analysis``."""
    args = parser().parse_args(arguments)
    out = Path(args.output_dir)
    asked = parse_size(args.image_size) if args.image_size else None
    _check(args)
    start = args.model if args.train_mim else _start_of_stage_2(args)
    trains = _trains(args)
    processor = (
        training_processor(args.root_dir, start=start, size=asked) if trains else load_processor(_classifier(out))
    )
    stages = {stage: _trainer_arguments(args, stage) for stage in trains}
    if stages:
        check_model(start, processor.canvas)
    _check_outputs(args)
    log_to(args.log_mode, out)
    table = _open(args)
    tasks = usable_tasks(table, args.tasks)
    patients: tuple[str, ...] = ()
    labels: dict[str, Any] = {"percentage": args.missing_label_percentage, "seed": args.seed}
    if args.train_cls:
        check_labels(table, tasks)
        patients = labelled_patients(table, tasks[0]["name"], saved=args.label_file, **labels)
    if args.visualize:
        check_test_images(table)
    resume = _what_resumes(args)
    prepared = prepared_images(table, processor, out / "prepared", tasks=tasks, num_workers=args.num_workers)
    if args.near_duplicates:
        check_near_duplicates(table, prepared)
    images = _Images(table, prepared, processor, tasks)
    if args.train_mim:
        _pretrain(args, stages["mim"], images, resume="mim" in resume)
    if args.train_cls:
        _classify(args, stages["cls"], images, patients, resume="cls" in resume)
        save_subset(patients, _classifier(out) / "label_subset.json", task=tasks[0]["name"], **labels)
    if args.visualize:
        visualize(_classifier(out), prepared, out / "visualizations")
    print(f"done; look at {', '.join(str(out / name) for name in RESULTS if (out / name).exists())}")


class _Images(NamedTuple):
    """What both stages learn from."""

    table: Collection
    prepared: datasets.Dataset
    processor: MammoImageProcessor
    tasks: list[dict[str, Any]]


def _pretrain(args: argparse.Namespace, settings: TrainingArguments, images: _Images, *, resume: bool) -> None:
    out = Path(args.output_dir)
    _save_split(args, images.table, _mim(out), args.model)
    figures = train_mim(
        images.prepared,
        images.processor,
        settings,
        model=args.model,
        checkpoint=_mim(out),
        plots=out / "plots",
        resume=resume,
    )
    figures["collection"] = collection_facts(images.table, images.tasks, args.root_dir)
    _finish(args, "mim", _mim(out), figures, images)


def _classify(
    args: argparse.Namespace,
    settings: TrainingArguments,
    images: _Images,
    patients: tuple[str, ...],
    *,
    resume: bool,
) -> None:
    table, prepared, processor, tasks = images
    out, start = Path(args.output_dir), _start_of_stage_2(args)
    _save_split(args, table, _classifier(out), start)
    figures = train_classifier(
        prepared,
        processor,
        settings,
        model=start,
        tasks=tasks,
        patients=patients,
        settings=ClassificationSettings(lesion_loss=args.lesion_loss),
        checkpoint=_classifier(out),
        plots=out / "plots",
        origin=Origin.of(table, prepared, tasks=tasks, dataset=args.root_dir, folder=out / "prepared"),
        resume=resume,
    )
    _finish(args, "classifier", _classifier(out), figures, images)


def _finish(args: argparse.Namespace, stage: str, checkpoint: Path, figures: dict[str, Any], images: _Images) -> None:
    about = {"seed": args.seed, "image_size": list(images.processor.canvas), "model": Path(args.model).name}
    figures = figures | about
    write_metrics(Path(args.output_dir), stage, figures)
    finish_checkpoint(checkpoint, stage, figures, plots=Path(args.output_dir) / "plots")


def _open(args: argparse.Namespace) -> Collection:
    """The collection, split, with no test patient whom a checkpoint that is gone on from has learnt from."""
    out = Path(args.output_dir)
    kept = {_mim(out): not args.train_mim or args.resume, _classifier(out): not args.train_cls or args.resume}
    starts = [args.model, *(folder for folder in kept if kept[folder] and (folder / SPLIT_FILE).is_file())]
    return open_collection(args.root_dir, dicom_path=args.dicom_path, starts=starts, **_split_arguments(args))


def _save_split(args: argparse.Namespace, table: Collection, checkpoint: Path, start: str) -> None:
    checkpoint.mkdir(parents=True, exist_ok=True)
    shares = {name: value for name, value in _split_arguments(args).items() if name != "split_file"}
    save_training_split(table, checkpoint, before=read_seen(start) or frozenset(), **shares)


def _split_arguments(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("validation_fraction", "test_fraction", "split_file", "seed")}


def _check(args: argparse.Namespace) -> None:
    out = Path(args.output_dir)
    check_dataset(args.root_dir, "--root_dir")
    if args.dicom_path and not Path(args.dicom_path).is_file():
        raise UsageError("no such file", source=args.dicom_path, remedy="--dicom_path takes a text file of DICOM paths")
    percentage = args.missing_label_percentage
    check_number("--missing_label_percentage", percentage, 0 < percentage <= 100, "above 0 and at most 100")
    ClassificationSettings(lesion_loss=args.lesion_loss)  # checks it
    check_file("--label_file", args.label_file)
    check_split(args.validation_fraction, args.test_fraction, args.split_file)
    if not (args.train_mim or args.train_cls or args.visualize):
        raise UsageError("nothing to do", remedy="give --train_mim, --train_cls, --visualize, or several of them")
    if args.visualize and not args.train_cls and not (_classifier(out) / "config.json").is_file():
        raise UsageError("there is no classifier yet", source=_classifier(out), remedy="give --train_cls too")
    if args.train_cls and not args.train_mim and not (_mim(out) / "config.json").is_file():
        print(f"note: no pre-trained encoder in {_mim(out)}: the classifier starts from {args.model} (see --train_mim)")


def _trains(args: argparse.Namespace) -> list[str]:
    return [stage for stage, wanted in (("mim", args.train_mim), ("cls", args.train_cls)) if wanted]


def _check_outputs(args: argparse.Namespace) -> None:
    out = Path(args.output_dir)
    folders = [] if is_prepared(args.root_dir) else [out / "prepared"]
    if args.train_mim:
        folders += [_mim(out), _trainer_folder(args, "mim"), out / "plots"]
    if args.train_cls:
        folders += [_classifier(out), _trainer_folder(args, "cls"), out / "plots"]
    if args.visualize:
        folders.append(out / "visualizations")
    check_outputs(out, *folders)


def _what_resumes(args: argparse.Namespace) -> set[str]:
    """The stages that go on from a checkpoint: those that an interrupted run had begun."""
    if not args.resume:
        for stage in _trains(args):
            clear_for_a_new_start(_trainer_folder(args, stage))
        return set()
    begun = {stage for stage in _trains(args) if any(_trainer_folder(args, stage).glob("checkpoint-*"))}
    if not begun:
        folder = Path(args.output_dir) / "trainer"
        raise UsageError("no checkpoint to resume from", source=folder, remedy="start without --resume")
    return begun


def _start_of_stage_2(args: argparse.Namespace) -> str:
    """The encoder of stage 1 where there is one, or will be."""
    mim = _mim(Path(args.output_dir))
    return str(mim) if (mim / "config.json").is_file() else args.model


def _trainer_folder(args: argparse.Namespace, stage: str) -> Path:
    return Path(args.output_dir) / "trainer" / stage


def _mim(out: Path) -> Path:
    return out / "checkpoints" / "mim"


def _classifier(out: Path) -> Path:
    return out / "checkpoints" / "classifier"


def _trainer_arguments(args: argparse.Namespace, stage: str) -> Any:
    return sensible_defaults(
        str(_trainer_folder(args, stage)),
        epochs=args.mim_epochs if stage == "mim" else args.cls_epochs,
        batch_size=args.batch_size,
        learning_rate=args.mim_learning_rate if stage == "mim" else args.cls_learning_rate,
        seed=args.seed,
        num_workers=args.num_workers,
        device=args.device,
        show_progress=args.log_mode == "console",
    )
