from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG2MPML

from mammo_hf import MammoImageProcessor
from mammo_hf.cli import inspect, main
from mammo_hf.dicom import mammogram_dataset

PERSON = {"PatientName": "Zyxwvut^Quentin", "PatientID": "IDENT-90210", "StudyDate": "20190817"}


def picture() -> np.ndarray:
    rows, columns = np.mgrid[:200, :120]
    tissue = ((rows - 100) / 80) ** 2 + (columns / 70) ** 2 < 1
    return (tissue * (1200 + 8 * rows)).astype(np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    (root / "one").mkdir(parents=True)
    window = {
        "WindowCenter": "2000",
        "WindowWidth": "3000",
        "VOILUTFunction": "SIGMOID",
        "Manufacturer": "HOLOGIC, Inc.",
    }
    first = mammogram_dataset(picture(), bits_stored=12, Laterality="R", **window, **PERSON)
    first.save_as(root / "one" / "a.dcm", enforce_file_format=True)
    second = mammogram_dataset(picture()[:, ::-1], bits_stored=12, laterality="R", view="MLO", **PERSON)
    second.save_as(root / "b.dcm", enforce_file_format=True)
    (root / "notes.txt").write_text("no image")
    (root / "DICOMDIR").write_text("left out")
    (root / ".hidden").write_text("left out")
    return root


def test_a_file_is_described(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder / "one" / "a.dcm")]) == 0
    text = capsys.readouterr().out
    for found in ("L CC", "window (SIGMOID)", "12 bits", "hologic", "2D", "0.1, 0.1 mm by ImagerPixelSpacing"):
        assert found in text
    assert "note        ImageLaterality says L, Laterality says R" in text
    assert not any(value in text for value in PERSON.values())


def test_a_refused_file_gives_its_reason_and_status_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder / "notes.txt"), str(folder / "b.dcm")]) == 1
    said = capsys.readouterr()
    assert "is not a DICOM file" in said.out
    assert "R MLO" in said.out
    assert said.err == "error: refused: 1 of 2\n"


def test_json_is_a_line_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    reports = {Path(line["file"]).name: line for line in lines}
    assert set(reports) == {"a.dcm", "b.dcm", "notes.txt"}
    assert reports["notes.txt"]["refused"] == "is not a DICOM file"
    assert (reports["b.dcm"]["laterality"], reports["b.dcm"]["view"]) == ("R", "MLO")
    assert reports["b.dcm"]["intensity_source"] == "full range (no window)"
    assert reports["b.dcm"]["stored_range"] == [0, int(picture().max())]
    assert reports["a.dcm"]["spacing_mm"] == [0.1, 0.1]
    assert not any(value in json.dumps(lines) for value in PERSON.values())


def test_a_folder_is_summed_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 files, 2 read, 1 refused"
    counted = {line[12:].strip() for line in lines[1:]}
    assert {"1  is not a DICOM file", "1  hologic", "1  R MLO", "1  L CC", "2  12, MONOCHROME2"} <= counted


def test_the_window_can_be_chosen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder / "one" / "a.dcm"), "--window", "0"]) == 0
    assert main(["inspect", str(folder / "one" / "a.dcm"), "--window", "SOFTER"]) == 1
    assert "none explained as SOFTER" in capsys.readouterr().out
    assert main(["inspect", str(folder / "b.dcm"), "--on_missing_window", "raise"]) == 1
    assert "has no window and no VOI LUT" in capsys.readouterr().out


def test_files_are_shown_as_a_processor_says(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MammoImageProcessor(on_missing_window="raise", window="SOFTER").save_pretrained(tmp_path / "model")
    strict = ["--processor", str(tmp_path / "model")]
    assert main(["inspect", str(folder / "b.dcm"), *strict]) == 1
    assert "has no window and no VOI LUT" in capsys.readouterr().out
    assert main(["inspect", str(folder / "one" / "a.dcm"), *strict]) == 1
    assert "none explained as SOFTER" in capsys.readouterr().out
    assert main(["inspect", str(folder / "one" / "a.dcm"), *strict, "--window", "0"]) == 0


@pytest.mark.parametrize(
    ("option", "status", "said"),
    [
        (["--processor", "/none"], 2, "/none: there is no such folder or file"),
        (["--processor", "."], 1, "no preprocessor_config.json that can be read"),
        (["--window", "-1"], 2, "window is -1"),
        (["--window", ""], 2, "window is ''"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    folder: Path,
    option: list[str],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    assert main(["inspect", "b.dcm", *option]) == status
    assert said in capsys.readouterr().err


def test_a_picture_shows_the_crop_and_what_the_model_sees(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    (folder / "a.dcm").write_bytes((folder / "one" / "a.dcm").read_bytes())
    assert main(["inspect", str(folder), "--output_dir", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"a.dcm.png", "a.dcm-2.png", "b.dcm.png"}
    sheet = np.asarray(Image.open(out / "b.dcm.png")).astype(int)
    height = sheet.shape[0]
    frame = (sheet == (255, 190, 0)).all(axis=-1)
    rows, columns = np.flatnonzero(frame.any(axis=1)), np.flatnonzero(frame.any(axis=0))
    # the breast takes rows 20 to 180 of 200, and reaches the right edge of the original's 120 columns
    assert rows[0] / height * 200 == pytest.approx(20, abs=8)
    assert rows[-1] / height * 200 == pytest.approx(180, abs=8)
    assert columns[-1] / height * 200 == pytest.approx(120, abs=2)
    # the model sees it mirrored: bright at the left edge of the right half
    model = sheet[:, -height // 2 :, 0]
    assert model[height // 2, 20] > 2 * model[height // 2, -20]


def test_an_empty_folder_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path)]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_a_file_without_a_decoder_shows_its_header(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = mammogram_dataset(picture(), bits_stored=12, Laterality="R", TransferSyntaxUID=MPEG2MPML)
    dataset.PixelData = encapsulate([b"\0\0\1\xb3" + bytes(60)])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(folder / "film.dcm", enforce_file_format=True)
    assert main(["inspect", str(folder / "film.dcm")]) == 1
    text = capsys.readouterr().out
    for found in ("no installed decoder reads MPEG2", "L CC", "200 x 120, 12 bits", "Laterality says R"):
        assert found in text


def test_pictures_are_described_as_dicom_files_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(picture() * 16).save(folder / "c.png")
    Image.fromarray((picture() // 16).astype(np.uint8)).save(folder / "d.pgm")
    Image.fromarray(picture().astype(np.int32)).save(folder / "e.tif")
    assert main(["inspect", str(folder / "c.png"), "--output_dir", str(folder / "drawn")]) == 0
    assert "200 x 120" in capsys.readouterr().out
    assert (folder / "drawn" / "c.png.png").is_file()
    assert main(["inspect", str(folder), "--json"]) == 0
    lines = {Path(line["file"]).name: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert lines["d.pgm"]["rows"] == 200
    assert lines["d.pgm"]["stored_range"][0] == 0
    assert "32 bits" in lines["e.tif"]["refused"]


def test_many_files_take_no_more_memory_than_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = [tmp_path / f"{index}" for index in range(20_000)]
    monkeypatch.setattr(inspect, "_files", lambda paths: iter(named))
    refused = {"code": "damaged", "remedy": ""}
    report = lambda file, *_: ({"file": str(file), "refused": f"is {file}", **refused}, None)  # noqa: E731
    monkeypatch.setattr(inspect, "_report", report)
    assert main(["inspect", str(tmp_path)]) == 0  # imports what it needs
    tracemalloc.start()
    assert main(["inspect", str(tmp_path)]) == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
