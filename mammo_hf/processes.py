"""Worker processes that end with their parent and leave Ctrl-C to it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any


@contextmanager
def no_interrupts() -> Iterator[None]:
    """Keep Ctrl-C away from processes that are started in the meantime.

    Ctrl-C reaches the whole process group, and a process that is still importing would print a traceback. Blocked and
    not ignored: a new process inherits the block, and an interrupt of this one is delivered late instead of lost.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # the first process to be spawned starts multiprocessing's tracker, and that lifts the block
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _late_interrupts():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _late_interrupts() -> Iterator[None]:
    """Hold back until the end an interrupt that was delivered to another thread, which the block does not cover."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda *given: came.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        handler(*came[0])


def follow_parent() -> None:
    """Bind a worker to its parent: Ctrl-C ends it silently, and so does the end of the parent. Call it at its start."""
    # the parent gets Ctrl-C too, and reports it
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # after the parent was killed nothing would ever give this worker work or end it
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
