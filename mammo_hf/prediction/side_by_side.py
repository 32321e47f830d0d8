"""Batches scored side by side, each by a thread of its own with a model of its own: what a CPU does best.

Within one batch most operations are too small to be shared out well, and each waits for the slowest core. Batches need
not wait for each other.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import torch

# each replica holds the activations of a batch, and all of them share Python's lock: on a machine of many cores few
# replicas of several threads each do as much
MOST_REPLICAS = 8

Batch = TypeVar("Batch")
Result = TypeVar("Result")


class SideBySide(Generic[Batch, Result]):
    """Takes batches one by one, and gives their results in the same order.

    Args:
        score: Called with a model and a batch.
        models: One for each batch at a time, from `replicas`. A single one scores each batch at once, with all threads
            of torch; several share them.
    """

    def __init__(self, score: Callable[[Any, Batch], Result], models: list[Any]) -> None:
        self._score, self._models = score, models
        self._free: SimpleQueue[Any] = SimpleQueue()
        self._running: deque[Future[Result]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    @contextmanager
    def started(self) -> Iterator[SideBySide[Batch, Result]]:
        """Holds the threads; within, torch's operations are shared out among a model's own cores alone."""
        if len(self._models) == 1:
            yield self
            return
        threads = torch.get_num_threads()
        for model in self._models:
            self._free.put(model)
        each = max(1, threads // len(self._models))
        self._pool = ThreadPoolExecutor(len(self._models), initializer=torch.set_num_threads, initargs=(each,))
        try:
            yield self
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            # a thread's number is its own, but for what other libraries and later threads take
            torch.set_num_threads(threads)

    def put(self, batch: Batch) -> Iterator[Result]:
        """Has a batch scored; gives what has become ready, and waits while every model has one and another waits."""
        if self._pool is None:
            yield self._score(self._models[0], batch)
            return
        self._running.append(self._pool.submit(self._with_a_free_one, batch))
        while self._running and (self._running[0].done() or len(self._running) > len(self._models)):
            yield self._running.popleft().result()

    def rest(self) -> Iterator[Result]:
        """Waits for the batches that are left."""
        while self._running:
            yield self._running.popleft().result()

    def _with_a_free_one(self, batch: Batch) -> Result:
        model = self._free.get()
        try:
            return self._score(model, batch)
        finally:
            self._free.put(model)


def replicas(model: Any, threads: int) -> list[Any]:
    """Models that share their weights, so that each batch can call its own.

    Stock Swin's layers change while they run (see ``stateless_windows``): one model cannot be called by two threads.

    Args:
        model: A classifier on the CPU, or one that several threads may call at once and that says so by having
            ``of_one_thread``, as an exported one does.
        threads: Of torch, for all of them. For 1 the model itself; an exported model once for each, any other up to
            `MOST_REPLICAS` times.
    """
    if threads == 1:
        return [model]
    if hasattr(model, "of_one_thread"):
        return [model.of_one_thread()] * threads
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return [copy.deepcopy(model, dict(shared)) for _ in range(min(threads, MOST_REPLICAS))]
