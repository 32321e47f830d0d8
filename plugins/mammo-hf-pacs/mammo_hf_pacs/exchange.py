"""The two ways to a PACS: DICOMweb (QIDO, WADO, STOW), and DIMSE (C-ECHO, C-STORE, C-FIND)."""

from __future__ import annotations

import copy
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from pynetdicom import AE
from pynetdicom.sop_class import (
    ComprehensiveSRStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)
from requests import Session
from requests.exceptions import InvalidJSONError, RequestException

from mammo_hf.errors import DataError, MammoError, UsageError

SENT = (ComprehensiveSRStorage, SegmentationStorage, ParametricMapStorage, SecondaryCaptureImageStorage)
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
OFFERED: dict[Any, Sequence[str]] = dict.fromkeys(SENT, SYNTAXES) | {SegmentationStorage: (*SYNTAXES, RLELossless)}
SECONDS = 30  # that a peer may take to answer
# of C-STORE and STOW: out of resources, not authorised (PS3.4 B.2.3, PS3.7 C): another time, or told of us, it may do
_MAY_COME = (*range(0xA700, 0xA800), 0x0124)
_FAILURE = re.compile(rb'00081197"[^\[>]*[\[>]\s*(?:<Value[^>]*>)?\s*(\d{1,5})')  # the attribute in JSON or XML
_LONGEST = 1 << 16  # bytes of an answer that are looked at
_NEVER = (400, 406, 410, 413, 415, 422)  # of HTTP: the same request will not do another time


class LaterError(MammoError):
    """A peer that cannot be reached or has no room now: the same is tried again."""


class Peer(Protocol):
    """A PACS."""

    def ping(self) -> None:
        """Raise a `MammoError` if it does not answer."""
        ...

    def stored(self, study: str) -> set[str]:
        """Return the SOP Instance UIDs that it has of a study."""
        ...

    def send(self, objects: Sequence[Dataset]) -> None:
        """Send objects.

        Raises:
            LaterError: It cannot take them now.
            DataError: It refuses one, with the reason.
        """
        ...


@dataclass(frozen=True)
class Secrets:
    """What a peer is told of us; secrets are read from files at each use, so that they can be renewed.

    Attributes:
        token: File with a bearer token.
        user: Name for basic authentication.
        password: File with its password.
        ca: File with the certificates of authorities that a peer's certificate is checked with.
        certificate: File with our own certificate.
        key: File with its key.
    """

    token: Path | None = None
    user: str | None = None
    password: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def session(self) -> Session:
        """Return a session of HTTP."""
        session = Session()
        session.trust_env = False  # no proxy between the node and its PACS, and no ~/.netrc
        session.verify = str(self.ca) if self.ca else True
        if self.certificate and self.key:
            session.cert = (str(self.certificate), str(self.key))
        if self.user is not None and self.password is not None:
            session.auth = (self.user, _secret(self.password))
        elif self.token is not None:
            session.headers["Authorization"] = f"Bearer {_secret(self.token)}"
        return session

    def tls(self, purpose: ssl.Purpose) -> ssl.SSLContext | None:
        """Return the context of DIMSE over TLS, in which both sides show certificates; ``None`` without one."""
        if self.certificate is None:
            return None
        context = ssl.create_default_context(purpose, cafile=self.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = purpose is ssl.Purpose.SERVER_AUTH
        context.load_cert_chain(self.certificate, self.key)
        return context


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        problem = f"cannot be read ({type(error).__name__})"
        raise UsageError(problem, source=path, remedy="check the path and its permissions") from error


class Dicomweb:
    """A PACS by DICOMweb.

    Args:
        url: Root of the service, such as https://pacs.hospital/dicom-web.
        secrets: What it is told of us.
    """

    def __init__(self, url: str, secrets: Secrets | None = None) -> None:
        self.url, self._secrets = url, secrets or Secrets()

    def ping(self) -> None:
        """Search for a study that does not exist."""
        self.call("search_for_studies", search_filters={"StudyInstanceUID": "1.2.3.4.5.6.7.8.9"})

    def studies(self, dates: str) -> dict[str, str]:
        """Search for mammography studies.

        Args:
            dates: Range of dates, such as 20240101-20240131.

        Returns:
            By StudyInstanceUID the number of instances of each; "" if the PACS does not say.
        """
        filters, fields = {"ModalitiesInStudy": "MG", "StudyDate": dates}, ["NumberOfStudyRelatedInstances"]
        found = self.call("search_for_studies", search_filters=filters, fields=fields)
        return {uid: _value(one, "00201208") for one in found if (uid := _value(one, "0020000D"))}

    def stored(self, study: str) -> set[str]:
        """Return the SOP Instance UIDs that it has of a study, by QIDO."""
        return {uid for one in self._instances(study) if (uid := _value(one, "00080018"))}

    def found(self, study: str, classes: Sequence[str]) -> dict[str, str]:
        """Return the SeriesInstanceUID of each image of a study of some SOP classes by its SOPInstanceUID, by QIDO."""
        images = [one for one in self._instances(study) if _value(one, "00080016") in classes]
        return {_value(one, "00080018"): _value(one, "0020000E") for one in images}

    def images(self, study: str, found: Mapping[str, str]) -> Iterator[Dataset]:
        """Retrieve images of a study, by WADO.

        Args:
            study: StudyInstanceUID.
            found: SeriesInstanceUID of each by its SOPInstanceUID, from `found`.

        Raises:
            LaterError: It cannot be reached now.
        """
        for image, series in found.items():
            yield self.call("retrieve_instance", study, series, image, media_types=(("application/dicom", "*"),))

    def _instances(self, study: str) -> list[dict[str, Any]]:
        return self.call("search_for_instances", study, fields=["SOPClassUID"])

    def send(self, objects: Sequence[Dataset]) -> None:
        """Send objects by STOW."""
        for one in objects:  # one by one: a refusal is then of one object
            answer = self.call("store_instances", [one], study_instance_uid=str(one.StudyInstanceUID))
            for failed in answer.get("FailedSOPSequence", ()):
                reason = int(failed.get("FailureReason", 0))
                _refuse(reason, f"refuses an object (failure reason {reason:04X})")

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call the client; whatever comes of the network is to be tried again."""
        try:
            client = DICOMwebClient(self.url, session=self._secrets.session(), chunk_size=1 << 20)
            client.set_http_retry_params(retry=False)
            return getattr(client, name)(*arguments, **options)
        except RequestException as error:
            status = getattr(error.response, "status_code", None)
            for reason in _failures(error.response) if status == 409 else ():  # STOW: none was stored
                _refuse(reason, f"refuses an object (failure reason {reason:04X})")
            if status not in _NEVER:
                what = f"answers {status}" if status else f"cannot be reached ({type(error).__name__})"
                if isinstance(error, InvalidJSONError):
                    what = "gives no answer that can be read"
                raise LaterError(what, source="the PACS", remedy="it is tried again") from error
            raise DataError(f"refuses with status {status}", source="the PACS", remedy="see its log") from error
        except MammoError:
            raise
        except Exception as error:  # an answer that is none
            raise LaterError(f"gives no answer that can be read ({type(error).__name__})", source="the PACS") from error


def _failures(response: Any) -> list[int]:
    """Return the reasons of failure that an answer to STOW gives (PS3.18 I.2), in JSON or XML."""
    return [int(found[1]) for found in _FAILURE.finditer(response.content[:_LONGEST])]


def _value(one: dict[str, Any], tag: str) -> str:
    values = one.get(tag, {}).get("Value") or [""]
    return str(values[0])


class Dimse:
    """A PACS by DIMSE.

    Args:
        title: Its AE title.
        host: Its host.
        port: Its port.
        own_title: Our AE title.
        secrets: Certificates, if it speaks TLS.
        named: Whether its certificate must be for its host.
    """

    def __init__(
        self,
        title: str,
        host: str,
        port: int,
        own_title: str,
        secrets: Secrets | None = None,
        *,
        named: bool = True,
    ) -> None:
        self.title, self.host, self.port, self.own_title = title, host, port, own_title
        self._secrets, self._named = secrets or Secrets(), named

    def ping(self) -> None:
        """Send a C-ECHO."""
        with _Association(self, {Verification: SYNTAXES}) as association:
            _check(association.send_c_echo(), "refuses C-ECHO")

    def stored(self, study: str) -> set[str]:
        """Return the SOP Instance UIDs that it has of a study, by C-FIND."""
        model, found = StudyRootQueryRetrieveInformationModelFind, set()
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "IMAGE", study
        query.SeriesInstanceUID = query.SOPInstanceUID = ""
        with _Association(self, {model: SYNTAXES}) as association:
            try:
                for status, one in association.send_c_find(query, model):
                    if one is not None and one.get("SOPInstanceUID"):
                        found.add(str(one.SOPInstanceUID))
                    elif status.get("Status", -1) not in (0x0000, 0xFF00, 0xFF01):
                        _check(status, "refuses C-FIND")
            except (ValueError, DataError) as error:  # of no result: it has to be told who asks
                problem = "does not answer C-FIND, by which results are read back"
                raise LaterError(problem, source="the PACS", remedy="let this node ask, or give --url alone") from error
        return found

    def send(self, objects: Sequence[Dataset]) -> None:
        """Send objects by C-STORE."""
        self._store(objects, OFFERED)

    def send_images(self, images: Sequence[Dataset]) -> None:
        """Send images by C-STORE, as a modality does."""
        self._store(images, {one.SOPClassUID: [one.file_meta.TransferSyntaxUID] for one in images})

    def _store(self, objects: Sequence[Dataset], offered: dict[Any, Sequence[str]]) -> None:
        with _Association(self, offered) as association:
            for one in objects:
                if not association.is_established:
                    raise LaterError("has cut the association off", source="the PACS", remedy="it is tried again")
                try:
                    status = association.send_c_store(_as_taken(one, association.accepted_contexts))
                except ValueError as error:  # no context was accepted for it
                    problem = f"does not take {UID(one.SOPClassUID).name}"
                    raise DataError(problem, source="the PACS", remedy="write other outputs") from error
                _check(status, "refuses an object")


def _as_taken(one: Dataset, contexts: Sequence[Any]) -> Dataset:
    """Return an object without its lossless compression, if it is not taken with it."""
    syntax = one.file_meta.TransferSyntaxUID
    taken = {context.transfer_syntax[0] for context in contexts if context.abstract_syntax == one.SOPClassUID}
    if syntax in taken or not syntax.is_encapsulated:
        return one
    plain = copy.deepcopy(one)
    plain.decompress(generate_instance_uid=False)
    return plain


class _Association:
    """An association, which is released at the end.

    Args:
        peer: The peer.
        offered: Transfer syntaxes by SOP class, one presentation context for each pair.
    """

    def __init__(self, peer: Dimse, offered: dict[Any, Sequence[str]]) -> None:
        entity = AE(ae_title=peer.own_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = SECONDS
        for sop_class, syntaxes in offered.items():
            for syntax in syntaxes:
                entity.add_requested_context(sop_class, syntax)
        context = peer._secrets.tls(ssl.Purpose.SERVER_AUTH)
        if context is not None and not peer._named:
            context.check_hostname = False
        tls: dict[str, Any] = {} if context is None else {"tls_args": (context, peer.host)}
        self._association = entity.associate(peer.host, peer.port, ae_title=peer.title, **tls)

    def __enter__(self) -> Any:
        if not self._association.is_established:
            refused = {UID(one.abstract_syntax).name for one in self._association.rejected_contexts}
            what = "rejects the association" if self._association.is_rejected else "cannot be reached"
            what = f"does not offer {', '.join(sorted(refused))}" if refused else what
            raise LaterError(what, source="the PACS", remedy="check titles, host and port; it is tried again")
        return self._association

    def __exit__(self, *exception: object) -> None:
        if self._association.is_established:
            self._association.release()


def _check(status: Dataset, problem: str) -> None:
    code = status.get("Status", None)
    if code is None:
        raise LaterError("has cut the association off", source="the PACS", remedy="it is tried again")
    if code != 0 and not 0xB000 <= code <= 0xBFFF:  # stored with a warning is stored
        _refuse(code, f"{problem} (status {code:04X})")


def _refuse(code: int, problem: str) -> None:
    if code in _MAY_COME:
        raise LaterError(problem, source="the PACS", remedy="it is tried again")
    raise DataError(problem, source="the PACS", remedy="see its log")
