"""Running a grid: an estimate of its time first, then its cells, in one process or several."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import torch
from tqdm.auto import tqdm

from ..errors import MammoError
from ..modeling_mammo_swin import MammoSwinForImageClassification
from ..training.mim import starting_config
from ..training.tuning import freeze
from .cells import SCRATCH, STOCK, Arm, Cell
from .results import Results
from .study import Study, StudySettings

logger = logging.getLogger(__name__)

ENOUGH_UPDATES = 3000  # below, a network trained in full on image labels may be at chance for no other reason


def estimate_seconds(settings: StudySettings, cells: Sequence[Cell]) -> float:
    """About how long these cells take in one process, from a few steps of each kind of training.

    Heads on frozen features are not counted: they take seconds.
    """
    by_kind: dict[tuple[str, str, bool], float] = {}
    total = 0.0
    for cell in cells:
        if cell.arm.trained:
            kind = (cell.arm.init, cell.arm.tune, cell.arm.semi_supervised != "none")
            if kind not in by_kind:
                by_kind[kind] = _seconds_a_step(settings, cell.arm)
            # a fifth on top: reading, evaluations and checkpoints
            total += 1.2 * settings.updates * by_kind[kind]
    return total


def _seconds_a_step(settings: StudySettings, arm: Arm, steps: int = 3) -> float:
    start = settings.model if arm.init in (SCRATCH, STOCK) else arm.init
    bare = dict.fromkeys(("class_weights", "task_weights", "ordinal_tasks", "lesion_task"))
    task = [{"name": "task", "labels": ["a", "b"]}]
    config = starting_config(start, settings.size, num_channels=1, tasks=task, **bare, score_from="pooled")
    network = MammoSwinForImageClassification(config).train()
    freeze(network, arm.tune)
    # two unlabelled images come along with each, their teacher's view without a gradient
    images = settings.batch_size * (4 if arm.semi_supervised != "none" else 1)
    pixels, labels = torch.zeros(images, 1, *settings.size), torch.zeros(images, 1, dtype=torch.long)
    started = 0.0
    for step in range(steps + 1):
        if step == 1:  # the first one warms up
            started = time.monotonic()
        network(pixels, labels=labels).loss.backward()
    return (time.monotonic() - started) / steps


def run_cells(settings: StudySettings, cells: Sequence[Cell], processes: int) -> None:
    """Runs every cell that has no result yet. One that cannot be run leaves its reason, and the others go on.

    Args:
        settings: Of the study.
        cells: Of the grid, in the order in which they are run.
        processes: How many run at once, each on its share of the cores, or on a GPU of its own where there are some.
    """
    results = Results(settings.out, settings)
    left = [cell for cell in cells if cell not in results]
    if not left:
        return
    if processes < 2:
        study = Study(settings)
        for cell in tqdm(left, desc="cells", unit="cell"):
            _run(study, results, cell)
        return
    Study(settings).prepared  # noqa: B018 (prepared once, before the processes would all begin to)
    context = multiprocessing.get_context("spawn")
    counter = context.Value("i", 0)
    arguments = (settings, counter, processes)
    with ProcessPoolExecutor(processes, context, _start_worker, arguments) as pool:
        for _ in tqdm(pool.map(_run_here, left), total=len(left), desc="cells", unit="cell"):
            pass


_here: tuple[Study, Results] | None = None


def _start_worker(settings: StudySettings, counter: multiprocessing.sharedctypes.Synchronized[int], of: int) -> None:
    global _here
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    if torch.cuda.device_count() > 1:
        torch.cuda.set_device(number % torch.cuda.device_count())
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // of))
    _here = (Study(settings), Results(settings.out, settings))


def _run_here(cell: Cell) -> None:
    assert _here is not None
    _run(*_here, cell)


def _run(study: Study, results: Results, cell: Cell) -> None:
    try:
        results.save(cell, study.run(cell))
    except MammoError as error:
        logger.warning("%s: %s", cell.key, error)
        results.fail(cell, str(error))
