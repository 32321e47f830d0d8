"""Run the steps of .devcontainer/Containerfile where no engine for containers is at hand, and use what they install.

make container          # python scripts/container.py build/container, after make dist

The file's own RUN line is run in a virtual environment; then `predict` and the page, with the file's variables, as its
user, on a root that cannot be written to, with no network. Needs a package index, and root for the last part.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_UP, _GET_FLAGS, _SET_FLAGS = 1, 0x8913, 0x8914  # of a network interface: linux/if.h, linux/sockios.h
_PAGE = "http://127.0.0.1:7860"


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Containerfile with their arguments, in order."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines()) if name]


def variables(found: list[tuple[str, str]]) -> dict[str, str]:
    """Return what the ENV instructions set."""
    return dict(part.split("=", 1) for name, rest in found if name == "ENV" for part in rest.split())


def run(*command: object, **options: object) -> None:
    """Run a command, and end with its status if it fails."""
    words = [str(word) for word in command]
    print("+", " ".join(words), flush=True)
    status = subprocess.run(words, **options).returncode  # type: ignore[call-overload]
    if status:
        sys.exit(status)


def install(folder: Path, found: list[tuple[str, str]]) -> Path:
    """Do what COPY and RUN say in an environment of its own; return the environment's programs."""
    build, programs = folder / "build", folder / "venv" / "bin"
    run(sys.executable, "-m", "venv", folder / "venv")
    build.mkdir(exist_ok=True)
    for source in (rest.split()[0] for name, rest in found if name == "COPY"):
        for path in ROOT.glob(source):
            shutil.copy(path, build)
    steps = " && ".join(rest for name, rest in found if name == "RUN").replace("/build", str(build))
    steps = re.sub(r"&& useradd .*", "", steps)  # a number does for a user without a home
    run("sh", "-ec", steps, env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"})
    return programs


def make_input(folder: Path, programs: Path) -> None:
    """Draw phantoms, and train a classifier on them for two updates."""
    tool = programs / "mammo-hf"
    run(tool, "phantom", "--output_dir", folder / "archive", "--patients", 8, "--image_size", 224, 112)
    options = ["--model", "nano", "--image_size", 224, 112, "--max_steps", 2, "--per_device_train_batch_size", 4]
    run(tool, "finetune", "--dataset", folder / "archive", "--output_dir", folder / "model", *options)


def use(folder: Path, found: list[tuple[str, str]]) -> None:
    """Run predict and ask the page for itself, as the file's user, in this process's own namespaces."""
    for command in (
        f"mount --bind {folder} /mnt",  # the new /tmp may hide it
        "mount --bind / /",
        "mount -o remount,ro,bind /",
        "mount -t tmpfs tmpfs /tmp",
        f"mkdir -p {folder}",
        f"mount --bind /mnt {folder}",
        f"mount -o remount,ro,bind {folder}",
        f"mount --bind /mnt/out {folder}/out",
        "umount /mnt",
    ):
        run(*command.split())
    with socket.socket() as made:  # a new network has its loopback down
        name = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(made, _GET_FLAGS, name))[1]
        fcntl.ioctl(made, _SET_FLAGS, struct.pack("16sh", b"lo", flags | _UP))
    uid = next(int(rest) for name, rest in found if name == "USER")
    # Python may be in a home that others cannot look into: reading is allowed there, writing nowhere
    caps = [f"--{kind}-caps=-all,+dac_read_search" for kind in ("inh", "ambient")]
    tool = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *caps, f"{folder}/venv/bin/mammo-hf"]
    own = {"cwd": "/tmp", "env": variables(found) | {"PATH": f"{folder}/venv/bin:/usr/bin:/bin"}}
    run(*tool, "predict", folder / "model", folder / "archive", "--output", folder / "out" / "scores.csv", **own)
    page = subprocess.Popen([*tool, "app", str(folder / "model"), "--host", "0.0.0.0"], **own)  # type: ignore[call-overload]
    try:
        print(f"the page answers {answer(page)}")
    finally:
        page.terminate()
        page.wait(30)


def answer(page: subprocess.Popen[bytes]) -> int:
    """Return the page's status as soon as it answers, within two minutes."""
    for _ in range(120):
        time.sleep(1)
        try:
            return int(urllib.request.urlopen(_PAGE, timeout=10).status)
        except OSError:
            if page.poll() is not None:
                break
    sys.exit("the page does not answer")


def main() -> None:
    """Install, make an input, and use both inside namespaces of their own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder for the environment; an earlier one is removed")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder = args.folder.resolve()
    found = instructions((ROOT / ".devcontainer" / "Containerfile").read_text(encoding="utf-8"))
    if args.inside:
        use(folder, found)
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "out").mkdir(parents=True)
    (folder / "out").chmod(0o777)
    make_input(folder, install(folder, found))
    if os.getuid():
        sys.exit("installed and trained; predict and the page need root here: run it as root")
    run("unshare", "-m", "-n", sys.executable, __file__, folder, "--inside")


if __name__ == "__main__":
    main()
