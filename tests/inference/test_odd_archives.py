"""What a folder holds is scored or rejected by its name: nothing is silently missing, and nothing is waited for."""

from __future__ import annotations

import csv
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless
from small_archive import write_dicom

from mammo_hf import isolation, load
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.dicom import mammogram_dataset
from mammo_hf.errors import printable
from mammo_hf.files import walk
from mammo_hf.inference.journal import Journal
from mammo_hf.inference.predict import predict
from mammo_hf.inference.reading import ImageReader, files_below, read_image

BAD_NAME = os.fsdecode(b"caf\xe9.dcm")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in ("good.dcm", BAD_NAME, "a\rb.dcm", "c\nd.dcm"):
        write_dicom(tmp_path / "made.dcm", laterality="R", view="MLO")
        os.replace(tmp_path / "made.dcm", folder / name)
    for name in ("fifo.dcm", "fifo", "fifo.png"):
        os.mkfifo(folder / name)
    with socket.socket(socket.AF_UNIX) as server:
        before = os.getcwd()
        os.chdir(folder)  # a socket's path must be short
        try:
            server.bind("socket.dcm")
        finally:
            os.chdir(before)
    (folder / "loop.dcm").symlink_to("loop.dcm")
    (folder / "circle").symlink_to("circle")
    (folder / "above").symlink_to(folder)
    with open(folder / "sparse.dcm", "wb") as file:
        file.truncate(10 << 30)
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08\0\0\0\0")
    (folder / "broken.tif").write_bytes(b"II*\0\x08\0\0\0\xff\xff" + bytes(range(256)) * 4)
    (folder / "broken.pgm").write_bytes(b"P5\n64 64\n0\n" + bytes(4096))
    return folder


def test_each_entry_is_read_or_refused_with_a_reason(odd, processor):
    files = files_below(odd)
    read = {file: read_image(processor, 0, str(odd / file)) for file in files}
    assert {file for file, image in read.items() if image.reason is None} == {
        *("good.dcm", BAD_NAME, "a\rb.dcm", "c\nd.dcm")
    }
    assert {file for file, image in read.items() if image.reason} == {
        *("fifo.dcm", "fifo", "fifo.png", "socket.dcm", "loop.dcm", "circle"),
        *("sparse.dcm", "bomb.png", "broken.tif", "broken.pgm"),
    }


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, processor, monkeypatch):
    (tmp_path / "closed").mkdir()
    write_dicom(tmp_path / "good.dcm", laterality="R", view="MLO")
    listing = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert files_below(tmp_path) == ["closed", "good.dcm"]
    assert "cannot be listed" in read_image(processor, 0, str(tmp_path / "closed")).reason


def test_names_with_line_breaks_survive_the_journal_and_other_bytes_are_shown(tmp_path):
    journal = Journal(tmp_path / "journal", columns=2, total=3)
    journal.open({})
    journal.begin(0, 0)
    names = ["a\rb.dcm", "c\nd.dcm", printable(BAD_NAME)]
    journal.write([(index, [name, "x"]) for index, name in enumerate(names)])
    journal.close()
    assert [row for _, row in journal.rows()] == [[name, "x"] for name in names]
    assert names[2] == "caf%E9.dcm"


def test_links_in_a_circle_end_the_search_of_no_folder(odd):
    assert str(odd / "good.dcm") in list(walk(odd))


def test_a_table_of_names_is_utf_8(odd, tmp_path):
    with open(tmp_path / "table.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([printable(name)] for name in files_below(odd))


# A decoder that does on some frames what a damaged file could make it do, in every process that finds it on its path.
_FAKE = """
import ctypes, time
import imagecodecs
sound = imagecodecs.jpeg2k_decode
def decode(data, *args, **options):
    words = sound(data, *args, **options)
    kind = int(words.flat[0])
    if kind == 1: time.sleep(1000)
    if kind == 2: ctypes.string_at(0)
    if kind == 3: bytearray(20 << 30)
    return words
imagecodecs.jpeg2k_decode = decode
"""


@pytest.fixture
def fake_decoder(tmp_path, monkeypatch):
    """Give readers a decoder that hangs, crashes or eats memory, as the first pixel of a frame says."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(_FAKE)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    monkeypatch.setattr(isolation, "SECONDS", 2.0)


def write_compressed(path: Path, first: int) -> Path:
    """Write a JPEG 2000 file whose first pixel has a value."""
    imagecodecs = pytest.importorskip("imagecodecs")
    values = np.random.default_rng(first).integers(100, 4096, (300, 150)).astype(np.uint16)
    values[0, 0] = first
    dataset = mammogram_dataset(values, bits_stored=12, TransferSyntaxUID=JPEG2000Lossless)
    dataset["PixelData"].is_undefined_length = True
    dataset.PixelData = encapsulate([imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k")])
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_files_that_hang_crash_and_eat_are_refused_and_no_other(tmp_path, processor, fake_decoder, workers):
    files = [str(write_compressed(tmp_path / f"{number}.dcm", number)) for number in range(6)]
    with isolation.isolating(), ImageReader(processor, workers) as reader:
        images = list(reader.read(enumerate(files)))
    assert [image.index for image in images if image.reason] == [1, 2, 3]
    assert {image.code for image in images[1:3]} == {"hostile"}


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """Two hundred sound files, and one of each kind that is not or has an odd name."""
    folder = tmp_path / "mixed"
    for number in range(199):
        write_dicom(folder / f"{number:03d}.dcm", number, laterality="L", view="CC")
    write_compressed(folder / "199.dcm", 4)
    for number, name in enumerate(("hangs", "crashes", "eats"), 1):
        write_compressed(folder / f"{name}.dcm", number)
    whole = write_compressed(folder / "cut.dcm", 5).read_bytes()
    (folder / "cut.dcm").write_bytes(whole[: len(whole) * 2 // 3])
    for name in ("a\rb.dcm", BAD_NAME):
        os.replace(write_dicom(tmp_path / "made.dcm", laterality="R", view="MLO"), folder / name)
    os.mkfifo(folder / "fifo.dcm")
    (folder / "loop.dcm").symlink_to("loop.dcm")
    (folder / "closed").mkdir()
    listing = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return folder


REFUSED = {"hangs.dcm", "crashes.dcm", "eats.dcm", "cut.dcm", "fifo.dcm", "loop.dcm", "closed"}


def names_in(table: Path) -> list[str]:
    with open(table, encoding="utf-8", newline="") as file:
        return sorted(os.path.basename(row[0]) for row in list(csv.reader(file))[1:])


@pytest.mark.slow
def test_an_archive_is_scored_to_its_end_and_what_is_left_out_is_named(mixed, tmp_path, checkpoint, fake_decoder):
    result = predict(checkpoint, mixed, tmp_path / "scores.csv", num_workers=2, device="cpu")
    sound = sorted([*(f"{number:03d}.dcm" for number in range(200)), "a\rb.dcm", "caf%E9.dcm"])
    assert names_in(result.output) == sound
    assert names_in(result.rejects) == sorted(REFUSED)


@pytest.mark.slow
def test_an_archive_is_prepared_to_its_end_and_what_is_left_out_is_named(mixed, tmp_path, processor, fake_decoder):
    summary = prepare_images(load(mixed), processor, tmp_path / "prepared", num_workers=2)
    assert summary.images == 201
    assert names_in(tmp_path / "prepared" / "rejected.csv") == sorted({*REFUSED, "caf%E9.dcm"})
