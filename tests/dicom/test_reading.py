from __future__ import annotations

import base64
import logging
import os
import pickle
import subprocess
import sys
import traceback
import tracemalloc
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from mammo_hf.dicom import MammogramError, mammogram_dataset, read_mammogram
from mammo_hf.errors import DataError
from mammo_hf.notes import codes

PIXELS = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
PLANTED = {
    "PatientName": "Zyxwvut^Quentin",
    "PatientID": "IDENT-90210",
    "PatientBirthDate": "19510203",
    "StudyDate": "20190817",
    "AccessionNumber": "ACC55512",
    "StudyInstanceUID": "1.2.777.888.999",
    "SOPInstanceUID": "1.2.777.888.998",
    "InstitutionName": "Hospital Nowhere",
}


def file_of(compress: pydicom.uid.UID | None = None, **keywords: object) -> bytes:
    dataset = mammogram_dataset(PIXELS, bits_stored=12, **keywords)
    if compress is not None:
        dataset.compress(compress)
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_every_kind_of_source_gives_the_same_mammogram(tmp_path: Path) -> None:
    data = file_of()
    path = tmp_path / "a.dcm"
    path.write_bytes(data)
    with path.open("rb") as file:
        mammograms = [
            read_mammogram(source)
            for source in (
                path,
                str(path),
                data,
                BytesIO(data),
                file,
                pydicom.dcmread(path),
                pydicom.dcmread(BytesIO(data)),
            )
        ]
    for mammogram in mammograms:
        np.testing.assert_array_equal(mammogram.pixels[0], PIXELS)
        assert mammogram.header == mammograms[0].header
    names = [mammogram.source for mammogram in mammograms]
    assert names == [str(path), str(path), "<bytes>", "<file>", str(path), str(path), "<dataset>"]


def test_a_file_without_preamble_and_header_is_read() -> None:
    file = BytesIO()
    dataset = mammogram_dataset(PIXELS, bits_stored=12)
    del dataset.file_meta, dataset.preamble
    dataset.save_as(file, implicit_vr=True, little_endian=True)
    assert file.getvalue()[:2] == b"\x08\0"
    np.testing.assert_array_equal(read_mammogram(file.getvalue()).pixels[0], PIXELS)


def test_a_tomosynthesis_volume_keeps_its_frames() -> None:
    volume = np.stack([PIXELS, PIXELS[::-1], PIXELS.T])
    mammogram = read_mammogram(mammogram_dataset(volume, bits_stored=12))
    np.testing.assert_array_equal(mammogram.pixels, volume)
    assert mammogram.header.frames == 3


def test_twelve_bits_reach_white() -> None:
    mammogram = read_mammogram(mammogram_dataset(PIXELS, bits_stored=12))
    np.testing.assert_allclose(mammogram.intensity(0), PIXELS / 4095, atol=1e-7)


def test_what_contradicts_itself_is_in_the_header() -> None:
    mammogram = read_mammogram(mammogram_dataset(PIXELS, HighBit=15, BitsStored=12, Laterality="R"))
    assert mammogram.header.contradictions == (
        "ImageLaterality says L, Laterality says R",
        "HighBit is 15, the pixels are in the lowest bits",
    )


def refused(source: object, **options: int) -> MammogramError:
    with pytest.raises(MammogramError) as caught:
        read_mammogram(source, **options)  # type: ignore[arg-type]
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    missing, empty, fifo = tmp_path / "none.dcm", tmp_path / "empty.dcm", tmp_path / "fifo"
    empty.touch()
    os.mkfifo(fifo)
    for path, problem in (
        (missing, "no such file"),
        (tmp_path, "folder"),
        (empty, "empty"),
        (fifo, "not a regular file"),
    ):
        error = refused(path)
        assert error.source == str(path)
        assert problem in error.problem


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"%PDF-1.7 something", "is not a DICOM file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "is not a DICOM file"),
        (b"x" * 5000, "is not a DICOM file"),
        (b"\x08\0only the beginning looks like it", "holds no pixel data"),
    ],
)
def test_other_files_are_refused(data: bytes, problem: str) -> None:
    error = refused(data)
    assert str(error).startswith("<bytes>: ")
    assert problem in error.problem


@pytest.mark.parametrize("source", [None, 5, np.zeros((4, 4), np.uint16)])
def test_other_objects_are_refused(source: object) -> None:
    assert "cannot be read" in refused(source).problem


@pytest.mark.parametrize(
    ("keywords", "problem"),
    [
        ({"Modality": "CT", "SOPClassUID": CTImageStorage}, "is a CT image, not a mammogram"),
        ({"Modality": "US"}, "is an ultrasound image"),
        ({"Modality": "SR", "PixelData": None}, "is a report"),
        ({"PixelData": None}, "holds no pixel data"),
        ({"PixelData": None, "FloatPixelData": bytes(8)}, "floating point"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "colour image"),
        ({"Rows": 65535, "Columns": 65535}, "more than"),
        ({"Rows": 65}, "cut short"),
    ],
)
def test_what_is_no_mammogram_is_refused_with_the_reason(keywords: dict[str, object], problem: str) -> None:
    dataset = mammogram_dataset(PIXELS)
    for keyword, value in keywords.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    error = refused(dataset)
    assert problem in error.problem
    assert error.source == "<dataset>"


@given(st.integers(0, 3), st.integers(10, 15), st.booleans(), st.integers(0, 99))
def test_a_window_that_shows_nothing_is_noted(where: int, bits: int, inverted: bool, seed: int) -> None:
    top = (1 << bits) - 1
    pixels = np.random.default_rng(seed).integers(top // 4, top // 2, (20, 30)).astype(np.uint16)
    center, width = [(top / 2, top + 1), (top / 8, top / 8), (top, top / 8), (top / 2, 64 * top)][where]
    photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
    keywords = {"WindowCenter": f"{center:.9g}", "WindowWidth": f"{width:.9g}"}
    mammogram = read_mammogram(mammogram_dataset(pixels, bits_stored=bits, photometric=photometric, **keywords))
    assert codes(mammogram.header.contradictions) == (["window_beside_values"] if where else [])


def test_the_limit_on_pixels_is_an_argument() -> None:
    assert "more than 100 pixels" in refused(file_of(), max_pixels=100).problem


def test_the_error_is_a_data_error_that_travels_between_processes() -> None:
    error = refused(b"")
    assert isinstance(error, DataError)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.source) == (MammogramError, str(error), "<bytes>")


@pytest.mark.filterwarnings("ignore:End of file reached before delimiter")
@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
def test_every_cut_of_a_file_is_refused(syntax: pydicom.uid.UID | None) -> None:
    if syntax == JPEG2000Lossless:
        pytest.importorskip("openjpeg")
    data = file_of(syntax)
    for cut in [*range(0, 1400, 37), len(data) // 2, len(data) - 300]:
        refused(data[:cut])


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=400)
@given(st.data(), st.sampled_from([None, RLELossless, DeflatedExplicitVRLittleEndian]))
def test_a_mutated_file_is_read_or_refused_and_nothing_else(
    data: st.DataObject, syntax: pydicom.uid.UID | None
) -> None:
    if syntax == DeflatedExplicitVRLittleEndian:
        content = bytearray(file_of(TransferSyntaxUID=syntax))
    else:
        content = bytearray(file_of(syntax, VOILUTSequence=[], WindowCenter=5, WindowWidth=9, PixelPaddingValue=0))
    header = st.integers(128, min(len(content), 1500) - 1)
    for position in data.draw(st.lists(header, min_size=1, max_size=6)):
        content[position] = data.draw(st.integers(0, 255))
    try:
        mammogram = read_mammogram(bytes(content))
    except MammogramError:
        return
    intensity = mammogram.intensity()
    assert 0 <= intensity.min() <= intensity.max() <= 1


def test_what_follows_a_deflated_data_set_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.dcm"
    path.write_bytes(file_of(TransferSyntaxUID=DeflatedExplicitVRLittleEndian))
    os.truncate(path, 300 << 20)
    tracemalloc.start()
    assert np.array_equal(read_mammogram(path).pixels[0], PIXELS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6


def broken_files() -> list[bytes]:
    whole = file_of(**PLANTED)
    swaps = [
        (b"ST\x02\0\x30", b"\0\0\x02\0\x30"),
        (b"MONOCHROME2 ", b"IDENT-90210 "),
        (b"US\x02\0\x40\0", b"US\x02\0\x41\0"),
        (b"1.2.840.10008.1.2.1\0", b"1.2.777.888.999\0\0\0\0\0"),
        (b"MG", b"CT"),
        (b"CS\x02\0MG", b"SQ\x02\0MG"),
    ]
    broken = [whole[:-200], whole[:600], whole[200:], *(whole.replace(old, new, 1) for old, new in swaps)]
    # a character set that pydicom does not know, which it would quote, of the file and of an item
    charset = b"\x08\0\x05\0CS\x10\0Zyxwvut^Quentin "
    table = b"\x28\0\x10\x30SQ\0\0\x20\0\0\0\xfe\xff\0\xe0\x18\0\0\0" + charset
    for following, added in ((b"\x08\0\x60\0CS", charset), (b"\xe0\x7f\x10\0OW", table)):
        broken.append(whole.replace(following, added + following, 1))
    for keyword in ("WindowCenter", "VOILUTFunction", "NumberOfFrames", "PresentationIntentType"):
        for value in ("Zyxwvut", "20190817", "IDENT-90210", "1.2.777.888.999"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = pydicom.dcmread(BytesIO(whole))
                vr = pydicom.datadict.dictionary_VR(keyword)
                tag = pydicom.tag.Tag(keyword)
                raw = value.encode().ljust(len(value) + len(value) % 2)
                dataset[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(raw), raw, 0, False, True)
                dataset.Rows = 9000
                dataset.WindowWidth = 5
                file = BytesIO()
                dataset.save_as(file)
            broken.append(file.getvalue())
    return broken


@pytest.mark.parametrize("data", broken_files())
def test_nothing_that_identifies_a_person_leaves_a_broken_file(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    said = []
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        try:
            said.append(repr(read_mammogram(data)))
        except MammogramError as error:
            said += ["".join(traceback.format_exception(error)), repr(error.args)]
    text = "\n".join([*said, *(str(warning.message) for warning in warned), caplog.text])
    for value in [*PLANTED.values(), "Zyxwvut"]:
        assert value not in text


def test_the_room_needs_neither_torch_nor_transformers() -> None:
    code = "import sys, mammo_hf.dicom; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_what_travels_as_remote_code_loads_no_pydicom() -> None:
    code = "import sys, mammo_hf.dicom.display, mammo_hf.dicom.types; print('pydicom' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_a_notebook_shows_a_small_picture(tmp_path):
    pixels = np.arange(600 * 400, dtype=np.uint16).reshape(600, 400) % 4096
    mammogram_dataset(pixels, bits_stored=12, laterality="L", view="CC").save_as(
        tmp_path / "a.dcm", enforce_file_format=True
    )
    shown = read_mammogram(tmp_path / "a.dcm")._repr_html_()
    assert "&lt;Mammogram LCC, 1 x 600 x 400, 12 bits" in shown
    picture = Image.open(BytesIO(base64.b64decode(shown.partition("base64,")[2].partition('"')[0])))
    assert picture.size == (200, 300)
