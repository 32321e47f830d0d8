"""csv: any collection with a table of its own, by a mapping of its columns; ready mappings are sources by name."""

from __future__ import annotations

from pathlib import Path

from ...errors import UsageError
from ..collection import Collection
from .mapped import MAPPINGS, MappedSource

NAME = "csv"
LOOKS_FOR = 'a mapping of its columns: load("csv", root, mapping="my.toml")'
LICENCE = "the collection's own; the mapping states it"
TASKS: dict[str, tuple[str, ...]] = {}
OFFICIAL_SPLIT = "what the mapping's columns.split says"
QUIRKS = ("Tables may have a byte order mark, be Latin-1, or be separated by commas, semicolons or tabs.",)


def recognises(root: Path) -> bool:
    """Never: a table says nothing without its mapping."""
    return False


def load(root: Path, mapping: str | Path | None = None, max_missing: float = 0.5) -> Collection:
    """Reads a collection by a mapping.

    Args:
        root: The folder that holds tables and images.
        mapping: The mapping's file, or the name of one of ours.
        max_missing: Share of the tables' files that may be missing.

    Raises:
        UsageError: There is no mapping.
        DataError: What `mammo_hf.data.datasets.mapped.MappedSource.load` raises.
    """
    if mapping is None:
        raise UsageError("needs a mapping", source=NAME, remedy=LOOKS_FOR)
    ours = MAPPINGS / f"{mapping}.toml"
    return MappedSource.from_toml(ours if ours.is_file() else mapping).load(root, max_missing=max_missing)
