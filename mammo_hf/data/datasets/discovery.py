"""Sources of collections: the entry points of the group ``mammo_hf.sources``, and our ready mappings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from ...plugins import PluginError, find_plugin, offered, pass_over, plugin_errors, plugins
from ..collection import Collection
from .csv_source import MAPPINGS, MappedSource

GROUP = "mammo_hf.sources"
NAMES = ("NAME", "LOOKS_FOR", "LICENCE", "TASKS", "OFFICIAL_SPLIT", "QUIRKS", "recognises", "load")


class Source(Protocol):
    """Source: a module, or any object, with these names. ``load`` may take options of its own after ``root``.

    Attributes:
        NAME: Name by which `load` calls it.
        LOOKS_FOR: What must be in the folder, for messages.
        LICENCE: Terms of the collection's images, and what to cite. A module may also state ``TERMS``: whether weights
            that were trained on them may be published, the clause that says so and where it was read, commercial use
            and what to cite, as `mammo_hf.data.terms.Terms` names them. Without it they count as "ask".
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
    return sorted({*offered(GROUP), *_mappings()})


def find_source(name: str) -> Any:
    """Return the source of a name; underscores count as hyphens.

    Raises:
        UsageError: There is none (the message gives the nearest name), or its package is broken.
    """
    plain = name.strip().lower().replace("_", "-")
    if plain in _mappings() and plain not in offered(GROUP):
        return _mapped(plain)
    return find_plugin(GROUP, plain, NAMES, kind="source", others=_mappings())


def all_sources() -> list[Any]:
    """Return all usable sources, our own modules first, so that no other package can take a collection from them.

    A broken package is named in a warning and does not stop the others.
    """
    found = plugins(GROUP, NAMES)
    for name, plugin in found.items():
        if plugin.reason is not None:
            pass_over(f"the source {name}: {plugin.reason}")
    usable = [plugin.object for plugin in found.values() if plugin.reason is None]
    return [*usable, *map(_mapped, _mappings())]


def sources_of(folder: Path) -> list[Any]:
    """Return the sources that recognise a folder; one that fails at it is named in a warning and passed over."""
    fitting = []
    for source in all_sources():
        try:
            with plugin_errors("source", source.NAME):
                fitting += [source] * bool(source.recognises(folder))
        except PluginError as error:
            pass_over(str(error))
    return fitting


def looked_for() -> str:
    """Return what each source looks for in a folder, for messages."""
    return "; ".join(f"{source.NAME} needs {source.LOOKS_FOR}" for source in all_sources())


@cache
def _mappings() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in MAPPINGS.glob("*.toml")))


@cache
def _mapped(name: str) -> MappedSource:
    return MappedSource.from_toml(MAPPINGS / f"{name}.toml")
