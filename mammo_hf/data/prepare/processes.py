"""Shards prepared on this machine: in this process, or in several."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

from tqdm.auto import tqdm

from ...errors import UsageError
from .layout import Folder, Layout
from .row import Recipe
from .shard import Done, Shard, prepare_shard, up_to_date

POLL = 0.5  # seconds between two looks at the workers' counter


class Progress:
    """The bar: images done, images a second, time left. What was there already counts for none of these speeds."""

    def __init__(self, total: int) -> None:
        self.bar = tqdm(total=total, desc="preparing", unit=" images", leave=False, smoothing=0.05)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def add(self, images: int) -> None:
        """Counts images that have just been written or rejected."""
        self.bar.update(images)

    def add_found(self, images: int) -> None:
        """Counts images of a shard that was up to date."""
        self.bar.initial += images
        self.bar.n += images
        self.bar.refresh()


Executor = Callable[[Iterator[Shard], Folder, Layout, Recipe, Progress], Iterator[Done]]


"""Brings all shards up to date and tells of each."""


def here(shards: Iterator[Shard], folder: Folder, layout: Layout, recipe: Recipe, progress: Progress) -> Iterator[Done]:
    """An executor: this process alone."""
    for shard in shards:
        done = prepare_shard(shard, folder, layout, recipe, lambda: progress.add(1))
        if not done.written:
            progress.add_found(done.rows)
        yield done


def pool(num_workers: int) -> Executor:
    """An executor of this many processes. Few shards wait at a time, so that memory does not grow with the table."""

    def run(
        shards: Iterator[Shard], folder: Folder, layout: Layout, recipe: Recipe, progress: Progress
    ) -> Iterator[Done]:
        # spawned, not forked: torch's threads in the parent do not survive a fork
        context = multiprocessing.get_context("spawn")
        counter = context.Value("q", 0)
        workers = ProcessPoolExecutor(num_workers, context, _start_worker, (folder, layout, recipe, counter))
        try:
            waiting: set[Future[Done]] = set()
            ticks = _Ticks(counter, progress)
            for shard in shards:
                found = up_to_date(shard, folder, layout, recipe)
                if found is not None:
                    # no process is started, with its seconds of imports, before there is work
                    progress.add_found(found.rows)
                    yield found
                    continue
                with no_interrupts():  # a worker is started here, if one is still missing
                    waiting.add(workers.submit(_work, shard))
                while len(waiting) >= 2 * num_workers:
                    yield from _ended(waiting, ticks)
            while waiting:
                yield from _ended(waiting, ticks)
        except BrokenProcessPool as error:
            raise UsageError(
                "a worker process was killed, perhaps for want of memory",
                source=folder,
                remedy="run it again, with fewer workers: it goes on where it stopped",
            ) from error
        finally:
            workers.shutdown(wait=True, cancel_futures=True)

    return run


@contextmanager
def no_interrupts() -> Iterator[None]:
    """For processes started meanwhile: Ctrl-C reaches the whole group, and one that imports would print a traceback.

    Blocked and not ignored: a process inherits the block, and an interrupt of this one comes late and is not lost.
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
    """Keeps an interrupt that another thread was given, for which a block of this one does not hold, until the end."""
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


class _Ticks:
    """Carries the workers' common counter over to the bar."""

    def __init__(self, counter: Any, progress: Progress) -> None:
        self.counter = counter
        self.progress = progress
        self.shown = 0

    def show(self) -> None:
        counted = self.counter.value
        self.progress.add(counted - self.shown)
        self.shown = counted


def _ended(waiting: set[Future[Done]], ticks: _Ticks) -> Iterator[Done]:
    """Waits a moment for shards that end, and takes them out of those that are waited for."""
    ended, _ = wait(waiting, timeout=POLL, return_when=FIRST_COMPLETED)
    ticks.show()
    for future in ended:
        waiting.remove(future)
        done = future.result()
        if not done.written:
            ticks.progress.add_found(done.rows)
        yield done


_WORKER: dict[str, Any] = {}


def _start_worker(folder: Folder, layout: Layout, recipe: Recipe, counter: Any) -> None:
    follow_parent()
    _WORKER.update(folder=folder, layout=layout, recipe=recipe, counter=counter)


def follow_parent() -> None:
    """Binds a worker to its parent, at its start: Ctrl-C ends it without a word, and so does the parent's end."""
    # the parent, which gets Ctrl-C too, is the one to speak
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # when the parent was killed nobody would ever give this worker work or end it
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _work(shard: Shard) -> Done:
    return prepare_shard(shard, _WORKER["folder"], _WORKER["layout"], _WORKER["recipe"], _tick)


def _tick() -> None:
    with _WORKER["counter"].get_lock():
        _WORKER["counter"].value += 1
