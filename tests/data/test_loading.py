from __future__ import annotations

from pathlib import Path

import pytest
from cbis_miniature import COLLECTION, TABLES, write_collection, write_tables

from mammo_hf.data.datasets.discovery import find_source, source_names
from mammo_hf.data.loading import load
from mammo_hf.errors import DataError, UsageError


def test_by_name_and_by_the_folders_files(tmp_path):
    root = write_collection(tmp_path, COLLECTION[:2])
    rows = list(load("cbis-ddsm", root))
    assert len(rows) == 2
    assert list(load(root)) == list(load(str(root))) == list(load("CBIS_DDSM", root=str(root))) == rows


def test_options_go_to_the_source(tmp_path):
    root = write_collection(tmp_path / "root", COLLECTION[:2])
    with pytest.raises(UsageError, match=r"list\.txt: no such file"):
        load(root, dicom_path=tmp_path / "list.txt")
    with pytest.raises(
        UsageError,
        match=r"dicom_paths: is not an option of cbis-ddsm; did you mean dicom_path\? its options: dicom_path",
    ):
        load(root, dicom_paths="list.txt")


def test_a_folder_that_nobody_recognises_says_what_each_source_looks_for(tmp_path):
    with pytest.raises(DataError, match="holds no known collection") as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert all(name in str(caught.value) for name in TABLES.values())


def test_a_named_source_without_its_tables(tmp_path):
    with pytest.raises(DataError, match="holds none of CBIS-DDSM's tables"):
        load("cbis-ddsm", tmp_path)


def test_wrong_names_and_folders(tmp_path):
    write_tables(tmp_path)
    with pytest.raises(UsageError, match="dsm: is not a known source; did you mean ddsm"):
        load("dsm", tmp_path)
    with pytest.raises(UsageError, match="absent: no such folder"):
        load(tmp_path / "absent")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UsageError, match="is neither a folder nor a table that is read"):
        load(tmp_path / "a.txt")
    with pytest.raises(UsageError, match="needs the collection's folder too"):
        load("cbis-ddsm")


@pytest.mark.parametrize("name", source_names())
def test_every_source_states_what_it_is(name):
    module = find_source(name)
    assert name == module.NAME
    assert module.LOOKS_FOR
    assert module.LICENCE
    assert module.OFFICIAL_SPLIT
    assert module.QUIRKS
    assert module.TASKS or name == "csv"


def test_name_and_folder_in_one_text_and_a_mapping_beside_its_table(tmp_path):
    rows = list(load(write_collection(tmp_path / "cbis", COLLECTION[:2])))
    assert list(load(f"cbis-ddsm:{tmp_path / 'cbis'}")) == rows
    with pytest.raises(UsageError, match="absent: no such folder"):
        load(f"cbis-ddsm:{tmp_path / 'absent'}")
    film = Path(rows[0]["path"])
    (film.parent / "ours.toml").write_text(
        """
        name = "ours"
        licence = "ours alone"
        images = { table = "ours.csv", path = "{file}" }
        columns = { patient = "{pid}" }
        tasks.density = { from = "{d}" }
        """
    )
    (film.parent / "ours.csv").write_text(f"file,pid,d\n{film.name},Doe,B\n")
    table = load(film.parent / "ours.toml")
    assert (table[0]["path"], table[0]["density"]) == (str(film), "b")


def test_a_source_or_a_mapping_that_is_not_there_is_named_as_such(tmp_path):
    with pytest.raises(UsageError, match=r"folders: is not a known source; did you mean folder\?"):
        load(f"folders:{tmp_path}")
    with pytest.raises(UsageError, match=r"mine\.toml: cannot be read; a mapping is a TOML file"):
        load(tmp_path / "mine.toml")
    (tmp_path / "odd:name").mkdir()
    with pytest.raises(DataError, match="holds no known collection"):
        load(tmp_path / "odd:name")


def test_a_store_that_no_client_reaches_is_an_error_of_ours():
    with pytest.raises(UsageError, match="nowhere://bucket/folder: cannot be reached"):
        load("nowhere://bucket/folder")
