import csv

import pyarrow.parquet as pq
import pytest

from mammo_hf.data.datasets.tables import read_table
from mammo_hf.errors import UsageError
from mammo_hf.inference.journal import Journal, rejects_path, write_tables

LABELS = ["pathology:benign", "pathology:malignant"]
COLUMNS = ["file", "exam", "laterality", "view", "notes", *LABELS]
RANK = '[0, 0, 0, -1, ""]'


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "part", 10, 3)
    made.open({})
    made.begin(0, 0)
    made.write([(0, ["a,b.dcm", "e", "L", "CC", "negative;bright_edges", "0.25", "0.75", RANK, "", ""])])
    made.write([(1, ["c.dcm", "", "", "", "", "", "", RANK, "is cut off", "damaged"])])
    made.write([(2, ["d.dcm", "e", "R", "", "negative", "0.5", "0.5", RANK, "", ""])])
    made.close()
    return made


def test_scores_and_rejects_go_to_a_table_each(journal, tmp_path):
    output = tmp_path / "scores.csv"
    assert write_tables(journal, output, COLUMNS, LABELS) == (2, {"negative": 2, "bright_edges": 1}, {"damaged": 1})
    rows = list(csv.DictReader(output.open()))
    assert [row["file"] for row in rows] == ["a,b.dcm", "d.dcm"]
    assert rows[0] == {
        **{"file": "a,b.dcm", "exam": "e", "laterality": "L", "view": "CC", "notes": "negative;bright_edges"},
        **{LABELS[0]: "0.25", LABELS[1]: "0.75"},
    }
    assert list(csv.DictReader(rejects_path(output).open())) == [
        {"file": "c.dcm", "reason": "is cut off", "code": "damaged"}
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part", "scores.csv", "scores.rejected.csv"]


def test_a_spreadsheet_runs_no_cell_and_our_readers_get_back_the_text(tmp_path):
    names = ["=1+1.dcm", "+1.dcm", "-a.dcm", "@SUM(A1).dcm", "'=x.dcm", "'plain.dcm", "-5"]
    journal = Journal(tmp_path / "part", 10, len(names) + 1)
    journal.open({})
    journal.begin(0, 0)
    journal.write([(at, [name, "", "L", "CC", "", "-0.25", "0.75", RANK, "", ""]) for at, name in enumerate(names)])
    journal.write([(len(names), ["=r.dcm", "", "", "", "", "", "", RANK, "-is cut off", "damaged"])])
    journal.close()
    write_tables(journal, tmp_path / "scores.csv", COLUMNS, LABELS)
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [row["file"] for row in rows] == [*(f"'{name}" for name in names[:5]), "'plain.dcm", "-5"]
    assert {row[LABELS[0]] for row in rows} == {"-0.25"}
    assert [row["file"] for row in read_table(tmp_path / "scores.csv")] == names
    rejects = list(csv.DictReader(rejects_path(tmp_path / "scores.csv").open()))
    assert rejects == [{"file": "'=r.dcm", "reason": "'-is cut off", "code": "damaged"}]
    write_tables(journal, tmp_path / "scores.parquet", COLUMNS, LABELS)
    assert pq.read_table(tmp_path / "scores.parquet").column("file").to_pylist() == names


def test_parquet_holds_numbers(journal, tmp_path):
    write_tables(journal, tmp_path / "scores.parquet", COLUMNS, LABELS)
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table.column(LABELS[1]).to_pylist() == [0.75, 0.5]
    assert table.column("laterality").to_pylist() == ["L", "R"]


def test_a_disk_that_fills_leaves_no_table_and_no_part_of_one(journal, tmp_path, monkeypatch):
    def full(*anything):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mammo_hf.inference.journal._write_csv", full)
    with pytest.raises(UsageError, match="the disk is full"):
        write_tables(journal, tmp_path / "scores.csv", COLUMNS, LABELS)
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_of_several_images_of_a_view_one_counts_for_the_exam_and_the_rest_say_so(tmp_path):
    journal = Journal(tmp_path / "part", 10, 5)
    journal.open({})
    journal.begin(0, 0)
    ranks = ['[0, 0, 2, -5, ""]', '[0, 0, 0, -1, ""]', '[0, 0, 0, -2, ""]']
    rows = [[f"{at}.dcm", "e", "L", "CC", "negative", "0.5", "0.5", rank, "", ""] for at, rank in enumerate(ranks)]
    rows += [["3.dcm", "f", "L", "CC", "", "0.5", "0.5", RANK, "", ""]]  # another exam
    rows += [["4.dcm", "e", "L", "CC", "", "", "", '[0, 0, 0, -9, ""]', "is cut off", "damaged"]]  # has no score
    journal.write(list(enumerate(rows)))
    journal.close()
    images, notes, _ = write_tables(journal, tmp_path / "scores.csv", COLUMNS, LABELS)
    assert (images, notes) == (4, {"negative": 3, "another_image_counts": 2})
    found = [row["notes"] for row in csv.DictReader((tmp_path / "scores.csv").open())]
    assert found == ["negative;another_image_counts", "negative;another_image_counts", "negative", ""]
