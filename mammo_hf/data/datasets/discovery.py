"""Sources of collections: the entry points of the group ``mammo_hf.sources``, and our ready mappings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from ...plugins import PluginError, find_plugin, offered, pass_over, plugin_errors, plugins
from ..collection import Collection
from ..terms import terms_of_source
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

    A module may also say in ``LOCATIONS`` what it reads of the locations of findings, such as "boxes". Its docstring
    says what the collection holds.
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


def describe(source: Source) -> str:
    """Return what a source's file says of its collection, as a section in Markdown.

    Args:
        source: Source as `find_source` returns it.
    """
    terms = terms_of_source(source.NAME, source.LICENCE, getattr(source, "TERMS", None))
    clause = f', by "{terms.clause}" ({terms.read_at})' if terms.clause else ""
    facts = {
        "recognised by": source.LOOKS_FOR,
        "labels": "; ".join(f"{task}: {', '.join(labels)}" for task, labels in source.TASKS.items()) or "none",
        "locations of findings": getattr(source, "LOCATIONS", "none"),
        "split": source.OFFICIAL_SPLIT,
        "images": terms.images,
        "derived weights may be published": terms.weights + clause,
        "commercial use": terms.commercial or "the terms do not say, or were not read",
        "cite": terms.citation or "see the terms of the images",
    }
    lines = [f"## {source.NAME}", "", inspect.cleandoc(source.__doc__ or ""), "", "| | |", "|---|---|"]
    lines += [f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in facts.items()]
    return "\n".join([*lines, "", *(f"- {quirk}" for quirk in source.QUIRKS)]) + "\n"


@cache
def _mappings() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in MAPPINGS.glob("*.toml")))


@cache
def _mapped(name: str) -> MappedSource:
    return MappedSource.from_toml(MAPPINGS / f"{name}.toml")
