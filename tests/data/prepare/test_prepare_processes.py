"""Real processes, really killed."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from mammo_hf import MammoImageProcessor, load
from mammo_hf.data.prepare.folder import open_prepared
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.processes import no_interrupts

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


def test_a_worker_that_is_killed_ends_the_run_and_the_next_goes_on(many, whole, tmp_path, content):
    out = tmp_path / "out"
    process = subprocess.Popen(command(many, out, "--num_workers", "2"), stderr=subprocess.PIPE, text=True)
    while not list(out.glob("shards/*")) and process.poll() is None:
        time.sleep(0.01)
    workers = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    workers[0].kill()
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 2
    assert "a worker process was killed" in error
    assert "Traceback" not in error
    subprocess.run(command(many, out, "--num_workers", "2"), check=True, timeout=300)
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


def test_an_interrupt_while_a_process_starts_is_not_lost_and_does_not_reach_it():
    done = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 (where it is raised is what is tested)
        with no_interrupts():
            # it dies of the signal unless it inherits the block
            child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(0.5)"])
            os.kill(child.pid, signal.SIGINT)
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            done.append("to the end")
        done.append("never")
    assert done == ["to the end"]
    assert child.wait(20) == 0


def test_an_interrupt_that_another_thread_was_given_comes_late_too():
    seen, stay = [], threading.Event()
    other = threading.Thread(target=stay.wait)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt), no_interrupts():  # noqa: PT012 (where it is raised is what is tested)
            signal.pthread_kill(other.ident, signal.SIGINT)
            time.sleep(0.1)
            seen.append("all of it was done")
    finally:
        stay.set()
        other.join()
    assert seen
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_process_that_is_spawned_meanwhile_inherits_the_block():
    # in a process of its own, where none has been spawned before
    code = (
        "import multiprocessing, signal\n"
        "from mammo_hf.processes import no_interrupts\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    with no_interrupts():\n"
        "        child = context.Process(target=print)\n"
        "        child.start()\n"
        "        print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set()))\n"
        "    child.join()\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "True" in said
