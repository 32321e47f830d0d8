"""Time and memory of single training steps."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile


class Seconds(NamedTuple):
    """What a step took: CPU seconds of this process, and seconds by the clock."""

    cpu: float
    wall: float


def timed(step: Callable[[], object], network: nn.Module, device: str) -> Seconds:
    """One step, with no gradients from before. On a GPU both figures are the clock's."""
    network.zero_grad()
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
    cpu, wall = time.process_time(), time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
        return Seconds(*(time.perf_counter() - wall,) * 2)
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def ratios(longer: Sequence[Seconds], shorter: Sequence[Seconds]) -> Seconds:
    """Return the median over turns of one step's time over another's, of the same turn."""
    pairs = list(zip(longer, shorter, strict=True))
    return Seconds(
        statistics.median(a.cpu / b.cpu for a, b in pairs), statistics.median(a.wall / b.wall for a, b in pairs)
    )


def activation_peak(step: Callable[[], object], network: nn.Module, device: str) -> float:
    """Bytes that a step holds at most beyond weights and gradients; it also warms up.

    On a GPU by torch's own counter, on a CPU by torch's profiler.
    """
    step()  # afterwards gradients exist: what is measured is activations
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = [
        (event.start_ns(), event.nbytes())  # bytes above zero: allocated; below: released
        for event in recorded.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    held = peak = 0
    for _, size in sorted(events, key=lambda event: event[0]):
        held += size
        peak = max(peak, held)
    network.zero_grad()
    return peak
