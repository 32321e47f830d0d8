"""cancer_within_years from years and from dates; censored images have no label."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mammo_hf.data.datasets.csv_source import MappedSource, label_of
from mammo_hf.data.loading import load
from mammo_hf.errors import DataError
from mammo_hf.testing.sources import check_source

MAPPING = """
name = "mine"
licence = "ours alone"
quirks = ["none"]
[images]
table = "films.csv"
path = "{file}.png"
[columns]
patient = "{pid}"
exam = "{pid} {file}"
[tasks.cancer_within_years]
"""
YEARS = 'years_to_cancer = { from = "{to_cancer}", unknown = ["100"] }\nyears_followed = "{followed}"\n'
DATES = """
exam_date = "{taken}"
cancer_date = { from = "{result} {biopsy}", match = '^M (.+)$' }
seen_date = "{taken}"
"""
EVENTS = DATES.replace('"{taken}"\n', '"{seen}"\n').replace('exam_date = "{seen}"', 'exam_date = "{taken}"')
EVENTS += 'table = "visits.csv"\npatient = "{who}"\n'


def write(root, mapping, header, *lines):
    root.mkdir(exist_ok=True)
    (root / "mine.toml").write_text(MAPPING + mapping)
    (root / "films.csv").write_text("\n".join([header, *lines]))
    for number, line in enumerate(lines):
        Image.fromarray(np.full((20, 10), number, np.uint8)).save(root / f"{line.split(',')[0]}.png")
    return root / "mine.toml"


@pytest.mark.parametrize(
    ("to_cancer", "followed", "label"),
    [
        (0, None, "1"),
        (0.99, 3, "1"),
        (1, 3, "2"),
        (4.9, 4.9, "5"),
        (5, 5, "none"),
        (7, 7, "none"),  # five years without are known of whoever has a cancer in the eighth
        (-0.1, 9, None),  # taken after the cancer was found
        (None, 5, "none"),
        (None, 4.9, None),  # censored
        (None, None, None),
    ],
)
def test_the_rule(to_cancer, followed, label):
    assert label_of(to_cancer, followed) == label


def test_years_of_a_table(tmp_path):
    lines = ["a,p1,0,2", "b,p2,3,3", "c,p3,100,8", "d,p4,100,3", "e,p5,,", "f,p6,,5.0"]
    mapping = write(tmp_path / "films", YEARS, "file,pid,to_cancer,followed", *lines)
    table = check_source(MappedSource.from_toml(mapping), tmp_path / "films")
    assert table.column("cancer_within_years") == ["1", "4", "none", None, None, "none"]
    assert table.tasks[0]["labels"] == ["none", "5", "4", "3", "2", "1"]
    assert "2 of 6 images have no label" in table.notes


def test_dates_of_all_of_a_patients_images_count_together(tmp_path):
    lines = [
        *("a,p1,2010-01-01,,", "b,p1,2013-06-01,M,2013-07-01", "c,p1,2014-01-01,,"),
        *("d,p2,2010-01-01,B,2010-02-01", "e,p2,2015-01-01 10:30:00,,"),
        *("f,p3,2010-01-01,,", "g,p3,2014-12-01,,", "h,p4,,M,2014-12-01"),
    ]
    mapping = write(tmp_path, DATES, "file,pid,taken,result,biopsy", *lines)
    table = load(mapping)
    labels = dict(zip("abcdefgh", table.column("cancer_within_years"), strict=True))
    assert labels == {**dict.fromkeys("cefgh"), "a": "4", "b": "1", "d": "none"}


def test_events_in_a_table_of_their_own_need_no_image(tmp_path):
    mapping = write(tmp_path, EVENTS, "file,pid,taken", "a,p1,2010-01-01", "b,p2,2010-01-01", "c,p3,2010-01-01")
    visits = ["who,seen,result,biopsy", "p1,2015-06-01,,", "p1,2012-01-01,M,2012-02-01", "p2,2015-06-01,,", "p9,x,M,x"]
    (tmp_path / "visits.csv").write_text("\n".join(visits))
    assert load(mapping).column("cancer_within_years") == ["3", "none", None]
    (tmp_path / "visits.csv").write_text("who,seen,result\np1,2015-06-01,\n")
    with pytest.raises(DataError, match=r"visits\.csv: has no column 'biopsy'"):
        load(mapping)
    (tmp_path / "visits.csv").unlink()
    with pytest.raises(DataError, match=r"has no table visits\.csv"):
        load(mapping)


def test_another_way_to_write_dates(tmp_path):
    german = DATES + 'date_format = "%d.%m.%Y"\n'
    mapping = write(tmp_path, german, "file,pid,taken,result,biopsy", "a,p1,31.12.2010,M,01.02.2011")
    assert load(mapping).column("cancer_within_years") == ["1"]


@pytest.mark.parametrize(
    ("mapping", "header", "line", "problem"),
    [
        (YEARS, "file,pid,to_cancer,followed", "a,p,soon,1", r"row 1: column 'to_cancer' must be a number of years"),
        (YEARS, "file,pid,to_cancer,followed", "a,p,1,99", r"column 'followed' says more than 50 years .*\"unknown\""),
        (YEARS, "file,pid,to_cancer,followed", "a,p,inf,9", "column 'to_cancer' says more than 50 years"),
        (DATES, "file,pid,taken,result,biopsy", "a,p,31.12.2010,,", "column 'taken' must be a date as YYYY-MM-DD"),
        (YEARS, "file,pid,to_cancer", "a,p,1", "has no column 'followed'"),
    ],
)
def test_what_is_wrong_names_row_and_column(tmp_path, mapping, header, line, problem):
    with pytest.raises(DataError, match=problem):
        load(write(tmp_path, mapping, header, line))


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ('years_to_cancer = "{a}"', "needs years_to_cancer and years_followed, or exam_date"),
        (YEARS + 'exam_date = "{b}"', "needs years_to_cancer and years_followed, or exam_date"),
        (YEARS + 'when = "{b}"', r"cancer_within_years\.when is not a key"),
        (DATES + 'table = "t.csv"', "table and patient go together"),
    ],
)
def test_a_mapping_that_says_half(tmp_path, keys, problem):
    with pytest.raises(DataError, match=problem):
        load(write(tmp_path, keys, "file,pid", "a,p"))
