"""Synonyms of columns and values in English, German, French, Spanish and Portuguese, read from ``synonyms.toml``."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from ...dicom import Laterality, View, ViewModifier


@cache
def synonyms() -> dict[str, dict[str, str]]:
    """Return the synonyms: for ``columns``, ``tasks``, ``label`` and each list of words, plain name to ours."""
    with (Path(__file__).parent / "synonyms.toml").open("rb") as file:
        content = tomllib.load(file)
    return {
        kind: {word: ours for ours, names in reversed(lists.items()) for word in names.split()}
        for kind, lists in (content | content.pop("words")).items()
        if kind != "words"
    }


@lru_cache(maxsize=1 << 16)
def plain(text: str) -> str:
    """Return a name in lower case, letters and digits only, without accents: "Pat.-Nr." becomes "patnr"."""
    bare = unicodedata.normalize("NFKD", text.replace("ß", "ss")).lower()
    return "".join(sign for sign in bare if sign.isalnum())


def heading(name: str) -> str:
    """Return the plain name of a column without brackets and "number of": "N° de dossier [PID]" becomes "dossier"."""
    return plain(re.sub(r"\(.*?\)|\[.*?\]|^\s*n\s*[°º](\s*d[eou]s?\b)?", "", name, flags=re.IGNORECASE)) or plain(name)


@lru_cache(maxsize=1 << 10)
def is_null(word: str) -> bool:
    """Return whether a value is what programs write for none: empty, "-", "NA", "n/a", "NULL", "#N/A" and the like."""
    name = plain(word)
    kind = synonyms()["unknown"].get(name)
    return "+" not in word if not name else kind == "null" or (kind == "excel" and word.startswith("#"))


def is_unknown(word: str) -> bool:
    """Return whether a value says that nothing is known: null, or a word such as "unknown" or "unbekannt"."""
    return is_null(word) or synonyms()["unknown"].get(plain(word)) == "word"


def names_nobody(word: str) -> bool:
    """Return whether a patient or exam of that name is not known; two letters may be somebody's initials."""
    return is_null(word) or (len(plain(word)) > 2 and is_unknown(word))


def our_word(kind: str, word: str) -> str | None:
    """Return our word for a value of ``laterality``, ``view`` or ``split``; ``None`` if no language knows it."""
    header: Any = {"laterality": Laterality, "view": View}.get(kind)
    return synonyms()[kind].get(plain(word)) or (header and header.from_dicom(word).value) or None


def view_word(word: str) -> str | None:
    """Return our word for a view of a table, or the modifier that some tables have in its place, such as "AT"."""
    return our_word("view", word) or (word.upper() if ViewModifier.from_dicom(word).value else None)


def names_a_column(cell: str) -> bool:
    """Return whether a cell is the name of a column, and not also one of the words that columns hold."""
    known, name = synonyms(), heading(cell)
    words = ("laterality", "view", "split", "pathology", "cancer", "abnormality", "unknown", "normal")
    return any(name in known[kind] for kind in ("columns", "tasks", "label")) and not any(
        name in known[kind] for kind in words
    )
