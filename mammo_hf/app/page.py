"""The page itself: its layout, and what happens when something is dropped, moved or clicked; and a Space of it."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import threading
from functools import cache
from importlib import resources
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub.utils import HFValidationError, validate_repo_id
from PIL import Image

from .. import __version__
from ..encoders.classifier import BagClassifier
from ..errors import INSTALLED_FROM, MammoError, UsageError, install
from ..explainers import explainers
from ..explainers.overlay import method_name
from ..isolation import isolate_process
from .exam import (
    HINT,
    PREDICTED,
    RESEARCH,
    STANDARD,
    Exam,
    clicked_point,
    draw_view,
    explanation_map,
    facts_table,
    notes_list,
    phantom_exam,
    problem,
    read_exam,
    scores_table,
    targets_of,
)
from .serving import LARGEST_UPLOAD, OwnVisitors, private_folder, remove_old_uploads

NONE = "none"
_READERS, _WAITING = 8, 64  # visitors whose exams are read at the same time, and who may wait
GRID = (("R", "MLO"), ("L", "MLO"), ("R", "CC"), ("L", "CC"))
_LIFETIME = 600  # seconds after which the remains of uploads are deleted


def gradio() -> Any:
    """Import Gradio, which only the page needs.

    Raises:
        UsageError: It is not installed.
    """
    # it would look for newer versions and fetch fonts: a page with patients' images makes no request
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    check_gradio()
    import gradio as found

    return found


def check_gradio() -> None:
    """Refuse to go further without Gradio, which is not imported yet: its folder of uploads is fixed at that moment.

    Raises:
        UsageError: It is not installed.
    """
    if find_spec("gradio") is None:
        raise UsageError("the page needs Gradio", remedy=install("app"))


class Page:
    """The page's actions on a classifier.

    Args:
        model: A classifier.
        processor: The model's processor.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor
        self._lock = threading.Lock()  # an explainer hooks into the model: one visitor at a time
        isolate_process()

    def read(self, files: list[str] | None, *controls: Any) -> tuple[Any, ...]:
        """Show files that were dropped; they are deleted as soon as they are read."""
        try:
            return self._show(read_exam(self._model, self._processor, files or [], lock=self._lock), controls)
        except MammoError as error:
            return self._show(Exam(), controls, problem(str(error)))
        finally:
            for file in files or []:
                with contextlib.suppress(OSError):
                    Path(file).unlink()
            remove_old_uploads(_LIFETIME)

    def example(self, *controls: Any) -> tuple[Any, ...]:
        """Show the phantom's exam."""
        return self._show(read_exam(self._model, self._processor, phantom_exam(), lock=self._lock), controls)

    def draw(
        self, exam: Exam, explainer: str, target: str, opacity: float, level: float, window: float, zoom: float
    ) -> list[Any]:
        """Draw the four standard views and the others; the arguments are the controls in their order on the page."""
        pictures: dict[tuple[str, str], np.ndarray] = {}
        others = []
        for number, view in enumerate(exam.views):
            values = self._map(exam, number, explainer, target)
            picture = draw_view(
                view.intensity,
                level=level,
                window=window,
                values=values,
                opacity=opacity,
                zoom=zoom,
                centre=exam.centre,
            )
            key = (view.laterality.value, view.view.value)
            if (view.laterality, view.view) in STANDARD and key not in pictures:
                pictures[key] = picture
            else:
                others.append((picture, view.name))
        gr = gradio()
        grid = [gr.update(value=pictures.get(key), visible=bool(pictures)) for key in GRID]
        return [*grid, gr.update(value=others, visible=bool(others))]

    def click(self, exam: Exam, event: Any, *controls: Any) -> list[Any]:
        """Move the enlarged part to the point that was clicked; the last control is the zoom."""
        column, row = event.index
        height, width = exam.views[0].intensity.shape if exam.views else (1, 1)
        exam.centre = clicked_point((row, column), controls[-1], exam.centre, (height, width))
        return [exam, *self.draw(exam, *controls)]

    def _map(self, exam: Exam, number: int, explainer: str, target: str) -> np.ndarray | None:
        if explainer == NONE:
            return None
        key = (number, explainer, target)
        if key not in exam.maps:
            view = exam.views[number]
            label = None if target == PREDICTED else target
            size = (view.intensity.shape[0], view.intensity.shape[1])
            with self._lock:
                exam.maps[key] = explanation_map(self._model, view, explainer, label, size)
        return exam.maps[key]

    def _show(self, exam: Exam, controls: tuple[Any, ...], error: str = "") -> tuple[Any, ...]:
        tables = (scores_table(exam, self._model.config), facts_table(exam)) if exam.views else ("", "")
        hint = gradio().update(visible=not exam.views)
        return exam, None, error + notes_list(exam.notes), hint, *tables, *self.draw(exam, *controls)


def build_page(model: Any, processor: Any, *, name: str = "") -> Any:
    """Return the page of a classifier, a ``gradio.Blocks``; `serve` runs it.

    Args:
        model: A classifier.
        processor: The model's processor.
        name: The model's name, shown as the title.

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
                notes = gr.HTML(elem_id="said")
                controls = _controls(gr, model)
            with gr.Column(scale=2, min_width=320):
                hint = gr.HTML(HINT, elem_id="hint")
                pictures = _pictures(gr)
        with gr.Row():
            with gr.Column(scale=1, min_width=280, elem_classes="tables"):
                scores = gr.HTML(elem_id="scores")
            with gr.Column(scale=1, min_width=280, elem_classes="tables"):
                facts = gr.HTML(elem_id="facts")
        # a file that takes long to read holds up its visitor alone
        blocks.queue(default_concurrency_limit=_READERS, max_size=_WAITING)
        state = gr.State(Exam)
        everything = [state, files, notes, hint, scores, facts, *pictures]
        files.upload(page.read, [files, *controls], everything)
        example.click(page.example, controls, everything)
        for control in controls:
            # while a slider moves only its last position counts
            control.input(page.draw, [state, *controls], pictures, show_progress="hidden", trigger_mode="always_last")

        def clicked(exam: Exam, event: Any, *values: Any) -> list[Any]:
            return page.click(exam, event, *values)

        clicked.__annotations__["event"] = gr.SelectData  # Gradio passes the event by this annotation
        for picture in pictures[:-1]:
            picture.select(clicked, [state, *controls], [state, *pictures], show_progress="hidden")
    return blocks


def serve(model: Any, processor: Any, *, name: str, host: str | None = None, port: int | None = None) -> None:
    """Run the page of a classifier until it is stopped.

    Args:
        model: A classifier.
        processor: The model's processor.
        name: The model's name, shown as the title.
        host: Address to listen on; ``None``: what Gradio takes, as on a Space, which has its own protection.
        port: Port to listen on; ``None``: what Gradio takes.

    Raises:
        UsageError: Gradio is not installed.
        OSError: The port is in use.
    """
    with private_folder():
        page = build_page(model, processor, name=name)
        page.launch(server_name=host, server_port=port, prevent_thread_lock=True, **launch_options(host))
        print(f"http://{host}:{port} (Ctrl-C stops it)" if host else "the page is open", flush=True)
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)


def launch_options(host: str | None = None) -> dict[str, Any]:
    """Return the options of the page's ``launch``: its limits, and its style, with fonts of this machine alone.

    Args:
        host: Address to listen on, whose visitors alone are let in; ``None``: no check.
    """
    from starlette.middleware import Middleware  # comes with Gradio

    gr = gradio()
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    css = resources.files("mammo_hf.app").joinpath("page.css").read_text(encoding="utf-8")
    style = {"theme": gr.themes.Default(**fonts), "css": css, "share": False, "footer_links": [], "quiet": True}
    limits = {"middleware": [Middleware(OwnVisitors, host=host)]} if host else {}
    return {**style, "max_file_size": LARGEST_UPLOAD, "app_kwargs": limits}


@cache
def _shown_components(gr: Any) -> tuple[type[Any], type[Any]]:
    """Return Gradio's image and gallery with pictures that go to the browser as they are, and to no file."""
    from gradio import component_meta
    from gradio.components.gallery import GalleryData, GalleryImage
    from gradio.data_classes import ImageData

    # Gradio would write a stub of each new component next to this file
    write_stub, component_meta.create_or_modify_pyi = component_meta.create_or_modify_pyi, lambda *_: None
    try:

        class Picture(gr.Image):
            is_template = True  # drawn by the browser as its base class

            def postprocess(self, value: np.ndarray | None) -> Any:
                return None if value is None else ImageData(url=_as_url(value))

        class Pictures(gr.Gallery):
            is_template = True

            def postprocess(self, value: list[tuple[np.ndarray, str]] | None) -> Any:
                shown: list[Any] = [
                    GalleryImage(image=ImageData(url=_as_url(one)), caption=name) for one, name in value or []
                ]
                return GalleryData(root=shown)
    finally:
        component_meta.create_or_modify_pyi = write_stub
    return Picture, Pictures


def _as_url(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "webp", quality=90, method=2)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _controls(gr: Any, model: Any) -> list[Any]:
    """Return the controls in the order of the arguments of `Page.draw`."""
    installed = [name for name, found in explainers().items() if found.reason is None]
    preferred = "bag_attention" if isinstance(model, BagClassifier) else "grad_cam"
    chosen = next((name for name in (preferred, "grad_cam") if name in installed), NONE)
    return [
        gr.Dropdown(
            [(method_name(name), name) for name in (NONE, *installed)],
            value=chosen,
            label="Where the model looked, by",
            elem_id="explainer",
        ),
        gr.Dropdown(targets_of(model.config), value=PREDICTED, label="for the label", elem_id="target"),
        gr.Slider(0, 1, value=0.6, step=0.05, label="Opacity", elem_id="opacity"),
        gr.Slider(0, 1, value=0.5, step=0.01, label="Level", elem_id="level"),
        gr.Slider(0.05, 2, value=1.0, step=0.05, label="Window", elem_id="window"),
        gr.Slider(1, 6, value=1, step=0.5, label="Zoom (click on an image to move there)", elem_id="zoom"),
    ]


def _pictures(gr: Any) -> list[Any]:
    """Return the pictures of the four standard views, right and left back to back, and a gallery for others."""
    found = []
    for row in (GRID[:2], GRID[2:]):
        with gr.Row(elem_classes="views"):
            for side, view in row:
                found.append(
                    _shown_components(gr)[0](
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
    found.append(
        _shown_components(gr)[1](label="other images", visible=False, elem_id="others", columns=2, object_fit="contain")
    )
    return found


# A Hugging Face Space of the page: a folder that is ready to be pushed.

_APP = '''"""The page of {model}."""

from mammo_hf.app.page import serve
from mammo_hf.inference.scoring import load_classifier

if __name__ == "__main__":
    serve(*load_classifier("{model}"), name="{model}")
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


def _requirements() -> str:
    if INSTALLED_FROM != ".":
        return f"{INSTALLED_FROM}[app,codecs]=={__version__}\n"
    wheel = f"mammo_hf-{__version__}-py3-none-any.whl"
    return f"# the wheel that `python -m build --wheel` makes, put next to this file\n./{wheel}[app,codecs]\n"


def write_space(model: str, folder: str | os.PathLike[str]) -> Path:
    """Write ``app.py``, ``requirements.txt`` and ``README.md`` of a Space.

    Args:
        model: Name of a classifier on the Hub.
        folder: Folder to write, which must not exist yet or be empty.

    Raises:
        UsageError: The folder is not empty, the model's name is not one on the Hub, or Gradio is not installed.
    """
    out = Path(folder)
    try:
        validate_repo_id(model)
    except HFValidationError:
        valid = False
    else:
        valid = "/" in model and not Path(model).exists()
    if not valid:
        raise UsageError("is not a name on the Hub", source=model, remedy="push the model first (mammo-hf push)")
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UsageError("already exists", source=out, remedy="name another folder")
    gradio()
    out.mkdir(parents=True, exist_ok=True)
    title = model.split("/")[-1]
    files = {
        "app.py": _APP.format(model=model),
        "requirements.txt": _requirements(),
        "README.md": _CARD.format(title=title, gradio=version("gradio"), model=model),
    }
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    return out
