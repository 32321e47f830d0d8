"""Options of the two training stages.

Plain dataclasses that import nothing heavy, so that ``--help`` needs neither torch nor transformers. A stage's complete
configuration is its options on top of `transformers.TrainingArguments`: `mammo_hf.training.mim.MimConfig` and
`mammo_hf.training.classification.ClassificationConfig`. Fields of Trainer that stand here have another default than
Trainer's own; ``benchmarks/recipe.py`` compares them with others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data import TEST_FRACTION, VALIDATION_FRACTION
from ..errors import UsageError, check_choice, check_file, check_hub_name, check_number

PROBES = ("linear", "knn")
SAMPLING = ("weighted", "balanced", "stratified", "natural")
TUNE = ("full", "last_stage", "head")
# a whole network that is trained for fewer updates may be at chance for no other reason: see benchmarks/recipe.py
ENOUGH_UPDATES = 400
SEMI_SUPERVISED = ("none", "pseudo_label", "mean_teacher")


def option(group: str, default: Any, help: str) -> Any:
    """Return a dataclass field with its help text and the group of options that it is listed in."""
    metadata = {"help": help, "group": group}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class StageOptions:
    """Options of both stages: the data, how images are read, the output, and Trainer's defaults that differ."""

    tasks: list[str] | None = option(
        "data", None, "tasks, the main one first; default: pathology and density, or else the collection's first"
    )
    image_size: list[int] | None = option(
        "data", None, "height and width in pixels, or one number; default: the processor's, or else 448 224"
    )
    crop: list[int] | None = option(
        "data",
        None,
        "height and width of crops at the images' own resolution, around lesions and at random, in place of whole "
        "images; from a native store",
    )
    processor: str | None = option(
        "data",
        None,
        "folder with a preprocessor_config.json that says how images are read; default: the prepared folder's, or else "
        "that of the checkpoint that training starts from",
    )
    processor_settings: dict[str, Any] | None = option(
        "data", None, "settings of the processor in place of its own, such as any_anatomy: true"
    )
    validation_fraction: float = option(
        "data", VALIDATION_FRACTION, "fraction of the training patients that choose the best epoch"
    )
    test_fraction: float = option(
        "data",
        TEST_FRACTION,
        "fraction of the patients for a test split if the collection has none of its own; 0: no test split",
    )
    split_file: str | None = option(
        "data", None, "saved split, such as the split.json of a checkpoint: its patients keep their sides"
    )
    near_duplicates: bool = option(
        "data", False, "compare the images' pixels too, and refuse a film that is in two splits under two names"
    )
    dicom_path: str | None = option("data", None, "text file with one path per line: further unlabelled images")
    max_missing: float | None = option(
        "data", None, "fraction of the files that a table names that may be missing; default: 0.5"
    )
    stratum: str | None = option("data", None, "column that splits are balanced in: scanner, site, vendor")
    accept: list[str] = option(
        "data", [], "checks of identities that need not pass; the error that such a check gives names it"
    )
    overrides: str | None = option(
        "data", None, "table (path, exam, laterality, view, skip) of files whose header is wrong"
    )
    num_workers: int = option("data", 2, "processes that prepare images and load batches")
    prepared_dir: str | None = option("data", None, "folder of the prepared images; default: prepared in --output_dir")
    terms: str | None = option(
        "data", None, 'terms of own images, such as "allowed: ethics vote 12/2024": may weights be published, and why'
    )
    license: str | None = option("output", None, "licence of the model for its card: an identifier of the Hub")
    results_dataset: str | None = option(
        "output", None, "data set on the Hub, OWNER/NAME, that the results of a push are listed at"
    )
    permission: str | None = option(
        "output", None, "for --push_to_hub, if a collection's terms do not allow it: who permitted it, when, for what"
    )
    model_terms: str | None = option(
        "model", None, "terms of the model that training starts from, if it has no card with a licence; as for --terms"
    )
    name_host: bool = option(
        "output", True, "let the names of TensorBoard's folder and files hold the name of this machine"
    )
    overwrite_output_dir: bool = option("output", False, "replace the finished training in --output_dir")
    window_size: int | None = option("model", None, "side of the attention windows in tokens; default: the model's")
    layer_decay: float = option("training", 1.0, "factor of the learning rate from one layer to the one below it")
    weight_average: float = option(
        "training", 0.0, "decay of the moving average of the weights that is saved in their place; 0: no average"
    )
    tone_curves: float = option(
        "training", 0.0, "largest change of slope of the random monotone tone curve that images are trained on; 0: none"
    )
    # Trainer's own fields with other defaults
    learning_rate: float = option("training", 5e-4, "peak learning rate")
    lr_scheduler_type: str = option("training", "cosine", "schedule of the learning rate")
    warmup_steps: float = option("training", 0.1, "warm-up: a number of updates, or below 1 a fraction of all updates")
    weight_decay: float = option("training", 0.05, "weight decay of matrices and kernels")
    per_device_eval_batch_size: int = option("training", 16, "images per batch and device in evaluation")
    eval_strategy: str = option("training", "epoch", "when to evaluate: no, steps or epoch")
    save_strategy: str = option("training", "epoch", "when to save a checkpoint: no, steps, epoch or best")
    save_total_limit: int | None = option("training", 2, "checkpoints to keep")
    load_best_model_at_end: bool = option("training", True, "keep the best epoch rather than the last")
    logging_steps: float = option("training", 10, "updates between two logged losses")

    def check(self) -> None:
        """Check the options that can be judged without data.

        Raises:
            UsageError: Names the option and its range.
        """
        rest = f"at least 0, and below {1 - self.validation_fraction:g} with this `validation_fraction`"
        for name, holds, rule in (
            ("validation_fraction", 0 < self.validation_fraction < 1, "above 0 and below 1"),
            ("test_fraction", 0 <= self.test_fraction < 1 - self.validation_fraction, rest),
            ("num_workers", self.num_workers >= 0, "0 or more"),
            ("layer_decay", 0 < self.layer_decay <= 1, "above 0 and at most 1"),
            ("weight_average", 0 <= self.weight_average < 1, "at least 0 and below 1"),
            ("tone_curves", 0 <= self.tone_curves < float("inf"), "0 or more"),
            ("learning_rate", 0 < self.learning_rate < float("inf"), "above 0"),
        ):
            check_number(name, getattr(self, name), holds, rule)
        if self.crop and self.image_size:
            raise UsageError("crops have a size of their own", source="image_size", remedy="leave one of the two out")
        check_file("split_file", self.split_file)
        check_hub_name("results_dataset", self.results_dataset)
        check_file("dicom_path", self.dicom_path, "a text file with one path per line")

    def prepared_folder(self) -> Path:
        """Return the folder of the images that this stage prepares."""
        return Path(self.prepared_dir or Path(str(self.output_dir)) / "prepared")  # type: ignore[attr-defined]


@dataclass
class MimOptions(StageOptions):
    """Options of stage 1, masked image modelling."""

    mask_block_size: int = option("masking", 16, "side of the hidden blocks in pixels")
    mask_ratio: float = option("masking", 0.5, "fraction of the blocks that is hidden")
    mask_within: str = option("masking", "image", "image, or breast: nothing is spent on the background")
    mim_decoder: str = option("model", "conv", "conv, or linear as in SimMIM")
    sparse_encoder: bool = option("model", True, "encode visible tokens alone if size and blocks allow it")
    loss_region: str = option("training", "masked", "pixels that the loss counts: masked, masked_breast or all")
    normalized_patch: int | None = option(
        "training", None, "side in pixels of the patches that the target is normalised by; default: not normalised"
    )
    teacher: str | None = option(
        "teacher",
        None,
        "encoder whose features the Swin's last tokens predict too: as for --encoder of embed, or a folder that embed "
        "made of the same images with --grid",
    )
    teacher_weight: float = option("teacher", 1.0, "weight of the teacher's loss")
    l1_weight: float = option("teacher", 1.0, "weight of L1 on hidden pixels next to a teacher, 0 to 1")
    teacher_tokens: str = option("teacher", "all", "tokens that the teacher acts on: all, hidden or visible")
    probes: list[str] = option(
        "training", [], "linear, knn: classifiers on frozen features that each evaluation fits and reports"
    )
    streaming: bool = option("data", False, "read the shards of a prepared parquet folder as a stream")
    num_train_epochs: float = option("training", 100, "epochs")
    per_device_train_batch_size: int = option("training", 16, "images per batch and device")

    def check(self) -> None:
        """Check the options that can be judged without data.

        Raises:
            UsageError: Names the option and its range or its choices.
        """
        from ..models.configuration_mammo_swin import DECODERS, LOSS_REGIONS, TEACHER_TOKENS  # brings transformers
        from ..processing.masking import PLACES

        super().check()
        check_choice("mim_decoder", self.mim_decoder, DECODERS)
        check_choice("loss_region", self.loss_region, LOSS_REGIONS)
        check_choice("mask_within", self.mask_within, PLACES)
        check_choice("teacher_tokens", self.teacher_tokens, TEACHER_TOKENS)
        check_number("teacher_weight", self.teacher_weight, 0 < self.teacher_weight < float("inf"), "above 0")
        check_number("l1_weight", self.l1_weight, 0 <= self.l1_weight <= 1, "from 0 to 1")
        if self.teacher is None and (self.l1_weight, self.teacher_weight, self.teacher_tokens) != (1.0, 1.0, "all"):
            raise UsageError("there is no teacher to weigh", source="teacher", remedy="name an encoder")
        if self.teacher is not None and self.streaming:
            raise UsageError("has no features of streamed images", source="teacher", remedy="leave `streaming` out")
        if self.teacher is not None and self.crop:
            raise UsageError("has no features of crops", source="teacher", remedy="leave `crop` out")
        for probe in self.probes:
            check_choice("probes", probe, PROBES)


@dataclass
class ClassificationOptions(StageOptions):
    """Options of stage 2, classification; label smoothing is Trainer's ``label_smoothing_factor``."""

    label_percentage: float = option(
        "labels", 100, "percentage of the labelled training patients whose labels are used, 0 to 100"
    )
    label_file: str | None = option(
        "labels", None, "label_subset.json of a checkpoint: its patients' labels are used in place of a percentage"
    )
    lesion_loss: float | None = option(
        "training", None, "weight of the token loss; default: 1 if lesion annotations have locations, else 0"
    )
    pair_loss: float = option(
        "training",
        0.0,
        "weight of the loss of pairs: softplus of how much higher the other breast of a patient scores than the "
        "diseased one in the same view; the first task, of two labels; 0: none",
    )
    score_from: str = option(
        "model",
        "pooled",
        "score of the task with lesions: pooled (the one that is explained), lesion, mean, or auto: best on validation",
    )
    ordinal_tasks: list[str] = option("training", [], "tasks that are trained by the ranked probability score")
    task_weights: list[float] = option("training", [], "one weight per task in the loss; default: equal weights")
    level: list[str] = option(
        "model",
        [],
        "with features of embed: the units that are trained on, image, breast or exam, one for all tasks or one per "
        "task; default: breast, or image if no side is known",
    )
    sampling: str = option(
        "training",
        "weighted",
        "weighted: classes are weighted in the loss; balanced: they are drawn equally often; stratified: equally often "
        "within each value of --stratum, so that it tells nothing about them; natural: none of these",
    )
    tune: str = option("training", "full", "what is trained: full, last_stage, or head")
    head_first: int = option("training", 0, "updates at the start that train the head alone")
    semi_supervised: str = option(
        "unlabelled images", "none", "train on unlabelled images too: none, pseudo_label or mean_teacher"
    )
    unlabelled_ratio: int = option("unlabelled images", 2, "unlabelled images per labelled image")
    confidence: float = option(
        "unlabelled images", 0.95, "probability that a pseudo-label of the most frequently predicted class must reach"
    )
    consistency_weight: float = option("unlabelled images", 1.0, "final weight of the loss of unlabelled images")
    num_train_epochs: float = option("training", 30, "epochs")
    per_device_train_batch_size: int = option("training", 8, "images per batch and device")
    metric_for_best_model: str | None = option(
        "training", "auto", "metric that chooses the best epoch; auto: AUC of the main task, or the loss without one"
    )

    def check(self) -> None:
        """Check the options that can be judged without data.

        Raises:
            UsageError: Names the option and its range or its choices.
        """
        from ..metrics.aggregation import LEVELS
        from ..models.configuration_mammo_swin import SCORES  # brings transformers

        super().check()
        self.level = [self.level] if isinstance(self.level, str) else list(self.level)
        for level in self.level:
            check_choice("level", level, LEVELS)
        finite = float("inf")
        for name, holds, rule in (
            ("label_percentage", 0 < self.label_percentage <= 100, "above 0 and at most 100"),
            ("lesion_loss", self.lesion_loss is None or 0 <= self.lesion_loss < finite, "0 or more"),
            ("pair_loss", 0 <= self.pair_loss < finite, "0 or more"),
            ("head_first", self.head_first >= 0, "0 or more"),
            ("unlabelled_ratio", self.unlabelled_ratio >= 1, "1 or more"),
            ("confidence", 0 < self.confidence < 1, "above 0 and below 1"),
            ("consistency_weight", 0 <= self.consistency_weight < finite, "0 or more"),
            ("task_weights", all(0 <= weight < finite for weight in self.task_weights), "0 or more each"),
        ):
            check_number(name, getattr(self, name), holds, rule)
        if self.pair_loss and self.semi_supervised != "none":
            raise UsageError("is not for unlabelled images", source="pair_loss", remedy="leave `semi_supervised` out")
        check_file("label_file", self.label_file)
        for name, choices in (
            ("score_from", (*SCORES, "auto")),
            ("sampling", SAMPLING),
            ("tune", TUNE),
            ("semi_supervised", SEMI_SUPERVISED),
        ):
            check_choice(name, getattr(self, name), choices)
