"""A Hugging Face Space that shows the page: a folder that is ready to be pushed."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

from huggingface_hub.utils import HFValidationError, validate_repo_id

from .. import __version__
from ..errors import UsageError
from .page import gradio

_APP = '''"""The page of {model}."""

from mammo_hf.app.page import build_page, launch_options
from mammo_hf.prediction import load_classifier

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
