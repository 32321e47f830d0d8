"""Shards prepared by a Ray cluster: the same function on the same rows, so the same bytes as on one machine.

Ray Data gives each shard to a worker as a task of its own. A worker that dies takes nothing along: its shard's file is
not there yet, or whole, and Ray runs the task again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from ...errors import MammoError, UsageError
from ...files import is_remote
from .layout import Folder, Layout
from .processes import Executor, Progress
from .row import Recipe
from .shard import Done, Shard, prepare_shard


def ray_executor(address: str | None = None, *, num_cpus: int | None = None) -> Executor:
    """An executor on Ray.

    Args:
        address: Of a running cluster: "auto", "ray://head:10001"; ``None``: a Ray on this machine, ended afterwards,
            unless the program has started one already.
        num_cpus: Of the Ray on this machine: how many workers; ``None``: one a core.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at this address.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError("Ray is not installed", source="--ray", remedy="pip install 'mammo-hf[ray]'") from error

    def run(
        shards: Iterator[Shard], folder: Folder, layout: Layout, recipe: Recipe, progress: Progress
    ) -> Iterator[Done]:
        ours = not ray.is_initialized()
        if ours:
            _connect(ray, address, num_cpus)
        elsewhere = Folder(folder.url if is_remote(folder.url) else os.path.abspath(folder.url))
        try:
            for done in _results(ray, shards, elsewhere, layout, recipe):
                if done.written:
                    progress.add(done.rows)
                else:
                    progress.add_found(done.rows)
                yield done
        finally:
            if ours:
                ray.shutdown()

    return run


def _connect(ray: Any, address: str | None, num_cpus: int | None) -> None:
    try:
        # a cluster has its own CPUs; the workers' imports of ours are theirs too
        own = {"num_cpus": num_cpus, "include_dashboard": False} if address is None else {}
        ray.init(address=address, log_to_driver=False, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"no Ray can be reached ({type(error).__name__})",
            source=address or "ray",
            remedy="start one with `ray start --head`, or leave --ray_address out",
        ) from error


def _results(ray: Any, shards: Iterator[Shard], folder: Folder, layout: Layout, recipe: Recipe) -> Iterator[Done]:
    """Runs the shards as tasks of Ray Data and tells what became of each as they end."""
    # the rows go to the cluster's object store once, shard by shard; a task fetches its own
    references = [ray.put(shard) for shard in shards]
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.range(len(references), override_num_blocks=len(references)).map_batches(
        _prepare_batch,
        batch_size=None,
        batch_format="numpy",
        fn_kwargs={"references": references, "folder": folder, "layout": layout, "recipe": recipe},
    )
    for row in dataset.iter_rows():
        result = json.loads(row["result"])
        if "error" in result:
            problem, source, remedy = result["error"]
            raise UsageError(problem, source=source, remedy=remedy)
        yield Done(**result["done"])


def _prepare_batch(
    batch: dict[str, np.ndarray], references: list[Any], folder: Folder, layout: Layout, recipe: Recipe
) -> dict[str, list[str]]:
    import ray

    results = []
    for number in batch["id"]:
        shard = ray.get(references[int(number)])
        try:
            result: dict[str, Any] = {"done": asdict(prepare_shard(shard, folder, layout, recipe))}
        except MammoError as error:
            # as data: an exception would be tried again, wrapped, and told with a page of traceback
            result = {"error": [error.problem, error.source, error.remedy]}
        results.append(json.dumps(result))
    return {"result": results}
