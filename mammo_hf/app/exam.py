"""An exam on the page: its views, read once, with scores and header facts, and all of them as HTML."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, cached_property
from html import escape
from typing import Any

import numpy as np
import torch
from PIL import Image as Pictures

from ..data.precedence import NO_HEADER, Precedence, not_counting, precedence
from ..dicom import Laterality, View, mammogram_dataset
from ..dicom.report import mammogram_report
from ..encoders.bags import Image
from ..encoders.classifier import BagClassifier
from ..encoders.views import Picture, drawn
from ..errors import DataError, MammoError, refusing
from ..explainers import Explanation
from ..explainers.explain import OPERATING_POINT
from ..explainers.overlay import MAP_SCALE, OPACITY, colours, heat_overlay, method_name, percent
from ..explainers.targets import calibrated_scores, fixed_target, label_names, resolve, task_slices
from ..inference.exams import STANDARD, into_exam, missing_views
from ..inference.scoring import (
    bag_logits_and_notes,
    explain_tasks,
    labels_by_task,
    logits_and_notes,
    sentences_on_scores,
    targets_of_exam,
    units_of_head,
)
from ..models.own_figures import AT_CHANCE, is_at_chance
from ..notes import Note
from ..phantom.exam import draw_exam
from ..processing.geometry import Geometry, mirrored, oriented, resize_area

TALLEST = 1400  # height of a view on the page in pixels: what a screen shows
MOST_FILES = 32  # per exam: a folder dropped by mistake is refused before it is read
_LIMITS = ("kind_not_trained_on", "implant_present")  # notes on what the model has no figures for
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
        mm: Side of a pixel of `intensity` in mm; ``None`` if the file does not say.
        limits: Notes on what the model has no figures for.
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
    mm: float | None = None
    limits: tuple[Note, ...] = ()

    @cached_property
    def url(self) -> str:
        """The intensity as a PNG for the page's script: 16 bits in red (high byte) and green (low byte)."""
        values = np.rint(np.clip(self.intensity.astype(np.float32), 0, 1) * 65535).astype(np.uint16)
        return _as_url(np.stack([values >> 8, values & 255, np.zeros_like(values)], axis=-1).astype(np.uint8))


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
        self.maps: dict[tuple[int, str, int, bool], Explanation] = {}  # by view, explainer, label, and if weak ones too


def read_exam(
    model: Any,
    processor: Any,
    images: Sequence[Any],
    names: Sequence[str] = (),
    lock: AbstractContextManager[Any] | None = None,
) -> Iterator[Exam]:
    """Read and score images one by one, and give the exam as far as it is read after each; the last one is whole.

    Args:
        model: A classifier.
        processor: The model's processor.
        images: Paths, or anything else that the processor takes.
        names: Names of the images for the notes on those that cannot be read; without names they are numbered.
        lock: Lock that is held while the model is used, but not while files are read.

    Raises:
        DataError: There is no image, there are more than `MOST_FILES`, or none could be read, with the reason for the
            first.
    """
    if not images:
        raise DataError("no file was given", remedy="drop DICOM files of one exam")
    if len(images) > MOST_FILES:
        raise DataError(
            f"{len(images)} files were given, more than the {MOST_FILES} that an exam may have",
            remedy="drop the files of one exam; mammo-hf predict scores a folder",
        )
    views: list[ShownView] = []
    notes: list[str] = []
    for number, image in enumerate(images, 1):
        try:
            views.append(_read(model, processor, image, number, lock or nullcontext()))
        except MammoError as error:
            name = names[number - 1] if names else f"File {number}"
            notes.append(f"{name} cannot be read: {error.problem}{f'; {error.remedy}' if error.remedy else ''}.")
        views.sort(key=_display_order)
        if number < len(images):
            yield Exam(views, notes=[f"{number} of {len(images)} files are read.", *notes])
    if not views:
        raise DataError(notes[0].removesuffix("."))
    yield _whole_exam(model, views, notes)


def _whole_exam(model: Any, views: list[ShownView], notes: list[str]) -> Exam:
    sides = (Laterality.LEFT, Laterality.RIGHT)
    known = [index for index, view in enumerate(views) if view.laterality in sides and view.view is not View.UNKNOWN]
    others = not_counting((index, views[index].name, views[index].precedence) for index in known)
    for number, (index, note) in enumerate(others.items(), 2):
        views[index] = replace(views[index], name=f"{views[index].name}, image {number}")
        notes.append(f"{views[index].name} is not counted: {note}.")
    unlike = "not like the images that the model was trained on; the scores may mean nothing"
    said: dict[str, list[str]] = {}  # the same of several views is said once: scores are to be seen without scrolling
    for view in views:
        for text in [unlike] * view.unlike_training + [str(limit) for limit in view.limits]:
            said.setdefault(text, []).append(view.name)
    notes += [f"{', '.join(names)}: {text}." for text, names in said.items()]
    counted = [view for index, view in enumerate(views) if index not in others]
    if any(view.laterality not in sides for view in counted):
        notes.append("Some files do not say which breast they show: there are no scores of breasts and exam.")
        return Exam(views, notes=notes)
    notes += [
        f"{note[0].upper()}{note[1:]}." for note in missing_views((v.laterality.value, v.view.value) for v in counted)
    ]
    return Exam(views, _units(model, counted), notes)


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


def explained_label(exam: Exam, config: Any, target: str) -> int:
    """Return the label that all views of an exam are explained for, as an index into the logits.

    Args:
        exam: The exam, of one view or more.
        config: The model's configuration.
        target: One of `targets_of`.
    """
    if target != PREDICTED:
        return resolve(target, 1, config)[0]
    task = next(iter(task_slices(config)))
    return targets_of_exam(config, exam.units.get("exam", exam.views[0].scores), [task])[0]


def explanation_of(model: Any, view: ShownView, explainer: str, label: int, weak: bool = False) -> Explanation:
    """Return where the model looked.

    Args:
        model: A classifier.
        view: A view of the exam.
        explainer: Name of an explainer.
        label: Label to explain, as an index into the logits.
        weak: Whether the map is drawn below the operating point too.
    """
    _, found = explain_tasks(
        model,
        view.pixel_values,
        explainer,
        tasks=[],
        target=[label],
        images=view.model_image[None],
        geometry=[view.geometry],
        operating_point="none" if weak else OPERATING_POINT,
    )
    score = float(np.concatenate(list(view.scores.values()))[label])  # as it is reported
    return replace(found[0][label], score=(score,))


def on_screen(explanation: Explanation, view: ShownView) -> np.ndarray:
    """Return a map on the pixels of a view, float32 (height, width) in [0, 1]."""
    size = (view.intensity.shape[0], view.intensity.shape[1])
    return np.clip(resize_area(oriented(explanation.in_source(), view.orientation), size), 0, 1)


def _read(model: Any, processor: Any, image: Any, number: int, lock: AbstractContextManager[Any]) -> ShownView:
    with refusing(f"image {number}"):
        source = processor.open(image)
        mammogram, intensity = source.mammogram, source.view(slice(None))
        shown_to, pixels, geometry = _model_input(model, processor, source)
    bag = None
    with lock, torch.inference_mode():
        if isinstance(model, BagClassifier):
            bag = model.bag(shown_to, source.laterality, source.projection)[1]
            of_bag, noted = bag_logits_and_notes(model, bag)
            logits = of_bag[None]
        else:
            found, (noted,) = logits_and_notes(model, pixels)
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
        unlike_training=bool(noted),
        limits=tuple(note for note in source.notes if note.code in _LIMITS),
        mm=None if mammogram is None else _pixel_side(mammogram.header.spacing_mm, intensity.shape, shown.shape),
    )


def _pixel_side(spacing: tuple[float, float] | None, source: tuple[int, ...], shown: tuple[int, ...]) -> float | None:
    return None if spacing is None else spacing[0] * source[0] / shown[0]


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
    standard = (view.laterality.value, view.view.value) in STANDARD
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


# Texts and tables of the page.

RESEARCH = (
    "Research software, not a medical device: nothing here may decide about a person. Files are read on the machine "
    "that runs this page and are deleted afterwards."
)
PREDICTED = "the label predicted for the exam"


def targets_of(config: Any) -> list[str]:
    """Return what can be explained, the default first: any label, or what the first task predicts for the exam."""
    names, fixed = label_names(config), fixed_target(config)
    return [PREDICTED, *names] if fixed is None else [names.pop(fixed), *names, PREDICTED]


def scores_table(exam: Exam, model: Any) -> str:
    """Return the scores of exam, breasts and views as HTML, one table per task, with what is known of the model."""
    calibrated = getattr(model.config, "calibration", None) or {}
    rows: dict[str, Scores] = {}
    if exam.units:
        rows["exam"] = exam.units["exam"]
        rows |= {f"{side} breast": exam.units[side] for side in ("right", "left") if side in exam.units}
    rows |= {view.name: view.scores for view in exam.views}
    tables = []
    for task, labels in labels_by_task(model.config).items():
        how = "calibrated probability" if task in calibrated else "score, not calibrated"
        sentences = sentences_on_scores(model, task)
        how += f"; {AT_CHANCE}" * is_at_chance(sentences)
        head = "".join(f'<th scope="col">{escape(label)}</th>' for label in labels)
        body = "".join(
            f'<tr><th scope="row">{escape(name)}</th>{"".join(_cell(value) for value in scores[task])}</tr>'
            for name, scores in rows.items()
        )
        tables.append(
            f'<table class="scores"><caption>{escape(task or "scores")} <small>({how})</small></caption>'
            f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"
            f'<p class="figures">{escape(" ".join(sentences))}</p>'
        )
    return f'<div class="scroll" tabindex="0">{"".join(tables)}</div>'


def _cell(value: float) -> str:
    return f'<td><meter min="0" max="1" value="{value:.3f}" aria-hidden="true"></meter> {escape(percent(value))}</td>'


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
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<div role='status'><ul class='notes'>{items}</ul></div>" if notes else ""


def problem(text: str) -> str:
    """Return an error as HTML that a screen reader announces at once."""
    return f'<p class="problem" role="alert">error: {escape(text)}</p>'


# Pictures of the page: what they hold is drawn by its script, viewer.js.


def views_section(exam: Exam) -> str:
    """Return the views as HTML figures, the four standard ones first; the page's script draws them."""
    return "".join(
        f'<figure class="view" id="{escape(view.name.replace(" ", "-"))}" data-side="{view.laterality.value}"'
        f' data-standard="{int((view.laterality.value, view.view.value) in STANDARD)}" data-mm="{view.mm or ""}"'
        f' data-pixels="{view.url}">'
        f'<canvas role="img" tabindex="0" aria-label="{escape(_spoken(view))}"></canvas>'
        f'<figcaption>{escape(view.name)} <span class="explained"></span></figcaption></figure>'
        for view in exam.views
    )


def _spoken(view: ShownView) -> str:
    side = {Laterality.LEFT: "left breast", Laterality.RIGHT: "right breast"}.get(view.laterality)
    return f"{side}, {view.view.value}" if side else view.name


def maps_section(exam: Exam, maps: Mapping[int, Explanation], tests: Sequence[str] = ()) -> str:
    """Return maps of views as HTML for the page's script, with what they explain and a legend.

    Args:
        exam: The exam.
        maps: By the number of the view; none: nothing is shown.
        tests: Sentences on the tests of such maps.
    """
    if not maps:
        return ""
    first = next(iter(maps.values()))
    pictures = "".join(
        f'<span hidden data-view="{number}" data-strength="{one.strength():.3f}" data-text="{escape(one.result())}"'
        f' data-pixels="{_as_url(np.rint(on_screen(one, exam.views[number]) * 255).astype(np.uint8))}"></span>'
        for number, one in maps.items()
    )
    (low, high), name = MAP_SCALE, method_name(first.explainer)
    return (
        f'<p class="legend" data-colours="{_palette()}" data-opacity="{OPACITY}">'
        f"{escape(name)} for {escape(first.target[0])}, "
        f'from {low} <span class="scale" aria-hidden="true"></span> to the {high} point of each view; '
        f"as opaque as the score is high</p>{notes_list(tests)}{pictures}"
    )


def strip_section(view: ShownView, maps: Mapping[str, Explanation | str]) -> str:
    """Return one view under the maps of several explainers side by side, as HTML.

    Args:
        view: The view.
        maps: By the explainer's name: its map, or the reason why there is none.
    """
    panels, result = [], ""
    for name, found in maps.items():
        if isinstance(found, str):
            shown = f'<p class="missing">{escape(found)}</p>'
        else:
            result = found.result()
            picture = Pictures.fromarray(heat_overlay(view.intensity.astype(np.float32), on_screen(found, view)))
            picture.thumbnail((500, 500))
            alt = f"{method_name(name)} on {view.name}"
            shown = f'<img alt="{escape(alt)}" src="{_as_url(np.asarray(picture), "webp")}">'
        panels.append(f"<figure>{shown}<figcaption>{escape(method_name(name))}</figcaption></figure>")
    return (
        f"<h2>{escape(view.name)}, {escape(result)}: each method, at full strength</h2>"
        f'<div class="strip">{"".join(panels)}</div>'
    )


@cache
def _palette() -> str:
    """Return the colours of the maps' scale as JSON, 256 times red, green and blue."""
    return json.dumps(np.rint(colours(np.arange(256) / 255) * 255).astype(int).tolist(), separators=(",", ":"))


def _as_url(picture: np.ndarray, kind: str = "png") -> str:
    file, options = io.BytesIO(), {"compress_level": 1} if kind == "png" else {"quality": 85}
    Pictures.fromarray(picture).save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
