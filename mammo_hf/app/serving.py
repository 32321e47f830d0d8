"""Serving the page: from a private folder that does not outlive it, and to its own visitors alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

LARGEST_UPLOAD = "512mb"  # a tomosynthesis volume in one file; Gradio refuses more with status 413
_PREFIX, _LOCK = "mammo-hf-page-", "in_use.lock"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Give the folder of uploads, which this user alone can read and which is removed at the end.

    It is removed too after SIGTERM, and after SIGHUP, which a terminal sends that is closed.
    What a killed page has left is removed first. Meanwhile new files of this process are readable by this user alone.
    """
    root = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    root.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(root)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))  # 0700 by definition
    kept = os.environ.get("GRADIO_TEMP_DIR"), tempfile.tempdir, os.umask(0o077)
    os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = str(folder)
    try:
        with FileLock(folder / _LOCK), _ended_by_signals():
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop("GRADIO_TEMP_DIR")
        if kept[0] is not None:
            os.environ["GRADIO_TEMP_DIR"] = kept[0]
        tempfile.tempdir = kept[1]
        os.umask(kept[2])


def _remove_abandoned(root: Path) -> None:
    for folder in root.glob(f"{_PREFIX}*"):
        lock = folder / _LOCK
        if not (_is_own(folder) and stat.S_ISDIR(folder.lstat().st_mode)) or lock.is_symlink() or not lock.is_file():
            continue
        try:
            with FileLock(lock, timeout=0):  # a page that runs holds it
                shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):
            continue


def _is_own(path: Path) -> bool:
    """Tell whether a path is of this user: taking a lock in a folder of another would empty what his link leads to."""
    return not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()


def remove_old_uploads(age: float) -> None:
    """Remove what uploads that were broken off or refused have left in the page's own folder.

    Args:
        age: Age in seconds from which a file is removed.
    """
    folder = Path(os.environ.get("GRADIO_TEMP_DIR", ""))
    if folder.name.startswith(_PREFIX):
        for file in folder.rglob("*"):
            with contextlib.suppress(OSError):
                if file.is_file() and file.name != _LOCK and time.time() - file.stat().st_mtime > age:
                    file.unlink()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the program as an exception does, so that the folder is removed."""

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in known}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class OwnVisitors:
    """Middleware that refuses what another site's page asks for, with status 403.

    A browser names the page that asks (``Origin``, ``Sec-Fetch-Site``) and the name that it has for this server
    (``Host``). A page that serves this machine alone must be called by one of its names: another name is that of a site
    whose address was turned to this machine.

    Args:
        app: The application.
        host: Address that the page listens on.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], host: str) -> None:
        self._app, self._names = app, {*_LOOPBACK, host} if host in _LOOPBACK else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket") or self._is_own(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"another site's page may not use this one\n"})

    def _is_own(self, scope: Any) -> bool:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._names is not None and urlsplit(f"//{host}").hostname not in self._names:
            return False
        if origin is not None:
            return urlsplit(origin).netloc == host
        # a link on another site may open the page, and nothing else; in a frame nobody would see whose page it is
        opened = headers.get("sec-fetch-mode") == "navigate" and scope.get("method") == "GET"
        opened = opened and headers.get("sec-fetch-dest", "document") == "document"
        return headers.get("sec-fetch-site", "none") in ("none", "same-origin") or opened
