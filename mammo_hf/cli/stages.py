"""What the commands of single stages begin with: arguments read and checked, outputs claimed, the log opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import HfArgumentParser, TrainingArguments

from ..data.collection import Collection
from ..data.loading import load
from ..data.prepare.reading import is_prepared
from ..data.splits import SPLIT_FILE, read_seen, read_split, save_training_split
from ..data.training_data import open_collection
from ..errors import MammoError, UsageError
from ..models.checkpoint import check_model
from ..processing.image_processing_mammo import MammoImageProcessor
from ..training.mim import model_changes
from ..training.options import ClassificationArguments, CollectionArguments, MimArguments, check_arguments
from ..training.trainer import checkpoint_to_resume, clear_for_a_new_start
from .running import check_outputs, log_to


def parse_stage(parser: HfArgumentParser, arguments: list[str]) -> tuple[Any, ...]:
    """The parser's dataclasses.

    Raises:
        UsageError: Trainer's arguments contradict each other.
    """
    try:
        return tuple(parser.parse_args_into_dataclasses(arguments))
    except (ValueError, ImportError, RuntimeError) as error:
        raise UsageError(f"Trainer refuses its arguments: {error}", remedy="see --help") from error


def check_stage(
    own: MimArguments | ClassificationArguments, args: TrainingArguments, model: str, **changes: Any
) -> MammoImageProcessor:
    """Everything about the arguments that can be said before an image is read, and the images' processor.

    Args:
        own: The stage's own arguments.
        args: Trainer's.
        model: What training starts from.
        **changes: Of the processor.

    Raises:
        UsageError: Names the argument.
    """
    check_dataset(own.dataset, "--dataset")
    check_arguments(args)
    own.check()
    processor = own.image_processor(model, **changes)
    of_model = model_changes(own.settings()) if isinstance(own, MimArguments) else {"window_size": own.window_size}
    check_model(model, processor.canvas, **of_model)
    return processor


def check_dataset(dataset: str, argument: str) -> None:
    """Refuses what can be no collection, before anything is read.

    Raises:
        UsageError: Names the argument that wants it.
    """
    # a source by name ("folder:/data"), a mapping and an object store's URL are looked at when they are opened
    if not (Path(dataset).is_dir() or Path(dataset).suffix == ".toml" or ":" in dataset):
        raise UsageError("is no folder", source=dataset, remedy=f"give {argument} the collection's folder")


def open_as_trained(dataset: str, model: str | Path) -> Collection:
    """A collection to try a model on; one of its training that has no test split of its own gets the training's.

    Raises:
        MammoError: See `mammo_hf.data.loading.load`.
    """
    table = load(dataset)
    saved = Path(model) / SPLIT_FILE
    if "test" in table.column("split") or not saved.is_file():
        return table
    # nothing is trained here: a validation split is not wanted, and a collection of test images alone has none
    trained_on = not read_split(saved).keys().isdisjoint(table.column("patient"))
    return table.split(validation_fraction=0, saved=saved) if trained_on else table


def open_stage(own: CollectionArguments, args: TrainingArguments, model: str, out: Path) -> Collection:
    """The collection of a stage, split as its arguments say; the split is written beside the checkpoint to be.

    Raises:
        MammoError: See `mammo_hf.data.training_data.open_collection`.
    """
    resumed = checkpoint_to_resume(out, args.resume_from_checkpoint) is not None and (out / SPLIT_FILE).is_file()
    shares: dict[str, Any] = {
        "validation_fraction": own.validation_fraction,
        "test_fraction": own.test_fraction,
        "seed": args.seed,
    }
    table = open_collection(
        own.dataset,
        dicom_path=own.dicom_path,
        split_file=own.split_file,
        starts=[model, out] if resumed else [model],
        **shares,
    )
    if args.process_index == 0:
        # before training: a run that is gone on with must know whom it has learnt from
        save_training_split(table, out, before=read_seen(model) or frozenset(), **shares)
    return table


def start_stage(own: CollectionArguments, args: TrainingArguments, out: Path) -> None:
    """Claims the output folder and opens the log.

    Raises:
        UsageError: It cannot be written to, or the checkpoint to resume from is not there.
    """
    if args.process_index == 0:
        prepared = [] if is_prepared(own.dataset) else [own.prepared_folder(str(out))]
        check_outputs(out, *prepared, out / "plots")
    log_to("console", out)
    if checkpoint_to_resume(out, args.resume_from_checkpoint) is None and args.process_index == 0:
        clear_for_a_new_start(out)


def end_stage() -> None:
    """The processes of a distributed run leave together, the first one having written its results.

    One that leaves early, with the group's threads alive, may be aborted, and then the launcher ends the others while
    they write.
    """
    state = PartialState()
    state.wait_for_everyone()
    state.destroy_process_group()


# The processor that a command is told to use.


def load_processor(name: str | None) -> MammoImageProcessor:
    """The processor of a folder, or of a model on the Hub; one with every default where none is named.

    Raises:
        UsageError: There is none, or it cannot be read.
    """
    from ..processing.image_processing_mammo import (
        MammoImageProcessor,  # transformers is slow to import, and --help needs it not
    )

    if name is None:
        return MammoImageProcessor()
    try:
        return MammoImageProcessor.from_pretrained(name)
    except MammoError:
        raise
    except (OSError, ValueError) as error:
        what = "no preprocessor_config.json that can be read" if Path(name).is_dir() else "no such folder or model"
        raise UsageError(what, source=name, remedy="name a folder with a preprocessor_config.json") from error
