"""Fixtures: a loopback Hub that this process's client talks to, and checkpoints as training leaves them."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import huggingface_hub
import pytest
from loopback_hub import TOKEN, loopback_hub
from made_checkpoint import made_checkpoint


@pytest.fixture
def hub(monkeypatch):
    """A Hub of the test's own; the client here is let out to it, and to nothing else, and never waits."""
    with loopback_hub() as running:
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        resolve = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", resolve)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(time, "sleep", lambda _: None)
        huggingface_hub.close_session()
        yield running
        huggingface_hub.close_session()


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A classifier's folder, with all that training leaves in it."""
    return made_checkpoint(tmp_path_factory.mktemp("trained") / "cls")


@pytest.fixture
def checkpoint(trained, tmp_path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "cls"))


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
