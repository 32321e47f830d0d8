"""The csv source on tables of our own: joins, files, findings, contradictions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from mammo_hf.data.datasets.csv_source import MappedSource
from mammo_hf.data.loading import load
from mammo_hf.data.privacy import salted_hash
from mammo_hf.errors import DataError, UsageError
from mammo_hf.testing.sources import check_source

MAPPING = """
name = "mine"
licence = "ours alone"
quirks = ["none"]
[images]
table = "images.csv"
path = "{file}"
[columns]
patient = "{pid}"
exam = "{pid} {date}"
laterality = "{side}"
view = "{view}"
age = "{age}"
vendor = "{maker}"
split = { from = "{set}", values = { dev = "train", eval = "test" } }
[tasks.pathology]
from = "{result}"
values = { B = "benign", M = "malignant" }
unknown = ["?"]
[findings]
shapes = "{shapes}"
mask_path = "{mask}"
box = ["{top}", "{left}", "{bottom}", "{right}"]
kind = { from = "{kind}", values = { lump = "mass" } }
"""
COLUMNS = (
    *("file", "pid", "date", "side", "view", "age", "maker", "set", "result", "shapes", "mask"),
    *("top", "left", "bottom", "right", "kind"),
)
ROW = dict.fromkeys(COLUMNS, "") | {"file": "a b/1.png", "pid": "Doe", "date": "2001", "set": "dev", "result": "M"}


def write(root, *rows, mapping=MAPPING, table="images.csv"):
    root.mkdir(exist_ok=True)
    (root / "map.toml").write_text(mapping)
    lines = [COLUMNS, *([f'"{(ROW | row)[name]}"' for name in COLUMNS] for row in rows)]
    (root / table).write_text("\n".join(",".join(line) for line in lines), encoding="utf-8-sig")
    for number, row in enumerate(rows):
        path = root / (ROW | row)["file"].strip()
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 10), number, np.uint8)).save(path)
    return root


def read(root, **options):
    return load("csv", root, mapping=root / "map.toml", **options)


def test_a_row_in_full(tmp_path):
    facts = {"side": "left", "view": "cc", "age": "61.0", "maker": "HOLOGIC, Inc.", "set": "eval", "kind": "lump"}
    place = {"top": "1", "left": "2", "bottom": "5.5", "right": "6"}
    (row,) = read(write(tmp_path, facts | place | {"file": "a b/1.png\n"}))
    assert row == {
        "image_id": salted_hash("a b/1.png", "mine"),
        "path": str(tmp_path / "a b" / "1.png"),
        "patient": salted_hash("Doe", "mine"),
        "exam": salted_hash("Doe 2001", "mine"),
        "laterality": "L",
        "view": "CC",
        "age_band": "60-69",
        "vendor": "hologic",
        "stratum": None,
        "source": "mine",
        "split": "test",
        "pathology": "malignant",
        "findings": [
            {
                "kind": "mass",
                "pathology": None,
                "mask_path": None,
                "box": [1, 2, 5.5, 6],
                "circle": None,
                "polygon": None,
            }
        ],
    }


def test_private_collections_are_hashed_under_the_private_salt(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMMO_HF_SALT", "mine alone")
    table = read(write(tmp_path, {}, mapping=MAPPING.replace("quirks", "private = true\nquirks")))
    assert table[0]["patient"] == salted_hash("Doe", "mine alone")
    assert table.salt_name == "private"


def test_conformance(tmp_path):
    rows = [{"file": f"{n}.png", "pid": str(n), "top": "1", "left": "1", "bottom": "9", "right": "9"} for n in range(4)]
    root = write(tmp_path / "data", *rows, {"file": "5.png", "pid": "5", "set": "eval", "result": "B"})
    check_source(MappedSource.from_toml(root / "map.toml"), root)


def test_several_rows_of_an_image_bring_their_findings_together(tmp_path):
    place = {"top": "1", "left": "1", "bottom": "9", "right": "9"}
    (row,) = read(write(tmp_path, place, place | {"top": "2"}, {"result": "?"}, place))
    assert [entry["box"][0] for entry in row["findings"]] == [1, 2]
    assert row["pathology"] == "malignant"


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{}, {"result": "B"}], r"images\.csv, row 2: gives the same image another pathology than .*row 1"),
        ([{"age": "50"}, {"file": "2.png", "age": "51"}], r"row 2: gives the patient another age than .*row 1"),
        ([{}, {"file": "2.png", "result": "X"}], r"row 2: column 'result' must be one of B, M"),
        ([{"side": "up"}], "row 1: column 'side' must be left or right"),
        ([{"set": "third"}], "row 1: column 'set' must be one of dev, eval"),
        ([{"pid": ""}], "row 1: column 'pid' must name the patient"),
        ([{"top": "x", "left": "1", "bottom": "9", "right": "9"}], "row 1: column 'top' must be a number of pixels"),
        ([{"top": "inf", "left": "1", "bottom": "9", "right": "9"}], "column 'top' must be a number of pixels"),
        ([{"shapes": "circle"}], "column 'shapes' must be shapes of the VGG Image Annotator"),
        ([{"kind": "lump?"}], "column 'kind' must lead to one of mass"),
    ],
)
def test_what_contradicts_or_is_not_known_names_row_and_column(tmp_path, rows, problem):
    with pytest.raises(DataError, match=problem):
        read(write(tmp_path, *rows))


def test_other_ages_in_other_exams_are_no_contradiction(tmp_path):
    table = read(write(tmp_path, {"age": "50"}, {"file": "2.png", "age": "51", "date": "2002"}))
    assert table.column("age_band") == ["50-59", "50-59"]


def test_missing_files_are_counted_up_to_a_limit(tmp_path):
    write(tmp_path, *({"file": f"{number}.png", "pid": str(number)} for number in range(10)))
    for number in range(3):
        (tmp_path / f"{number}.png").unlink()
    table = read(tmp_path)
    assert len(table) == 7
    assert table.notes == ["3 of 10 files that its table names do not exist (30%); their rows are left out"]
    assert table.rejected[0] == (f"{tmp_path / 'images.csv'}, row 1", "there is no file 0.png", "missing")
    with pytest.raises(DataError, match=r"3 of 10 files .* \(30%\): 0\.png, 1\.png, 2\.png; complete"):
        read(tmp_path, max_missing=0.2)
    for number in range(3, 10):
        (tmp_path / f"{number}.png").unlink()
    with pytest.raises(DataError, match="10 of 10 files"):
        read(tmp_path, max_missing=1.0)


def test_a_mask_of_another_size_is_left_out_and_listed(tmp_path):
    write(tmp_path, {"mask": "m.png", "kind": "lump"}, {"file": "2.png", "mask": "gone.png", "kind": "lump"})
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "m.png")
    table = read(tmp_path)
    assert [row["findings"][0]["mask_path"] for row in table] == [None, None]
    assert [reason for _, reason, _ in table.rejected] == [
        "is a mask of another size than its image",
        "there is no mask gone.png",
    ]
    Image.fromarray(np.zeros((20, 10), np.uint8)).save(tmp_path / "m.png")
    assert read(tmp_path)[0]["findings"][0]["mask_path"] == str(tmp_path / "m.png")


def test_shapes_of_the_image_annotator(tmp_path):
    shapes = [
        {"name": "polygon", "all_points_x": [1, 5, 5], "all_points_y": [2, 2, 8]},
        {"name": "circle", "cx": 4, "cy": 7, "r": 3},
        {"name": "ellipse", "cx": 4, "cy": 10, "rx": 2, "ry": 6},
        {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4},
        {"name": "point", "cx": 1, "cy": 1},
    ]
    write(tmp_path, {"shapes": json.dumps(shapes).replace('"', '""')})
    polygon, circle, ellipse, rect = read(tmp_path)[0]["findings"]
    assert polygon["polygon"] == [[2, 1], [2, 5], [8, 5]]
    assert circle["circle"] == [7, 4, 3]
    corners = np.array(ellipse["polygon"])
    assert np.allclose([corners.min(0), corners.max(0)], [[4, 2], [16, 6]])
    assert rect["box"] == [2, 1, 6, 4]


def test_several_boxes_in_one_cell(tmp_path):
    mapping = MAPPING.replace('shapes = "{shapes}"', 'boxes = "{shapes}"')
    write(tmp_path, {"shapes": "[[1, 2, 5.5, 6], [0, 0, 3, 3]]"}, {"file": "2.png", "shapes": "()"}, mapping=mapping)
    first, second = read(tmp_path)
    assert [entry["box"] for entry in first["findings"]] == [[1, 2, 5.5, 6], [0, 0, 3, 3]]
    assert second["findings"] == []
    for text in ("[1, 2, 3, 4]", "[[1, 2, 3]]", "import os", "[['a', 1, 2, 3]]", "[[1, 2, 1e999, 4]]"):
        with pytest.raises(DataError, match="row 1: column 'shapes' must be a list of"):
            read(write(tmp_path, {"shapes": text}, mapping=mapping))


def test_a_joined_table_gives_the_gravest_of_its_rows_and_says_what_fits_nothing(tmp_path):
    joined = MAPPING.replace('from = "{result}"', 'from = "{biopsy}"') + (
        '[[join]]\ntable = "biopsies.csv"\nkey = "{who} {breast}"\nmatch = ["{pid} {side}", "{pid} B"]\n'
    )
    write(tmp_path, {"side": "L"}, {"file": "2.png", "side": "R"}, {"file": "3.png", "pid": "Roe"}, mapping=joined)
    (tmp_path / "biopsies.csv").write_text("who,breast,biopsy\nDoe,L,B\nDoe,L,M\nDoe,B,B\nNemo,L,M\n")
    table = read(tmp_path)
    assert table.column("pathology") == ["malignant", "benign", None]
    assert "1 of 3 keys of biopsies.csv fit no image" in table.notes
    assert "1 of 3 images have no label" in table.notes
    (tmp_path / "biopsies.csv").write_text("who,biopsy\nDoe,B\n")
    with pytest.raises(DataError, match=r"biopsies\.csv: has no column 'breast'"):
        read(tmp_path)
    # a name that no table has would be null everywhere
    (tmp_path / "biopsies.csv").write_text("who,breast,biopsie\nDoe,L,B\n")
    with pytest.raises(DataError, match=r"images\.csv, biopsies\.csv: no table has a column 'biopsy'"):
        read(tmp_path)


def test_a_table_without_a_column_or_row_or_that_is_not_there(tmp_path):
    write(tmp_path, {})
    text = (tmp_path / "images.csv").read_text()
    (tmp_path / "images.csv").write_text(text.replace("result", "outcome"))
    with pytest.raises(
        DataError, match=r"images\.csv: has no column 'result'; it has file, .*; the mapping needs age, bottom"
    ):
        read(tmp_path)
    (tmp_path / "images.csv").write_text(",".join(COLUMNS) + "\n")
    with pytest.raises(DataError, match="has no rows"):
        read(tmp_path)
    (tmp_path / "images.csv").unlink()
    with pytest.raises(DataError, match=r"has no table images\.csv; mine needs images\.csv"):
        read(tmp_path)


def test_a_mapping_by_name_and_none_at_all(tmp_path):
    with pytest.raises(UsageError, match="csv: needs a mapping"):
        load("csv", tmp_path)
    with pytest.raises(DataError, match=r"has no table index\.csv"):
        load("csv", tmp_path, mapping="ddsm")


def test_a_task_whose_most_severe_label_is_explained_says_so_to_the_last(tmp_path):
    mapping = MAPPING.replace('unknown = ["?"]', 'unknown = ["?"]\nseverity = true')
    table = read(write(tmp_path, {}, mapping=mapping))
    expected = [{"name": "pathology", "labels": ["benign", "malignant"], "severity": True}]
    assert table.tasks == table.where(split="train").tasks == expected
