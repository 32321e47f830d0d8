"""An exam that was dropped on the page: its views, read once, with their scores and what their headers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import torch

from ..dicom import Laterality, View, mammogram_dataset
from ..dicom.report import mammogram_report
from ..errors import DataError, MammoError
from ..explainers.overlay import blend
from ..explainers.targets import label_names, task_slices
from ..inference.exams import NamedView, into_exam
from ..inference.scoring import calibrated_scores, explain_tasks, image_logits, labels_by_task
from ..phantom.exam import draw_exam
from ..processing.geometry import Geometry, resize_area

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


# A view as the screen shows it: window and level, a map over it, a part enlarged.


def drawn_view(
    intensity: np.ndarray,
    *,
    level: float = 0.5,
    window: float = 1.0,
    values: np.ndarray | None = None,
    opacity: float = 0.6,
    zoom: float = 1.0,
    centre: tuple[float, float] = (0.5, 0.5),
) -> np.ndarray:
    """uint8 RGB (height, width, 3).

    Args:
        intensity: (height, width) in [0, 1].
        level: The intensity that is shown as middle grey.
        window: The range of intensities between black and white, above 0.
        values: A map (height, width) in [0, 1]; zero leaves the image as it is.
        opacity: Of the map's strongest place, 0 to 1.
        zoom: How many times enlarged, 1 or more; the picture keeps its size.
        centre: Of the part that is shown, as shares of height and width; moved inwards where it would run out.
    """
    rows, columns = (_part(length, zoom, at) for length, at in zip(intensity.shape, centre, strict=True))
    shown = intensity[rows[:, None], columns].astype(np.float32)
    grey = np.clip((shown - (level - window / 2)) / window, 0, 1)
    if values is None or opacity == 0:
        picture = grey[..., None].repeat(3, axis=2)
    else:
        picture = blend(grey, np.clip(values[rows[:, None], columns], 0, 1), opacity)
    return np.rint(picture * 255).astype(np.uint8)


def shown_centre(
    click: tuple[float, float], zoom: float, centre: tuple[float, float], size: tuple[int, int]
) -> tuple[float, float]:
    """The place of the whole view, as shares of height and width, on which somebody has clicked.

    Args:
        click: (row, column) on the picture that `drawn_view` gave.
        zoom: That it was drawn with.
        centre: Likewise.
        size: (height, width) of the picture.
    """
    parts = [_part(length, zoom, at) for length, at in zip(size, centre, strict=True)]
    places = [part[int(np.clip(at, 0, len(part) - 1))] for part, at in zip(parts, click, strict=True)]
    return (float(places[0]) + 0.5) / size[0], (float(places[1]) + 0.5) / size[1]


def _part(length: int, zoom: float, centre: float) -> np.ndarray:
    """For each pixel of the screen the source's, along one side."""
    extent = length / max(1.0, zoom)
    start = float(np.clip(centre * length - extent / 2, 0, length - extent))
    return np.minimum((start + (np.arange(length) + 0.5) * extent / length).astype(int), length - 1)


# What the page says: scores as tables, header facts, notes, the sentence that this is research software.


RESEARCH = (
    "Research software, not a medical device: nothing here may decide about a person. Files are read on the machine "
    "that runs this page and are deleted after."
)
HINT = "The exam's views hang here: oblique above cranio-caudal, right and left back to back."
FIRST = "the model's own choice"


def targets_of(config: Any) -> list[str]:
    """What can be explained: the first task's first label, or any label by name."""
    return [FIRST, *label_names(config)]


def scores_table(exam: ReadExam, config: Any) -> str:
    """Scores of exam, breasts and views, a table a task."""
    calibrated = getattr(config, "calibration", None) or {}
    rows: dict[str, Scores] = {}
    if exam.units:
        rows["exam"] = exam.units["exam"]
        rows |= {f"{side} breast": exam.units[side] for side in ("right", "left") if side in exam.units}
    rows |= {view.name: view.scores for view in exam.views}
    tables = []
    for task, labels in labels_by_task(config).items():
        how = "calibrated probability" if task in calibrated else "score, not calibrated"
        head = "".join(f'<th scope="col">{escape(label)}</th>' for label in labels)
        body = "".join(
            f'<tr><th scope="row">{escape(name)}</th>{"".join(_cell(value) for value in scores[task])}</tr>'
            for name, scores in rows.items()
        )
        tables.append(
            f'<table class="scores"><caption>{escape(task or "scores")} <small>({how})</small></caption>'
            f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"
        )
    return f'<div class="scroll" tabindex="0">{"".join(tables)}</div>'


def _cell(value: float) -> str:
    return f'<td><meter min="0" max="1" value="{value:.3f}" aria-hidden="true"></meter> {100 * value:.0f} %</td>'


def facts_table(exam: ReadExam) -> str:
    """What the headers say, a column a view; a picture has no header."""
    names = list(dict.fromkeys(name for view in exam.views for name in view.facts))
    if not names:
        return "<p>The files have no DICOM header.</p>"
    head = "".join(f'<th scope="col">{escape(view.name)}</th>' for view in exam.views)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(view.facts.get(name, ''))}</td>" for view in exam.views)
        + "</tr>"
        for name in names
    )
    table = f'<table class="facts"><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll" tabindex="0">{table}</div>'


def notes_list(notes: tuple[str, ...]) -> str:
    """Notes as a list; nothing where there is none."""
    return f"<ul class='notes' role='status'>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" * bool(notes)


def problem(text: str) -> str:
    """An error, where a screen reader tells of it at once."""
    return f'<p class="problem" role="alert">error: {escape(text)}</p>'
