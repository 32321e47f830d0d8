"""Damaged prepared folders: refused in one sentence with a fix, and the fix works."""

import json
import shutil

import pyarrow as pa
import pytest

from mammo_hf.data.prepare.folder import open_prepared, prepared_processor, prepared_table
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.data.prepared_row import SCHEMA
from mammo_hf.errors import MammoError

FILES = (
    "data/*",
    "shards/*",
    "layout.json",
    "prepared.json",
    "preprocessor_config.json",
    "state.json",
    "dataset_info.json",
)


@pytest.fixture(scope="module")
def whole(collection, tmp_path_factory):
    from mammo_hf import MammoImageProcessor

    root = tmp_path_factory.mktemp("whole")
    for form in ("arrow", "parquet"):
        prepare_images(collection, MammoImageProcessor(size=(64, 32)), root / form, format=form, shard_size=5)
    return root


def shortened(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def other(path):
    path.write_bytes(b"\xff\xfe{}[]" * 40)


def flipped(path):
    content = bytearray(path.read_bytes())
    for place in range(0, min(len(content), 400), 3):
        content[place] ^= 0x5A
    path.write_bytes(content)


def other_kind(path):
    path.write_text(json.dumps([1, {"a": None}]))


def removed(path):
    path.unlink()


def opened(folder):
    prepared_processor(folder)
    table = prepared_table(folder)
    rows = open_prepared(folder)
    return len(table), [row["image_id"] for row in rows]


def refused(folder, sound):
    try:
        assert opened(folder) == sound
    except MammoError as error:
        return str(error)
    return None


@pytest.mark.parametrize("form", ["arrow", "parquet"])
@pytest.mark.parametrize("damage", [shortened, emptied, other, flipped, other_kind, removed])
def test_what_is_damaged_is_refused_or_unneeded_and_prepared_again(
    whole, collection, small, tmp_path, content, form, damage, monkeypatch
):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    expected, sound = content(whole / form), opened(whole / form)
    for number, pattern in enumerate(FILES):
        folder = tmp_path / str(number)
        shutil.copytree(whole / form, folder)
        path = min(folder.glob(pattern), default=None)
        if path is None:
            continue  # parquet has no state.json
        damage(path)
        refusal = refused(folder, sound)
        unneeded = path.parent.name == "shards" or path.name in ("layout.json", "dataset_info.json")
        assert refusal is not None or unneeded, path
        assert refusal is None or ("mammo-hf prepare" in refusal and str(folder) in refusal), path
        prepare_images(collection, small, folder, format=form, shard_size=5)
        assert content(folder) == expected, path
        assert opened(folder) == sound


@pytest.mark.parametrize("labels", [None, [[1]], {"a": 1}, ["benign"], "x", 5])
def test_labels_that_are_not_those_of_the_rows_are_damage(whole, tmp_path, labels):
    folder = shutil.copytree(whole / "arrow", tmp_path / "copy")
    about = json.loads((folder / "prepared.json").read_text())
    about["tasks"][0]["labels"] = labels
    (folder / "prepared.json").write_text(json.dumps(about))
    with pytest.raises(MammoError, match=r"is damaged: .* run mammo-hf prepare again"):
        prepared_table(folder)


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_a_folder_that_lacks_a_column_of_today_is_to_be_prepared_again(whole, monkeypatch, form):
    monkeypatch.setattr("mammo_hf.data.prepare.folder.SCHEMA", SCHEMA.append(pa.field("later", pa.int64())))
    with pytest.raises(MammoError, match=f"{form}: was prepared by an earlier version.*'later'; prepare the coll"):
        open_prepared(whole / form)
