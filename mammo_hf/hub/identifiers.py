"""Search of the files to be pushed for anything that names a person, a place or this machine."""

from __future__ import annotations

import getpass
import json
import re
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from io import BytesIO
from pathlib import Path

from PIL import Image

from ..errors import DataError, MammoError
from ..models.checkpoint import safetensors_header

Content = bytes | Path
# What no text may contain. The digits after a number's decimal point are not a date.
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
# Names that many machines and users have, and that therefore identify none.
_ANYBODY = {
    "root",
    "user",
    "admin",
    "ubuntu",
    "debian",
    "runner",
    "jovyan",
    "app",
    "localhost",
    "docker",
    "nobody",
}
_SHORTEST_NAME = 3
_SHORTEST_IN_BINARY = 8  # bytes: shorter ones occur by chance among billions of weights
_CHUNK = 1 << 24


class IdentifierError(MammoError):
    """Error about a file to be pushed that may name a person, a place or a machine."""


def refuse_identifiers(
    files: Mapping[str, Content],
    *,
    paths: Sequence[str] = (),
    names: Sequence[str] = (),
    known: Collection[str] = (),
    ours: Collection[str] = (),
) -> None:
    """Refuse files to be pushed if one contains an identifier of a person, a place or this machine.

    Args:
        files: Files by name in the repository, as content or path.
        paths: Folders that no file may name, from `paths_of_this_machine`.
        names: Names of the host and the user, from `names_of_this_machine`.
        known: Texts that are allowed: the repository's own name.
        ours: Names of files that are this package's own source.

    Raises:
        IdentifierError: Names the file and the kind of what was found, never the text itself.
        DataError: A file is damaged.
    """
    vocabulary = _words(_template_texts()) | _words(_keys(files))
    found = []
    for name, content in files.items():
        wanted = [] if name in ours else [one for one in names if one.lower() not in vocabulary]
        found += [(name, kind) for kind in _kinds(name, content, paths, wanted, names, known)]
    if found:
        name, kind = found[0]
        more = f", and {len(found) - 1} more of this or other kinds" if len(found) > 1 else ""
        raise IdentifierError(
            f"contains {kind}{more}; nothing was sent", source=name, remedy="remove it from the file, then push again"
        )


def paths_of_this_machine(private_paths: Iterable[str | Path] = ()) -> list[str]:
    """Return the home and working folder and the given folders, as written and as resolved."""
    folders = [Path.home(), Path.cwd(), *map(Path, private_paths)]
    spelled = {str(folder) for one in folders for folder in (one.absolute(), one.resolve())}
    return sorted(path for path in spelled if len(path) > 1)


def names_of_this_machine() -> list[str]:
    """Return the names of the host and of the user, except those that many machines and users have."""
    host = socket.gethostname()
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without an entry
        user = ""
    names = {host, host.split(".")[0], user}
    return sorted(name for name in names if len(name) >= _SHORTEST_NAME and name.lower() not in _ANYBODY)


def _kinds(
    name: str,
    content: Content,
    paths: Sequence[str],
    wanted: Sequence[str],
    names: Sequence[str],
    known: Collection[str],
) -> list[str]:
    """Return the kinds of identifiers in a file; names count in text only if wanted, in binary content always."""
    texts, binary = _texts(name, content)
    for allowed in sorted(known, key=len, reverse=True):
        texts = [text.replace(allowed, " ") for text in texts]
    kinds = []
    if any(re.search(rf"(?<![\w.-]){re.escape(path)}(?!\w)", text) for path in paths for text in texts):
        kinds.append("a path of this machine")
    pattern = "|".join(map(re.escape, wanted))
    if wanted and any(re.search(rf"(?<![^\W_])({pattern})(?![^\W_])", text, re.IGNORECASE) for text in texts):
        kinds.append("the name of this machine or its user")
    long = [text.encode() for text in (*paths, *names) if len(text) >= _SHORTEST_IN_BINARY]
    if binary and _holds(content, long):
        kinds.append("a path or name of this machine")
    return kinds + [kind for kind, found in PATTERNS.items() if any(found.search(text) for text in texts)]


def _texts(name: str, content: Content) -> tuple[list[str], bool]:
    """Return the texts of a file, and whether it has binary content too."""
    if name.endswith(".safetensors") and isinstance(content, Path):
        metadata, shapes = safetensors_header(content)
        return [json.dumps(metadata, ensure_ascii=False), " ".join(shapes)], True
    raw = content if isinstance(content, bytes) else content.read_bytes()
    if name.endswith(".png"):
        return _texts_of_picture(name, raw), True
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError("is not text in UTF-8", source=name, remedy="write it again as UTF-8") from error
    # JSON may escape characters.
    plain = json.dumps(json.loads(text), ensure_ascii=False) if name.endswith(".json") else ""
    return [text, plain], False


def _texts_of_picture(name: str, raw: bytes) -> list[str]:
    try:
        with Image.open(BytesIO(raw)) as picture:
            picture.load()
            notes = [*picture.info.values(), *picture.getexif().values()]
    except (OSError, SyntaxError) as error:
        raise DataError("is damaged or not a picture", source=name, remedy="write the picture again") from error
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


def _keys(files: Mapping[str, Content]) -> list[str]:
    """Return the keys of the JSON files, which do not identify a user of the same name."""
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
