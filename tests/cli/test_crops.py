import csv

import numpy as np
import pytest
from PIL import Image

from mammo_hf.cli.crops import main
from mammo_hf.errors import DataError, UsageError
from mammo_hf.processing.contact_sheet import LESION_COLOUR


@pytest.fixture
def folder(tmp_path):
    rows, columns = np.mgrid[:150, :100]
    film = (((rows - 75) / 60) ** 2 + (columns / 60) ** 2 < 1) * np.uint8(120)
    folder = tmp_path / "films"
    (folder / "deep").mkdir(parents=True)
    Image.fromarray(film).save(folder / "a.png")
    Image.fromarray(film[:, ::-1]).save(folder / "deep" / "b.pgm")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (folder / "notes.txt").write_text("not looked at")
    return folder


def test_sheets_and_facts_are_written(folder, tmp_path, capsys):
    main([str(folder), "--output_dir", str(tmp_path / "out"), "--columns", "1", "--rows", "1", "--tile", "64"])
    assert "2 images" in capsys.readouterr().out
    with (tmp_path / "out" / "crops.csv").open() as file:
        facts = {fact["file"]: fact for fact in csv.DictReader(file)}
    assert set(facts) == {"a.png", "deep/b.pgm", "broken.png"}
    assert (facts["a.png"]["chest_wall"], facts["deep/b.pgm"]["chest_wall"]) == ("left", "right")
    assert "damaged" in facts["broken.png"]["error"]
    assert facts["deep/b.pgm"]["sheet"] == "crops_001.png"
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["crops_000.png", "crops_001.png"]


def test_doubtful_masks_are_counted_and_shown_first(tmp_path, capsys):
    rows, columns = np.mgrid[:150, :100]
    texture = np.random.default_rng(0).integers(110, 130, (150, 100), np.uint8)
    for name, radius in {"a": 60, "b": 62, "c": 58, "d": 25, "e": 61}.items():
        film = (np.hypot(rows - 75, columns) < radius) * texture
        if name == "e":
            film = np.maximum(film, (rows > 75) * np.uint8(125))
        Image.fromarray(film).save(tmp_path / f"{name}.png")
    main([str(tmp_path), "--output_dir", str(tmp_path / "out")])
    assert "notes: 1 breast_even, 1 breast_much_smaller, 1 breast_reaches_across\n" in capsys.readouterr().out
    with (tmp_path / "out" / "crops.csv").open() as file:
        facts = list(csv.DictReader(file))
    assert [fact["file"] for fact in facts] == ["d.png", "e.png", "a.png", "b.png", "c.png"]
    assert [fact["number"] for fact in facts] == list("01234")
    assert "much smaller" in facts[0]["notes"]


@pytest.fixture
def collection(tmp_path):
    """mini-MIAS' layout: y counts from the bottom of 1024 rows; each circle's row in the table is 1024 - y."""
    rows, columns = np.mgrid[:1024, :1024]
    film = np.uint8(20) + (np.hypot((rows - 512) / 400, columns / 500) < 1) * np.uint8(120)
    film[:, 900:] = 0  # beyond the edge of the film
    folder = tmp_path / "mias"
    folder.mkdir()
    for name in ("mdb001", "mdb002", "mdb003"):
        Image.fromarray(film[:, ::-1] if name == "mdb001" else film).save(folder / f"{name}.png")
    lines = [
        "mdb001 G CIRC B 823 512 60",  # in the breast
        "mdb002 G CIRC M 200 512 60",  # in the breast
        "mdb002 G CIRC M 800 962 60",  # in the background
        "mdb003 G NORM",
    ]
    (folder / "Info.txt").write_text("\n".join(lines))
    return folder


def test_crops_that_cut_a_lesion_are_counted(collection, tmp_path, capsys):
    out = tmp_path / "out"
    main([str(collection), "--output_dir", str(out), "--lesions"])
    assert "1 of 2 images with a lesion of known location lose more than 10% of one (50.0%)" in capsys.readouterr().out
    with (out / "crops.csv").open() as file:
        cut = {fact["file"]: fact["lesion_cut"] for fact in csv.DictReader(file)}
    assert cut == {"mdb001.png": "0.000", "mdb002.png": "1.000", "mdb003.png": ""}
    sheet = np.asarray(Image.open(out / "crops_000.png"))
    assert (sheet == LESION_COLOUR).all(-1).any()
    main([f"mini-mias:{collection}", "--output_dir", str(out), "--lesions"])
    assert "1 of 2" in capsys.readouterr().out


def test_a_table_of_images_is_drawn_as_load_reads_it(folder, tmp_path, capsys):
    (folder / "labels.csv").write_text("path,patient\na.png,1\ndeep/b.pgm,2\ngone.png,3\n")
    main([str(folder / "labels.csv"), "--output_dir", str(tmp_path / "out"), "--max_missing", "0.5"])
    assert "2 images in" in capsys.readouterr().out
    with pytest.raises(DataError, match="1 of 3 files that its table names do not exist"):
        main([str(folder / "labels.csv"), "--output_dir", str(tmp_path / "out"), "--max_missing", "0.1"])


def test_lesions_are_asked_for_only_of_collections(folder, tmp_path):
    with pytest.raises(DataError, match="holds no mammogram"):
        main([str(folder), "--output_dir", str(tmp_path / "out"), "--lesions"])


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        main([str(tmp_path), "--output_dir", str(tmp_path / "out")])
    with pytest.raises(UsageError, match="no such folder"):
        main([str(tmp_path / "none"), "--output_dir", str(tmp_path / "out")])
