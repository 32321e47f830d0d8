from __future__ import annotations

import pytest

from mammo_hf.data.datasets.tables import read_columns, read_table
from mammo_hf.errors import DataError


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_delimiters_and_encodings_are_found_out(tmp_path, delimiter, encoding):
    path = tmp_path / "table.csv"
    path.write_text(f"name{delimiter}remark\na{delimiter}tr\u00e8s dense\n", encoding=encoding)
    assert read_table(path) == [{"name": "a", "remark": "tr\u00e8s dense"}]
    assert read_columns(path) == ["name", "remark"]


def test_blanks_and_line_breaks_around_values_go_and_empty_rows_are_skipped(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(' path , b\n"a b/1.dcm\n", 2 \n\n,\n')
    assert read_table(path) == [{"path": "a b/1.dcm", "b": "2"}]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no columns"),
        ("a,b,a\n1,2,3\n", "has two columns 'a'"),
        ("a,b\n1,2\n1,2,3\n", "row 2: has 3 values for 2 columns"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, problem):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=problem):
        read_table(path)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"table\.csv: there is no such file"):
        read_table(tmp_path / "table.csv")


def test_only_the_columns_that_are_wanted_are_kept(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\n1, 2 ,3\n\n4,5,6\n")
    assert read_table(tmp_path / "t.csv", {"b", "c", "z"}) == [{"b": "2", "c": "3"}, {"b": "5", "c": "6"}]
    (tmp_path / "t.csv").write_text("a,b,c\n1,2\n")
    with pytest.raises(DataError, match="row 1: has 2 values for 3 columns"):
        read_table(tmp_path / "t.csv", {"a"})
