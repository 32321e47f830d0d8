"""A Ray of two workers on this machine."""

import os
import threading
import time

import psutil
import pytest

from mammo_hf import MammoImageProcessor, load
from mammo_hf.data.prepare.executors import ray_executor
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.errors import UsageError
from mammo_hf.phantom.writing import write_phantom

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("ray") / "cbis"
    write_phantom(root, patients=30, seed=0, size=(448, 224), num_workers=2, progress=False)
    return load(root)


@pytest.fixture(scope="module")
def processor():
    return MammoImageProcessor(size=(448, 224))


@pytest.fixture(scope="module")
def single(collection, processor, tmp_path_factory):
    out = tmp_path_factory.mktemp("single")
    prepare_images(collection, processor, out, format="parquet", shard_size=8)
    return out


@pytest.fixture(scope="module")
def ray_of_two(collection):
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("ray_of_two")
def test_the_same_bytes_as_one_machine_through_a_url(collection, processor, single, tmp_path, content):
    url = f"file://{tmp_path / 'out'}"
    summary = prepare_images(collection, processor, url, format="parquet", shard_size=8, executor=ray_executor())
    assert summary.read == len(collection)
    assert content(tmp_path / "out") == content(single)
    again = prepare_images(collection, processor, url, format="parquet", shard_size=8, executor=ray_executor())
    assert (again.read, again.shards_written) == (0, 0)


@pytest.mark.usefixtures("ray_of_two")
def test_a_killed_worker_loses_nothing(collection, processor, single, tmp_path, content):
    out, killed = tmp_path / "out", []

    def kill_two():
        deadline = time.monotonic() + 300
        while len(killed) < 2 and time.monotonic() < deadline:
            if len(list(out.glob("data/images-*"))) > 2 * len(killed):
                for process in psutil.Process(os.getpid()).children(recursive=True):
                    name = " ".join(process.cmdline()[:1])
                    if name.startswith("ray::") and "prepare_batch" in name and len(list(out.rglob(".part-*"))):
                        process.kill()
                        killed.append(process.pid)
                        break
            time.sleep(0.02)

    killer = threading.Thread(target=kill_two)
    killer.start()
    prepare_images(collection, processor, out, format="parquet", shard_size=8, executor=ray_executor())
    killer.join()
    assert len(killed) == 2
    found = content(out)
    left = {name for name in found if ".part-" in name}  # of the dead; the next run sweeps them
    assert {name: data for name, data in found.items() if name not in left} == content(single)
    prepare_images(collection, processor, out, format="parquet", shard_size=8)
    assert content(out) == content(single)


@pytest.mark.usefixtures("ray_of_two")
def test_an_error_of_a_worker_is_one_line(collection, processor, tmp_path):
    out = tmp_path / "out"
    prepare_images(collection.where(view="CC"), processor, out, format="parquet", shard_size=30)
    (out / "data" / "images-00000-of-00002.parquet").unlink()
    (out / "data" / "images-00000-of-00002.parquet").mkdir()  # where a file belongs
    with pytest.raises(UsageError, match="cannot be written"):
        prepare_images(
            collection.where(view="CC"), processor, out, format="parquet", shard_size=30, executor=ray_executor()
        )
