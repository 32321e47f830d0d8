import csv

import numpy as np
import pytest
from PIL import Image

from mammo_hf.commands.crops import main
from mammo_hf.errors import DataError, UsageError


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


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        main([str(tmp_path), "--output_dir", str(tmp_path / "out")])
    with pytest.raises(UsageError, match="no folder"):
        main([str(tmp_path / "none"), "--output_dir", str(tmp_path / "out")])
