"""check_source finds each way to break the contract."""

from __future__ import annotations

import pytest
from cbis_miniature import write_collection
from test_mini_mias import write as write_mias

from mammo_hf.data.sources import cbis_ddsm, mini_mias
from mammo_hf.data.sources.discovery import NAMES
from mammo_hf.errors import DataError
from mammo_hf.testing import check_source


class Variant:
    """A source that differs from mini-MIAS in what is given."""

    def __init__(self, **changes):
        for name in NAMES:
            setattr(self, name, changes.get(name, getattr(mini_mias, name)))


def with_rows(change):
    """A `load` whose rows are changed."""

    def load(root):
        table = mini_mias.load(root)
        rows = [change(dict(row), root) for row in table]
        return type(table).from_rows(rows, tasks=table.tasks, salt_name=table.salt_name)

    return load


@pytest.fixture
def root(tmp_path):
    return write_mias(tmp_path / "mias")


def test_ours_pass(root, tmp_path):
    check_source("mini-mias", root)
    check_source(cbis_ddsm, write_collection(tmp_path / "cbis"))


def test_a_variant_that_changes_nothing_passes(root):
    check_source(Variant(load=with_rows(lambda row, root: row)), root)


def far_finding(row, root):
    for entry in row["findings"]:
        entry["circle"] = [5000, 5000, 3]
    return row


def fresh(row, root):
    fresh.count += 1
    return row | {"view": f"V{fresh.count}"}


fresh.count = 0


def leaves_a_cache(root):
    (root / "cache").touch()
    return mini_mias.load(root)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"NAME": "Mini MIAS"}, "lower-case-with-hyphens"),
        ({"LICENCE": ""}, "LICENCE says nothing"),
        ({"QUIRKS": "one"}, "QUIRKS is a list"),
        ({"TASKS": {"pathology": ("malignant", "benign")}}, "labels of the common task pathology"),
        ({"TASKS": {"mine": ("one",)}}, "task mine needs two labels"),
        ({"TASKS": {"cancer": ("no", "yes")}}, "the table's tasks are not TASKS"),
        ({"recognises": lambda root: False}, "recognises says False of its own"),
        ({"recognises": lambda root: True}, "takes an empty folder"),
        ({"load": lambda root: [] if (root / "Info.txt").exists() else mini_mias.load(root)}, "returns a MammoTable"),
        ({"load": with_rows(lambda row, root: row | {"source": "other"})}, "the column source is not NAME"),
        ({"load": with_rows(lambda row, root: row | {"path": row["path"] + "x"})}, "a file that is not there"),
        ({"load": with_rows(far_finding)}, "does not touch its image"),
        ({"load": with_rows(fresh)}, "a second reading gave other rows"),
        (
            {"load": with_rows(lambda row, root: row | {"patient": f"{abs(hash(str(root))):016x}"[:16]})},
            "patient depends on where the folder lies",
        ),
        ({"load": leaves_a_cache}, "reading changed the collection's files"),
    ],
)
def test_what_breaks_the_contract_is_named(root, changes, problem):
    with pytest.raises(AssertionError, match=problem):
        check_source(Variant(**changes), root)


def test_an_empty_folder_must_be_an_error_of_ours(root, tmp_path):
    with pytest.raises(AssertionError, match="must raise a MammoError"):
        check_source(Variant(load=lambda given: mini_mias.load(root)), root)
    with pytest.raises(DataError, match="holds no"):
        check_source("folder", tmp_path / "mias" / "none", recognised=False)
