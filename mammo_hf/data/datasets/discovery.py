"""Sources of collections: the entry points of the group ``mammo_hf.sources``, and our ready mappings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol

from ...errors import UsageError, did_you_mean
from ..collection import Collection
from .csv_source import MAPPINGS, MappedSource

GROUP = "mammo_hf.sources"
NAMES = ("NAME", "LOOKS_FOR", "LICENCE", "TASKS", "OFFICIAL_SPLIT", "QUIRKS", "recognises", "load")
_REMEDY = "fix or remove its package"


class Source(Protocol):
    """Source: a module, or any object, with these names. ``load`` may take options of its own after ``root``.

    Attributes:
        NAME: Name by which `load` calls it.
        LOOKS_FOR: What must be in the folder, for messages.
        LICENCE: Terms of the collection, and what to cite.
        TASKS: From each task to its labels, least severe first.
        OFFICIAL_SPLIT: What the collection itself says about training and test.
        QUIRKS: Peculiarities of the collection, and what the source makes of them.
    """

    NAME: str
    LOOKS_FOR: str
    LICENCE: str
    TASKS: Mapping[str, Sequence[str]]
    OFFICIAL_SPLIT: str
    QUIRKS: Sequence[str]

    def recognises(self, root: Path) -> bool:
        """Return whether a folder holds this collection."""
        ...

    def load(self, root: Path) -> Collection:
        """Read the collection."""
        ...


def source_names() -> list[str]:
    """Return the names of all sources; none of them is imported."""
    return sorted({*_entries(), *_mappings()})


def find_source(name: str) -> Any:
    """Return the source of a name; underscores count as hyphens.

    Raises:
        UsageError: There is none (the message gives the nearest name), or its package is broken.
    """
    plain = name.strip().lower().replace("_", "-")
    entries = _entries()
    if plain in entries:
        return _load(entries[plain])
    if plain in _mappings():
        return _mapped(plain)
    known = source_names()
    raise UsageError(
        "is not a known source", source=name, remedy=f"{did_you_mean(plain, known)}known: {', '.join(known)}"
    )


def all_sources() -> list[Any]:
    """Return all usable sources, our own modules first, so that no other package can take a collection from them."""
    found = []
    for entry in sorted(_entries().values(), key=lambda entry: (not _is_ours(entry), entry.name)):
        try:
            found.append(_load(entry))
        except UsageError:
            continue  # a broken package must not stop the others; asked for by name it gives the reason
    return [*found, *map(_mapped, _mappings())]


def _entries() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name not in found or _is_ours(entry):
            found[entry.name] = entry
    return found


def _is_ours(entry: EntryPoint) -> bool:
    return entry.value.startswith("mammo_hf.")


def _load(entry: EntryPoint) -> Any:
    try:
        source = entry.load()
    except (Exception, SystemExit) as error:
        problem = f"this source cannot be used: {type(error).__name__}: {error}"
        raise UsageError(problem, source=entry.name, remedy=_REMEDY) from error
    lacking = [name for name in NAMES if not hasattr(source, name)]
    if lacking:
        raise UsageError(f"this source has no {', '.join(lacking)}", source=entry.name, remedy=_REMEDY)
    return source


@cache
def _mappings() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in MAPPINGS.glob("*.toml")))


@cache
def _mapped(name: str) -> MappedSource:
    return MappedSource.from_toml(MAPPINGS / f"{name}.toml")
