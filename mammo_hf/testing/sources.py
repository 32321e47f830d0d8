"""The conformance kit for authors of a source, which runs on a small collection of the source's own layout."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.collection import Collection
from ..data.datasets.contents import read_shape
from ..data.datasets.discovery import NAMES, find_source
from ..data.findings import finding_mask
from ..data.leaks import assert_no_leak
from ..data.schema import TASKS as COMMON
from ..data.schema import Row, validate
from ..errors import MammoError

_OPENED = 20  # images whose files are opened


def check_source(source: Any, root: str | Path, *, recognised: bool = True, **options: Any) -> Collection:
    """Check that a source keeps the contract of ``mammo_hf.data.datasets.discovery.Source``.

    Its statements are complete; it recognises its own folder and not an empty one; its rows keep the schema, each
    patient is in one split, files exist and findings touch their image; a second reading gives the same rows, and one
    from another path the same hashes; nothing is written into the collection.

    Args:
        source: Name of an installed source, or a module or object with the names of ``Source``.
        root: Folder of a small collection for it, with a finding if the source has them.
        recognised: Whether the source must be recognised by the files alone.
        **options: Arguments of the source's ``load``.

    Returns:
        The collection, for further checks.

    Raises:
        AssertionError: It breaks the contract; the text says which part.
        UsageError: No source of that name is installed.
    """
    plugin = find_source(source) if isinstance(source, str) else source
    root = Path(root)
    _check_statements(plugin)
    before = _files(root)
    _check_recognition(plugin, root, recognised, options)
    table = plugin.load(root, **options)
    assert isinstance(table, Collection), "load returns a Collection"
    rows = list(table)
    assert rows, "the collection gave no row"
    _check_rows(plugin, table, rows)
    assert list(plugin.load(root, **options)) == rows, "a second reading gave other rows"
    _check_another_place(plugin, root, options, rows)
    assert _files(root) == before, "reading changed the collection's files"
    assert len(pickle.loads(pickle.dumps(table))) == len(rows), "the table cannot be sent to worker processes"
    return table


def _check_statements(plugin: Any) -> None:
    lacking = [name for name in NAMES if not hasattr(plugin, name)]
    assert not lacking, f"it lacks {', '.join(lacking)}"
    plain = plugin.NAME.strip().lower().replace("_", "-").replace(" ", "-")
    assert plain == plugin.NAME, "NAME is lower-case-with-hyphens"
    for name in ("LOOKS_FOR", "LICENCE", "OFFICIAL_SPLIT"):
        text = getattr(plugin, name)
        assert text, f"{name} is empty"
        assert isinstance(text, str), f"{name} is not a text"
    assert not isinstance(plugin.QUIRKS, str), "QUIRKS is a list of sentences"
    for task, labels in plugin.TASKS.items():
        assert len(set(labels)) > 1, f"task {task} needs two labels or more"
        assert len(set(labels)) == len(labels), f"task {task} has a label twice"
        if task in COMMON:
            wanted = [label for label in COMMON[task] if label in labels]
            assert list(labels) == wanted, f"labels of the common task {task} are a part of {', '.join(COMMON[task])}"


def _check_recognition(plugin: Any, root: Path, recognised: bool, options: dict[str, Any]) -> None:
    assert plugin.recognises(root) is recognised, f"recognises says {not recognised} of its own collection"
    with tempfile.TemporaryDirectory() as empty:
        assert plugin.recognises(Path(empty)) is False, "recognises takes an empty folder for its collection"
        try:
            plugin.load(Path(empty), **options)
        except MammoError:
            return
    raise AssertionError("an empty folder must raise a MammoError that says what is missing")


def _check_rows(plugin: Any, table: Collection, rows: Sequence[Row]) -> None:
    stated = {task: list(labels) for task, labels in plugin.TASKS.items()}
    if stated:
        assert {task["name"]: task["labels"] for task in table.tasks} == stated, "the table's tasks are not TASKS"
    validate(rows, table.tasks)
    sources = {row["source"] for row in rows}
    assert len(sources) == 1, "a table has one source"
    assert not stated or sources == {plugin.NAME}, "the column source is not NAME"
    assert_no_leak(table)
    for row in rows:
        assert os.path.isfile(row["path"]), "a row names a file that is not there; such a row belongs in rejected"
    for row in rows[:_OPENED]:
        size = read_shape(row["path"])[0]
        for entry in row["findings"]:
            mask = finding_mask(entry, size)
            assert mask is None or mask.any(), "a finding does not touch its image: (row, column), from the top left"


def _check_another_place(plugin: Any, root: Path, options: dict[str, Any], rows: Sequence[Row]) -> None:
    with tempfile.TemporaryDirectory() as elsewhere:
        link = Path(elsewhere) / "collection"
        link.symlink_to(root.resolve(), target_is_directory=True)
        moved = list(plugin.load(link, **options))
    for name in ("image_id", "patient", "exam"):
        assert [row[name] for row in moved] == [row[name] for row in rows], f"{name} depends on the path of the folder"


def _files(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(root.rglob("*"))}
