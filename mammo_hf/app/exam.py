"""An exam that was dropped on the page: its views, read once, with their scores and what their headers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..data.phantom import draw_exam
from ..dicom import Laterality, View, mammogram_dataset
from ..dicom.report import mammogram_report
from ..errors import DataError, MammoError
from ..explainers.targets import task_slices
from ..geometry import Geometry
from ..prediction.exams import NamedView, into_exam
from ..prediction.explaining import explain_tasks
from ..prediction.scoring import calibrated_scores, image_logits
from ..resizing import resize_area

TALLEST = 1400  # pixels of a view on the page: what a screen shows
STANDARD = {(side, view) for side in (Laterality.LEFT, Laterality.RIGHT) for view in (View.CC, View.MLO)}
# of a header, what is shown; none of it names anybody
_FACTS = {
    "kind": "image",
    "vendor": "manufacturer",
    "intent": "made for",
    "bits_stored": "bits",
    "spacing_mm": "pixel size in mm",
    "kvp": "kV",
    "compression_force_n": "compression in N",
    "thickness_mm": "thickness in mm",
    "intensity_source": "intensity by",
    "contradictions": "contradicts",
}

Scores = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class ShownView:
    """One image of an exam.

    Attributes:
        name: As "R MLO", or "image 3" where the file does not say; never the file's name, which may name a person.
        laterality: Which breast.
        view: Which projection.
        intensity: float16 (height, width) in [0, 1], for the screen.
        mirrored: Whether the screen shows it mirrored, so that it hangs as its side should.
        pixel_values: (1, channels, height, width), the model's input.
        model_image: float32 (height, width) in [0, 1], the same before normalisation.
        geometry: From the model's input to the source.
        scores: By task (labels,) probabilities.
        facts: What the header says, in words.
    """

    name: str
    laterality: Laterality
    view: View
    intensity: np.ndarray
    mirrored: bool
    pixel_values: torch.Tensor
    model_image: np.ndarray
    geometry: Geometry
    scores: Scores
    facts: dict[str, str]


@dataclass(frozen=True, eq=False)
class ReadExam:
    """What came of some files.

    Attributes:
        views: In the order in which they hang.
        units: For "left", "right" and "exam" the scores by task; empty where two images are the same view.
        notes: What a reader must know, in sentences.
    """

    views: tuple[ShownView, ...]
    units: dict[str, Scores] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_exam(model: Any, processor: Any, images: Sequence[Any]) -> ReadExam:
    """Reads and scores images; one that cannot be read becomes a note.

    Args:
        model: A classifier.
        processor: Its own.
        images: Paths, or whatever the processor takes.

    Raises:
        DataError: There is none, or none could be read; says why of the first.
    """
    if not images:
        raise DataError("no file was given", remedy="drop DICOM files of one exam")
    views, notes = [], []
    for number, image in enumerate(images, 1):
        try:
            views.append(_read(model, processor, image, number))
        except MammoError as error:
            remedy = f"; {error.remedy}" if error.remedy else ""
            notes.append(f"File {number} cannot be read: {error.problem}{remedy}.")
    if not views:
        raise DataError(notes[0].removesuffix("."))
    views.sort(key=_place)
    known = [(view.laterality, view.view) for view in views]
    units: dict[str, Scores] = {}
    if any(side not in (Laterality.LEFT, Laterality.RIGHT) for side, _ in known):
        notes.append("Of some images the file does not say which breast they show: no scores of breasts and exam.")
    elif len(set(known)) < len(known):
        notes.append("Two images are the same view: no scores of breasts and exam.")
    else:
        named = [NamedView(view.name, None, view.laterality, view.view) for view in views]
        units = into_exam(named, {task: np.stack([v.scores[task] for v in views]) for task in views[0].scores}, "mean")
    return ReadExam(tuple(views), units, tuple(notes))


def phantom_exam() -> list[Any]:
    """Four views of a phantom patient, for whoever has no exam at hand."""
    exam = draw_exam(1, size=(1024, 512), lesion_scale=2.0)
    return [
        mammogram_dataset(pixels, laterality=side[0], view=view, Manufacturer="phantom")
        for (side, view), pixels in exam.images.items()
    ]


def explained(model: Any, view: ShownView, explainer: str, target: str | None, size: tuple[int, int]) -> np.ndarray:
    """Where the model looked, in [0, 1] on the screen's pixels: float32 (height, width), hung as the view is.

    Args:
        model: A classifier.
        view: Of its exam.
        explainer: Name of an explainer.
        target: As "pathology:malignant"; ``None``: the first label of the first task.
        size: (height, width) of the view on the screen.
    """
    _, found = explain_tasks(
        model,
        view.pixel_values,
        explainer,
        tasks=[next(iter(task_slices(model.config)))],
        target=target,
        images=view.model_image[None],
        geometry=[view.geometry],
    )
    (explanation,) = found[0].values()
    shown = resize_area(explanation.in_source(), size)
    return np.clip(shown[:, ::-1] if view.mirrored else shown, 0, 1)


def _read(model: Any, processor: Any, image: Any, number: int) -> ShownView:
    source = processor.open(image)
    mammogram, intensity = source.mammogram, source.view(slice(None))
    made = processor.preprocess(source, return_tensors="pt", return_geometry=True)
    geometry, pixels = made["geometry"][0], made["pixel_values"].to(model.device, model.dtype)
    with torch.inference_mode():
        logits = image_logits(model, pixels).double().cpu().numpy()
    laterality = Laterality.UNKNOWN if mammogram is None else mammogram.header.laterality
    view = View.UNKNOWN if mammogram is None else mammogram.header.view
    shown = resize_area(intensity, _screen_size(intensity.shape)).astype(np.float16)
    # right and left hang back to back: the chest wall of a right breast is on the right, and where it is now the
    # processor has found out
    mirrored = laterality.value in ("L", "R") and processor.orient and geometry.flip != (laterality is Laterality.RIGHT)
    return ShownView(
        name=f"{laterality.value} {view.value}".strip() or f"image {number}",
        laterality=laterality,
        view=view,
        intensity=shown[:, ::-1] if mirrored else shown,
        mirrored=bool(mirrored),
        pixel_values=pixels,
        model_image=processor.denormalize(made["pixel_values"].numpy())[0],
        geometry=geometry,
        scores={task: table[0] for task, table in calibrated_scores(model.config, logits).items()},
        facts={} if mammogram is None else _facts(mammogram),
    )


def _screen_size(size: tuple[int, ...]) -> tuple[int, int]:
    scale = min(1.0, TALLEST / size[0])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _place(view: ShownView) -> tuple[bool, int, bool, str]:
    """Oblique views above cranio-caudal ones, right before left, whatever else after them."""
    order = [View.MLO, View.CC]
    standard = (view.laterality, view.view) in STANDARD
    return not standard, order.index(view.view) if standard else 0, view.laterality is Laterality.LEFT, view.name


def _facts(mammogram: Any) -> dict[str, str]:
    report = mammogram_report(mammogram)
    words = {name: _words(report[key]) for key, name in _FACTS.items() if report.get(key)}
    if "made for" in words:
        words["made for"] = words["made for"].lower().removeprefix("for ")
    return {"size": f"{report['rows']} x {report['columns']}", **words}


def _words(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
