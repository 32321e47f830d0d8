from __future__ import annotations

import os

import pytest

from mammo_hf.errors import DataError
from mammo_hf.files import read_record, write_record


def test_there_and_back(tmp_path):
    write_record({"b": 1, "a": [2]}, tmp_path / "r.json")
    assert read_record(tmp_path / "r.json") == {"b": 1, "a": [2]}


def test_a_full_disk_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
    write_record({"a": 1}, tmp_path / "r.json")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match=r"r\.json: cannot be written \(No space left on device\)"):
        write_record({"a": 2}, tmp_path / "r.json")
    assert read_record(tmp_path / "r.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_what_is_no_object_is_empty(tmp_path):
    (tmp_path / "r.json").write_text("[1]")
    assert read_record(tmp_path / "r.json") == {}
    (tmp_path / "r.json").write_text("{")
    assert read_record(tmp_path / "r.json") == {}
    with pytest.raises(DataError, match="cannot be read"):
        read_record(tmp_path / "none.json")
