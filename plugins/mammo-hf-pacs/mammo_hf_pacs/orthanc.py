"""A PACS to try the node with: Debian's Orthanc on free ports of this machine, and the node next to it.

    python -m mammo_hf_pacs.orthanc [MODEL]

starts both, with an untrained model if none is named, sends a drawn exam to both by C-STORE, shows what has come back,
and waits for more until Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mammo_hf.errors import UsageError

PROGRAMS = ("Orthanc", "/usr/sbin/Orthanc")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
INSTALL = "apt-get install -y --no-install-recommends orthanc orthanc-dicomweb dcmtk dicom3tools"
SECONDS = 300.0


def program() -> str | None:
    """Return the path of Orthanc; ``None`` if it or its DICOMweb plug-in is not installed."""
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    return found if PLUGIN.is_file() else None


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Orthanc:
    """An Orthanc in a folder, with a configuration of its own.

    Args:
        folder: Folder of its storage.
        node_port: Port of the node, which it knows as MAMMOHF.
        users: Names and passwords; none: nobody has to log in.

    Attributes:
        url: Its DICOMweb service.
        address: Its DICOM address, as ``--pacs`` takes it.
    """

    def __init__(self, folder: Path, node_port: int = 0, users: dict[str, str] | None = None) -> None:
        self.folder, self.http, self.port = folder, free_port(), free_port()
        self.url, self.address = f"http://127.0.0.1:{self.http}/dicom-web", f"ORTHANC@127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        configuration = {
            "Name": "mammo-hf",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "index"),
            "Plugins": [str(PLUGIN)],
            "HttpPort": self.http,
            "HttpServerEnabled": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": bool(users),
            "RegisteredUsers": users or {},
            "DicomAet": "ORTHANC",
            "DicomPort": self.port,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowFind": True,
            "DicomModalities": {"mammohf": {"AET": "MAMMOHF", "Host": "127.0.0.1", "Port": node_port or 1}},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "orthanc.json").write_text(json.dumps(configuration, indent=1), encoding="utf-8")

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            UsageError: It is not installed, or does not start.
        """
        path = program()
        if path is None:
            raise UsageError("is not installed", source="Orthanc", remedy=INSTALL)
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen([path, str(self.folder / "orthanc.json")], stdout=log, stderr=log)
        deadline = time.monotonic() + SECONDS
        while not (_answers(self.http) and _answers(self.port)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise UsageError("does not start", source="Orthanc", remedy=f"see {self.folder / 'log'}")
            time.sleep(0.1)

    def stop(self, *, kill: bool = False) -> None:
        """End it; with ``kill`` at once, as a power failure does."""
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()
            self._process.wait()
            self._process = None


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def node(model: str, state: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``mammo-hf node`` as a process of its own, and wait until it listens.

    Args:
        model: A classifier.
        state: Folder of its queue.
        port: Port that it listens at.
        *options: Further options.

    Raises:
        UsageError: It does not start.
    """
    command = [sys.executable, "-m", "mammo_hf_pacs", model, "--state", str(state), "--port", str(port), *options]
    state.mkdir(parents=True, exist_ok=True)
    with open(state / "log", "a", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, text=True)
    try:
        deadline = time.monotonic() + SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise UsageError("does not start", source="the node", remedy=f"see {state / 'log'}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Start both, and show the loop once."""
    from .check import phantom
    from .exchange import Dicomweb, Dimse

    parser = argparse.ArgumentParser(prog="python -m mammo_hf_pacs.orthanc", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", metavar="MODEL", nargs="?", help="classifier (default: an untrained one)")
    parser.add_argument("--end", action="store_true", help="end when the results of the phantom are there")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        pacs = Orthanc(Path(folder) / "orthanc", port)
        try:
            pacs.start()
            model = args.model or _untrained(Path(folder) / "model")
            with node(model, Path(folder) / "node", port, "--url", pacs.url, "--quiet", "5"):
                print(f"Orthanc: {pacs.url}, {pacs.address}\nnode:    MAMMOHF@127.0.0.1:{port}", flush=True)
                images = phantom()
                for title, listening in (("ORTHANC", pacs.port), ("MAMMOHF", port)):
                    Dimse(title, "127.0.0.1", listening, "DEVICE").send_images(images)
                _show(Dicomweb(pacs.url), images[0], Path(folder) / "node" / "audit.jsonl")
                while not args.end:
                    time.sleep(1)
        except KeyboardInterrupt:
            pass
        finally:
            pacs.stop()


def _untrained(folder: Path) -> str:
    """Write a tiny classifier that is not trained."""
    from mammo_hf import MammoImageProcessor
    from mammo_hf.testing import tiny_classifier

    tiny_classifier().save_pretrained(folder)
    MammoImageProcessor(size=(112, 56)).save_pretrained(folder)
    return str(folder)


def _show(web: Any, image: Any, audit: Path) -> None:
    """Wait for the results of an exam, and print which objects are in its study."""
    while not (audit.exists() and audit.read_text(encoding="utf-8")):
        time.sleep(0.2)
    found = web.call("search_for_series", str(image.StudyInstanceUID), fields=["SeriesDescription"])
    for one in found:
        modality, what = (one.get(tag, {}).get("Value", [""])[0] for tag in ("00080060", "0008103E"))
        print(f"{modality:<4}{what}")
    print(audit.read_text(encoding="utf-8"), end="", flush=True)


if __name__ == "__main__":
    main()
