"""`mammo-hf node --check`: is the PACS there, is this node reachable, and does an exam go through?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import highdicom as hd
import pydicom
from pydicom.dataset import Dataset

from mammo_hf.dicom import mammogram_dataset
from mammo_hf.errors import DataError, UsageError
from mammo_hf.phantom import draw_exam

from .command import secrets_of
from .exchange import Dimse
from .node import Node
from .objects import RESEARCH, uid_of
from .queue import Queue
from .receiver import Receiver

PATIENT = "MAMMO-HF-CHECK"


def check(node: Node, args: Any) -> None:
    """Ping the PACS, ping this node, and send a phantom through it; nothing is left anywhere.

    Raises:
        MammoError: The first thing that does not work.
    """
    node.peer.ping()
    print("the PACS answers")
    if node.web is not None and node.web is not node.peer:
        node.web.ping()
        print("its DICOMweb service answers")
    with tempfile.TemporaryDirectory() as folder:
        queue = Queue(Path(folder) / "state")
        receiver = _listening(queue, args)
        try:
            own = _own(args, receiver.port)
            own.ping()
            print("this node answers")
            own.send_images(phantom())
            node.queue = queue
            (study,) = queue.whole(0, 0)
            node.score(study)
            count = _read(queue, study)
        finally:
            receiver.close()
            queue.close()
    print(f"a phantom went through: {count} objects, which are removed again")


def _listening(queue: Queue, args: Any) -> Receiver:
    """Listen where the node does; if it is running and answers, at another port."""
    try:
        return Receiver(queue, args.host, args.port, args.title, secrets=secrets_of(args))
    except UsageError:
        _own(args, args.port).ping()
        print("a node is running here, and answers")
        return Receiver(queue, args.host, 0, args.title, secrets=secrets_of(args))


def _own(args: Any, port: int) -> Dimse:
    """Return this node as a device sees it; its certificate need not be for the name of this machine on itself."""
    host = "127.0.0.1" if args.host in ("", "0.0.0.0") else args.host
    return Dimse(args.title, host, port, (args.allow_title or [args.title])[0], secrets_of(args), named=False)


def phantom(patient: int = 0, size: tuple[int, int] = (1024, 512), **keywords: Any) -> list[Dataset]:
    """Return a drawn exam of four views as a digital system would send it.

    Args:
        patient: Number of the patient, from 0.
        size: Size of the images, (height, width).
        **keywords: Attributes by keyword.
    """
    study = uid_of("phantom", patient, size)
    common: dict[str, Any] = {"StudyInstanceUID": study, "SeriesInstanceUID": uid_of("series", study), "StudyID": "1"}
    common |= {"PatientID": f"{PATIENT}-{patient}", "PatientName": f"{PATIENT}^{patient}", "SeriesNumber": "1"}
    common |= {"StudyDate": "20240203", "StudyTime": "101112", "StudyDescription": RESEARCH}
    found = []
    for number, ((side, view), pixels) in enumerate(draw_exam(patient, size=size).images.items(), start=1):
        # as hung, the chest wall of a right breast is at the right edge, from which the anterior direction points left
        toward = ["A", "R"] if side == "RIGHT" else ["P", "L"]
        own = {"InstanceNumber": str(number), "PatientOrientation": toward if view == "CC" else [toward[0], "F"]}
        own |= {"SOPInstanceUID": uid_of("image", study, side, view)}
        named = common | own | keywords
        found.append(mammogram_dataset(pixels, laterality=side[0], view=view, **named))
    return found


def _read(queue: Queue, study: str) -> int:
    """Return the number of objects of an exam, after reading each."""
    paths = sorted(queue.files_folder(study, "objects").glob("*.dcm"))
    for path in paths:
        if path.name.startswith("sr"):
            hd.sr.srread(path)
        elif path.name.startswith("seg"):
            hd.seg.segread(path)
        elif pydicom.dcmread(path).pixel_array.ndim != 3:
            raise DataError("is not a picture in colour", source="a capture", remedy="report this")
    return len(paths)
