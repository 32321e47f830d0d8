"""check_source finds each way to break the contract."""

from __future__ import annotations

import numpy as np
import pytest
from cbis_miniature import write_collection
from PIL import Image
from test_mini_mias import write as write_mias

from mammo_hf.data.datasets import cbis_ddsm, mini_mias
from mammo_hf.data.datasets.discovery import NAMES
from mammo_hf.data.loading import load
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


PLUGIN = """
from pathlib import Path

from mammo_hf.data import Collection
from mammo_hf.data.privacy import salted_hash
from mammo_hf.data.schema import task_list
from mammo_hf.errors import DataError

NAME, LOOKS_FOR, LICENCE, OFFICIAL_SPLIT, QUIRKS = "ours", "p1_L_benign.png", "ours alone", "none", ()
TASKS = {"pathology": ("benign", "malignant")}


def recognises(root):
    return any(Path(root).glob("p*_?_*.png"))


def load(root):
    rows = []
    for path in sorted(Path(root).glob("p*_?_*.png")):
        patient, side, label = path.stem.split("_")
        known = {"image_id": salted_hash(path.stem, NAME), "patient": salted_hash(patient, NAME), "exam": None}
        rows.append({**known, "path": str(path), "laterality": side, "view": None, "source": NAME, "split": "train"})
        rows[-1] |= {"pathology": label, "findings": []}
    if not rows:
        raise DataError("holds no film", source=root, remedy=LOOKS_FOR)
    return Collection.from_rows(rows, tasks=task_list(TASKS), salt_name=NAME)
"""


def test_a_package_of_its_own_is_found_checked_and_loaded(tmp_path, monkeypatch):
    package, films = tmp_path / "site" / "strangers_package", tmp_path / "films"
    about = tmp_path / "site" / "strangers_package-0.1.dist-info"
    for folder in (package, films, about):
        folder.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "source.py").write_text(PLUGIN)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: our-package\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("[mammo_hf.sources]\nours = strangers_package.source\n")
    for number, label in enumerate(("benign", "malignant")):
        Image.fromarray(np.full((20, 10), number, np.uint8)).save(films / f"p{number}_L_{label}.png")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert check_source("ours", films).column("pathology") == ["benign", "malignant"]
    assert load(films)[0]["source"] == "ours"


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
        ({"LICENCE": ""}, "LICENCE is empty"),
        ({"QUIRKS": "one"}, "QUIRKS is a list"),
        ({"TASKS": {"pathology": ("malignant", "benign")}}, "labels of the common task pathology"),
        ({"TASKS": {"mine": ("one",)}}, "task mine needs two labels"),
        ({"TASKS": {"cancer": ("no", "yes")}}, "the table's tasks are not TASKS"),
        ({"recognises": lambda root: False}, "recognises says False of its own"),
        ({"recognises": lambda root: True}, "takes an empty folder"),
        ({"load": lambda root: [] if (root / "Info.txt").exists() else mini_mias.load(root)}, "returns a Collection"),
        ({"load": with_rows(lambda row, root: row | {"source": "other"})}, "the column source is not NAME"),
        ({"load": with_rows(lambda row, root: row | {"path": row["path"] + "x"})}, "a file that is not there"),
        ({"load": with_rows(far_finding)}, "does not touch its image"),
        ({"load": with_rows(fresh)}, "a second reading gave other rows"),
        (
            {"load": with_rows(lambda row, root: row | {"patient": f"{abs(hash(str(root))):016x}"[:16]})},
            "patient depends on the path of the folder",
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
