"""Synonyms of columns and values in English, German, French, Spanish and Portuguese, read from ``synonyms.toml``."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache, lru_cache
from pathlib import Path


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
    """Return the plain name of a column without what is in brackets: "Alter [Jahre]" becomes "alter"."""
    return plain(re.sub(r"\(.*?\)|\[.*?\]", "", name)) or plain(name)


def is_null(word: str) -> bool:
    """Return whether a value is what programs write for none: empty, "-", "NA", "n/a", "NULL", "#N/A" and the like."""
    name = plain(word)
    kind = synonyms()["unknown"].get(name)
    return "+" not in word if not name else kind == "null" or (kind == "excel" and word.startswith("#"))


def is_unknown(word: str) -> bool:
    """Return whether a value says that nothing is known: null, or a word such as "unknown" or "unbekannt"."""
    return is_null(word) or synonyms()["unknown"].get(plain(word)) == "word"


def our_word(kind: str, word: str) -> str | None:
    """Return our word for a value of ``laterality``, ``view`` or ``split``; ``None`` if no language knows it."""
    return synonyms()[kind].get(plain(word))
