from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mammo_hf.data.loading import load
from mammo_hf.errors import DataError
from mammo_hf.testing.sources import check_source

INFO = """Some prose about mdb001 that is no line of the table.

mdb001 G CIRC B 535 425 197
mdb002 G NORM{blank}
mdb003 D MISC B 233 994 29
mdb003 D MISC M 313 540 27
mdb004 D NORM{blank}
mdb005 F CALC M *NOTE 3*
mdb006 F ARCH B
""".format(blank=" ")


def write(root, suffix="png", info=INFO, numbers=range(1, 7)):
    root.mkdir(exist_ok=True)
    (root / "Info.txt").write_text(info)
    for number in numbers:
        Image.fromarray(np.full((1024, 1024), number, np.uint8)).save(root / f"mdb{number:03d}.{suffix}")
    return root


@pytest.mark.parametrize("suffix", ["png", "pgm"])
def test_both_forms_keep_the_contract(tmp_path, suffix):
    table = check_source("mini-mias", write(tmp_path, suffix))
    assert table.column("laterality") == ["R", "L", "R", "L", "R", "L"]
    assert len(set(table.column("patient"))) == 3
    assert table.column("cancer") == ["no", "no", "yes", "no", "yes", "no"]
    assert table.column("pathology") == ["benign", None, "malignant", None, "malignant", "benign"]
    assert table.column("abnormality") == ["mass", "normal", "mass", "normal", "calcification", "distortion"]
    assert table.column("tissue") == ["glandular", "glandular", "dense", "dense", "fatty", "fatty"]


def test_rows_are_counted_from_the_top_and_notes_are_no_place(tmp_path):
    table = load("mini-mias", write(tmp_path))
    assert table[0]["findings"][0]["circle"] == [1024 - 425, 535, 197]
    assert [entry["pathology"] for entry in table[2]["findings"]] == ["benign", "malignant"]
    assert table[1]["findings"] == []
    for number in (4, 5):
        (entry,) = table[number]["findings"]
        assert entry["circle"] is None


def test_a_png_is_preferred_and_missing_films_are_counted(tmp_path):
    write(tmp_path, "pgm")
    write(tmp_path, "png", numbers=(1, 2))
    (tmp_path / "mdb006.pgm").unlink()
    table = load("mini-mias", tmp_path)
    assert [path[-3:] for path in table.column("path")] == ["png", "png", "pgm", "pgm", "pgm"]
    assert [entry[:2] for entry in table.rejected] == [("Info.txt, mdb006", "there is no such film")]


def test_what_cannot_be_read_is_listed_and_cancer_is_then_not_known(tmp_path):
    info = INFO.replace("mdb002 G NORM", "mdb002 G WHAT").replace("G CIRC B 535 425 197", "G CIRC X 535 425 197")
    info = info.replace("mdb006 F ARCH B", "mdb006 F ARCH B 12 many")
    table = load("mini-mias", write(tmp_path, info=info))
    assert table.column("cancer") == [None, "yes", "no", "yes", "no"]
    assert table.column("pathology") == [None, "malignant", None, "malignant", "benign"]
    assert sorted(entry.reason for entry in table.rejected) == [
        "has no centre and radius that can be read",
        "has no severity that can be read",
        "is not understood",
        "no line of Info.txt describes it",
    ]


def test_one_film_of_two_tissues_is_an_error(tmp_path):
    with pytest.raises(DataError, match="mdb003: gives one film two tissues"):
        load("mini-mias", write(tmp_path, info=INFO.replace("D MISC M", "F MISC M")))


def test_the_real_collection(real_data):
    table = check_source("mini-mias", real_data / "mini-mias")
    films = sorted((real_data / "mini-mias").glob("*.png"))
    assert len(table) == len(films)
    assert len(table) + len(table.rejected) == 322
    by_name = {path[-10:-4]: row for path, row in zip(table.column("path"), table, strict=True)}
    assert len(by_name["mdb132"]["findings"]) == 2
    assert [entry["circle"] for entry in by_name["mdb216"]["findings"]] == [None]
    # the chest wall and the marked lesion lie within the film: its grey is not the background's
    with Image.open(by_name["mdb001"]["path"]) as picture:
        row, column, _ = (int(value) for value in by_name["mdb001"]["findings"][0]["circle"])
        assert np.asarray(picture)[row, column] > 100


def test_the_whole_list_gives_the_published_counts(real_data, tmp_path):
    info = real_data / "mini-mias" / "Info.txt"
    (tmp_path / "Info.txt").write_bytes(info.read_bytes())
    Image.new("L", (1024, 1024)).save(tmp_path / "mdb001.pgm")
    for number in range(2, 323):  # the films are stand-ins: only their list is counted
        (tmp_path / f"mdb{number:03d}.pgm").hardlink_to(tmp_path / "mdb001.pgm")
    table = load("mini-mias", tmp_path)
    assert (len(table), len(set(table.column("patient")))) == (322, 161)
    # mdb144 has a benign and a malignant lesion, and counts as malignant
    assert Counter(table.column("pathology")) == {None: 207, "benign": 63, "malignant": 52}
    assert Counter(table.column("cancer")) == {"no": 270, "yes": 52}
