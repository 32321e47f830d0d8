import pytest

from mammo_hf.errors import MammoError, UsageError
from mammo_hf.inference.reading import files_below, files_to_read, folders_of


def test_a_folder_gives_its_images_in_order_and_nothing_else(archive):
    (archive / "notes.txt").write_text("no image")
    (archive / "deep").mkdir()
    (archive / "deep" / "a.png").write_bytes(b"picture")
    (archive / ".hidden.png").write_bytes(b"picture")
    found = files_below(archive)
    assert found == sorted(found)
    assert "deep/a.png" in found
    assert len(found) == 11
    assert files_to_read([str(archive)])[0] == str(archive / found[0])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "b.dcm\n\n  a.dcm\n"),
        ("list.csv", "label,path\n1,b.dcm\n0,\n0,a.dcm\n"),
        ("table.csv", "\ufeffDatei;Befund\nb.dcm;1\na.dcm;0\n"),
    ],
)
def test_a_list_names_files_from_its_own_folder_in_its_own_order(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert files_to_read([str(tmp_path / name)]) == [str(tmp_path / "b.dcm"), str(tmp_path / "a.dcm")]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("list.txt", b"\n \n", "names no file"),
        ("list.csv", b"colour\nred\n", "no column names the images' files"),
        ("list.csv", b"", "has no columns"),
        ("list.txt", b"\xff\xfe\xff", "is not a text"),
        ("gone.txt", None, "there is no such file"),
        ("gone", None, "no such file or folder"),
    ],
)
def test_a_list_that_says_nothing_is_refused(tmp_path, name, content, problem):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MammoError, match=problem):
        files_to_read([str(tmp_path / name)])


def test_a_table_takes_the_folder_of_its_images_as_load_does(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.dcm").write_bytes(b"")
    (tmp_path / "tables" / "t.csv").write_text("path,patient\na.dcm,1\nb.dcm,2\n")
    source = f"{tmp_path}/tables/t.csv:{tmp_path}/films"
    assert files_to_read(source) == [str(tmp_path / "films" / "a.dcm"), str(tmp_path / "films" / "b.dcm")]
    assert folders_of(source) == [str(tmp_path / "tables"), str(tmp_path / "films")]
    (tmp_path / "tables" / "t.csv").write_text("path\n../films/a.dcm\n")
    with pytest.raises(MammoError, match=r"t\.csv, row 1: names a file outside its folder: \.\./films/a\.dcm"):
        files_to_read(str(tmp_path / "tables" / "t.csv"))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no DICOM file and no picture"):
        files_to_read([str(tmp_path)])
