"""Stage 2 on features of a frozen encoder: a head over bags, trained in minutes on a CPU.

It starts from a regularised logistic regression on mean features, and an epoch of training is kept only if it is better
on validation patients; without any, its attention alone is trained. The same regressions are the baselines that it is
reported next to.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import torch
from scipy.special import softmax
from torch.utils.data import DataLoader, Subset
from transformers import TrainerCallback

from ..data.collection import Collection
from ..data.prepare.folder import features_folder
from ..data.splits import SPLIT_FILE
from ..data.torch_datasets import rows_of
from ..data.training_data import collection_facts
from ..encoders.bags import TILE, WHOLE, MammoBagForClassification, collate_bags
from ..encoders.configuration_mammo_bag import MammoBagConfig, public_record
from ..encoders.logistic import ENOUGH, fit_logistic, linear_coefficients, logistic_probabilities
from ..encoders.store import features_about
from ..encoders.units import Bags, columns_of, features_of, score_bags
from ..errors import DataError, UsageError
from ..evaluation.scored import scored_units
from ..evaluation.task_figures import auroc_difference
from ..metrics.classification import auroc_of
from ..metrics.inputs import UndefinedMetric
from ..metrics.intervals import bootstrap_interval
from ..models.checkpoint import MAP_TESTS, load_processor
from ..models.training_statistics import MOST_COMPARED, STATISTICS, TrainingStatistics, pooled_features
from .callbacks import ModelCardCallback, WeightAverage
from .scoring import (
    Tasks,
    begin_classifier,
    choose_metric,
    draw_curves,
    epoch_metrics,
    evaluate,
    own_options,
    sentence,
    task_options,
    used_class_weights,
    used_lesion_loss,
)
from .trainer import ClassificationTrainer, TrainingResult, check_batch, end_stage, run, without_validation

if TYPE_CHECKING:
    from .classification import ClassificationConfig

logger = logging.getLogger(__name__)

# in place of the defaults of a network on images; benchmarks/bench_bags.py compares what they reach with its start
DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "num_train_epochs": 10,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "weight_decay": 0.01,
}
# options of images, which have been read when features are trained on
_OF_IMAGES = (
    *("dicom_path", "image_size", "processor", "processor_settings", "near_duplicates", "prepared_dir"),
    *("window_size", "layer_decay", "model_terms", "score_from", "tune", "head_first", "semi_supervised"),
    *("pair_loss", "tone_curves"),
)
START_BATCH = 64  # units that are read at once where nothing is trained


def finetune_bags(
    images: Collection | str | Path,
    config: ClassificationConfig,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    checkpoint: str | None = None,
) -> TrainingResult:
    """Train a head over the features of a store, as `mammo_hf.finetune` does on images.

    Args:
        images: Folder of features, or its collection.
        config: Configuration; its ``output_dir`` is the folder of the checkpoint.
        callbacks: Further callbacks of Trainer.
        checkpoint: Checkpoint of Trainer to resume from.

    Raises:
        UsageError: An option is for images.
        DataError: The features cannot be trained on.
    """
    _check_options(config)
    folder, out = str(features_folder(images)), Path(str(config.output_dir))
    # patients whom the encoder was trained on, if it is a checkpoint of ours, must not be tested
    start = folder if (Path(folder) / SPLIT_FILE).is_file() else None
    opening: dict[str, Any] = {"model": None, "start": start, "processor": load_processor(folder)}
    collection, tasks, patients, target = begin_classifier(images, config, **opening, checkpoint=checkpoint)
    tasks = with_levels(tasks, config.level, collection)
    rows, about = features_of(collection, tasks), features_about(folder)
    fitted = BagFit(rows, tasks, patients, about, config)
    fitted.train(callbacks, checkpoint)
    figures = fitted.figures | {"collection": collection_facts(collection, tasks)}
    metrics = _evaluate_and_save(fitted, figures, collection, folder)
    result = TrainingResult(out, metrics, sentence(metrics, tasks[0]["name"]))
    end_stage("classifier", result, config, collection, start=start, target=target)
    return result


def _check_options(config: ClassificationConfig) -> None:
    defaults = {name: field.default for name, field in type(config).__dataclass_fields__.items()}
    given = [name for name in _OF_IMAGES if getattr(config, name) not in (defaults[name], [], None)]
    if given:
        raise UsageError("is for images, and these are features", source=given[0], remedy="leave it out")
    if config.sampling in ("balanced", "stratified"):
        raise UsageError(f"is {config.sampling!r}", source="sampling", remedy="with features use weighted or natural")


def with_levels(tasks: Tasks, levels: Sequence[str], collection: Collection) -> Tasks:
    """Return tasks with the level of the units that each is trained on.

    Args:
        tasks: Tasks of the collection.
        levels: One level for all, or one per task; empty: breast, or image if no side is known.
        collection: Collection with ``laterality``.

    Raises:
        UsageError: There is another number of levels than of tasks.
    """
    if not levels:
        levels = ["breast" if any(side is not None for side in collection.column("laterality")) else "image"]
    each = list(levels) * len(tasks) if len(levels) == 1 else list(levels)
    if len(each) != len(tasks):
        problem = f"{len(each)} levels for the tasks {', '.join(task['name'] for task in tasks)}"
        raise UsageError(problem, source="level", remedy="give one, or one per task")
    return [{**task, "level": level} for task, level in zip(tasks, each, strict=True)]


class BagFit:
    """A head, the units that it is trained and chosen on, and the regressions that it starts from.

    Args:
        rows: Rows of the feature store in the collection's order, with ``split`` and ``labels``.
        tasks: Tasks with their levels.
        patients: Training patients whose labels are used.
        about: Content of the store's ``features.json``.
        config: Configuration; it is not changed.

    Attributes:
        network: Head, at its best epoch once it has been trained.
        units: Units with a label, by split.
        figures: Counts, weights and facts of the run for ``metrics.json``.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        tasks: Tasks,
        patients: tuple[str, ...],
        about: dict[str, Any],
        config: ClassificationConfig,
    ) -> None:
        self.rows, self.tasks, self.config = rows, tasks, config.with_options()
        chosen, keys = set(patients), columns_of(rows, "patient")[0]
        self.split = {name: rows_of(rows, (name,)) for name in ("train", "validation", "test")}
        self.split["train"] = [row for row in self.split["train"] if keys[row] in chosen]
        lesion_loss = self._lesion_loss()
        self.units = {
            name: Bags(rows.select(found), tasks, lesions=bool(lesion_loss) and name == "train").labelled()
            for name, found in self.split.items()
        }
        if not len(self.units["train"]):
            raise DataError("no unit of a training patient has a label", remedy="check the label tables")
        weights = used_class_weights(self.units["train"].labels, self.config, tasks)
        torch.manual_seed(config.seed)
        self.network = MammoBagForClassification(_configuration(self.config, tasks, about, weights, lesion_loss))
        self.figures: dict[str, Any] = {
            "train_images": sum(map(len, self.units["train"].units)),
            "train_units": len(self.units["train"]),
            "train_patients": len(set(self.units["train"].patients)),
            "class_weights": weights,
            "lesion_loss_weight": lesion_loss,
            "processes": config.world_size,
            "seed": config.seed,
            "settings": own_options(config),
            "start": "logistic_regression",
            "encoder": public_record(about["encoder"]),
        }

    def _lesion_loss(self) -> float:
        training = self.rows.select(self.split["train"])
        lesions = columns_of(training, "lesions")[0] if "lesions" in training.column_names else []
        return used_lesion_loss(sum(lesion is not None for lesion in lesions), self.config)

    def train(self, callbacks: Sequence[TrainerCallback], checkpoint: str | None) -> None:
        """Start from logistic regressions, train, and keep the best epoch, or the start if no epoch is better."""
        fit_standardisation(self.network, self.units["train"])
        self.start_from_logistic()
        attention_alone = not len(self.units["validation"])
        if attention_alone:
            # with no patients to choose an epoch by, all that changes the regression itself makes it worse
            for name, parameter in self.network.named_parameters():
                parameter.requires_grad_("attention" in name)
        check_batch(self.config, len(self.units["train"]), "training units")
        self.trainer = self._trainer()
        start = copy.deepcopy(self.network.state_dict())
        before = self.trainer.evaluate() if self.trainer.args.load_best_model_at_end else {}
        card = ModelCardCallback()
        for callback in (card, *callbacks):
            self.trainer.add_callback(callback)
        run(self.trainer, checkpoint)
        if self.trainer.average is not None:
            self.trainer.average.apply()
        best, metric = self.trainer.state.best_metric, str(self.config.metric_for_best_model)
        kept = False
        if best is not None and metric in before:
            kept = before[metric] >= best if self.config.greater_is_better else before[metric] <= best
        if kept:
            logger.info("no epoch was better on validation than the logistic regression that it started from")
            self.network.load_state_dict(start)
        self.network.requires_grad_(True)
        updates = {"updates": self.trainer.state.global_step, "run": card.facts, "start_is_kept": kept}
        updates |= {"attention_alone": attention_alone}
        self.figures |= {**updates, "parameters": self.network.num_parameters()}

    def _trainer(self) -> ClassificationTrainer:
        config, validation = self.config, self.units["validation"]
        config.label_names, config.dataloader_num_workers = ["labels"], 0  # one access to the store makes a batch
        if not len(validation):
            without_validation(config, "the regression stays as it is, and its attention alone is trained")
        elif config.eval_strategy != "no":
            choose_metric(config, validation.labels, self.tasks)
        decay = config.weight_average
        return ClassificationTrainer(
            self.network,
            config,
            train_dataset=self.units["train"],
            eval_dataset=validation if len(validation) else None,
            data_collator=collate_bags,
            compute_metrics=lambda prediction: epoch_metrics(prediction, self.network.config),
            average=WeightAverage(self.network, decay) if decay else None,
        )

    def start_from_logistic(self) -> None:
        """Make the head that of one regularised logistic regression per task on the mean features of its units."""
        units = self.units["train"]
        means = unit_means(breast_features(self.network, units))
        varied = means.any(0)  # without tiles, or without whole views, half of the features is 0
        coefficients, intercepts = [], []
        self.logistic = {}
        for place, task in enumerate(self.tasks):
            known = units.labels[:, place] >= 0
            if len(set(units.labels[known, place].tolist())) < 2:
                found = np.zeros((len(task["labels"]), means.shape[1])), np.zeros(len(task["labels"]))
            else:
                patients = np.array(units.patients)[known]
                fitted = fit_logistic(means[known][:, varied], units.labels[known, place], patients)
                some, intercept = linear_coefficients(fitted, len(task["labels"]))
                found = np.zeros((len(some), means.shape[1])), intercept
                found[0][:, varied] = some
            self.logistic[task["name"]] = found
            coefficients.append(found[0])
            intercepts.append(found[1])
        tensors = [torch.from_numpy(np.concatenate(found)).float() for found in (coefficients, intercepts)]
        self.network.start_from_linear(*tensors)

    def baselines(self) -> dict[str, dict[str, Any]]:
        """Return the AUC of logistic regressions on the test units, by task and by what they were fitted on.

        Each has ``auroc`` and ``interval`` by patient, and the head's AUC minus its own as ``difference`` and
        ``difference_interval``; what is undefined is null, with a ``reason``.
        """
        found: dict[str, dict[str, Any]] = {}
        for place, task in enumerate(self.tasks):
            if not len(self.units["test"]):
                continue
            sides = {name: self._level_features(name, place) for name in ("train", "test")}
            (_, _, truth, patients), head = sides["test"], self._head_probabilities(place)
            coefficients, intercepts = self.logistic[task["name"]]
            single = softmax(sides["test"][0] @ coefficients.T + intercepts, axis=-1)
            fit = [sides["train"][part] for part in (1, 2, 3)]
            classes = len(task["labels"])
            varied = fit[0].any(0)
            paired = None
            if len(set(fit[1].tolist())) > 1 and varied.any():
                paired = logistic_probabilities(fit[0][:, varied], *fit[1:], sides["test"][1][:, varied], classes)
            tables = {"logistic regression": single, "logistic regression, left-right differences": paired}
            found[task["name"]] = {
                name: _compared(truth, table, head, patients, self.config.seed)
                for name, table in tables.items()
                if table is not None
            }
        return found

    def training_statistics(self) -> TrainingStatistics | None:
        """Return what distinguishes images that are unlike the training images, if there are enough patients."""
        features: list[Any] = []
        for name in ("train", "validation"):
            rows = self.rows.select(self.split[name][:: -(-len(self.split[name]) // MOST_COMPARED) or 1])
            with pooled_features(self.network) as seen:
                score_bags(self.network, Bags(rows, self.tasks, level="image"), batch_size=START_BATCH)
            features += [
                torch.cat(seen).numpy() if seen else np.zeros((0, 1), np.float32),
                columns_of(rows, "patient")[0],
            ]
        return TrainingStatistics.of(*features)

    def _level_features(self, split: str, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return of the labelled units of a task their mean features, left-right differences, labels and patients."""
        level = self.tasks[place]["level"]
        rows = self.rows.select(self.split[split])
        bags = Bags(rows, self.tasks, level=level)
        breasts = breast_features(self.network, bags)
        means, differences = unit_means(breasts), left_right_differences(breasts, bags, rows, level)
        known = bags.labels[:, place] >= 0
        return means[known], differences[known], bags.labels[known, place], np.array(bags.patients)[known]

    def _head_probabilities(self, place: int) -> np.ndarray:
        """Return the head's probabilities of the labelled test units of a task, (units, labels)."""
        level, part = self.tasks[place]["level"], list(self.network.config.task_slices.values())[place]
        bags = Bags(self.rows.select(self.split["test"]), self.tasks, level=level)
        logits = score_bags(self.network, bags, batch_size=START_BATCH)
        known = bags.labels[:, place] >= 0
        return softmax(logits[known, part], axis=-1)


def _compared(
    truth: np.ndarray, table: np.ndarray, head: np.ndarray, patients: np.ndarray, seed: int
) -> dict[str, Any]:
    metric, values = auroc_of(table)
    difference = auroc_difference(truth, table, head, patients, seed=seed)
    found: dict[str, Any] = {"auroc": None, "interval": None, "n_units": len(truth)}
    found |= {"difference": difference["difference"], "difference_interval": difference["interval"]}
    found |= {"reason": difference["reason"]} if "reason" in difference else {}
    try:
        found["auroc"] = metric(truth, values)
        found["interval"] = list(bootstrap_interval(metric, truth, values, groups=patients, seed=seed))
    except UndefinedMetric as error:
        found["reason"] = error.reason
    return found


def _configuration(
    config: ClassificationConfig,
    tasks: Tasks,
    about: dict[str, Any],
    weights: dict[str, list[float]] | None,
    lesion_loss: float,
) -> MammoBagConfig:
    return MammoBagConfig(
        feature_size=2 * int(about["encoder"]["channels"]),
        **task_options(config, tasks, weights),
        lesion_loss_weight=lesion_loss,
        encoder_record=about["encoder"],
        tiles={name: about.get(name) for name in ("tiles", "spacing", "overlap", "image_size")},
    )


# Features of units, without attention: what a regression is fitted on.


def fit_standardisation(network: MammoBagForClassification, bags: Bags) -> None:
    """Set the network's mean and deviation of features, from at most ``ENOUGH`` evenly chosen training units."""
    chosen = np.unique(np.linspace(0, len(bags) - 1, min(ENOUGH, len(bags))).astype(int))
    size = network.config.feature_size
    count, total, squares = torch.zeros(2, 1).double(), torch.zeros(2, size).double(), torch.zeros(2, size).double()
    for batch in DataLoader(Subset(bags, chosen.tolist()), batch_size=START_BATCH, collate_fn=collate_bags):
        vectors, scales = batch["features"].flatten(0, 2).float(), batch["scales"].flatten()
        for place, scale in enumerate((WHOLE, TILE)):
            of_scale = vectors[scales == scale]
            count[place] += len(of_scale)
            total[place] += of_scale.sum(0)
            squares[place] += of_scale.square().sum(0)
    mean = total / count.clamp(min=1)
    variance = (squares - count * mean.square()).clamp(min=0).sum(0) / count.sum().clamp(min=1)
    network.mean.copy_(mean)
    network.deviation.copy_(torch.where(variance > 1e-12, variance, 1.0).sqrt())


def breast_features(network: MammoBagForClassification, bags: Bags) -> np.ndarray:
    """Return the mean features of each breast of each unit, float32 (units, 3, 2 * feature_size), NaN if missing."""
    loader = DataLoader(bags, batch_size=START_BATCH, collate_fn=collate_bags)
    device, parts = network.device, [np.zeros((0, 3, 2 * network.config.feature_size), np.float32)]
    for batch in loader:
        inputs = [batch[name].to(device) for name in ("features", "scales", "sides")]
        parts.append(network.mean_features(*inputs).float().cpu().numpy())
    return np.concatenate(parts)


def unit_means(breasts: np.ndarray) -> np.ndarray:
    """Return the mean over the breasts (units, 3, size) of each unit, (units, size)."""
    there = ~np.isnan(breasts[:, :, :1])
    means: np.ndarray = np.where(there, breasts, 0).sum(1) / there.sum(1)
    return means


def left_right_differences(breasts: np.ndarray, bags: Bags, rows: datasets.Dataset, level: str) -> np.ndarray:
    """Return how the features of each unit differ from those of the other side, (units, size); 0 if it is missing.

    Args:
        breasts: Features of the breasts of the units, from `breast_features`.
        bags: The units, of one level.
        rows: Rows that they are of.
        level: "exam": the absolute difference of its breasts; "breast": the breast minus the other one; "image": the
            image minus that of the other side with the same view.
    """
    if level == "exam":
        return np.nan_to_num(np.abs(breasts[:, 1] - breasts[:, 2]))
    columns = columns_of(rows, "patient", "exam", "laterality", "view")
    keys = [tuple(column[members[0]] for column in columns) for members in bags.units]
    if level == "breast":
        keys = [(*key[:3], None) for key in keys]
    means, at = unit_means(breasts), {key: unit for unit, key in enumerate(keys)}
    other = {"L": "R", "R": "L"}
    found = np.zeros_like(means)
    for unit, (patient, exam, side, view) in enumerate(keys):
        partner = at.get((patient, exam, other.get(side), view))
        if partner is not None:
            found[unit] = means[unit] - means[partner]
    return found


def _evaluate_and_save(fitted: BagFit, figures: dict[str, Any], collection: Collection, folder: str) -> dict[str, Any]:
    """Read the test split once, write the report and the plots, and save head and processor."""
    config, network, out = fitted.config, fitted.network, Path(str(fitted.config.output_dir))
    if config.process_index:
        return figures | {"validation": {}, "test": {}}
    figures = figures | {"baselines": fitted.baselines()}
    rows = {name: fitted.rows.select(fitted.split[name]) for name in ("validation", "test")}
    processor = load_processor(folder)
    processor.image_kinds = []  # features do not say of what kind their images are
    figures = figures | evaluate(
        network,
        {name: scored_units(network, part, collection) for name, part in rows.items() if len(fitted.units[name])},
        seed=config.seed,
        report=out / "plots" / "report",
        checkpoint=out.name,
        evaluated=rows["test"],
        table=collection,
        training=figures,
        processor=processor.to_dict(),
    )
    for name in (STATISTICS, MAP_TESTS):  # of an earlier head in this folder
        (out / name).unlink(missing_ok=True)
    statistics = fitted.training_statistics()
    if statistics is not None:
        statistics.save(out)
    network.save_pretrained(out)
    processor.save_pretrained(out)
    test = fitted.units["test"]
    logits = score_bags(network, test) if len(test) else None
    draw_curves(fitted.trainer, test.labels, logits, out / "plots", figures)
    return figures
