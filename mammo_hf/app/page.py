"""The page itself: what stands where, and what happens when something is dropped, moved or clicked."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub.utils import HFValidationError, validate_repo_id

from .. import __version__
from ..errors import MammoError, UsageError
from ..explainers import explainers
from .exam import (
    FIRST,
    HINT,
    RESEARCH,
    STANDARD,
    ReadExam,
    drawn_view,
    explained,
    facts_table,
    notes_list,
    phantom_exam,
    problem,
    read_exam,
    scores_table,
    shown_centre,
    targets_of,
)

NONE = "none"
GRID = (("R", "MLO"), ("L", "MLO"), ("R", "CC"), ("L", "CC"))
_LIFETIME = 600  # seconds after which whatever is left of uploads is deleted


class Shown:  # no dataclass: Gradio would send one to the browser, array by array
    """What one visitor sees: the exam, the maps made so far, and the part that is enlarged.

    Args:
        exam: What was read; none yet where not given.
    """

    def __init__(self, exam: ReadExam | None = None) -> None:
        self.exam = exam or ReadExam(())
        self.maps: dict[tuple[int, str, str], np.ndarray] = {}
        self.centre = (0.5, 0.5)


@dataclass(frozen=True)
class Settings:
    """What the controls say, in their order on the page."""

    explainer: str
    target: str
    opacity: float
    level: float
    window: float
    zoom: float


def gradio() -> Any:
    """The package, asked for only where the page is.

    Raises:
        UsageError: It is not installed.
    """
    # it would look for newer versions and fetch fonts: a page with patients' images asks nobody anything
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio as found
    except ImportError as error:
        raise UsageError("the page needs Gradio", remedy='pip install "mammo-hf[app]"') from error
    return found


class Page:
    """The page's actions on a classifier.

    Args:
        model: A classifier.
        processor: Its own.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor

    def read(self, files: list[str] | None, *controls: Any) -> tuple[Any, ...]:
        """Files that were dropped; they are deleted as soon as they are read."""
        try:
            return self._shown(Shown(read_exam(self._model, self._processor, files or [])), controls)
        except MammoError as error:
            return self._shown(Shown(), controls, problem(str(error)))
        finally:
            for file in files or []:
                with contextlib.suppress(OSError):
                    Path(file).unlink()

    def example(self, *controls: Any) -> tuple[Any, ...]:
        """The phantom's exam."""
        return self._shown(Shown(read_exam(self._model, self._processor, phantom_exam())), controls)

    def draw(self, shown: Shown, *controls: Any) -> list[Any]:
        """The four views and the others, as the controls say."""
        settings, pictures = Settings(*controls), {}
        others = []
        for number, view in enumerate(shown.exam.views):
            picture = drawn_view(
                view.intensity,
                level=settings.level,
                window=settings.window,
                values=self._map(shown, number, settings),
                opacity=settings.opacity,
                zoom=settings.zoom,
                centre=shown.centre,
            )
            key = (view.laterality.value, view.view.value)
            if (view.laterality, view.view) in STANDARD and key not in pictures:
                pictures[key] = picture
            else:
                others.append((picture, view.name))
        gr = gradio()
        grid = [gr.update(value=pictures.get(key), visible=bool(pictures)) for key in GRID]
        return [*grid, gr.update(value=others, visible=bool(others))]

    def click(self, shown: Shown, event: Any, *controls: Any) -> list[Any]:
        """Moves the enlarged part to where somebody has clicked."""
        settings = Settings(*controls)
        column, row = event.index
        sizes = [view.intensity.shape for view in shown.exam.views] or [(1, 1)]
        shown.centre = shown_centre((row, column), settings.zoom, shown.centre, (sizes[0][0], sizes[0][1]))
        return [shown, *self.draw(shown, *controls)]

    def _map(self, shown: Shown, number: int, settings: Settings) -> np.ndarray | None:
        if settings.explainer == NONE:
            return None
        key = (number, settings.explainer, settings.target)
        if key not in shown.maps:
            view = shown.exam.views[number]
            target = None if settings.target == FIRST else settings.target
            size = (view.intensity.shape[0], view.intensity.shape[1])
            shown.maps[key] = explained(self._model, view, settings.explainer, target, size)
        return shown.maps[key]

    def _shown(self, shown: Shown, controls: tuple[Any, ...], said: str = "") -> tuple[Any, ...]:
        exam = shown.exam
        tables = (scores_table(exam, self._model.config), facts_table(exam)) if exam.views else ("", "")
        hint = gradio().update(visible=not exam.views)
        return shown, None, said + notes_list(exam.notes), hint, *tables, *self.draw(shown, *controls)


def build_page(model: Any, processor: Any, *, name: str = "") -> Any:
    """The page of a classifier: a ``gradio.Blocks``; `launch_options` go to its ``launch``.

    Args:
        model: A classifier.
        processor: Its own.
        name: Of the model, as the page tells it.

    Raises:
        UsageError: Gradio is not installed.
    """
    gr, page = gradio(), Page(model, processor)
    blocks = gr.Blocks(title="mammo_hf", analytics_enabled=False, delete_cache=(_LIFETIME, _LIFETIME))
    with blocks:
        gr.Markdown(f"# mammo_hf {name}".strip())
        gr.Markdown(RESEARCH, elem_id="research")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                files = gr.File(label="DICOM files of one exam", file_count="multiple", elem_id="files", height=140)
                example = gr.Button("Show a phantom exam", elem_id="example")
                said = gr.HTML(elem_id="said")
                controls = _controls(gr, model)
            with gr.Column(scale=2, min_width=320):
                hint = gr.HTML(HINT, elem_id="hint")
                pictures = _pictures(gr)
        with gr.Row():
            with gr.Column(scale=1, min_width=280, elem_classes="tables"):
                scores = gr.HTML(elem_id="scores")
            with gr.Column(scale=1, min_width=280, elem_classes="tables"):
                facts = gr.HTML(elem_id="facts")
        state = gr.State(Shown)
        everything = [state, files, said, hint, scores, facts, *pictures]
        files.upload(page.read, [files, *controls], everything)
        example.click(page.example, controls, everything)
        for control in controls:
            # while a slider moves the last place counts, not each that it has passed
            control.input(page.draw, [state, *controls], pictures, show_progress="hidden", trigger_mode="always_last")

        def clicked(shown: Shown, event: Any, *values: Any) -> list[Any]:
            return page.click(shown, event, *values)

        clicked.__annotations__["event"] = gr.SelectData  # by which Gradio knows what to hand over
        for picture in pictures[:-1]:
            picture.select(clicked, [state, *controls], [state, *pictures], show_progress="hidden")
    return blocks


def launch_options() -> dict[str, Any]:
    """How the page looks and what it does not do: fonts of this machine, no request to any other."""
    gr = gradio()
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    css = resources.files("mammo_hf.app").joinpath("page.css").read_text(encoding="utf-8")
    return {"theme": gr.themes.Default(**fonts), "css": css, "share": False, "footer_links": [], "quiet": True}


def _controls(gr: Any, model: Any) -> list[Any]:
    """In the order of `Settings`."""
    installed = [name for name, found in explainers().items() if found.plugin is not None]
    chosen = "grad_cam" if "grad_cam" in installed else NONE
    return [
        gr.Dropdown([NONE, *installed], value=chosen, label="Where the model looked, by", elem_id="explainer"),
        gr.Dropdown(targets_of(model.config), value=FIRST, label="for the label", elem_id="target"),
        gr.Slider(0, 1, value=0.6, step=0.05, label="Opacity", elem_id="opacity"),
        gr.Slider(0, 1, value=0.5, step=0.01, label="Level", elem_id="level"),
        gr.Slider(0.05, 2, value=1.0, step=0.05, label="Window", elem_id="window"),
        gr.Slider(1, 6, value=1, step=0.5, label="Zoom (click on an image to move there)", elem_id="zoom"),
    ]


def _pictures(gr: Any) -> list[Any]:
    """The four standard views, right and left back to back, and a gallery for others."""
    found = []
    for row in (GRID[:2], GRID[2:]):
        with gr.Row(elem_classes="views"):
            for side, view in row:
                found.append(
                    gr.Image(
                        label=f"{side} {view}",
                        interactive=False,
                        visible=False,
                        min_width=140,
                        elem_id=f"{side}-{view}",
                        elem_classes="view",
                        buttons=["fullscreen", "download"],
                        alt_text=f"{'right' if side == 'R' else 'left'} breast, {view}",
                    )
                )
    found.append(gr.Gallery(label="other images", visible=False, elem_id="others", columns=2, object_fit="contain"))
    return found


# A Hugging Face Space that shows the page: a folder that is ready to be pushed.


_APP = '''"""The page of {model}."""

from mammo_hf.app.page import build_page, launch_options
from mammo_hf.inference.loading import load_classifier

page = build_page(*load_classifier("{model}"), name="{model}")

if __name__ == "__main__":
    page.launch(**launch_options())
'''
_CARD = """---
title: {title}
sdk: gradio
sdk_version: {gradio}
app_file: app.py
models:
- {model}
pinned: false
---

Drop the DICOM files of one exam, or look at a phantom's, to see the scores of [{model}](https://huggingface.co/{model})
and where it looked. Research software, not a medical device. Files that are dropped here are sent to this Space: never
send images of patients to a machine that is not yours.
"""


def write_space(model: str, folder: str | os.PathLike[str]) -> Path:
    """Writes ``app.py``, ``requirements.txt`` and ``README.md`` of a Space.

    Args:
        model: Name of a classifier on the Hub.
        folder: A folder that is not there yet, or empty.

    Raises:
        UsageError: The folder holds something, the model's name is none on the Hub, or Gradio is not installed.
    """
    out = Path(folder)
    try:
        validate_repo_id(model)
    except HFValidationError:
        valid = False
    else:
        valid = "/" in model and not Path(model).exists()
    if not valid:
        raise UsageError("is no name on the Hub", source=model, remedy="push the model first (mammo-hf push)")
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UsageError("is there already", source=out, remedy="name another folder")
    gradio()
    out.mkdir(parents=True, exist_ok=True)
    title = model.split("/")[-1]
    files = {
        "app.py": _APP.format(model=model),
        "requirements.txt": f"mammo-hf[app,codecs]=={__version__}\n",
        "README.md": _CARD.format(title=title, gradio=version("gradio"), model=model),
    }
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    return out
