from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo_hf.errors import DataError, UsageError
from mammo_hf.files import START, plain_cell, read_record, safe_cell, sniff, walk, whole_file, write_record, write_whole


def test_there_and_back(tmp_path):
    write_record({"b": 1, "a": [2]}, tmp_path / "r.json")
    assert read_record(tmp_path / "r.json") == {"b": 1, "a": [2]}


def test_a_full_disk_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
    write_record({"a": 1}, tmp_path / "r.json")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match=r"r\.json: the disk is full"):
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


def test_a_whole_file_obeys_the_umask_and_keeps_the_suffix(tmp_path):
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "map.npz") as part:
            assert part.suffix == ".npz"
            part.write_bytes(b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "map.npz").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["map.npz"]


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    write_whole(tmp_path / "a.txt", "alt: ä")
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.txt") as part:
        part.with_name("none").rename(part)
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["alt: ä"]


def test_a_folder_that_is_not_there_or_is_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    for folder in ("none", "file"):
        with pytest.raises(UsageError, match=rf"{folder}.a\.txt: cannot be written"):
            write_whole(tmp_path / folder / "a.txt", "")


def test_walk_reports_a_folder_that_cannot_be_listed(tmp_path):
    problems = []
    assert list(walk(tmp_path / "none", lambda *problem: problems.append(problem))) == []
    assert problems == [(str(tmp_path / "none"), "cannot be listed (No such file or directory)")]


@given(st.text("'=+-@＝\t1.ae\r\n", max_size=8))
def test_a_cell_is_safe_and_comes_back(text):
    cell = safe_cell(text)
    assert plain_cell(cell) == text
    if cell[:1] in "=+-@＝\t\r\n" and cell:
        float(cell)  # a number, and nothing else, keeps its sign


def test_numbers_are_not_prefixed():
    assert [safe_cell(value) for value in (-1.5, "-1.5", "+3", "-inf", None)] == [-1.5, "-1.5", "+3", "-inf", None]


def test_weights_are_as_readable_as_the_user_wants(tmp_path):
    from mammo_hf.testing import tiny_classifier

    before = os.umask(0o027)
    try:
        tiny_classifier().save_pretrained(tmp_path / "swin")
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "swin").iterdir()} == {"0o640"}


BEGINNINGS = {
    **dict.fromkeys((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"P5 ", b"P2\n"), "picture"),
    **{b"\x02\0": "dicom", b"\x08\0": "dicom", b"GIF8": "", b"%PDF": ""},
}


@given(st.sampled_from(sorted(BEGINNINGS)), st.binary(min_size=START, max_size=START))
def test_the_letters_after_the_preamble_decide_before_the_beginning(beginning, rest):
    start = (beginning + rest)[: START - 4]
    assert sniff(start + b"DICM") == sniff(start + b"DICM" + rest) == "dicom"
    assert sniff(start + b"DIC-") == sniff(start) == BEGINNINGS[beginning]
