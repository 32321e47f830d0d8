"""Outputs: what `predict` and `explain` write of each exam next to their tables, by plug-ins."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from ..errors import MammoError, UsageError
from ..explainers import Explanation
from ..files import write_whole, writing_errors
from ..models.checkpoint import INDEX, exported_graphs, name_of, read_checkpoint
from ..models.own_figures import map_tests
from ..plugins import Plugin, find_plugin, pass_over, plugin_errors, plugins
from ..processing.image_processing_mammo import MammoImageProcessor
from .scoring import labels_by_task

GROUP = "mammo_hf.outputs"
NAMES = ("REQUIRES", "available", "MAPS", "files_of")
Scores = Mapping[str, Mapping[str, float]]  # probability of each label, by task


@dataclass(frozen=True)
class ScoredImage:
    """An image with its scores.

    Attributes:
        file: Path of the file.
        laterality: "L", "R", "B", or "" if it is not known.
        view: "CC", "MLO" or another view, or "" if it is not known.
        scores: Probability of each label by task, calibrated if the model says how.
        notes: Codes of the notes on it, keys of `mammo_hf.notes.NOTES`.
        explanations: Maps of it, each a batch of one image; none if no explainer was run, or it has failed.
    """

    file: str
    laterality: str
    view: str
    scores: Scores
    notes: tuple[str, ...] = ()
    explanations: tuple[Explanation, ...] = ()


@dataclass(frozen=True)
class ScoredExam:
    """The images of one exam with their scores: what an output is made of.

    Attributes:
        images: Images that were read, those that do not count for breast and exam too; at least one.
        units: Scores of breasts ("L", "R") or of the exam ("exam") by its key, as far as they were asked for.
        model: Facts on the model, see `facts_of_model`.
        options: Options that the scores depend on, such as ``{"tta": False, "aggregate": "mean"}``.
        processor: Processor by which the images were read.
    """

    images: tuple[ScoredImage, ...]
    units: Mapping[str, Scores]
    model: Mapping[str, Any]
    options: Mapping[str, Any]
    processor: MammoImageProcessor = field(repr=False)


class Output(Protocol):
    """A kind of files that can be written of each exam: a module, or any object, with these names.

    Attributes:
        REQUIRES: Names of the packages that it needs in addition to mammo_hf's.
        MAPS: Whether it shows maps, so that an explainer must be run.
    """

    REQUIRES: tuple[str, ...]
    MAPS: bool

    def available(self) -> bool:
        """Return whether the packages are installed, without importing them."""
        ...

    def files_of(self, exam: ScoredExam) -> Iterable[tuple[str, bytes]]:
        """Return the names and contents of the files of an exam; the same exam gives the same bytes.

        A name is that of a file, unlike those of any other image; it names no person.

        Raises:
            MammoError: The exam cannot be written in this way.
        """
        ...


def outputs() -> dict[str, Plugin]:
    """Return all outputs that packages offer by name, those that cannot be used with their reason."""
    return plugins(GROUP, NAMES)


def find_outputs(names: Sequence[str]) -> dict[str, Output]:
    """Return the outputs of some names.

    Raises:
        UsageError: There is none of a name (the nearest is suggested), or it cannot be used (with the reason).
    """
    if names and not outputs():
        remedy = "install one, such as mammo-hf-pacs, which brings sr, seg and capture"
        raise UsageError(f"no output is installed, {names[0]!r} neither", source="write", remedy=remedy)
    return {name: find_plugin(GROUP, name, NAMES, kind="output") for name in dict.fromkeys(names)}


def write_outputs_of(exam: ScoredExam, written: Mapping[str, Output], folder: Path) -> None:
    """Write the files of an exam into a folder per output; an output that fails is named in a warning and passed over.

    Args:
        exam: The exam.
        written: Outputs by name.
        folder: Folder that gets a folder of each output's name.

    Raises:
        UsageError: The folder cannot be written to.
    """
    for name, output in written.items():
        try:
            with plugin_errors("output", name):
                files = list(output.files_of(exam))
        except MammoError as error:  # the scores do not need it
            pass_over(str(error))
            continue
        with writing_errors(folder):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for file, content in files:
            write_whole(folder / name / file, content)


def scores_by_label(config: Any, scores: Iterable[float]) -> dict[str, dict[str, float]]:
    """Return the scores of an image or unit, one per label of all tasks, by task and label."""
    values = iter(scores)
    return {task: {label: float(next(values)) for label in labels} for task, labels in labels_by_task(config).items()}


def facts_of_model(folder: Path, config: Any) -> dict[str, Any]:
    """Return facts on a model that its outputs state, as data that JSON takes.

    Args:
        folder: Folder of the model, as `mammo_hf.models.checkpoint.locate` returns it.
        config: Configuration of the model.

    Returns:
        The ``name``, the ``sha256`` of its weights, the ``version`` of mammo_hf, by task ``calibration`` and
        ``operating_points``, and by explainer the ``warrant`` of its maps: ``target`` and ``passed`` of
        `mammo_hf.models.own_figures.MapTests`.
    """
    names = [path.name for path in exported_graphs(folder)]
    names = names or [name for name in read_checkpoint(folder).weights() if name != INDEX]
    digest = hashlib.sha256()
    for name in names:
        with open(folder / name, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return {
        "name": name_of(folder),
        "sha256": digest.hexdigest(),
        "version": version("mammo-hf"),
        "calibration": getattr(config, "calibration", None) or {},
        "operating_points": getattr(config, "operating_points", None) or {},
        "warrant": {
            name: {"target": tests.target, "passed": tests.passed} for name, tests in map_tests(folder).items()
        },
    }
