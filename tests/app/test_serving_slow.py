"""The page as a process: its folder, its limits, its visitors, and what is left when it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from small_archive import write_dicom

from mammo_hf import MammoImageProcessor
from mammo_hf.app.serving import OwnVisitors, private_folder
from mammo_hf.testing import tiny_classifier

pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")

# the program of the command, with a file of seven bytes that takes long to read, and no way to any other machine
PROGRAM = """
import socket, sys, time
import mammo_hf.app.page as page
import mammo_hf.app.serving as serving
from mammo_hf.cli import main

connect, read = socket.socket.connect, page.read_exam
def local_only(self, address):
    assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "localhost", "::1"), address
    return connect(self, address)
def slow(model, processor, images, names, lock):
    time.sleep(60 * any(open(image, "rb").read(8) == b"waiting" for image in images))
    return read(model, processor, images, names, lock)
socket.socket.connect, page.read_exam, serving.LARGEST_UPLOAD, page.LARGEST_UPLOAD = local_only, slow, "2mb", "2mb"
sys.exit(main(["app", *sys.argv[1:]]))
"""
CONTROLS = ["none", "the label predicted for the exam", False]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_classifier().save_pretrained(folder)
    MammoImageProcessor(size=(112, 56)).save_pretrained(folder)
    return folder


def started(model, root):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-c", PROGRAM, str(model), "--port", port]
    page = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(root)},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests may be run by nohup
    )
    assert page.stdout.readline().startswith("http://127.0.0.1"), "it did not start"
    return page, f"http://127.0.0.1:{port}"


def read(client, address, content, session):
    """Uploads a file and returns what the page shows of it."""
    [path] = client.post(f"{address}/gradio_api/upload", files={"files": ("a.dcm", content)}).json()
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    asked = client.post(
        f"{address}/gradio_api/call/read", json={"data": [[file], *CONTROLS], "session_hash": session}
    ).json()
    return client.get(f"{address}/gradio_api/call/read/{asked['event_id']}").text


@pytest.mark.slow
def test_the_page_keeps_to_its_folder_its_limits_and_its_visitors(model, tmp_path):
    root = tmp_path / "tmp"
    root.mkdir()
    page, address = started(model, root)
    try:
        client = httpx.Client(timeout=100)
        [folder] = root.glob("mammo-hf-page-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        # what another site's page asks for, and a name that was turned to this machine
        upload = {"files": ("a.dcm", b"a")}
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
            assert client.post(f"{address}/gradio_api/upload", files=upload, headers=headers).status_code == 403
        assert client.get(f"{address}/config", headers={"Host": "evil.example"}).status_code == 403
        assert client.get(f"{address}/config", headers={"Origin": address}).status_code == 200
        assert client.post(f"{address}/gradio_api/upload", files={"files": ("a", b"0" * 3_000_000)}).status_code == 413
        # uploads are private; after they are read nothing is left, pictures neither
        client.post(f"{address}/gradio_api/upload", files={"files": ("kept.dcm", b"kept")})
        [kept] = folder.rglob("kept.dcm")
        assert kept.stat().st_mode & 0o777 == 0o600
        kept.unlink()
        waiting = threading.Thread(target=read, args=(httpx.Client(timeout=100), address, b"waiting", "slow"))
        waiting.daemon = True
        waiting.start()
        time.sleep(2)
        begun = time.monotonic()
        image = write_dicom(tmp_path / "a.dcm", laterality="L", view="CC").read_bytes()
        shown = read(client, address, image, "quick")
        assert "left breast" in shown
        assert "data:image/png" in shown
        assert time.monotonic() - begun < 40, "another visitor's file was waited for"
        left = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
        assert [content for content in left if content] == [b"waiting"]
    finally:
        page.send_signal(signal.SIGTERM)
        page.wait(60)
    assert list(root.iterdir()) == []


@pytest.mark.slow
def test_what_a_killed_page_left_is_gone_at_the_next_start(model, tmp_path):
    page, address = started(model, tmp_path)
    httpx.post(f"{address}/gradio_api/upload", files={"files": ("left.dcm", b"left")}, timeout=60)
    page.kill()
    page.wait(60)
    assert list(tmp_path.rglob("left.dcm"))
    second, _ = started(model, tmp_path)
    third, _ = started(model, tmp_path)  # leaves the folder of the one that runs alone
    assert not list(tmp_path.rglob("left.dcm"))
    assert len(list(tmp_path.glob("mammo-hf-page-*"))) == 2
    for one, number in ((second, signal.SIGTERM), (third, signal.SIGHUP)):
        one.send_signal(number)
        one.wait(60)
    assert not list(tmp_path.glob("mammo-hf-page-*"))


@pytest.mark.parametrize("trap", ["a link", "a folder of another user"])
def test_folders_that_another_user_laid_out_are_left_alone(trap, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "kept.txt").write_text("kept")
    laid = tmp_path / "mammo-hf-page-laid"
    laid.mkdir()
    if trap == "a link":
        (laid / "in_use.lock").symlink_to(tmp_path / "kept.txt")
    else:
        (laid / "in_use.lock").touch()
        monkeypatch.setattr(os, "getuid", lambda: laid.stat().st_uid + 1)
    with private_folder():
        pass
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["kept.txt", "mammo-hf-page-laid"]
    assert (tmp_path / "kept.txt").read_text() == "kept"


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("127.0.0.1", {"host": "localhost:7860", "origin": "http://localhost:7860"}, 200),
        ("127.0.0.1", {"host": "[::1]:7860"}, 200),
        ("127.0.0.1", {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:9999"}, 403),
        ("127.0.0.1", {"host": "127.0.0.1:7860", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ("127.0.0.1", {"host": "127.0.0.1:7860", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        (
            "127.0.0.1",
            {
                "host": "127.0.0.1:7860",
                **{"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
            },
            403,
        ),
        ("0.0.0.0", {"host": "pacs.example:7860", "origin": "http://pacs.example:7860"}, 200),
        ("0.0.0.0", {"host": "pacs.example:7860", "origin": "http://evil.example"}, 403),
        ("0.0.0.0", {"host": "pacs.example:7860", "origin": "null"}, 403),
    ],
)
def test_whose_requests_are_let_in(host, headers, status):
    answers = []

    async def app(scope, receive, send):
        answers.append({"status": 200})

    async def send(message):
        answers.append(message)

    scope = {"type": "http", "method": "GET", "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
    asyncio.run(OwnVisitors(app, host)(scope, None, send))
    assert answers[0]["status"] == status
