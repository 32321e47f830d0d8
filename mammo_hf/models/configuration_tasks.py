"""The common part of our models' configurations: tasks, their weights and calibration, checked however they change."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig

from ..errors import DataError, UsageError, check_json_object, refusing

logger = logging.getLogger(__name__)

CONFIG = "config.json"
_ADAPTER = "adapter_config.json"  # of peft, whose folders have no configuration of the model
# version of the fields below; a checkpoint of another one is refused
FORMAT = 1
# the parameters of each method of calibration, the first of them above 0
_CALIBRATIONS: dict[Any, tuple[str, ...]] = {"temperature": ("temperature",), "platt": ("slope", "intercept")}


class TaskConfig(PreTrainedConfig):
    """Configuration of a model with several tasks; subclasses add their architecture and have a ``model_type``.

    Args:
        tasks: Tasks of the classifier: a list of ``{"name": ..., "labels": [...]}``, or a dict from name to
            labels, which becomes such a list. The list's order is the order of the classifier's rows. A list because
            JSON configurations are written with sorted keys: a dict would come back in another order. A task with
            ``"severity": True`` is explained for its last label, whatever the model predicts.
        class_weights: Weights of the labels by task, w_c = N / (K * N_c) of the labelled training rows.
        task_weights: Weights in the mean over tasks, by task; 1 for a task that is not named.
        ordinal_tasks: Tasks whose labels have an order, trained with the ranked probability score.
        label_smoothing: Fraction of a label that is spread evenly over all labels, in [0, 1); not in ordinal tasks.
        lesion_loss_weight: Weight of the losses that lesion annotations give (a Swin's lesion head and evidence, the
            attention of a head over features) against the image-level loss.
        calibration: Calibration of the probabilities by task: ``{"method": "temperature", "temperature": ...}`` or
            ``{"method": "platt", "slope": ..., "intercept": ...}``; a task that is not named has the plain softmax.
        operating_points: Thresholds by task that validation images fixed, as
            ``evaluation.choose_operating_points`` returns them, by kind of unit.
        confidences: Percentiles 0 to 100 of the highest probability on validation images by task and kind of unit, from
            which ``predict`` takes the threshold of ``defer``.
        mammo_hf_format: Version of these fields.

    Raises:
        UsageError: A task has no labels, two tasks have one name, weights do not fit the tasks, or a calibration is
            not valid.
        DataError: ``id2label`` contradicts ``tasks``.
    """

    tasks: list[dict[str, Any]] | dict[str, Any] | None = None
    class_weights: dict[str, Any] | None = None
    task_weights: dict[str, float] | None = None
    ordinal_tasks: list[str] | None = None
    label_smoothing: float | int = 0.0
    lesion_loss_weight: float | int = 1.0
    calibration: dict[str, Any] | None = None
    operating_points: dict[str, Any] | None = None
    confidences: dict[str, Any] | None = None
    mammo_hf_format: int = FORMAT

    def __post_init__(self, **kwargs: Any) -> None:
        if self.mammo_hf_format != FORMAT:
            raise DataError(
                f"was written in format {self.mammo_hf_format} of mammo_hf, this version reads {FORMAT}",
                source=CONFIG,
                remedy="install the version of mammo_hf that wrote it",
            )
        self.check(kwargs.pop("num_labels", None) if self.tasks is not None else None)
        super().__post_init__(**kwargs)

    def __setattr__(self, key: str, value: Any) -> None:
        # before the configuration has been made, `check` sees all fields together
        if key == "tasks" and self._is_made():
            value = None if value is None else self._normalised_tasks(value)
            for name, kept in self._without_tasks(self.__dict__, value).items():
                super().__setattr__(name, kept)
            super().__setattr__("tasks", value)
            self._name_labels()
        elif key in ("num_labels", "id2label") and self._is_made() and self.tasks is not None:
            self._check_labels(value if key == "id2label" else None, value if key == "num_labels" else None)
        else:
            super().__setattr__(key, value)

    def _is_made(self) -> bool:
        # transformers sets the name last
        return "_name_or_path" in self.__dict__

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read ``config.json`` as transformers does, but refuse a damaged one by its name.

        Raises:
            DataError: A file on this machine is not the configuration of a model.
        """
        if pretrained_model_name_or_path is None:  # transformers loads a given state dict so
            return super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        path = Path(pretrained_model_name_or_path, kwargs.get("subfolder") or "")
        check_json_object(path / CONFIG if path.is_dir() else path)
        found = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if path.is_dir() and not found[0].get("model_type") and not (path / _ADAPTER).is_file():
            problem = "does not say what model it is of" if (path / CONFIG).is_file() else "there is no such file"
            remedy = "give the folder of a model, or copy or download the file again"
            raise DataError(problem, source=path / CONFIG, remedy=remedy)
        return found

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a configuration as transformers does; arguments in place of fields go through the constructor.

        Other ``tasks`` leave out what belonged to earlier ones (weights, calibration, operating points). Labels that do
        not fit the tasks, given as ``num_labels`` or ``id2label``, replace the tasks by one set of labels without a
        name, as in stock Swin.

        Raises:
            DataError: A field has a value that no model can have, as in a damaged ``config.json``.
        """
        with refusing(CONFIG):
            return cls._made_from(config_dict, **kwargs)

    @classmethod
    def _made_from(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        written_by = str(config_dict.get("transformers_version", "0"))
        theirs, ours = (re.findall(r"\d+", text)[:2] for text in (written_by, transformers.__version__))
        if [*map(int, theirs)] > [*map(int, ours)]:
            logger.warning(
                "this checkpoint was written by transformers %s, newer than %s here: its weights may have other names",
                written_by,
                transformers.__version__,
            )
        # "auto" as dtype is for transformers to resolve
        known = ({field.name for field in fields(cls)} | {"num_labels"}) - {"dtype"}
        given = {name: kwargs.pop(name) for name in list(kwargs) if name in known}
        return super().from_dict(cls._changed(config_dict, given), **kwargs)

    def update(self, config_dict: dict[str, Any]) -> None:
        """Change several fields, and check them together.

        Raises:
            UsageError: They do not fit; the configuration stays as it was.
        """
        before = dict(self.__dict__)
        try:
            # tasks first: what belonged to earlier ones goes with them
            super().update(dict(sorted(config_dict.items(), key=lambda item: item[0] != "tasks")))
            self.check()
        except Exception:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Write ``config.json`` as transformers does, unless no model could be made of it.

        Raises:
            UsageError: Fields that were changed do not fit each other.
        """
        self.check()
        super().save_pretrained(*args, **kwargs)

    def check(self, num_labels: int | None = None) -> None:
        """Check all fields against each other, and complete those that follow from others.

        Models do so before they are built, so that a field that was changed as an attribute is checked too.

        Args:
            num_labels: Number of labels that was asked for, which must be that of the tasks; ``None``: any.

        Raises:
            UsageError: Two fields contradict each other, or one is out of its range.
            DataError: ``id2label`` contradicts ``tasks``.
        """
        if self.tasks is not None:
            self.__dict__["tasks"] = self._normalised_tasks(self.tasks)
            self._check_labels(self.id2label, num_labels)
            self._name_labels()
        self._check_weights()
        self._check_options_of_tasks()
        self._check_calibration()

    def _task_list(self) -> list[dict[str, Any]]:
        # always a list once the configuration has been made
        return self.tasks if isinstance(self.tasks, list) else []

    def _label_names(self) -> list[str]:
        return _names_of_labels(self._task_list())

    def _name_labels(self) -> None:
        names = self._label_names() or ["LABEL_0", "LABEL_1"]
        self.__dict__["id2label"] = dict(enumerate(names))
        self.__dict__["label2id"] = {name: index for index, name in enumerate(names)}

    def _check_labels(self, id2label: dict[Any, str] | None, num_labels: int | None) -> None:
        names = self._label_names()
        if num_labels is not None and num_labels != len(names):
            raise UsageError(
                f"num_labels is {num_labels}, the tasks have {len(names)} labels",
                remedy="leave num_labels out, or give other tasks",
            )
        if id2label is not None and not _agrees(id2label, names):
            raise DataError(
                f"id2label {list(id2label.values())} contradicts the tasks, which say {names}",
                source=CONFIG,
                remedy="leave id2label out, or bring both into the same order",
            )

    def _check_weights(self) -> None:
        labels = {task["name"]: task["labels"] for task in self._task_list()}
        weights: dict[str, list[float]] = {}
        for name, given in (self.class_weights or {}).items():
            if name not in labels or len(given) != len(labels[name]):
                raise UsageError(
                    f"class_weights[{name!r}] has {len(given)} weights, the task {len(labels.get(name, []))} labels",
                    remedy="give one weight per label, by the task's name",
                )
            if isinstance(given, Mapping) and set(given) != set(labels[name]):
                raise UsageError(f"class_weights[{name!r}] names {list(given)}, the task {labels[name]}")
            in_order = [given[label] for label in labels[name]] if isinstance(given, Mapping) else given
            weights[name] = [float(weight) for weight in in_order]
            if not all(0 < weight < math.inf for weight in weights[name]):
                raise UsageError(f"class_weights[{name!r}] is {weights[name]}", remedy="each must be above 0")
        self.__dict__["class_weights"] = weights or None
        for name, weight in (self.task_weights or {}).items():
            if not 0 <= weight < math.inf:
                raise UsageError(f"task_weights[{name!r}] is {weight}", remedy="it must be 0 or more")
        if labels and not any((self.task_weights or {}).get(name, 1) for name in labels):
            raise UsageError("every task has the weight 0 in task_weights", remedy="give one of them more")
        if not 0 <= self.lesion_loss_weight < math.inf:
            raise UsageError(f"lesion_loss_weight is {self.lesion_loss_weight}", remedy="it must be 0 or more")

    def _check_options_of_tasks(self) -> None:
        names = [task["name"] for task in self._task_list()]
        for where in ("ordinal_tasks", "task_weights"):
            self._check_names(where, getattr(self, where) or (), names)
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(f"label_smoothing is {self.label_smoothing}", remedy="it must be at least 0 and below 1")
        if self.label_smoothing and not names:
            raise UsageError("label_smoothing without tasks", remedy="give tasks, or leave it out")
        if names and self.problem_type not in (None, "single_label_classification"):
            raise UsageError(
                f"problem_type is {self.problem_type!r}, but each of the tasks has one label per image",
                remedy="leave problem_type out",
            )

    @staticmethod
    def _check_names(where: str, named: Iterable[str], tasks: list[str]) -> None:
        for name in named:
            if name not in tasks:
                raise UsageError(f"{where} {name!r} is not among the tasks {tasks}")

    def _check_calibration(self) -> None:
        labels = {task["name"]: task["labels"] for task in self._task_list()}
        for name in {**(self.calibration or {}), **(self.operating_points or {}), **(self.confidences or {})}:
            if name not in labels:
                raise UsageError(f"calibration or operating points of {name!r}, which is not among {list(labels)}")
        for name, entry in (self.calibration or {}).items():
            method = entry.get("method") if isinstance(entry, dict) else None
            numbers = [entry.get(key) for key in _CALIBRATIONS.get(method, ())]
            fits = bool(numbers) and all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
            if not fits or numbers[0] <= 0 or (method == "platt" and len(labels[name]) != 2):
                raise UsageError(
                    f"calibration[{name!r}] is {entry}",
                    remedy="use temperature above 0, or for two labels platt with slope above 0 and intercept",
                )

    @classmethod
    def _normalised_tasks(cls, tasks: list[dict[str, Any]] | dict[str, Any]) -> list[dict[str, Any]]:
        pairs = tasks.items() if isinstance(tasks, dict) else [(task["name"], task) for task in tasks]
        normalised = [cls._task(str(name), task) for name, task in pairs]
        names = [task["name"] for task in normalised]
        if not normalised or len(set(names)) != len(names):
            raise UsageError(f"tasks must be one or more of different names, got {names}")
        for task in normalised:
            if len(task["labels"]) < 2 or len(set(task["labels"])) != len(task["labels"]):
                raise UsageError(f"task {task['name']!r} needs two or more different labels, got {task['labels']}")
        return normalised

    @staticmethod
    def _task(name: str, task: Any) -> dict[str, Any]:
        """Return a task as the configuration keeps it, from its dict or its labels."""
        labels = task["labels"] if isinstance(task, Mapping) else task
        severity = isinstance(task, Mapping) and task.get("severity", False)
        return {"name": name, "labels": [str(label) for label in labels]} | ({"severity": True} if severity else {})

    @classmethod
    def _changed(cls, stored: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a stored configuration with others in their place, which bring their own labels."""
        # `None` is what the constructor takes for a value that was not given
        asked = {key: given[key] for key in ("num_labels", "id2label") if given.get(key) is not None}
        if stored.get("tasks") is None and "tasks" not in given:
            return {**stored, **given}
        if "tasks" in given:
            tasks = None if given["tasks"] is None else cls._normalised_tasks(given["tasks"])
            if tasks == stored.get("tasks"):
                return {**stored, **given}
        else:
            names = _names_of_labels(stored["tasks"])
            if not asked or (
                asked.get("num_labels", len(names)) == len(names) and _agrees(asked.get("id2label", {}), names)
            ):
                return {**stored, **given}
            tasks = None
        rest = {key: value for key, value in stored.items() if key not in ("id2label", "label2id", "num_labels")}
        return {
            **rest,
            **cls._without_tasks(rest, tasks),
            "tasks": tasks,
            **given,
            **({"tasks": tasks} if tasks else {}),
        }

    @classmethod
    def _without_tasks(cls, stored: Mapping[str, Any], tasks: list[dict[str, Any]] | None) -> dict[str, Any]:
        """Return the options of tasks in a stored configuration, without those of tasks that are no longer there."""
        kept = {task["name"] for task in stored.get("tasks") or () if task in (tasks or ())}
        options: dict[str, Any] = {}
        for name in ("class_weights", "task_weights", "calibration", "operating_points", "confidences"):
            found = {task: value for task, value in (stored.get(name) or {}).items() if task in kept}
            options[name] = found or None
        options["ordinal_tasks"] = [task for task in stored.get("ordinal_tasks") or () if task in kept] or None
        if not tasks:
            options["label_smoothing"] = 0.0
        return options

    @property
    def task_slices(self) -> dict[str, slice]:
        """The slice of the logits of each task, by its name and in order."""
        return slices_of(self._task_list())


def slices_of(tasks: Iterable[Mapping[str, Any]]) -> dict[str, slice]:
    """Return the slice of the logits of each task, by its name and in order.

    Args:
        tasks: Tasks ``[{"name": ..., "labels": [...]}, ...]``, as in ``config.tasks``.
    """
    slices, start = {}, 0
    for task in tasks:
        slices[str(task["name"])] = slice(start, start + len(task["labels"]))
        start += len(task["labels"])
    return slices


def _names_of_labels(tasks: list[dict[str, Any]]) -> list[str]:
    return [f"{task['name']}:{label}" for task in tasks for label in task["labels"]]


def _agrees(id2label: dict[Any, str], names: list[str]) -> bool:
    found = [id2label[key] for key in sorted(id2label, key=int)]
    # transformers fills in LABEL_0, LABEL_1, ... if no names were given; that contradicts nothing
    return found == names or (
        len(found) in (0, 2, len(names)) and all(re.fullmatch(r"LABEL_\d+", name) for name in found)
    )
