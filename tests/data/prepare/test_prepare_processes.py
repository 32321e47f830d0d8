"""Real processes, really killed."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from mammo_hf import MammoImageProcessor, load
from mammo_hf.data.prepare.folder import open_prepared
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.phantom.writing import write_phantom

pytestmark = pytest.mark.slow
KILLS = 3


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    root = tmp_path_factory.mktemp("many") / "cbis"
    write_phantom(root, patients=24, seed=0, size=(224, 112), num_workers=2, progress=False)
    return root


@pytest.fixture(scope="module")
def whole(many, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    prepare_images(load(many), MammoImageProcessor(size=(224, 112)), out, shard_size=8)
    return out


def command(source, out, *more):
    size = ["--image_size", "224", "112", "--shard_size", "8"]
    return [sys.executable, "-m", "mammo_hf", "prepare", str(source), "--output_dir", str(out), *size, *more]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_killed_again_and_again_it_ends_as_if_never_killed(many, whole, tmp_path, content, workers):
    out, kills, done = tmp_path / "out", 0, None
    while done is None or done.returncode != 0:
        process = subprocess.Popen(
            command(many, out, "--num_workers", workers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        there = len(list(out.glob("data/images-*")))
        deadline = time.monotonic() + 120
        while kills < KILLS and process.poll() is None and time.monotonic() < deadline:
            if len(list(out.glob("data/images-*"))) >= there + 2 or len(list(out.glob("shards/*"))) >= there + 2:
                break
            time.sleep(0.005 * (kills + 1))
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        if kills < KILLS and process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
            process.wait()
            _, alive = psutil.wait_procs(children, timeout=200)
            assert not alive  # workers do not outlive a killed parent
            assert not (out / "prepared.json").exists()
            continue
        process.wait(timeout=300)
        done = process
    assert kills == KILLS
    assert content(out) == content(whole)
    images = open_prepared(out)["image_id"]
    assert len(images) == len(set(images)) == 96


def test_a_reader_that_is_killed_is_replaced_and_nothing_is_lost(many, whole, tmp_path, content):
    out = tmp_path / "out"
    process = subprocess.Popen(command(many, out, "--num_workers", "2"), stderr=subprocess.PIPE, text=True)
    while not list(out.glob("shards/*")) and process.poll() is None:
        time.sleep(0.01)
    readers = psutil.Process(process.pid).children()
    readers[0].kill()
    error = process.communicate(timeout=300)[1]
    assert (process.returncode, "Traceback" in error) == (0, False)
    assert content(out) == content(whole)


def test_ctrl_c_says_so_in_one_line(many, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(many, out, "--num_workers", "2"), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not list(out.glob("shards/*")) and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 130
    assert error.strip().splitlines()[-1] == "error: interrupted"
    assert "Traceback" not in error


def test_a_full_disk_leaves_nothing_half_written(many, whole, tmp_path, content):
    # a limit on the size of a file stands for the disk: the same error path, without a disk to fill
    out = tmp_path / "out"
    code = (
        "import resource, signal, sys\nfrom mammo_hf.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    run = [sys.executable, "-c", code, *command(many, out)[3:]]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "cannot be written to (File too large)" in done.stderr
    assert not (out / "prepared.json").exists()
    assert all(path.read_bytes() == (whole / "data" / path.name).read_bytes() for path in out.glob("data/images-*"))
    assert not list(out.rglob(".part-*"))
    subprocess.run(command(many, out), check=True, timeout=300)
    assert content(out) == content(whole)
