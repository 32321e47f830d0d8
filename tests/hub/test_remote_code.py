"""The processor's source travels as flat files, which hold all that it needs."""

import ast
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_fixtures import change_json
from transformers.dynamic_module_utils import get_relative_import_files

from mammo_hf.hub.pushed_files import AUTO_MAP, MODULE, files_to_push, flat_sources


def test_they_are_what_transformers_itself_would_follow(tmp_path):
    for name, content in flat_sources().items():
        (tmp_path / name).write_bytes(content)
    wanted = {Path(path).name for path in get_relative_import_files(tmp_path / f"{MODULE}.py")}
    assert set(flat_sources()) == {*wanted, f"{MODULE}.py"}
    assert AUTO_MAP["AutoImageProcessor"].partition(".")[0] == MODULE


def test_they_need_nothing_that_transformers_does_not_bring_along():
    imported = {
        alias
        for source in flat_sources().values()
        for node in ast.walk(ast.parse(source))
        for alias in (
            [name.name for name in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    outside = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert outside <= {"numpy", "scipy", "PIL", "torch", "transformers", "safetensors", "fsspec"}


def test_a_module_that_imports_from_a_folder_cannot_travel():
    with pytest.raises(ValueError, match="which is not a flat sibling"):
        flat_sources("inference.pipeline")


LOOK = """
import socket, sys
def refused(*anything): raise AssertionError("a request was made")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
import mammo_hf
from transformers import pipeline
from mammo_hf.inference.scoring import load_classifier
for folder in sys.argv[1:]:
    read = pipeline("mammogram-classification", model=folder)
    print("READ BY", type(read.image_processor).__module__, type(read.model).__name__)
    load_classifier(folder)
print("THE END")
"""


@pytest.mark.slow
def test_a_pipeline_of_what_was_pushed_asks_nothing_runs_nothing_and_requests_nothing(checkpoint, tmp_path):
    """In a terminal, where transformers would ask whether to run the repository's code."""
    pushed, evil, trace = tmp_path / "pushed", tmp_path / "evil", tmp_path / "trace"
    for name, content in files_to_push(checkpoint).items():
        (pushed / name).parent.mkdir(parents=True, exist_ok=True)
        (pushed / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    shutil.copytree(pushed, evil)
    (evil / "evil.py").write_text(f"open({str(trace)!r}, 'w')")
    names = {"AutoConfig": "evil.C", "AutoModelForImageClassification": "evil.M", "AutoImageProcessor": "evil.P"}
    change_json(evil / "config.json", auto_map=names)
    change_json(evil / "preprocessor_config.json", auto_map=names)
    # its standard input and output are a terminal; a question would wait for an answer for ever
    master, slave = pty.openpty()
    command = [sys.executable, "-W", "ignore", "-c", LOOK, str(pushed), str(evil)]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as running:
        os.close(slave)
        shown, end = b"", time.monotonic() + 240
        while b"[y/N]" not in shown and time.monotonic() < end:
            if select.select([master], [], [], 1)[0]:
                try:
                    shown += os.read(master, 4096)
                except OSError:  # the terminal's other end is closed
                    break
        running.kill()
    os.close(master)
    assert b"[y/N]" not in shown
    assert b"THE END" in shown, shown[-800:]
    assert shown.count(b"READ BY mammo_hf.") == 2
    assert not trace.exists()
