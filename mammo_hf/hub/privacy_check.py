"""Check of the files to be pushed: what identifies a patient, a place or this machine is refused."""

from __future__ import annotations

import contextlib
import csv
import getpass
import hashlib
import html
import importlib
import json
import re
import socket
import struct
import unicodedata
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from importlib.metadata import PackageNotFoundError, distribution
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from ..data.native_row import NATIVE
from ..data.prepare.row import KEYS
from ..data.prepared_row import SCHEMA
from ..data.privacy import is_salted_hash
from ..encoders.store import COLUMNS, GRID
from ..errors import DataError, MammoError, UsageError, install, refusing
from ..models.checkpoint import safetensors_header

Content = bytes | Path
# columns of numbers, packed
_PACKED = {GRID, *(field.name for field in (*SCHEMA, *NATIVE, *COLUMNS) if pa.types.is_binary(field.type))}
_FIRST_DATE, _LAST_DATE = 19000101, 20991231235960  # as integers: DA and DT
KEYED = ("image_id", "patient", "exam", *KEYS)  # columns of salted hashes

# What no text may contain. An identifier may follow a letter or an underscore, as in names of files, but no digit: the
# digits after a number's decimal point are not a date.
_MONTHS = (  # English, German, French, Spanish, Italian, Portuguese, Dutch
    "Jan(?:uar[yi]?)?|Jänner|janvier|enero|gennaio|janeiro|Feb(?:ruar[yi]?)?|f[ée]vrier|febrero|febbraio|fevereiro"
    "|Mar(?:ch)?|M(?:ä|ae)rz|mars|marzo|março|maart|Apr(?:ile?)?|avril|abril|May|Mai|mayo|maggio|maio|mei|June?|Juni"
    "|juin|junio|giugno|junho|July?|Juli|juillet|julio|luglio|julho|Aug(?:ust)?(?:us)?|ao[ûu]t|agosto"
    "|Sept?(?:ember)?|septembre|sep?tiembre|settembre|setembro|O[ck]t(?:ober)?|octobre|octubre|ottobre|outubro"
    "|Nov(?:ember)?|novembre|noviembre|novembro|De[cz](?:ember)?|d[ée]cembre|diciembre|dicembre|dezembro"
)
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_MM, _DD = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_NTH = r"\d{1,2}(?:st|nd|rd|th|er|[.º])?"
_DATES = (
    # DICOM DA and DT (PS3.5, 6.2); a table with gaps makes floats of integers
    rf"{_YEAR}{_MM}{_DD}"
    r"(?:(?:T?(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d(?:\.\d{1,6})?)?)?)(?:[+-]\d{4}|Z)?|\.0)?(?!\d|\.\d)",
    # three parts, the year first or last; the older DICOM form has dots
    rf"{_YEAR}([-/_.]|\. ){_MONTH}\1{_DAY}(?!\d|\.\d)",
    rf"{_DAY}([-/_.]|\. ){_MONTH}\2{_YEAR}(?!\d|\.\d)",
    rf"{_MONTH}([-/_.]){_DAY}\3{_YEAR}(?!\d|\.\d)",
    rf"{_YEAR} {_MM} {_DD}(?!\d|\.\d)",
    rf"(?:{_DD} {_MM}|{_MM} {_DD}) {_YEAR}(?!\d|\.\d)",
    rf"{_YEAR}-?W[0-5]\d-?[1-7](?!\d)",
    rf"{_YEAR} ?[年년] ?{_MONTH} ?[月월] ?{_DAY} ?[日일]",
    # the month by its name
    rf"(?i:{_NTH}[\s./-]*(?:of\s|de\s|d')?\s*(?:{_MONTHS})[\s.,/-]*(?:de\s|del\s)?\s*{_YEAR})(?!\d)",
    rf"(?i:{_YEAR}[\s.,/-]*(?:{_MONTHS})[\s./-]*\d{{1,2}})(?!\d)",
)
_NAMED_DATES = rf"(?<![^\W_])(?:(?i:(?:{_MONTHS})\.?[\s-]+{_NTH},?[\s-]+{_YEAR})|(?:{_MONTHS})\.?\s{_YEAR})(?!\d)"
# The roots of bodies that issue UIDs: ISO member bodies by country, joint organisations, the DICOM makers' own.
_ROOTS = r"1\.2\.\d{3}|1\.3\.(?:6\.1\.4\.1|12|46)|2\.16\.\d{3}"
PATTERNS = {
    # a number may stand before it, as in names of files, and what is not spelled as the standard wants counts too
    "a DICOM UID": re.compile(rf"(?<!\d)(?:2\.25\.\d{{20,}}|(?:{_ROOTS})(?:\.0)?\.\d{{3,}}|\d+(?:\.\d+){{5,}})"),
    "a person's name as DICOM writes it": re.compile(r"(?<![^\W\d_])[^\W\d_]{2,}\^(?:\^|\^*\s?[^\W\d_])"),
    "a date": re.compile(rf"(?<!\d)(?<!\d\.)(?:{'|'.join(_DATES)})|{_NAMED_DATES}"),
    "the key of a patient or an image": re.compile(
        r"(?<![0-9A-Fa-f])(?<!\d\.)(?=\d*[a-fA-F])[0-9a-fA-F]{16}(?![0-9A-Za-z])"
    ),
    "a path": re.compile(
        r"(?:(?<![\w./*)\]}-])|(?<![^\s>|(])[*_]+)/(?:[\w.+@-]+/)+"  # also in Markdown's emphasis
        r"|(?<![^\W_])[A-Za-z]:(?:\\+|/(?!/))[\w.$({%~]"
        r"|(?<!\\)\\\\+[\w.?$-]+\\+[\w.$]|(?<![:/\w])//[\w.-]+/\w|(?<!\w)~\w*/\w"
    ),
}
# What nothing excuses, not even that a part of it looks like the hash of a commit.
SECRETS = {
    "an address with a password or a token": re.compile(
        r"\w://[^\s/@]+@|://\S+[?&#](?:[\w-]*(?:token|signature|secret|password|key)|sig)=\S", re.IGNORECASE
    ),
    "a token": re.compile(
        r"(?<![A-Za-z0-9])(?:hf_(?=[a-z]*[A-Z0-9]|[a-z]{20})[A-Za-z0-9]{10,}|api_org_[A-Za-z0-9]{20,}"
        r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[a-z]-[\w-]{10,}|sk-[\w-]{20,}"
        r"|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}"
        r"|A(?:KIA|SIA|GPA|IDA|ROA|NPA|NVA|IPA)[A-Z0-9]{16}|AIza[\w-]{35}|eyJ[\w-]{10,}\.eyJ[\w-]{10,})"
        r"|(?i:(?:api|access|account|secret)_?key)\W{1,4}[A-Za-z0-9/+_-]{16,}|-----BEGIN [A-Z ]*PRIVATE KEY"
        r"|(?i:bearer\s+(?=\S*\d)[\w.~+/-]{16,}|passw(?:or)?d[\"'`]?\s*[:=]\s*\S{6,})"
    ),
    "an e-mail address": re.compile(r"(?<![\w.+-])[\w.+-]+@(?:[\w-]+\.)+[^\W\d_]{2,}"),
    "an address of storage": re.compile(
        r"\b(?:s3[an]?|gs|gcs|az|abfss?|wasbs?|adl|hdfs|dbfs|file|smb|nfs|s?ftp)://\S", re.IGNORECASE
    ),
}
# Texts that look like one of these and name nobody: DOIs, arXiv and PubMed numbers, hashes of files and commits,
# versions, integers under keys of seeds and counts, and what the kernel says of a process.
_SEED = r"(?:\w{1,40}[_ ])?(?:seeds?|random_state)"
_COUNT = re.compile(
    rf"{_SEED}|(?:\w{{1,40}}[_ ])?(?:counts?|support|images|patients|exams|breasts|examples|samples|rows"
    r"|updates|steps|parameters|bytes|pixels|tokens|flos|resamples)|n|n_\w+|num_\w+|number of \w+",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"\b10\.\d{4,9}/[-.;()/:\w]+|(?<![\w./])/proc/[\w{}/]+"
    r"|\barxiv(?:\.org/(?:abs|pdf)/|[:.\s]\s*)(?:\d{4}\.\d{4,5}|[a-z.-]+/\d{7})(?:v\d+)?"
    r"|(?<![0-9a-z])(?:[0-9a-f]{64}|[0-9a-f]{40}|(?<=fingerprint: )[0-9a-f]{16})(?![0-9a-z])"
    r"|\bPM(?:ID:?\s*|C)\d+|\bzenodo\.org/records?/\d+"
    r"|(?<![\w.])v?\d{1,4}(?:\.\d{1,6}){1,3}(?:[.+-]?(?:dev|post|rc|a|b|git)\d+(?:\+[\w.]+)?|\+(?=\d*[a-z])[\w.]+)"
    r"|(?<![\w.])v\d{1,4}(?:\.\d{1,4}){1,3}(?!\.?\d)"
    # a sign between a key and its count, or words about the images of 19570312 would pass; seeds may be a list
    rf"|(?<![^\W_]){_SEED}[\"'`*]*\s{{0,4}}(?:[:=|]|is\s|are\s)?[\s\[(-]{{0,9}}\d+(?:\s{{0,4}}[,\n][\s-]{{0,9}}\d+)*(?![\w/-]|\.\d)"
    rf"|(?<![^\W_])(?:{_COUNT.pattern})[\"'`*]*(?:\s*[:=|]\s*|,)[\"'`]?\d+(?:\.0)?(?![\w/-]|\.\d)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(
    r"(?<![\w-])([A-Za-z][\w-]*)([\s\"'`*|:,;=~<>!(v-]{1,12})(\d{1,4}(?:\.\d{1,4}){2,3})(?![\w]|\.\d)"
)
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
) -> dict[str, str]:
    """Refuse files to be pushed if one contains an identifier of a person, a place or this machine.

    Args:
        files: Files by name in the repository, as content or path.
        paths: Folders that no file may name, from `paths_of_this_machine`.
        names: Names of the host and the user, from `names_of_this_machine`.
        known: Texts that are allowed: the repository's own name.
        ours: Names of files that are this package's own source.

    Returns:
        SHA-256 of what was searched, by the file's name.

    Raises:
        IdentifierError: Names the file and the kind of what was found, never the text itself.
        DataError: A file is damaged.
    """
    vocabulary = _words(_template_texts()) | _words(_keys(files))
    found, digests = [], {}
    long = [text.encode() for text in (*paths, *names) if len(text) >= _SHORTEST_IN_BINARY]
    for name, content in files.items():
        wanted = [] if name in ours else [one for one in names if one.lower() not in vocabulary]
        # The digest comes before the texts are read, so that a file that changes in between is not pushed.
        digests[name], holds = _digest(content, long)
        texts, binary = _texts(name, content)
        kinds = _kinds(texts, paths, wanted, known) + ["a path or name of this machine"] * (binary and holds)
        found += [(name, kind) for kind in kinds]
    if kinds := _kinds(list(files), (), (), known):
        raise IdentifierError(f"the name of a file contains {kinds[0]}; nothing was sent", remedy="rename it")
    if found:
        name, kind = found[0]
        more = f", and {len(found) - 1} more of this or other kinds" if len(found) > 1 else ""
        raise IdentifierError(
            f"contains {kind}{more}; nothing was sent", source=name, remedy="remove it from the file, then push again"
        )
    return digests


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


def _kinds(texts: list[str], paths: Sequence[str], names: Sequence[str], known: Collection[str]) -> list[str]:
    """Return the kinds of identifiers in texts."""
    for allowed in sorted(known, key=len, reverse=True):
        texts = [text.replace(allowed, "_") for text in texts]
    texts = list(dict.fromkeys([*texts, *map(_as_read, texts)]))
    kinds = []
    if any(re.search(rf"(?<![\w.-]){re.escape(path)}(?!\w)", text) for path in paths for text in texts):
        kinds.append("a path of this machine")
    pattern = "|".join(map(re.escape, names))
    if names and any(re.search(rf"(?<![^\W_])({pattern})(?![^\W_])", text, re.IGNORECASE) for text in texts):
        kinds.append("the name of this machine or its user")
    kinds += [kind for kind, found in SECRETS.items() if any(found.search(text) for text in texts)]
    texts = [_NUMBERED.sub(_without_version, _HARMLESS.sub("_", text)) for text in texts]
    return kinds + [kind for kind, found in PATTERNS.items() if any(found.search(text) for text in texts)]


def _as_read(text: str) -> str:
    """Return a text without the escapes of Markdown, YAML, HTML and addresses, and in plain typography."""
    text = _ESCAPED.sub(lambda found: found[3] or chr(int(found[1] or found[2], 16)), html.unescape(unquote(text)))
    return _UNSEEN.sub("", _DASHES.sub("-", unicodedata.normalize("NFKC", text)).replace("\u2044", "/"))


_ESCAPED = re.compile(r"\\(?:x([\da-f]{2})|u([\da-f]{4})|([!-/:-@\[-`{-~]))", re.IGNORECASE)
_DASHES = re.compile("[\u2010-\u2015\u2212]")
_UNSEEN = re.compile("[\0\u00ad\u200b-\u200f\u2060\ufeff]")  # also every other byte of UTF-16


def _without_version(found: re.Match[str]) -> str:
    """Blank a dotted number, such as 2026.3.6, if it is the version of a package."""
    name, between, _ = found.groups()
    named = name.lower().endswith(("version", "versions", "release")) or re.search("[=~<>]=", between)
    return " " if named or _is_package(name) else found[0]


@cache
def _is_package(name: str) -> bool:
    try:
        distribution(name)
    except (PackageNotFoundError, ValueError):
        return False
    return True


def _texts(name: str, content: Content) -> tuple[list[str], bool]:
    """Return the texts of a file, and whether it has binary content too."""
    if name.endswith(".safetensors") and isinstance(content, Path):
        metadata, shapes = safetensors_header(content)
        return [*_lines_of_json(json.dumps(metadata), name), " ".join(shapes)], True
    if name.endswith((".arrow", ".parquet")) and isinstance(content, Path):
        return list(_texts_of_rows(name, content)), True
    if name.endswith(".onnx") and isinstance(content, Path):
        return list(_texts_of_onnx(name, content)), True
    if name.endswith(".xml") and isinstance(content, Path):
        return list(_texts_of_openvino(name, content)), True
    raw = content if isinstance(content, bytes) else content.read_bytes()
    if name.endswith(".bin"):  # the bare numbers of a graph in OpenVINO's format
        if raw.startswith((b"\x80", b"PK")):
            raise DataError("is a pickle or an archive", source=name, remedy="export the classifier again")
        return [], True
    if name.endswith(".png"):
        return _texts_of_picture(name, raw), True
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError("is not text in UTF-8", source=name, remedy="write it again as UTF-8") from error
    if name.endswith(".json"):
        return _lines_of_json(text, name), False
    return ["\n".join(_without_counts(name, text))], False


def _lines_of_json(text: str, name: str) -> list[str]:
    """Return "key: value" of every value, unescaped, and also of keys that are listed twice."""

    def lines(key: str, value: object) -> Iterator[str]:
        if isinstance(value, tuple):
            for below, one in value:
                yield from lines(below, one)
                if isinstance(one, tuple | list):
                    yield below
        elif isinstance(value, list):
            for one in value:
                yield from lines(key, one)
        else:
            yield f"{key}: {value}"

    try:
        return list(lines("", json.loads(text, object_pairs_hook=tuple)))
    except (ValueError, RecursionError) as error:
        raise DataError("is not JSON", source=name, remedy="write the file again") from error


def _without_counts(name: str, text: str) -> Iterator[str]:
    """Return the lines of a text without the integers below a table's headings of seeds and counts."""
    heads: list[str] = []
    separator = {"csv": ",", "tsv": "\t"}.get(name.rpartition(".")[2], "|")
    for line in text.splitlines():
        try:
            cells = line.split("|") if separator == "|" else next(csv.reader([line], delimiter=separator), [])
        except csv.Error:  # a cell of more than 128 kB
            cells = [line]
        cells = [cell.strip(" *`") for cell in cells]
        if len(cells) < 2:
            heads = []
            yield line
            continue
        heads = heads or cells
        counted = [_COUNT.fullmatch(head) for head in heads]
        kept = [c for i, c in enumerate(cells) if not (c.isdecimal() and i < len(heads) and counted[i])]
        yield line if kept == cells else separator.join(kept)


def _texts_of_picture(name: str, raw: bytes) -> list[str]:
    try:
        with Image.open(BytesIO(raw), formats=("PNG",)) as picture:
            picture.load()
            exif = picture.getexif()
            notes = [*exif.values(), *(value for part in _EXIF for value in exif.get_ifd(part).values())]
        notes += _chunks(raw)
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise DataError("is damaged or not a picture", source=name, remedy="write the picture again") from error
    return [note if isinstance(note, str) else _decoded(note) for note in notes if isinstance(note, str | bytes)]


def _decoded(content: bytes) -> str:
    content = content.removeprefix(b"UNICODE\0")  # how a comment in Exif begins
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _texts_of_rows(name: str, path: Path) -> Iterator[str]:
    """Yield the texts of prepared rows; a key that is not a salted hash counts as a text."""
    with refusing(name), pa.memory_map(str(path)) as file:
        parts = pq.ParquetFile(file) if name.endswith(".parquet") else pa.ipc.open_stream(file)
        schema = parts.schema_arrow if isinstance(parts, pq.ParquetFile) else parts.schema
        for about in [schema.metadata, *(field.metadata for field in schema)]:
            yield from (_decoded(text) for entry in (about or {}).items() for text in entry)
        yield from schema.names
        columns = [column for column in schema.names if column not in _PACKED]
        for batch in parts.iter_batches(columns=columns) if isinstance(parts, pq.ParquetFile) else parts:
            for column in columns:
                values = _texts_of_column(batch.column(column))
                yield from (f"{column}: {one}" for one in values if not (column in KEYED and is_salted_hash(one)))


def _texts_of_column(values: pa.Array) -> Iterator[str]:
    """Yield the different texts of a column, however it is nested, and its numbers that may be a date."""
    kind = values.type
    if isinstance(values, pa.ExtensionArray | pa.DictionaryArray):
        inner = values.storage if isinstance(values, pa.ExtensionArray) else values.dictionary
        yield from _texts_of_column(inner)
    elif pa.types.is_map(kind):
        yield from _texts_of_column(values.keys)
        yield from _texts_of_column(values.items)
    elif pa.types.is_nested(kind):
        for part in values.flatten() if pa.types.is_struct(kind) else [values.flatten()]:
            yield from _texts_of_column(part)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        dated = pc.filter(values, pc.and_(pc.greater_equal(values, _FIRST_DATE), pc.less(values, _LAST_DATE)))
        yield from (f"{one:.0f}" for one in dated.unique().to_pylist())
    else:
        known = filter(None, values.unique().to_pylist())
        yield from (_decoded(one) if isinstance(one, bytes) else str(one) for one in known)


def _texts_of_onnx(name: str, path: Path) -> Iterator[str]:
    """Yield all texts of an ONNX model but the names of its operators' inputs and outputs.

    Raises:
        UsageError: The package onnx is not installed.
    """
    try:
        onnx = importlib.import_module("onnx")
    except ImportError as error:
        raise UsageError("onnx is needed to look through it", source=name, remedy=install("onnx")) from error
    with refusing(name):
        model = onnx.load(str(path), load_external_data=False)
    parts = [model, model.graph, *model.graph.node]
    for function in model.functions:
        parts += [function, *function.node]
    for part in parts:
        yield from filter(None, (getattr(part, "name", ""), part.doc_string))
        yield from (f"{entry.key}: {entry.value}" for entry in part.metadata_props)
    yield f"{model.producer_name} {model.domain}"


_OPENVINO_VERSION = re.compile(r"\d{4}\.\d\.\d-\d+-[0-9a-f]+(?:-releases/\d{4}/\d)?")  # looks like a date


def _texts_of_openvino(name: str, path: Path) -> Iterator[str]:
    """Yield all texts of a graph in OpenVINO's format but the places of its numbers and the version that wrote it."""
    with refusing(name):
        parts = list(ElementTree.parse(path).getroot().iter())
    for part in parts:
        yield from (
            f"{key}: {value}"
            for key, value in part.attrib.items()
            if key not in ("offset", "size") and not _OPENVINO_VERSION.fullmatch(value)
        )
        yield from filter(None, ((part.text or "").strip(), (part.tail or "").strip()))


_EXIF = (0x8769, 0x8825)  # parts of Exif: photograph, place
_PIXELS, _TEXTS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"}, {b"tEXt", b"zTXt", b"iTXt"}
_PACKED_TEXT = re.compile(rb"\0(?=[\x08\x18\x28\x38\x48\x58\x68\x78])")  # where zlib's data may begin
_LONGEST_TEXT = 1 << 20  # bytes that are unpacked; Pillow refuses a picture with more


def _chunks(raw: bytes) -> Iterator[bytes]:
    """Yield the content of a PNG's chunks that are no pixels, as it is and unpacked, and what follows its end."""
    at = 8
    while at + 12 <= len(raw):
        length, kind = struct.unpack(">I4s", raw[at : at + 8])
        content = raw[at + 8 : at + 8 + length]
        if kind not in _PIXELS:
            yield from content.split(b"\0") if kind in _TEXTS else [content]  # key, language and text
            for begin in _PACKED_TEXT.finditer(content):
                with contextlib.suppress(zlib.error):
                    yield zlib.decompressobj().decompress(content[begin.end() :], _LONGEST_TEXT)
        at += 12 + length
        if kind == b"IEND":
            break
    yield raw[at:]


def _digest(content: Content, wanted: Sequence[bytes]) -> tuple[str, bool]:
    """Return the SHA-256 of a file, and whether it holds one of some texts."""
    overlap = max(map(len, wanted), default=0)
    rest, digest, holds = b"", hashlib.sha256(), False
    with BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            holds = holds or any(one in rest + chunk for one in wanted)
            rest = chunk[-overlap:] if overlap else b""
    return digest.hexdigest(), holds


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
