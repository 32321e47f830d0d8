"""The overrides file: read as people write tables, refused with row and column, and applied to a collection."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mammo_hf
from mammo_hf import MammoImageProcessor
from mammo_hf.data.overrides import NOTHING, Override, override_of, read_overrides
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.data.privacy import private_salt, salted_hash
from mammo_hf.dicom import mammogram_dataset
from mammo_hf.errors import DataError, UsageError
from mammo_hf.files import Folder
from mammo_hf.notes import codes_in
from mammo_hf.phantom.exam import draw_exam


@pytest.fixture(scope="module")
def pixels():
    return draw_exam(1, size=(224, 112)).images["LEFT", "CC"].astype(np.uint16)


@pytest.fixture
def archive(tmp_path, pixels):
    """Three left CC in two folders, and a picture."""
    folder = tmp_path / "archive"
    for number, name in enumerate(("one/a.dcm", "one/B.dcm", "two/a.dcm")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        dataset = mammogram_dataset(pixels + number, laterality="L", view="CC", PatientID=str(number))
        dataset.SOPInstanceUID = f"1.2.{number}"
        dataset.save_as(folder / name, enforce_file_format=True)
    Image.fromarray((pixels >> 4).astype(np.uint8)).save(folder / "film.png")
    return folder


def table(folder, text, name="fix.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "file", "says"),
    [
        ("path,laterality,view,skip\none/a.dcm,R,,\n", "one/a.dcm", Override("R")),
        ("Datei;Seite;Ansicht\none\\a.dcm;rechts;schräg\n", "one/a.dcm", Override("R", "MLO")),
        ("fichier\tincidence\nONE/b.DCM\tface\n", "one/B.dcm", Override("", "CC")),
        ("path,skip\n/mnt/other/archive/two/a.dcm,ja\n", "two/a.dcm", Override(skip=True)),
        ("path,skip\none,yes\n", "one/B.dcm", Override(skip=True)),  # a folder
        ("path,laterality,skip\none/a.dcm,L,no\none/a.dcm,L,no\n", "one/a.dcm", Override("L")),
        ("path,view,skip\n\none/a.dcm,XCCL,\n,,\n", "one/a.dcm", Override("", "XCCL")),
        ("path,view\nfilm.png,mlo\n", "film.png", Override("", "MLO")),
        ("path,examen,côté\nfilm.png,17,\n", "film.png", Override(exam="17")),
        ("file,Study ID\none,n/a\ntwo,E 3\n", "two/a.dcm", Override(exam="E 3")),
    ],
)
def test_a_table_is_read_as_people_write_it(tmp_path, archive, text, file, says):
    found = read_overrides(table(tmp_path, text), [archive])
    assert override_of(found, archive / file) == says
    assert override_of(found, archive / "other.dcm") == Override()


WORDS = {
    "laterality": {"L": ["L", "left", "LINKS", "gauche", "Esquerda"], "R": ["r", "Right", "rechts", "droite"]},
    "view": {"CC": ["CC", "cc", "face"], "MLO": ["MLO", "schräg", "oblique"], "XCCL": ["xccl"]},
    "skip": {"yes": ["yes", "JA", "sim"], "no": ["no", "nein", "NON"]},
}
HEADERS = {
    "path": ["path", "Datei", "file name"],
    "laterality": ["laterality", "Seite", "côté"],
    "view": ["view", "incidence", "proyección"],
    "skip": ["skip"],
}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_order_language_and_separator_says_the_same(data):
    files = {f"{folder}/{number}.png" for folder in "ab" for number in range(3)}
    columns = data.draw(st.permutations(list(HEADERS)))
    said = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in files:
            Path(folder, name).parent.mkdir(exist_ok=True)
            Path(folder, name).touch()
        separator = data.draw(st.sampled_from([",", ";", "\t"]))
        lines = [separator.join(data.draw(st.sampled_from(HEADERS[name])) for name in columns)]
        for name in data.draw(st.lists(st.sampled_from(sorted(files)), min_size=1, unique=True)):
            facts = {kind: data.draw(st.sampled_from(["", *words])) for kind, words in WORDS.items()}
            cells = {kind: data.draw(st.sampled_from(WORDS[kind].get(fact, [""]))) for kind, fact in facts.items()}
            cells["path"] = data.draw(st.sampled_from([name, name.replace("/", "\\"), name.upper(), f"D:/x/{name}"]))
            lines.append(separator.join(cells[kind] for kind in columns))
            said[name] = Override(facts["laterality"], facts["view"], facts["skip"] == "yes")
        path = table(Path(folder), "\n".join(lines), "fixes.csv")
        found = read_overrides(path, [folder])
        assert {name: override_of(found, Path(folder, name)) for name in files} == dict.fromkeys(files, NOTHING) | said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,lateralitty\none/a.dcm,L\n", r"fix.csv: has a column 'lateralitty'.*did you mean laterality"),
        ("path,density\none/a.dcm,b\n", r"fix.csv: has a column 'density'.*use path, exam, laterality, view, skip"),
        ("laterality,view\nL,CC\n", r"fix.csv: has no column path"),
        ("path\none/a.dcm\n", r"fix.csv: says nothing"),
        ("path,side,breast\none/a.dcm,L,L\n", r"two columns of the laterality"),
        ("path,laterality\none/a.dcm,L\none/B.dcm,X\n", r"row 2, column 'laterality': 'X' is not known; use L or R"),
        ("path,laterality\none/a.dcm,both\n", r"row 1, column 'laterality': 'both' is not known"),
        ("path,view\n,\none/B.dcm,MLO\none/a.dcm,sideways\n", r"row 3, column 'view': 'sideways' is not known"),
        ("path,view\none/a.dcm,sideways\n", r"row 1, column 'view': 'sideways' is not known; use CC, MLO"),
        ("path,skip\none/a.dcm,maybe\n", r"row 1, column 'skip': 'maybe' is not known; use yes or no"),
        ("path,skip\none/a.dcm,y\none/BB.dcm,y\nc.dcm,y\n", r"row 2.*'one/BB.dcm' \(2 of 3 .*did you mean B.dcm"),
        ("path,view\none/a.dcm,CC\none,MLO\n", r"row 2, column 'path': says something else of 'one'"),
        ("path,skip\n../../secret.dcm,y\n", r"row 1, column 'path'"),
    ],
)
def test_what_is_wrong_with_it_is_one_sentence(tmp_path, archive, text, says):
    with pytest.raises(DataError, match=says):
        read_overrides(table(tmp_path, text), [archive])


def test_there_must_be_one():
    with pytest.raises(UsageError, match=r"nowhere\.csv"):
        read_overrides("nowhere.csv")


def test_a_collection_takes_sides_and_views_and_leaves_out_what_is_skipped(tmp_path, archive):
    fixes = table(tmp_path, "path,laterality,view,skip\none/a.dcm,R,MLO,\nfilm.png,L,,\ntwo/a.dcm,,,yes\n")
    collection = mammo_hf.load(archive, overrides=fixes)
    rows = {os.path.relpath(row["path"], archive): row for row in collection}
    facts = {name: (row["laterality"], row["view"], row["overridden"]) for name, row in rows.items()}
    assert facts == {
        "one/a.dcm": ("R", "MLO", "laterality view"),
        "one/B.dcm": ("L", "CC", None),
        "film.png": ("L", None, "laterality"),
    }
    assert [(os.path.relpath(one.source, archive), one.code) for one in collection.rejected] == [
        ("two/a.dcm", "skipped")
    ]
    assert collection.summary()["notes_by_code"]["images_overridden"] == 1
    files = mammo_hf.load(sorted(map(str, archive.glob("one/*"))), overrides=fixes)
    assert sorted(zip(files.column("laterality"), files.column("view"), strict=True)) == [("L", "CC"), ("R", "MLO")]


def test_a_collection_takes_exams_and_keeps_their_hashes_alone(tmp_path, archive):
    fixes = table(tmp_path, "path,exam\nfilm.png,17\none,17\n")
    collection = mammo_hf.load(archive, overrides=fixes)
    exams = {os.path.relpath(row["path"], archive): row["exam"] for row in collection}
    assert exams["film.png"] == exams["one/a.dcm"] == exams["one/B.dcm"] == salted_hash("17", private_salt())
    assert exams["two/a.dcm"] == mammo_hf.load(archive).where(lambda row: "two" in row["path"]).column("exam")[0]
    assert not any(collection.column("overridden"))


@pytest.mark.slow
def test_prepared_images_are_read_with_them_and_again_only_if_their_row_changes(tmp_path, archive):
    processor, out = MammoImageProcessor(size=(112, 56)), tmp_path / "prepared"
    plain = prepare_images(mammo_hf.load(archive), processor, out)
    assert (plain.images, plain.read) == (4, 4)
    assert "overridden" not in plain.notes
    for text, read in (("R,", 1), ("R,", 0), ("R,MLO", 1), (",", 1)):
        fixes = table(tmp_path, f"path,laterality,view\none/a.dcm,{text}\n")
        again = prepare_images(mammo_hf.load(archive, overrides=fixes), processor, out)
        assert again.read == read
        assert again.notes.get("overridden", 0) == (text != ",")
        assert ("chest_wall_contradicted" in again.notes) == (text != ",")  # as for a header that says so
    prepared = mammo_hf.load(out)
    assert sorted(prepared.column("overridden"), key=str) == [None] * 4
    with pytest.raises(UsageError, match="no effect on prepared images"):
        mammo_hf.load(out, overrides=fixes)
    skipped = table(tmp_path, "path,skip\none,1\n")
    mammo_hf.prepare(archive, out, overrides=skipped, image_size=(112, 56))
    lines = Folder(out).read_text("rejected.csv").splitlines()
    assert [line.rsplit(",", 1)[1] for line in lines] == ["code", "skipped", "skipped"]


def test_a_note_travels_with_the_prepared_row(tmp_path, archive):
    fixes = table(tmp_path, "path,view\ntwo/a.dcm,MLO\n")
    prepare_images(mammo_hf.load(archive, overrides=fixes), MammoImageProcessor(size=(112, 56)), tmp_path / "out")
    from mammo_hf.data.prepare.folder import open_prepared

    notes = [codes_in(cell) for cell in open_prepared(tmp_path / "out")["notes"]]
    assert sum("overridden" in row for row in notes) == 1
