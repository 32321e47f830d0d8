"""The receiver of exams: a C-STORE and C-ECHO SCP, which acknowledges an image once it is on the disk."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from typing import Any

from pydicom.uid import (
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from mammo_hf.dicom.parsing import parse, text
from mammo_hf.dicom.pixels import READ
from mammo_hf.dicom.reader import read_header
from mammo_hf.errors import MammoError, UsageError

from .exchange import SYNTAXES, Secrets
from .objects import MAKER
from .queue import Queue

logger = logging.getLogger(__name__)

CLASSES = (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,  # of scanned films
)
# PS3.4 B.2.3, PS3.7 C
SUCCESS, NO_ROOM, NOT_UNDERSTOOD, NOT_AUTHORISED = 0x0000, 0xA700, 0xC000, 0x0124


def take(queue: Queue, content: bytes) -> str:
    """Put the file of an image into the queue; our own objects, which a PACS may send back, are left out.

    Returns:
        The name of its study; "" if it was left out.

    Raises:
        MammoError: It is not a DICOM object with identifiers, or there is no room for it.
    """
    dataset = parse(content)[0]
    study, image = (text(dataset, name) for name in ("StudyInstanceUID", "SOPInstanceUID"))
    if not (study and image):
        raise UsageError("has no identifiers", source="an object", remedy="send it as it came from its device")
    if text(dataset, "Manufacturer") == MAKER:
        return ""
    try:
        header = read_header(content)
        view = f"{header.laterality.value}{header.view.value}"
    except MammoError:
        view = ""  # the reason is found when it is read
    return queue.add(study, image, view, content)


class Receiver:
    """The SCP, from its start to `close`.

    Args:
        queue: Queue that gets the images.
        host: Address that is listened to: of this machine alone unless another one is given.
        port: Port; 0: a free one.
        title: AE title; a peer that calls another one is rejected.
        titles: AE titles of peers that may send; none: all.
        hosts: Addresses of peers that may send; none: all.
        secrets: Certificates, if it is to speak TLS.

    Raises:
        UsageError: The port is in use.
    """

    def __init__(
        self,
        queue: Queue,
        host: str,
        port: int,
        title: str,
        titles: Sequence[str] = (),
        hosts: Sequence[str] = (),
        secrets: Secrets | None = None,
    ) -> None:
        self._queue, self._hosts = queue, set(hosts)
        entity = AE(ae_title=title)
        entity.require_called_aet, entity.require_calling_aet = True, list(titles)
        entity.maximum_associations = 20
        entity.network_timeout = entity.dimse_timeout = 60
        entity.add_supported_context(Verification, list(SYNTAXES))
        for sop_class in CLASSES:
            entity.add_supported_context(sop_class, list(READ))
        handlers: Any = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_ECHO, self._echo)]
        context = (secrets or Secrets()).tls(ssl.Purpose.CLIENT_AUTH)
        try:
            server: Any = entity.start_server((host, port), block=False, evt_handlers=handlers, ssl_context=context)
        except OSError as error:
            problem = f"cannot be listened to ({error.strerror})"
            raise UsageError(problem, source=f"{host}:{port}", remedy="choose another --port") from error
        self._server = server
        self.port = int(server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()

    def _allowed(self, event: Any) -> bool:
        return not self._hosts or event.assoc.requestor.address in self._hosts

    def _echo(self, event: Any) -> int:
        return SUCCESS if self._allowed(event) else NOT_AUTHORISED

    def _store(self, event: Any) -> int:
        if not self._allowed(event):
            return NOT_AUTHORISED
        try:
            take(self._queue, event.encoded_dataset())
        except UsageError as error:
            logger.warning("an image was not taken: %s", error.problem)
            return NO_ROOM if "identifiers" not in error.problem else NOT_UNDERSTOOD
        except MammoError as error:
            logger.warning("an image was not taken: %s", error.problem)
            return NOT_UNDERSTOOD
        return SUCCESS
