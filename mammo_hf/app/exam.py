"""An exam on the page: its views, read once, with scores and header facts, as pictures and as HTML tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np
import torch

from ..data.precedence import NO_HEADER, Precedence, not_counting, precedence
from ..dicom import Laterality, View, mammogram_dataset
from ..dicom.report import mammogram_report
from ..encoders.bags import Image
from ..encoders.classifier import BagClassifier
from ..encoders.views import Picture, drawn
from ..errors import DataError, MammoError, refusing
from ..explainers.overlay import blend
from ..explainers.targets import calibrated_scores, label_names, task_slices
from ..inference.exams import into_exam
from ..inference.scoring import explain_tasks, labels_by_task, logits_and_notes, units_of_head
from ..phantom.exam import draw_exam
from ..processing.geometry import Geometry, mirrored, oriented, resize_area

TALLEST = 1400  # height of a view on the page in pixels: what a screen shows
STANDARD = {(side, view) for side in (Laterality.LEFT, Laterality.RIGHT) for view in (View.CC, View.MLO)}
# the fields of a header that are shown, with their headings; none of them identifies anybody
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
        name: The name on the page, such as "R MLO", or "image 3" if the file does not say; never the file's name, which
            may identify a person.
        laterality: The breast.
        view: The projection.
        intensity: The image for the screen, float16 (height, width) in [0, 1].
        orientation: Orientation of the source on the screen, upright and with the chest wall on the usual side, one of
            `mammo_hf.processing.geometry.ORIENTATIONS`.
        pixel_values: The model's input (1, channels, height, width).
        model_image: The model's input before normalisation, float32 (height, width) in [0, 1].
        geometry: The way from the model's input to the source.
        scores: Probabilities (labels,) by task.
        facts: Facts from the header by their headings.
        precedence: Rank among the images of its view, from `mammo_hf.data.precedence.precedence`.
        bag: The image as one of a bag, for a head over features; ``None`` for any other model.
        unlike_training: Whether it is unlike the images that the model was trained on.
    """

    name: str
    laterality: Laterality
    view: View
    intensity: np.ndarray
    orientation: str
    pixel_values: torch.Tensor
    model_image: np.ndarray
    geometry: Geometry
    scores: Scores
    facts: dict[str, str]
    precedence: Precedence = NO_HEADER
    bag: Image | None = None
    unlike_training: bool = False


class Exam:  # not a dataclass: Gradio would send one to the browser, array by array
    """The exam that one visitor sees, and the state of the page.

    Args:
        views: The images, in the order in which they are displayed.
        units: Scores by task for "left", "right" and "exam"; empty if an image does not say which breast it shows.
        notes: Sentences that the reader has to know.
    """

    def __init__(
        self, views: Sequence[ShownView] = (), units: Mapping[str, Scores] | None = None, notes: Sequence[str] = ()
    ) -> None:
        self.views, self.units, self.notes = tuple(views), dict(units or {}), tuple(notes)
        self.maps: dict[tuple[int, str, str], np.ndarray] = {}  # by view, explainer and target
        self.centre = (0.5, 0.5)  # of the enlarged part, as fractions of height and width


def read_exam(
    model: Any, processor: Any, images: Sequence[Any], lock: AbstractContextManager[Any] | None = None
) -> Exam:
    """Read and score images; one that cannot be read becomes a note.

    Args:
        model: A classifier.
        processor: The model's processor.
        images: Paths, or anything else that the processor takes.
        lock: Lock that is held while the model is used, but not while files are read.

    Raises:
        DataError: There is none, or none could be read, with the reason for the first.
    """
    if not images:
        raise DataError("no file was given", remedy="drop DICOM files of one exam")
    views, notes = [], []
    for number, image in enumerate(images, 1):
        try:
            views.append(_read(model, processor, image, number, lock or nullcontext()))
        except MammoError as error:
            remedy = f"; {error.remedy}" if error.remedy else ""
            notes.append(f"File {number} cannot be read: {error.problem}{remedy}.")
    if not views:
        raise DataError(notes[0].removesuffix("."))
    views.sort(key=_display_order)
    sides = (Laterality.LEFT, Laterality.RIGHT)
    known = [index for index, view in enumerate(views) if view.laterality in sides and view.view is not View.UNKNOWN]
    others = not_counting((index, views[index].name, views[index].precedence) for index in known)
    for number, (index, note) in enumerate(others.items(), 2):
        views[index] = replace(views[index], name=f"{views[index].name}, image {number}")
        notes.append(f"{views[index].name} is not counted: {note}.")
    notes += [
        f"{view.name} is not like the images that the model was trained on: its scores may mean nothing."
        for view in views
        if view.unlike_training
    ]
    counted = [view for index, view in enumerate(views) if index not in others]
    units: dict[str, Scores] = {}
    if any(view.laterality not in sides for view in counted):
        notes.append("Some files do not say which breast they show: there are no scores of breasts and exam.")
    else:
        units = _units(model, counted)
    return Exam(views, units, notes)


def _units(model: Any, views: Sequence[ShownView]) -> dict[str, Scores]:
    lateralities = [view.laterality for view in views]
    if isinstance(model, BagClassifier):
        return units_of_head(model, lateralities, [view.bag for view in views if view.bag is not None])
    scores = {task: np.stack([view.scores[task] for view in views]) for task in views[0].scores}
    return into_exam(lateralities, scores, "mean")


def phantom_exam() -> list[Any]:
    """Return four views of a phantom patient, for visitors without an exam."""
    exam = draw_exam(1, size=(1024, 512), lesion_scale=2.0)
    return [
        mammogram_dataset(pixels, laterality=side[0], view=view, Manufacturer="phantom")
        for (side, view), pixels in exam.images.items()
    ]


def explanation_map(
    model: Any, view: ShownView, explainer: str, target: str | None, size: tuple[int, int]
) -> np.ndarray:
    """Return where the model looked, float32 (height, width) in [0, 1] on the screen's pixels, oriented as the view.

    Args:
        model: A classifier.
        view: A view of the exam.
        explainer: Name of an explainer.
        target: Label to explain, such as "pathology:malignant"; ``None`` for the default of the first task.
        size: The view's (height, width) on the screen.
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
    return np.clip(resize_area(oriented(explanation.in_source(), view.orientation), size), 0, 1)


def _read(model: Any, processor: Any, image: Any, number: int, lock: AbstractContextManager[Any]) -> ShownView:
    with refusing(f"image {number}"):
        source = processor.open(image)
        mammogram, intensity = source.mammogram, source.view(slice(None))
        shown_to, pixels, geometry = _model_input(model, processor, source)
    bag, unlike = None, False
    with lock, torch.inference_mode():
        if isinstance(model, BagClassifier):
            bag = model.bag(shown_to, source.laterality, source.projection)[1]
            logits = model.unit_logits([bag])[None]
        else:
            found, (noted,) = logits_and_notes(model, pixels)
            unlike = bool(noted)
            logits = found.double().cpu().numpy()
    laterality = Laterality.UNKNOWN if mammogram is None else mammogram.header.laterality
    view = View.UNKNOWN if mammogram is None else mammogram.header.view
    # right and left are displayed back to back: the chest wall of a right breast is on the right; where it is in the
    # image, the processor has found
    orientation = geometry.orientation
    if laterality is Laterality.RIGHT and processor.orient:
        orientation = mirrored(orientation)
    elif laterality is not Laterality.LEFT and orientation == "flip_left_right":
        orientation = "identity"
    intensity = oriented(intensity, orientation)
    shown = resize_area(intensity, _screen_size(intensity.shape)).astype(np.float16)
    return ShownView(
        name=f"{laterality.value} {view.value}".strip() or f"image {number}",
        laterality=laterality,
        view=view,
        intensity=shown,
        orientation=orientation,
        pixel_values=pixels,
        model_image=pixels[0, 0].float().cpu().numpy() if bag else processor.denormalize(shown_to)[0],
        geometry=geometry,
        scores={task: table[0] for task, table in calibrated_scores(model.config, logits).items()},
        facts={} if mammogram is None else _facts(mammogram),
        precedence=precedence(mammogram),
        bag=bag,
        unlike_training=unlike,
    )


def _model_input(model: Any, processor: Any, source: Any) -> tuple[Any, torch.Tensor, Geometry]:
    """Return what a model scores of an image, what of it is explained (1, channels, height, width), and its geometry.

    The first is an array of the same shape, or the views that the encoder of a head over features sees.
    """
    if isinstance(model, BagClassifier):
        views = drawn(Picture.of_image(source, processor), model.views, model.encoder.tile)
        intensity, geometry = views.finest
        return views, torch.from_numpy(intensity)[None, None].to(model.device, model.dtype), geometry
    made = processor.preprocess(source, return_tensors="pt", return_geometry=True)
    return made["pixel_values"].numpy(), made["pixel_values"].to(model.device, model.dtype), made["geometry"][0]


def _screen_size(size: tuple[int, ...]) -> tuple[int, int]:
    scale = min(1.0, TALLEST / size[0])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _display_order(view: ShownView) -> tuple[bool, int, bool, str]:
    """Sort oblique views above cranio-caudal ones, right before left, all others after them."""
    order = [View.MLO, View.CC]
    standard = (view.laterality, view.view) in STANDARD
    return not standard, order.index(view.view) if standard else 0, view.laterality is Laterality.LEFT, view.name


def _facts(mammogram: Any) -> dict[str, str]:
    report = mammogram_report(mammogram)
    facts = {heading: _text(report[key]) for key, heading in _FACTS.items() if report.get(key)}
    if "made for" in facts:
        facts["made for"] = facts["made for"].lower().removeprefix("for ")
    return {"size": f"{report['rows']} x {report['columns']}", **facts}


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


# A view as the screen shows it: window and level, a map over it, a part enlarged.


def draw_view(
    intensity: np.ndarray,
    *,
    level: float = 0.5,
    window: float = 1.0,
    values: np.ndarray | None = None,
    opacity: float = 0.6,
    zoom: float = 1.0,
    centre: tuple[float, float] = (0.5, 0.5),
) -> np.ndarray:
    """Draw a view with window, level and zoom, and a map over it: uint8 RGB (height, width, 3).

    Args:
        intensity: The image (height, width) in [0, 1].
        level: The intensity that is shown as middle grey.
        window: The range of intensities between black and white, above 0.
        values: A map (height, width) in [0, 1]; zero leaves the image as it is.
        opacity: Opacity where the map is 1, from 0 to 1.
        zoom: Enlargement, 1 or more; the picture keeps its size.
        centre: Centre of the part that is shown, as fractions of height and width; moved inwards at the image's edge.
    """
    rows, columns = (_part(length, zoom, at) for length, at in zip(intensity.shape, centre, strict=True))
    shown = intensity[rows[:, None], columns].astype(np.float32)
    grey = np.clip((shown - (level - window / 2)) / window, 0, 1)
    if values is None or opacity == 0:
        picture = grey[..., None].repeat(3, axis=2)
    else:
        picture = blend(grey, np.clip(values[rows[:, None], columns], 0, 1), opacity)
    return np.rint(picture * 255).astype(np.uint8)


def clicked_point(
    click: tuple[float, float], zoom: float, centre: tuple[float, float], size: tuple[int, int]
) -> tuple[float, float]:
    """Return the point of the whole view, as fractions of height and width, that was clicked.

    Args:
        click: Point (row, column) on the picture that `draw_view` returned.
        zoom: Enlargement that it was drawn with.
        centre: Centre that it was drawn with.
        size: The picture's (height, width).
    """
    parts = [_part(length, zoom, at) for length, at in zip(size, centre, strict=True)]
    row, column = (part[int(np.clip(at, 0, len(part) - 1))] for part, at in zip(parts, click, strict=True))
    return (float(row) + 0.5) / size[0], (float(column) + 0.5) / size[1]


def _part(length: int, zoom: float, centre: float) -> np.ndarray:
    """Return the source pixel of each screen pixel along one side."""
    extent = length / max(1.0, zoom)
    start = float(np.clip(centre * length - extent / 2, 0, length - extent))
    return np.minimum((start + (np.arange(length) + 0.5) * extent / length).astype(int), length - 1)


# Texts and tables of the page.

RESEARCH = (
    "Research software, not a medical device: nothing here may decide about a person. Files are read on the machine "
    "that runs this page and are deleted afterwards."
)
HINT = "The exam's views are shown here: oblique above cranio-caudal, right and left back to back."
PREDICTED = "the positive one of two, the predicted one of more"


def targets_of(config: Any) -> list[str]:
    """Return what can be explained: the default of the first task, or any label by name."""
    return [PREDICTED, *label_names(config)]


def scores_table(exam: Exam, config: Any) -> str:
    """Return the scores of exam, breasts and views as HTML, one table per task."""
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


def facts_table(exam: Exam) -> str:
    """Return the header facts as an HTML table, one column per view; a picture has no header."""
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


def notes_list(notes: Sequence[str]) -> str:
    """Return notes as an HTML list; an empty text if there are none."""
    return f"<ul class='notes' role='status'>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" * bool(notes)


def problem(text: str) -> str:
    """Return an error as HTML that a screen reader announces at once."""
    return f'<p class="problem" role="alert">error: {escape(text)}</p>'
