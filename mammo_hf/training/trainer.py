"""The common parts of both stages: configuration, output folder, Trainer, and runs that can be interrupted."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import socket
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
import yaml
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_utils import IntervalStrategy
from transformers.training_args import ParallelMode

from ..data import READING
from ..data.collection import Collection
from ..data.prepare.folder import features_folder, folder_of
from ..data.splits import read_seen, save_training_split
from ..data.terms import Terms, read_terms, terms_of_model, united, write_terms
from ..data.torch_datasets import StreamedMaskedImages, StreamLoader
from ..data.training_data import open_collection, reading_of
from ..errors import MammoError, UsageError, check_number, did_you_mean
from ..files import size_text, writable_folder, write_whole
from ..hub.push import finish_checkpoint, take_over_push
from ..models.checkpoint import CONFIG, METRICS, load_model, name_of, read_metrics
from ..models.configuration_mammo_swin import SIZES, MammoSwinConfig
from ..models.losses import loss_counts
from ..processing.image_processing_mammo import MammoImageProcessor
from .callbacks import WeightAverage, show_progress
from .options import StageOptions

logger = logging.getLogger(__name__)

RUN_FILE = "run.yaml"
_OF_ONE_RUN = ("output_dir", "overwrite_output_dir", "resume_from_checkpoint", "hub_token")
# arguments of Trainer that no stage can honour, and what does the same
REFUSED = {
    "do_train": "leave it out: this always trains",
    "do_eval": "leave it out: `eval_strategy` sets when to evaluate, evaluate evaluates a trained model",
    "do_predict": "use predict on the trained model",
    "neftune_noise_alpha": "leave it out: it disturbs embeddings of words",
    "use_liger_kernel": "leave it out: its kernels are those of language models",
}


class StageConfig(StageOptions, TrainingArguments):
    """Trainer's arguments together with a stage's own options, checked when they are made."""

    def __post_init__(self) -> None:
        # as they were given, before Trainer completes them: what `with_options` starts from
        self._given = {field.name: getattr(self, field.name) for field in fields(self)}
        self.check()
        batch, epochs = self.per_device_train_batch_size, self.num_train_epochs
        check_number("per_device_train_batch_size", batch, batch >= 1, "1 or more")
        check_number("seed", self.seed, 0 <= self.seed < 2**32, "at least 0 and below 2 ** 32")
        if self.max_steps <= 0:
            check_number("num_train_epochs", epochs, 0 < epochs < float("inf"), "above 0")
        self.dataloader_num_workers = self.dataloader_num_workers or self.num_workers
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()
        self.remove_unused_columns = False  # the collator's batches hold what `forward` takes, and nothing else
        super().__post_init__()
        self._completed = {name: getattr(self, name) for name in self._given}

    def with_options(self: Config, **options: Any) -> Config:
        """Return a copy with other options; this configuration stays as it is."""
        changed = {name: getattr(self, name) for name, value in self._completed.items() if getattr(self, name) != value}
        return type(self)(**{**self._given, **changed, **options})

    def save(self, **about: Any) -> None:
        """Write the stage's options, and those of Trainer that differ from their defaults, to ``run.yaml``.

        ``--config`` reads it, so that the run can be repeated.

        Args:
            **about: Further arguments of the run, such as ``model``.
        """
        own = {field.name for field in fields(type(self).__mro__[1])}
        defaults = {field.name: field.default for field in fields(self)}
        chosen = {
            name: value
            for name, value in self._given.items()
            if value is not None and (name in own or value != defaults[name]) and name not in _OF_ONE_RUN
        }
        plain = json.loads(json.dumps({**about, **chosen}, default=str))
        write_whole(Path(str(self.output_dir)) / RUN_FILE, yaml.safe_dump(plain, sort_keys=False).encode())


Config = TypeVar("Config", bound=StageConfig)


def resolve_config(
    kind: type[Config],
    config: Config | None,
    output_dir: str | Path,
    options: Mapping[str, Any],
    refused: Mapping[str, str] = REFUSED,
) -> Config:
    """Return the configuration of a run, and refuse what Trainer could not honour before an image is read.

    Args:
        kind: Class of the stage's configuration.
        config: Configuration to start from; ``None``: the defaults. It is not changed.
        output_dir: Folder of the run.
        options: Options in place of the configuration's.
        refused: Arguments that the stage cannot honour, with what does the same.

    Raises:
        UsageError: An option is unknown, is out of its range, or needs something that is not installed.
    """
    known = [field.name for field in fields(kind)]
    for name, value in options.items():
        if name not in known:
            remedy = did_you_mean(name, known).rstrip() or f"see the fields of {kind.__name__}"
            raise UsageError("is not an option of this stage", source=name, remedy=remedy)
        if value and name in refused:
            raise UsageError("cannot be honoured", source=name, remedy=refused[name])
    if config is not None and not isinstance(config, kind):
        raise UsageError(f"is a {type(config).__name__}", source="config", remedy=f"give a {kind.__name__}")
    try:
        result = (config or kind("defaults")).with_options(**{**options, "output_dir": str(output_dir)})
        _check_installed(result)
    except (ValueError, ImportError, RuntimeError, TypeError) as error:
        reason = str(error).replace("`", "'")  # what it quotes need not be an option
        raise UsageError(
            f"Trainer refuses its arguments: {reason}", remedy="see the arguments of transformers.TrainingArguments"
        ) from error
    return result


def _check_installed(config: StageConfig) -> None:
    """Construct what Trainer would construct late: trackers, the optimiser's class, and the process group of FSDP."""
    for callback in get_reporting_integration_callbacks(config.report_to):
        callback()
    Trainer.get_optimizer_cls_and_kwargs(config)
    if config.fsdp and config.parallel_mode != ParallelMode.DISTRIBUTED:
        raise UsageError("needs several processes", source="fsdp", remedy="start with accelerate launch or torchrun")


@dataclass(frozen=True)
class TrainingResult:
    """Result of a stage: its folder, its metrics, and one sentence about them."""

    output_dir: Path
    metrics: Mapping[str, Any]
    summary: str

    def __str__(self) -> str:
        return f"{self.summary}; in {self.output_dir}"


def check_output(output: Path, resume: str | bool | None, *, overwrite: bool) -> str | None:
    """Refuse an output folder with work that would be lost.

    Args:
        output: Folder of the stage.
        resume: ``None`` or false: a new start; true: the newest checkpoint of ``output``; or a checkpoint's folder.
        overwrite: Whether a finished training may be replaced.

    Returns:
        The checkpoint to resume from; ``None`` for a new start.

    Raises:
        UsageError: The checkpoint to resume from does not exist, or the folder holds an unfinished or finished
            training that would be lost.
    """
    if resume and str(resume).lower() != "false":
        if str(resume).lower() == "true":
            resume = last_whole_checkpoint(output)
            if resume is None:
                raise UsageError("has no checkpoint to resume from", source=output, remedy="start without resuming")
        if not (Path(str(resume)) / "trainer_state.json").is_file():
            raise UsageError("is not a checkpoint to resume from", source=resume, remedy="give a folder checkpoint-N")
        return str(resume)
    newest = last_whole_checkpoint(output)
    finished = (output / CONFIG).is_file() and (output / METRICS).is_file()
    if newest is not None and not finished and not overwrite:
        done, planned = _progress_of(Path(newest))
        raise UsageError(
            f"an earlier run was left unfinished here (step {done} of {planned})",
            source=newest,
            remedy="resume it with `resume_from_checkpoint=True`, or give `overwrite_output_dir=True` or another "
            "`output_dir`",
        )
    if finished and not overwrite:
        raise UsageError(
            "holds a finished training",
            source=output,
            remedy="give another `output_dir`, `overwrite_output_dir=True`, or `resume_from_checkpoint=True`",
        )
    return None


def _progress_of(checkpoint: Path) -> tuple[int, int]:
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        return int(state["global_step"]), int(state["max_steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 1


def open_stage(
    images: Collection | str | Path,
    config: StageConfig,
    *,
    start: str | None,
    resumed: bool,
    processor: MammoImageProcessor,
    teachers: Sequence[str] = (),
) -> Collection:
    """Open the collection of a stage, split by patient as its configuration says.

    Args:
        images: A collection, or anything that `mammo_hf.load` takes.
        config: Configuration of the stage.
        start: What training starts from, a size or a folder; no patient that it was trained on may be tested. ``None``:
            nothing that was trained on images of a known patient.
        resumed: Whether an earlier training is resumed, whose own patients must not be tested either.
        processor: Processor of the images.
        teachers: Folders of further models that training depends on, whose own patients must not be tested either.
    """
    reading = {name: getattr(config, name) for name in READING} | reading_of(images, processor)
    return open_collection(
        images,
        reading=reading,
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        split_file=config.split_file,
        seed=config.seed,
        terms=config.terms,
        starts=[*([] if start is None else [start]), *teachers, *([str(config.output_dir)] if resumed else [])],
    )


def begin_stage(
    collection: Collection,
    config: StageConfig,
    terms: tuple[Terms, ...],
    *,
    model: str | None,
    start: str | None,
    resumed: bool,
    teachers: Sequence[str] = (),
) -> dict[str, Any] | None:
    """Take over the output folder: remove an earlier training, and write the split, the terms and the configuration.

    The split is written before training, so that a run that is resumed knows the patients that it was trained on. A
    repository to push to is opened before anything is written.

    Args:
        collection: Collection with its splits.
        config: Configuration of the stage; its ``output_dir`` is taken over.
        terms: Terms of all that the model will have been trained on, from `terms_of_training`.
        model: What training starts from, as it was given; ``None``: nothing.
        start: The same as a size or a folder; the patients that it was trained on are recorded too.
        resumed: Whether an earlier training is resumed here, so that its checkpoints are kept.
        teachers: Folders of further models that training depends on, whose patients are recorded as well.

    Returns:
        The arguments of the push at the end, from `take_over_push`; ``None`` if no push was asked for.

    Raises:
        UsageError: The folder cannot be written to, or the terms do not allow a push that was asked for.
    """
    out = Path(str(config.output_dir))
    target = take_over_push(config, out, terms) if config.push_to_hub else None
    if config.process_index:
        return target
    made = folder_of(collection) or features_folder(collection)
    prepared = [] if made else [config.prepared_folder()]
    for folder in (out, out / "plots", *prepared):
        writable_folder(folder)
    read_metrics(out)
    if not resumed:
        _clear(out)
    write_terms(out, terms, (resumed and read_terms(out)) or ())
    about = {name: getattr(config, name) for name in ("validation_fraction", "test_fraction", "seed")}
    others = [*([] if start is None else [start]), *teachers]
    before = frozenset[str]().union(*(read_seen(other) or frozenset() for other in others))
    save_training_split(collection, out, before=before, **about)
    config.save(**({} if model is None else {"model": model}))
    return target


def terms_of_training(collection: Collection, config: StageConfig, start: str | None) -> tuple[Terms, ...]:
    """Return the terms of all that a model will have been trained on: the images, and those of its ancestors."""
    if start is None or start in SIZES:
        return collection.terms
    name = name_of(Path(start))
    return united(collection.terms, terms_of_model(start, name, config.model_terms))


def end_stage(
    stage: str, result: TrainingResult, config: StageConfig, collection: Collection, *, start: str | None, target: Any
) -> None:
    """Write metrics and model card, push if that was asked for, and log the result, in the main process.

    Args:
        stage: Stage that was trained, "mim" or "classifier".
        result: Result of the stage.
        config: Configuration of the stage.
        collection: Collection that it was trained on.
        start: What training started from, for the card.
        target: Arguments of the push, from `begin_stage`; ``None``: do not push.
    """
    if config.process_index:
        return
    private = [path for path in (collection.root, config.prepared_dir) if path]
    about = {"target": target, "license": config.license, "start": start, "private_paths": private}
    about |= {"permission": config.permission, "results_dataset": config.results_dataset}
    plots = result.output_dir / "plots"
    pushed = finish_checkpoint(result.output_dir, stage, dict(result.metrics), plots=plots, **about)
    if pushed is not None:
        logger.info("%s", pushed)
    logger.info("%s", result)


def _clear(output: Path) -> None:
    """Remove the checkpoints, model and metrics of an earlier training, which a later resume would take for its own."""
    for folder in output.glob("checkpoint-*"):
        if folder.is_dir():
            shutil.rmtree(folder)
    for pattern in (CONFIG, METRICS, "*.safetensors", "*.safetensors.index.json"):
        for path in output.glob(pattern):
            path.unlink()


def last_whole_checkpoint(output: str | Path) -> str | None:
    """Return the newest checkpoint of a folder that was written completely; one that a kill cut short is skipped."""
    # Trainer writes its state last
    whole = [path.parent for path in Path(output).glob("checkpoint-*/trainer_state.json") if _is_whole(path)]
    steps = [path for path in whole if path.name.removeprefix("checkpoint-").isdigit()]
    newest = max(steps, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)
    return None if newest is None else str(newest)


def _is_whole(state: Path) -> bool:
    try:
        return isinstance(json.loads(state.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False


def check_batch(config: StageConfig, images: int, what: str) -> None:
    """Warn if a batch is larger than the set that it is drawn from.

    Raises:
        UsageError: Incomplete batches are to be dropped, so that none would be left.
    """
    batch = config.per_device_train_batch_size
    if batch <= images:
        return
    if config.dataloader_drop_last:
        raise UsageError(
            f"a batch of {batch} is larger than the {images} {what}: no batch is left",
            source="dataloader_drop_last",
            remedy="leave it out, or give a smaller `per_device_train_batch_size`",
        )
    logger.warning("a batch of %d is larger than the %d %s: each batch holds them all", batch, images, what)


def without_validation(
    config: StageConfig, kept: str = "the last epoch is kept, even if an earlier one was better"
) -> None:
    """Set a training without evaluation up, which Trainer would refuse without an image to validate on, and say so."""
    logger.warning("no image to validate on: %s", kept)
    config.eval_strategy = IntervalStrategy.NO
    config.load_best_model_at_end = False


class Interrupted(MammoError):  # noqa: N818 (a state of the run, not a fault)
    """End of a training by the user; a checkpoint to resume from has been written."""

    exit_status = 130


class SaveOnInterrupt(TrainerCallback):
    """Ctrl-C ends the training after the step in progress and saves a checkpoint; a second one ends it at once."""

    def __init__(self) -> None:
        self.interrupted = False
        self._process = os.getpid()
        self._before: Any = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take the interrupt signal over."""
        try:
            self._before = signal.signal(signal.SIGINT, self._note)
        except ValueError:  # not the main thread, to which Python delivers signals
            self._before = None

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask Trainer to save and stop after an interrupt."""
        if self.interrupted:
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Give the signal back."""
        self.release()

    def release(self) -> None:
        """Give the signal back to its earlier handler."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a forked worker that reads images: it runs until the main process ends the training
        self.interrupted = True
        self.release()
        logger.warning("interrupted: saving a checkpoint after this step (again: end at once)")


def run(trainer: Trainer, checkpoint: str | None) -> None:
    """Train, and end in order after Ctrl-C.

    Args:
        trainer: Trainer that is ready to train.
        checkpoint: Checkpoint to resume from; ``None``: from the start.

    Raises:
        Interrupted: Ctrl-C; a checkpoint has been written.
    """
    show_progress(trainer)
    guard = SaveOnInterrupt()
    trainer.add_callback(guard)
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        guard.release()
    if guard.interrupted:
        raise Interrupted(
            f"interrupted at step {trainer.state.global_step}",
            source=trainer.args.output_dir,
            remedy="the same call with `resume_from_checkpoint=True` resumes from there",
        )


def layer_depth(name: str, depths: list[int]) -> int:
    """Return how far a Swin's parameter is from the pixels, in blocks.

    Args:
        name: Name of the parameter in a model with a ``swin``.
        depths: Number of blocks of each stage.

    Returns:
        0 for the embeddings, then one more with each block; a patch merging counts as the block before it, everything
        above the encoder as one more than the last block.
    """
    if ".embeddings." in f".{name}":
        return 0
    stage = re.search(r"encoder\.layers\.(\d+)\.", name)
    if stage is None:
        return sum(depths) + 1
    before = sum(depths[: int(stage[1])])
    block = re.search(r"\.blocks\.(\d+)\.", name)
    return before + (depths[int(stage[1])] if block is None else 1 + int(block[1]))


def parameter_groups(
    network: nn.Module, depths: list[int], *, learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Return an optimiser's groups: learning rate by depth; no weight decay on biases, norms, tokens and positions.

    Layer-wise decay as in BEiT (Bao et al. 2022, section 3): the nearer to the pixels, the smaller the step.

    Args:
        network: Model whose trainable parameters are grouped.
        depths: Number of blocks of each stage.
        learning_rate: Learning rate of the head.
        weight_decay: Weight decay of matrices and kernels.
        layer_decay: Factor in (0, 1] from one layer to the one below.
    """
    groups: dict[tuple[int, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            spared = parameter.ndim < 2 or name.endswith(("_token", "position_embeddings", "position_bias_table"))
            groups[layer_depth(name, depths), spared].append(parameter)
    top = sum(depths) + 1
    return [
        {
            "params": parameters,
            "lr": learning_rate * layer_decay ** (top - depth),
            "weight_decay": 0.0 if spared else weight_decay,
        }
        for (depth, spared), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


@contextmanager
def without_host_name() -> Iterator[None]:
    """Let this process have no name of its machine: TensorBoard puts it into the names of folders and files."""
    named, socket.gethostname = socket.gethostname, lambda: "host"
    try:
        yield
    finally:
        socket.gethostname = named


class Diverged(MammoError):  # noqa: N818 (a state of the run, as Interrupted is)
    """A loss that is no longer a number."""


class SwinTrainer(Trainer):
    """Trainer of a Swin that reads its own checkpoints back completely.

    transformers 5 saves a Swin under the names of its published checkpoints, which differ from the module's, and its
    Trainer loads a checkpoint by the module's: the encoder would silently keep the weights it has, both when the best
    epoch is loaded and after a resume. ``from_pretrained`` knows both names.

    Args:
        layer_decay: Factor of the learning rate from one layer to the one below; 1: equal rates.
        average: Moving average of the weights that evaluation uses; ``None``: the weights themselves.
    """

    def __init__(
        self, *args: Any, layer_decay: float = 1.0, average: WeightAverage | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        # the models say no: a plain Trainer would count the labels of all tasks as one, or nothing
        self.model_accepts_loss_kwargs = True
        self.layer_decay = layer_decay
        self.average = average
        if average is not None:
            self.add_callback(average)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as transformers does, without the name of this machine in what trackers write if it is not wanted."""
        with nullcontext() if getattr(self.args, "name_host", True) else without_host_name():
            return super().train(*args, **kwargs)

    def _init_training_state(self, max_steps: int, per_epoch: int, epochs: int, *args: Any) -> tuple[int, int]:
        """Begin after the last epoch if the checkpoint is of the last step: Trainer would take one step more."""
        trained, steps = super()._init_training_state(max_steps, per_epoch, epochs, *args)
        return (epochs, 0) if self.state.global_step >= max_steps else (trained, steps)

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """Refuse Trainer's own push, which takes every file of its folder along, and with them this machine's paths.

        Raises:
            UsageError: It was asked for.
        """
        raise UsageError("Trainer's own push is not used", source="push_to_hub", remedy="use mammo_hf.push")

    def get_train_dataloader(self) -> DataLoader:
        """Return Trainer's own loader, or one that does not divide a stream among the processes twice."""
        if not isinstance(self.train_dataset, StreamedMaskedImages):
            return super().get_train_dataloader()
        return StreamLoader(
            self.train_dataset,
            batch_size=self._train_batch_size,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Create Trainer's own optimiser over groups by layer."""
        network = self.model if model is None else model
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, network)
            depths = getattr(self.accelerator.unwrap_model(network).config, "depths", [])
            groups = parameter_groups(
                network,
                depths,
                learning_rate=self.args.learning_rate,
                weight_decay=self.args.weight_decay,
                layer_decay=self.layer_decay,
            )
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Train on one micro-batch.

        Raises:
            Diverged: The loss is not finite; the last checkpoint was written before.
        """
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise self._diverged(f"the loss became {float(loss)} at step {self.state.global_step + 1}")
        return loss

    def _diverged(self, problem: str) -> Diverged:
        last = last_whole_checkpoint(str(self.args.output_dir))
        remedy = f"the last good checkpoint is {last or 'none yet'}: resume with a smaller learning rate"
        return Diverged(problem, source=self.args.output_dir, remedy=remedy)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate with the averaged weights if there are any."""
        if self.average is None:
            return super().evaluate(*args, **kwargs)
        with self.average.applied():
            return super().evaluate(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, and the average next to the weights of a checkpoint.

        Raises:
            Diverged: The weights are not finite, though the loss still was; no checkpoint is made of them.
        """
        if _internal_call and not all(torch.isfinite(weights).all() for weights in self.model.parameters()):
            raise self._diverged(f"the weights are no longer finite after step {self.state.global_step}")
        super().save_model(output_dir, _internal_call)
        # here, and not when the checkpoint is complete: a kill in between would leave one without its average
        if self.average is not None and _internal_call and self.args.should_save:
            self.average.save(str(output_dir))

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (OSError, RuntimeError, SafetensorError) as error:
            # torch reports a full disk as a fault of its writer
            if isinstance(error, RuntimeError) and "StreamWriter" not in str(error):
                raise
            raise self._unsaved() from error

    def _unsaved(self) -> UsageError:
        output, step = Path(str(self.args.output_dir)), self.state.global_step
        shutil.rmtree(output / f"checkpoint-{step}", ignore_errors=True)  # a part of one would only take room
        free = size_text(shutil.disk_usage(output).free)
        # the weights, and the two moments of Adam
        needed = size_text(3 * sum(weights.numel() * weights.element_size() for weights in self.model.parameters()))
        last = last_whole_checkpoint(output)
        again = f"resume from {Path(last).name} with `resume_from_checkpoint=True`" if last else "run it again"
        return UsageError(
            f"the checkpoint of step {step} cannot be written: it takes about {needed}, {free} are free",
            source=output,
            remedy=f"free space, then {again}",
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            target = self.accelerator.unwrap_model(self.model if model is None else model)
            stored = load_model(type(target), resume_from_checkpoint, config=target.config)
            target.load_state_dict(stored.state_dict())
        if self.average is not None:
            self.average.load(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_best_model()
            return
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))


class ClassificationTrainer(SwinTrainer):
    """Trainer of a classifier of several tasks with labels that are partly unknown."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.label_smoothing_factor:  # Trainer's own smoothing takes all tasks for one
            remedy = f"give the model label_smoothing={self.args.label_smoothing_factor} in its configuration"
            raise UsageError("has no effect on several tasks", source="label_smoothing_factor", remedy=remedy)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> Any:
        """Predict one batch, with the scores of the lesion head, which calibration and metrics need."""
        kept = [key for key in MammoSwinConfig.keys_to_ignore_at_inference if key != "lesion_scores"]
        return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys or kept)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Return what the losses of one update are divided by, over all its micro-batches and processes."""
        if not batch_samples or self.args.n_gpu > 1:
            return None
        counts = torch.stack([loss_counts(batch["labels"], batch.get("lesion_targets")) for batch in batch_samples])
        total = counts.sum(0).to(device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            total = self.accelerator.gather(total[None]).sum(0)
        return total


class PairTrainer(ClassificationTrainer):
    """Trainer on labels, and on the order of the two breasts of a patient.

    The loss of a pair is softplus(b - a) of the log odds a of the diseased breast and b of the other one (RankNet,
    Burges et al., ICML 2005). What both have in common, as scanner, tone and density, cannot lower it.

    Args:
        pair_loss: Weight of the loss of the pairs, the mean over all images of an update; one without a pair counts 0.
    """

    def __init__(self, *args: Any, pair_loss: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pair_loss = pair_loss

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the labels' loss, in training with that of the pairs, from the same forward pass."""
        if "other_breasts" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs = dict(inputs)
        others, signs = inputs.pop("other_breasts"), inputs.pop("pair_signs")
        count, paired = len(signs), signs != 0
        for name in ("pixel_values", "labels", "lesion_targets"):
            if name in inputs:
                own = inputs[name]
                unlabelled = own.new_full((int(paired.sum()), *own.shape[1:]), -100)
                inputs[name] = torch.cat([own, others[paired] if name == "pixel_values" else unlabelled])
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if paired.any():
            odds = outputs.logits[:, 1].float() - outputs.logits[:, 0].float()
            apart = (odds[:count][paired] - odds[count:]) * signs[paired]
            pairs = functional.softplus(-apart).sum() / count
            # the labels' loss is divided over the whole update already, this one over a micro-batch
            if num_items_in_batch is not None:
                pairs = pairs / self.current_gradient_accumulation_steps
            loss = loss + self.pair_loss * pairs
        return (loss, outputs) if return_outputs else loss
