import numpy as np
import pytest
from PIL import Image
from small_archive import write_dicom

from mammo_hf.inference import reading
from mammo_hf.inference.reading import ImageReader, read_image


def test_a_file_becomes_what_the_processor_makes_of_it(processor, tmp_path):
    path = write_dicom(tmp_path / "a.dcm", laterality="R", view="MLO")
    image = read_image(processor, 3, str(path))
    assert (image.index, image.laterality, image.view, image.reason) == (3, "R", "MLO", None)
    expected = processor(str(path), return_geometry=True)
    assert np.array_equal(image.pixel_values, expected["pixel_values"][0])
    assert image.geometry == expected["geometry"][0]


def test_a_picture_is_read_as_the_processor_reads_it(processor, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 90)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(processor, 0, str(tmp_path / "a.png"))
    assert np.array_equal(image.pixel_values, processor(str(tmp_path / "a.png"))["pixel_values"][0])


@pytest.mark.parametrize("name", ["gone.dcm", "empty.dcm", "folder"])
def test_what_cannot_be_read_has_a_reason_without_its_path(processor, tmp_path, name):
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "folder").mkdir()
    image = read_image(processor, 0, str(tmp_path / name))
    assert image.pixel_values is None
    assert image.reason
    assert str(tmp_path) not in image.reason


def test_one_process_reads_in_order(processor, archive):
    files = sorted(str(path) for path in archive.iterdir())
    with ImageReader(processor, 0) as reader:
        images = list(reader.read(enumerate(files)))
    assert [image.index for image in images] == list(range(10))
    assert [image.index for image in images if image.reason] == [files.index(str(archive / "4-cut.dcm"))]


@pytest.mark.slow
def test_a_file_that_kills_its_process_takes_no_other_along(processor, archive, monkeypatch, tmp_path):
    files = sorted(str(path) for path in archive.iterdir())
    with ImageReader(processor, 0) as reader:
        expected = list(reader.read(enumerate(files)))
    (tmp_path / "deadly.py").write_text(
        "import os, signal\n"
        "from mammo_hf.inference.reading import read_image as sound\n"
        "def read_image(processor, index, file, override, cut):\n"
        "    if file.endswith('3.dcm'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return sound(processor, index, file, override)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import deadly

    monkeypatch.setattr(reading, "read_image", deadly.read_image)
    with ImageReader(processor, 2) as reader:
        images = list(reader.read(enumerate(files)))
    killed = files.index(str(archive / "3.dcm"))
    assert [image.index for image in images] == list(range(10))
    assert "was killed" in images[killed].reason
    for index, (image, one) in enumerate(zip(images, expected, strict=True)):
        if index != killed:
            assert image.reason == one.reason
            assert (image.pixel_values is None) == (one.pixel_values is None)
            assert image.pixel_values is None or np.array_equal(image.pixel_values, one.pixel_values)
