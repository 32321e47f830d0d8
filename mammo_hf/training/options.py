"""The arguments of the stages' commands, beside Trainer's own."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from ..data.splits import TEST_FRACTION, VALIDATION_FRACTION
from ..data.training_data import training_processor
from ..errors import UsageError, check_choice, check_file, check_number
from ..models.configuration_mammo_swin import DECODERS, LOSS_REGIONS, SCORES
from ..processing.geometry import parse_size
from ..processing.image_processing_mammo import MammoImageProcessor
from ..processing.masking import PLACES
from .callbacks import PROBES

SAMPLING = ("weighted", "balanced", "natural")
TUNE = ("full", "last_stage", "head")
SEMI_SUPERVISED = ("none", "pseudo_label", "mean_teacher")
WINDOW_HELP = "side of the attention windows in tokens; default: the model's, or else 7"
MODEL_HELP = "nano, tiny, small, base, large, a checkpoint folder of any Swin, or a .pth file of Swin or SimMIM"


@dataclass
class CollectionArguments:
    """Where the images come from and how large the model sees them."""

    dataset: str = field(
        metadata={"help": "folder of the collection, SOURCE:FOLDER, a mapping's file, or what mammo-hf prepare wrote"}
    )
    dicom_path: str | None = field(
        default=None, metadata={"help": "text file of DICOM paths, one a line: adds unlabelled images for stage 1"}
    )
    image_size: list[int] | None = field(
        default=None,
        metadata={"help": "height and width in pixels, or one number; default: the processor's, or else 448 224"},
    )
    processor: str | None = field(
        default=None,
        metadata={
            "help": "folder with a preprocessor_config.json: how images are read; default: the prepared folder's, or "
            "else that of the checkpoint that training starts from"
        },
    )
    validation_fraction: float = field(
        default=VALIDATION_FRACTION, metadata={"help": "share of the training patients that choose the best epoch"}
    )
    test_fraction: float = field(
        default=TEST_FRACTION,
        metadata={"help": "share of the patients for a test split where the collection has none of its own; 0: none"},
    )
    split_file: str | None = field(
        default=None,
        metadata={"help": "a saved split, such as the split.json beside a checkpoint: its patients stand as there"},
    )
    near_duplicates: bool = field(
        default=False, metadata={"help": "also look for films that stand on two sides under two names, by their pixels"}
    )
    prepare_workers: int = field(default=2, metadata={"help": "processes that prepare images beside the main one"})
    prepared_dir: str | None = field(
        default=None, metadata={"help": "folder of the prepared images; default: prepared/ below --output_dir"}
    )
    license: str | None = field(
        default=None, metadata={"help": "of the model, for its card: an identifier of the Hub, such as apache-2.0"}
    )

    def image_processor(self, start: str, **changes: Any) -> MammoImageProcessor:
        """What is done to the images of a training that starts from there.

        Raises:
            MammoError: See `mammo_hf.data.training_data.training_processor`.
        """
        size = parse_size(self.image_size) if self.image_size else None
        return training_processor(self.dataset, start=start, named=self.processor, size=size, **changes)

    def check(self) -> None:
        """Refuses what cannot be, before an image is read.

        Raises:
            UsageError: Names the argument.
        """
        check_split(self.validation_fraction, self.test_fraction, self.split_file)
        check_number("--prepare_workers", self.prepare_workers, self.prepare_workers >= 0, "0 or more")

    def prepared_folder(self, output_dir: str) -> Path:
        """Where the prepared images are kept."""
        return Path(self.prepared_dir) if self.prepared_dir else Path(output_dir) / "prepared"


@dataclass
class MimSettings:
    """How stage 1 trains, whatever it trains on.

    Raises:
        UsageError: A word that is not known, or a number out of its range.
    """

    decoder: str = field(default="conv", metadata={"help": "conv, or linear as in SimMIM"})
    sparse_encoder: bool = field(
        default=True, metadata={"help": "run the encoder on visible tokens alone where size and blocks allow it"}
    )
    loss_region: str = field(default="masked", metadata={"help": "masked, masked_breast or all"})
    normalized_patch: int | None = field(
        default=None, metadata={"help": "side in pixels of patches that the target is normalised by; default: none"}
    )
    mask_within: str = field(default="image", metadata={"help": "image, or breast: nothing is spent on background"})
    window_size: int | None = field(default=None, metadata={"help": WINDOW_HELP})
    layer_decay: float = field(
        default=1.0, metadata={"help": "factor of the learning rate from a layer to the one below it"}
    )
    weight_average: float = field(
        default=0.0, metadata={"help": "decay of an average of the weights that is saved instead of them; 0: none"}
    )
    probes: list[str] = field(
        default_factory=list, metadata={"help": "linear, knn: classifiers on frozen features at each evaluation"}
    )

    def __post_init__(self) -> None:
        for name, values, known in (
            ("decoder", [self.decoder], DECODERS),
            ("loss_region", [self.loss_region], LOSS_REGIONS),
            ("mask_within", [self.mask_within], PLACES),
            ("probes", self.probes, PROBES),
        ):
            for value in values:
                check_choice(f"--{name}", value, known)
        check_number("--layer_decay", self.layer_decay, 0 < self.layer_decay <= 1, "above 0 and at most 1")
        check_number("--weight_average", self.weight_average, 0 <= self.weight_average < 1, "at least 0 and below 1")


@dataclass
class MimArguments(MimSettings, CollectionArguments):
    """Stage 1's own."""

    model: str = field(
        default="tiny",
        metadata={"help": MODEL_HELP},
    )
    mask_block_size: int = field(default=16, metadata={"help": "side of the hidden blocks in pixels"})
    mask_ratio: float = field(default=0.5, metadata={"help": "share of the blocks that is hidden"})
    streaming: bool = field(
        default=False, metadata={"help": "read the shards of mammo-hf prepare --format parquet as a stream"}
    )

    def settings(self) -> MimSettings:
        """How to train, without what to train on."""
        return MimSettings(**{own.name: getattr(self, own.name) for own in fields(MimSettings)})


@dataclass
class ClassificationSettings:
    """How stage 2 trains, whatever it trains on. Label smoothing is Trainer's own ``--label_smoothing_factor``.

    Raises:
        UsageError: A word that is not known, or a number out of its range.
    """

    lesion_loss: float | None = field(
        default=None, metadata={"help": "weight of the token loss; default 1 where findings have places, else 0"}
    )
    score_from: str = field(
        default="pooled",
        metadata={
            "help": "the lesion task's score: pooled (what explanations explain), lesion, mean, or auto: by validation"
        },
    )
    ordinal_tasks: list[str] = field(
        default_factory=list, metadata={"help": "tasks taught by the ranked probability score, density for instance"}
    )
    task_weights: list[float] = field(
        default_factory=list, metadata={"help": "one weight a task in the loss; default: all alike"}
    )
    sampling: str = field(
        default="weighted",
        metadata={
            "help": "weighted: classes weighted in the loss; balanced: they are drawn equally often; natural: neither"
        },
    )
    window_size: int | None = field(default=None, metadata={"help": WINDOW_HELP})
    tune: str = field(default="full", metadata={"help": "what is trained: full, last_stage, or head alone"})
    head_first: int = field(default=0, metadata={"help": "updates at the start that leave the encoder alone"})
    layer_decay: float = field(
        default=1.0, metadata={"help": "factor of the learning rate from a layer to the one below it"}
    )
    weight_average: float = field(
        default=0.0, metadata={"help": "decay of an average of the weights that is saved instead of them; 0: none"}
    )
    semi_supervised: str = field(
        default="none", metadata={"help": "learn from unlabelled images too: none, pseudo_label or mean_teacher"}
    )
    unlabelled_ratio: int = field(default=2, metadata={"help": "unlabelled images for each labelled one"})
    confidence: float = field(
        default=0.95, metadata={"help": "how sure a pseudo-label must be, of the class that is predicted most"}
    )
    consistency_weight: float = field(
        default=1.0, metadata={"help": "weight of the unlabelled images' loss at its full height"}
    )

    permute_labels: bool = field(
        default=False,
        metadata={"help": "train on labels dealt out anew among the images: for mammo-hf evaluate-explanations alone"},
    )

    def __post_init__(self) -> None:
        if self.lesion_loss is not None:
            check_number("--lesion_loss", self.lesion_loss, 0 <= self.lesion_loss < float("inf"), "0 or more")
        check_choice("--score_from", self.score_from, (*SCORES, "auto"))
        check_choice("--sampling", self.sampling, SAMPLING)
        check_choice("--tune", self.tune, TUNE)
        check_choice("--semi_supervised", self.semi_supervised, SEMI_SUPERVISED)
        check_number("--head_first", self.head_first, self.head_first >= 0, "0 or more")
        check_number("--layer_decay", self.layer_decay, 0 < self.layer_decay <= 1, "above 0 and at most 1")
        check_number("--weight_average", self.weight_average, 0 <= self.weight_average < 1, "at least 0 and below 1")
        check_number("--unlabelled_ratio", self.unlabelled_ratio, self.unlabelled_ratio >= 1, "1 or more")
        check_number("--confidence", self.confidence, 0 < self.confidence < 1, "above 0 and below 1")
        weight = self.consistency_weight
        check_number("--consistency_weight", weight, 0 <= weight < float("inf"), "0 or more")
        for weight in self.task_weights:
            check_number("--task_weights", weight, 0 <= weight < float("inf"), "0 or more")


@dataclass
class ClassificationArguments(ClassificationSettings, CollectionArguments):
    """Stage 2's own."""

    model_name_or_path: str = field(
        default="tiny",
        metadata={"help": MODEL_HELP},
    )
    tasks: list[str] | None = field(
        default=None,
        metadata={"help": "tasks, the main one first; default: pathology and density, or else the collection's first"},
    )
    label_percentage: float = field(
        default=100, metadata={"help": "share in percent of the labelled training patients that is used"}
    )
    label_file: str | None = field(
        default=None,
        metadata={
            "help": "the label_subset.json beside a checkpoint: its patients' labels are used, instead of a share"
        },
    )

    def settings(self) -> ClassificationSettings:
        """How to train, without what to train on."""
        return ClassificationSettings(**{own.name: getattr(self, own.name) for own in fields(ClassificationSettings)})


def sensible_defaults(
    output_dir: str,
    *,
    epochs: float,
    batch_size: int,
    learning_rate: float,
    seed: int,
    num_workers: int,
    device: str = "auto",
    show_progress: bool = True,
    **others: Any,
) -> TrainingArguments:
    """Trainer's arguments as the one-command run sets them: an epoch's evaluation and checkpoint, the best kept.

    What else Trainer takes goes before these.

    Raises:
        UsageError: CUDA is asked for where there is none, or a number is out of its range.
    """
    check_device(device)
    check_number("--num_workers", num_workers, num_workers >= 0, "0 or more")
    defaults: dict[str, Any] = {
        "output_dir": output_dir,
        "num_train_epochs": epochs,
        "per_device_train_batch_size": batch_size,
        "per_device_eval_batch_size": max(batch_size, 16),
        "learning_rate": learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "weight_decay": 0.05,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "logging_steps": 10,
        "report_to": "none",
        "use_cpu": device == "cpu",
        "dataloader_num_workers": num_workers,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "disable_tqdm": not show_progress,
        "seed": seed,
    }
    args = TrainingArguments(**{**defaults, **others})
    check_arguments(args)
    return args


# What training refuses before an image is read: words, numbers and files that cannot be.


def check_device(device: str) -> None:
    """Raises UsageError where CUDA is asked for and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("CUDA is not available here", source="--device cuda", remedy="use --device cpu, or auto")


def check_arguments(args: TrainingArguments) -> None:
    """Refuses, before an image is read, numbers that Trainer would stumble over late or take in silence.

    Raises:
        UsageError: Names the argument and its range.
    """
    batch, rate, epochs = args.per_device_train_batch_size, args.learning_rate, args.num_train_epochs
    check_number("the batch size", batch, batch >= 1, "1 or more")
    check_number("the learning rate", rate, 0 < rate < float("inf"), "above 0")
    check_number("the seed", args.seed, 0 <= args.seed < 2**32, "at least 0 and below 2 ** 32")
    if args.max_steps <= 0:
        check_number("the number of epochs", epochs, 0 < epochs < float("inf"), "above 0")


def check_split(validation_fraction: float, test_fraction: float, split_file: str | None) -> None:
    """Refuses shares that leave nothing to train on, and a saved split that is not there.

    Raises:
        UsageError: Names the argument.
    """
    check_number("--validation_fraction", validation_fraction, 0 < validation_fraction < 1, "above 0 and below 1")
    rest = f"at least 0, and below {1 - validation_fraction:g} next to --validation_fraction {validation_fraction:g}"
    check_number("--test_fraction", test_fraction, 0 <= test_fraction < 1 - validation_fraction, rest)
    check_file("--split_file", split_file)
