"""Looking through what is about to leave for anything that names a person, a place or this machine."""

from __future__ import annotations

import getpass
import json
import re
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from io import BytesIO
from pathlib import Path

from PIL import Image

from ..errors import DataError, MammoError
from ..models.checkpoint import safetensors_header

Content = bytes | Path
# what a text may not hold, whatever it says besides; a number's digits after its point are no date
PATTERNS = {
    "a DICOM UID": re.compile(r"(?<![\w.])[0-2](?:\.(?:0|[1-9]\d*)){5,}(?![\w]|\.\d)"),
    "a person's name as DICOM writes it": re.compile(r"[^\W\d_]{2,}\^[^\W\d_]+"),
    "a date": re.compile(
        r"(?<![\w.-])(?:(?:19|20)\d\d([-/.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
        r"|(?:0[1-9]|[12]\d|3[01])([-/.])(?:0[1-9]|1[0-2])\2(?:19|20)\d\d)(?![\w]|\.\d)"
        r"|\b(?:\d{1,2}(?:st|nd|rd|th|\.)? )?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?"
        r"(?: \d{1,2}(?:st|nd|rd|th)?,?)? (?:19|20)\d\d\b"
    ),
    "the key of a patient or an image": re.compile(r"(?<![\w.])(?=\d*[a-f])[0-9a-f]{16}(?!\w)"),
    "an e-mail address": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "a path": re.compile(r"(?<![\w./:*)\]}-])/(?:[\w.+@-]+/)+[\w.+@-]*|(?<!\w)[A-Za-z]:\\+\w"),
    "an address of storage": re.compile(r"\b(?:s3|gs|gcs|az|abfss?|hdfs|file)://\S"),
}
# names that many machines and users have, which therefore name none
_ANYBODY = {"root", "user", "admin", "ubuntu", "debian", "runner", "jovyan", "app", "localhost", "docker", "nobody"}
_SHORTEST_NAME = 3
_SHORTEST_IN_BINARY = 8  # bytes: shorter ones come up by chance among billions of weights
_CHUNK = 1 << 24


class IdentifierError(MammoError):
    """Something about to be pushed may name a person, a place or a machine."""


@dataclass(frozen=True)
class Machine:
    """What names this machine and its user.

    Attributes:
        places: Folders that no pushed file may name.
        names: Of the host and the user.
    """

    places: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def here(cls, places: Iterable[str | Path] = ()) -> Machine:
        """This one: its home and working folder, and the places given, as written and as they are resolved."""
        folders = [Path.home(), Path.cwd(), *map(Path, places)]
        spelled = {str(folder) for one in folders for folder in (one.absolute(), one.resolve())}
        host = socket.gethostname()
        names = {host, host.split(".")[0], _user()}
        return cls(
            tuple(sorted(place for place in spelled if len(place) > 1)),
            tuple(sorted(n for n in names if len(n) >= _SHORTEST_NAME and n.lower() not in _ANYBODY)),
        )


def refuse_identifiers(
    files: Mapping[str, Content], machine: Machine, *, known: Collection[str] = (), ours: Collection[str] = ()
) -> None:
    """Raises where a file to be pushed holds an identifier.

    Args:
        files: By their name in the repository: what they hold, or where they are.
        machine: Whose paths and names are looked for.
        known: Texts that may stand there: the repository's own name.
        ours: Names of files that are this package's own source.

    Raises:
        IdentifierError: Names the file and what kind of thing was found, never the thing itself.
        DataError: A file is damaged.
    """
    vocabulary = _words(_template_texts()) | _words(_keys(files))
    found = []
    for name, content in files.items():
        names = [] if name in ours else [one for one in machine.names if one.lower() not in vocabulary]
        found += [(name, kind) for kind in _kinds(name, content, machine, names, known)]
    if found:
        name, kind = found[0]
        more = f", and {len(found) - 1} more of its kind or others" if len(found) > 1 else ""
        raise IdentifierError(
            f"holds {kind}{more}; nothing was sent", source=name, remedy="take it out of the folder's file, then push"
        )


def _kinds(name: str, content: Content, machine: Machine, names: Sequence[str], known: Collection[str]) -> list[str]:
    texts, binary = _texts(name, content)
    for allowed in sorted(known, key=len, reverse=True):
        texts = [text.replace(allowed, " ") for text in texts]
    kinds = []
    if any(re.search(rf"(?<![\w.-]){re.escape(place)}(?!\w)", text) for place in machine.places for text in texts):
        kinds.append("a path of this machine")
    for one in names:
        if any(re.search(rf"(?<![^\W_]){re.escape(one)}(?![^\W_])", text, re.IGNORECASE) for text in texts):
            kinds.append("the name of this machine or its user")
            break
    long = [text.encode() for text in (*machine.places, *machine.names) if len(text) >= _SHORTEST_IN_BINARY]
    if binary and _holds(content, long):
        kinds.append("a path or name of this machine")
    return kinds + [kind for kind, pattern in PATTERNS.items() if any(pattern.search(text) for text in texts)]


def _texts(name: str, content: Content) -> tuple[list[str], bool]:
    """What of a file is text, and whether there is more to it."""
    if name.endswith(".safetensors") and isinstance(content, Path):
        metadata, shapes = safetensors_header(content)
        return [json.dumps(metadata, ensure_ascii=False), " ".join(shapes)], True
    raw = content if isinstance(content, bytes) else content.read_bytes()
    if name.endswith(".png"):
        return _texts_of_picture(name, raw), True
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError("is no text in UTF-8", source=name, remedy="write it anew") from error
    # JSON may spell a character by its number
    plain = json.dumps(json.loads(text), ensure_ascii=False) if name.endswith(".json") else ""
    return [text, plain], False


def _texts_of_picture(name: str, raw: bytes) -> list[str]:
    try:
        with Image.open(BytesIO(raw)) as picture:
            picture.load()
            notes = [*picture.info.values(), *picture.getexif().values()]
    except (OSError, SyntaxError) as error:
        raise DataError("is damaged or no picture", source=name, remedy="draw it anew") from error
    return [
        note if isinstance(note, str) else note.decode("latin-1") for note in notes if isinstance(note, str | bytes)
    ]


def _holds(content: Content, wanted: Sequence[bytes]) -> bool:
    if isinstance(content, bytes):
        return any(one in content for one in wanted)
    overlap = max(map(len, wanted), default=0)
    rest = b""
    with content.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if any(one in rest + chunk for one in wanted):
                return True
            rest = chunk[-overlap:] if overlap else b""
    return False


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without an entry
        return ""


def _keys(files: Mapping[str, Content]) -> list[str]:
    """The keys of the JSON files: a user who is called as one of them is not named by it."""
    found: list[str] = []

    def take(value: object) -> None:
        if isinstance(value, dict):
            found.extend(map(str, value))
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            take(one)

    for name, content in files.items():
        if name.endswith(".json"):
            take(json.loads(content if isinstance(content, bytes) else content.read_bytes()))
    return found


@cache
def _template_texts() -> tuple[str, ...]:
    folder = resources.files(__package__)
    return tuple(part.read_text(encoding="utf-8") for part in folder.iterdir() if part.name.endswith(".j2"))


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"[^\W_]+", text.lower())}
