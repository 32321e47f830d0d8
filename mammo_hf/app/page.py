"""The page itself: its layout, and what happens when something is dropped, moved or clicked; and a Space of it."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from functools import cache
from importlib import resources
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub.utils import HFValidationError, validate_repo_id

from .. import __version__
from ..encoders.classifier import BagClassifier
from ..errors import INSTALLED_FROM, MammoError, UsageError, install
from ..explainers import Explanation, explainers
from ..explainers.overlay import method_name
from ..inference.scoring import sentences_on_maps
from ..isolation import isolate_process
from .exam import (
    RESEARCH,
    Exam,
    explained_label,
    explanation_of,
    facts_table,
    maps_section,
    notes_list,
    phantom_exam,
    problem,
    read_exam,
    scores_table,
    strip_section,
    targets_of,
    views_section,
)
from .serving import LARGEST_UPLOAD, OwnVisitors, private_folder, remove_old_uploads

logger = logging.getLogger(__name__)
NONE = "none"
_READERS, _WAITING = 8, 64  # visitors whose exams are read at the same time, and who may wait
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

    def read(self, files: list[tuple[str, str]] | None, *choices: Any) -> Iterator[list[Any]]:
        """Show files that were dropped, scores first, then maps; they are deleted when the last one is read.

        Args:
            files: Path and name of each file.
            choices: The arguments of `maps` after the exam.
        """
        paths, names = zip(*files, strict=True) if files else ((), ())
        try:
            yield from self._show(paths, names, choices)
        except MammoError as error:
            yield [Exam(), None, problem(str(error)), "", "", "", "", ""]
        except GeneratorExit:
            logger.warning("a browser has gone away while its %d files were read; they are deleted", len(paths))
            raise
        finally:
            for path in paths:
                with contextlib.suppress(OSError):
                    Path(path).unlink()
            remove_old_uploads(_LIFETIME)

    def example(self, *choices: Any) -> Iterator[list[Any]]:
        """Show the phantom's exam."""
        yield from self._show(phantom_exam(), (), choices)

    def maps(self, exam: Exam, explainer: str, target: str, weak: bool) -> str:
        """Return the maps of all views as HTML; a view without one is named.

        Args:
            exam: The exam.
            explainer: Name of an explainer, or `NONE`.
            target: The label to explain.
            weak: Whether maps are drawn below the operating point too.
        """
        found, missing = {}, []
        for number, view in enumerate(exam.views if explainer != NONE else ()):
            one = self._explanation(exam, number, explainer, target, weak)
            if isinstance(one, str):
                missing.append(f"{view.name}: {one}")
            else:
                found[number] = one
        tests = sentences_on_maps(self._model, next(iter(found.values()))) if found else ()
        return notes_list(missing) + maps_section(exam, found, tests)

    def compare(self, exam: Exam, target: str) -> Iterator[str]:
        """Show the first view under the map of each explainer that is installed, as they are made."""
        maps: dict[str, Explanation | str] = {}
        for name in _installed() if exam.views else ():
            maps[name] = self._explanation(exam, 0, name, target, True)
            yield strip_section(exam.views[0], maps)

    def _show(self, images: Any, names: Any, choices: Any) -> Iterator[list[Any]]:
        exam = Exam()
        for exam in read_exam(self._model, self._processor, images, names, self._lock):
            if exam.views:
                scores, facts = scores_table(exam, self._model), facts_table(exam)
                yield [exam, None, notes_list(exam.notes), scores, facts, "", "", ""]
        # the pictures go to the browser once, when all are there, and the maps after them
        yield [exam, *[gradio().skip()] * 4, views_section(exam), "", ""]
        yield [exam, *[gradio().skip()] * 5, self.maps(exam, *choices), ""]

    def _explanation(self, exam: Exam, number: int, explainer: str, target: str, weak: bool) -> Explanation | str:
        """Return what an explainer finds, or the reason why it finds nothing."""
        try:
            key = number, explainer, explained_label(exam, self._model.config, target), weak
            if key not in exam.maps:
                with self._lock:
                    exam.maps[key] = explanation_of(self._model, exam.views[number], *key[1:])
        except MammoError as error:
            return f"no map: {error}"
        except Exception:  # a plug-in's own fault: the others go on
            logger.exception("the explainer %s failed", explainer)
            return "no map: the explainer failed"
        return exam.maps[key]


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
                files = _uploads(gr)(
                    label="DICOM files of one exam", file_count="multiple", elem_id="files", height=110
                )
                example = gr.Button("Show a phantom exam", elem_id="example", size="sm")
                notes, scores = gr.HTML(elem_id="said"), gr.HTML(elem_id="scores")
            with gr.Column(scale=3, min_width=320):
                with gr.Row(elem_id="choices"):
                    choices = _choices(gr, model)
                gr.HTML(resources.files("mammo_hf.app").joinpath("toolbar.html").read_text(encoding="utf-8"))
                maps, views = gr.HTML(elem_id="maps"), gr.HTML(elem_id="views")
                compare = gr.Button("Compare the explainers on the first view", elem_id="compare", size="sm")
                strip, facts = gr.HTML(elem_id="strip"), gr.HTML(elem_id="facts")
        # a file that takes long to read holds up its visitor alone
        blocks.queue(default_concurrency_limit=_READERS, max_size=_WAITING)
        state = gr.State(Exam)
        everything = [state, files, notes, scores, facts, views, maps, strip]
        files.upload(page.read, [files, *choices], everything)
        example.click(page.example, choices, everything)
        for choice in choices:
            choice.input(page.maps, [state, *choices], maps, show_progress="minimal")
        compare.click(page.compare, [state, choices[1]], strip, show_progress="minimal")
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
    css, script = (
        resources.files("mammo_hf.app").joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "viewer.js")
    )
    style = {"theme": gr.themes.Default(**fonts), "css": css, "head": f"<script>{script}</script>"}
    style |= {"share": False, "footer_links": [], "quiet": True}
    limits = {"middleware": [Middleware(OwnVisitors, host=host)]} if host else {}
    return {**style, "max_file_size": LARGEST_UPLOAD, "app_kwargs": limits}


@cache
def _uploads(gr: Any) -> type[Any]:
    """Return Gradio's field for files, which gives the path of each file and the name that the browser has for it."""
    from gradio import component_meta

    # Gradio would write a stub of each new component next to this file
    write_stub, component_meta.create_or_modify_pyi = component_meta.create_or_modify_pyi, lambda *_: None
    try:

        class Uploads(gr.File):
            is_template = True  # drawn by the browser as its base class

            def preprocess(self, payload: Any) -> list[tuple[str, str]]:
                return [(file.path, file.orig_name or Path(file.path).name) for file in payload or []]
    finally:
        component_meta.create_or_modify_pyi = write_stub
    return Uploads


def _installed() -> list[str]:
    return [name for name, found in explainers().items() if found.reason is None]


def _choices(gr: Any, model: Any) -> list[Any]:
    """Return the fields for the arguments of `Page.maps` after the exam."""
    preferred = "bag_attention" if isinstance(model, BagClassifier) else "grad_cam"
    chosen = next((name for name in (preferred, "grad_cam") if name in _installed()), NONE)
    names = [("no map", NONE), *((method_name(name), name) for name in _installed())]
    targets = targets_of(model.config)
    return [
        gr.Dropdown(names, value=chosen, label="Where the model looked, by", min_width=220, elem_id="explainer"),
        gr.Dropdown(targets, value=targets[0], label="for the label", min_width=220, elem_id="target"),
        gr.Checkbox(False, label="also below the operating point", elem_id="weak"),
    ]


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
