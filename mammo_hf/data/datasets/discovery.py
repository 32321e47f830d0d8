"""Sources found through the entry-point group ``mammo_hf.sources``, and those that our own mappings make."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol

from ...errors import UsageError
from ..collection import Collection
from .mapped import MAPPINGS, MappedSource

GROUP = "mammo_hf.sources"


class Source(Protocol):
    """A source: a module, or any object, with these names. ``load`` may take options of its own after ``root``.

    Attributes:
        NAME: What `load` calls it by.
        LOOKS_FOR: What must be in the folder, for messages.
        LICENCE: Under which terms the collection is given, and what to cite.
        TASKS: From each task to its labels, least grave first.
        OFFICIAL_SPLIT: What the collection itself says of training and test.
        QUIRKS: What is unusual in it, and what the source makes of it.
    """

    NAME: str
    LOOKS_FOR: str
    LICENCE: str
    TASKS: Mapping[str, Sequence[str]]
    OFFICIAL_SPLIT: str
    QUIRKS: Sequence[str]

    def recognises(self, root: Path) -> bool:
        """Whether a folder holds this collection."""
        ...

    def load(self, root: Path) -> Collection:
        """The collection as a table."""
        ...


NAMES = ("NAME", "LOOKS_FOR", "LICENCE", "TASKS", "OFFICIAL_SPLIT", "QUIRKS", "recognises", "load")


def source_names() -> list[str]:
    """The names of all sources; none of them is imported."""
    return sorted({*_entries(), *_mappings()})


def find_source(name: str) -> Any:
    """The source of a name, an underscore as good as a hyphen.

    Raises:
        UsageError: There is none (the nearest name is told), or its package is broken.
    """
    plain = name.strip().lower().replace("_", "-")
    entries = _entries()
    if plain in entries:
        return _load(entries[plain])
    if plain in _mappings():
        return _mapped(plain)
    known = source_names()
    near = difflib.get_close_matches(plain, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError("is no known source", source=name, remedy=f"{hint}known are {', '.join(known)}")


def all_sources() -> list[Any]:
    """All sources that can be used, our own modules first, so that a stranger's cannot take a collection from them."""
    entries = _entries().values()
    ours_first = sorted(entries, key=lambda entry: (not entry.value.startswith("mammo_hf."), entry.name))
    found = []
    for entry in ours_first:
        try:
            found.append(_load(entry))
        except UsageError:
            continue  # a stranger's broken package must not take the others down; asked for by name it says why
    return [*found, *(_mapped(name) for name in _mappings())]


def _entries() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name not in found or entry.value.startswith("mammo_hf."):
            found[entry.name] = entry
    return found


def _load(entry: EntryPoint) -> Any:
    try:
        source = entry.load()
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"this source cannot be used: {type(error).__name__}: {error}",
            source=entry.name,
            remedy="mend or remove its package",
        ) from error
    lacking = [name for name in NAMES if not hasattr(source, name)]
    if lacking:
        raise UsageError(
            f"this source has no {', '.join(lacking)}", source=entry.name, remedy="mend or remove its package"
        )
    return source


@cache
def _mappings() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in MAPPINGS.glob("*.toml")))


@cache
def _mapped(name: str) -> MappedSource:
    return MappedSource.from_toml(MAPPINGS / f"{name}.toml")
