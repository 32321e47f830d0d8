"""A secondary capture of each image: the map drawn over it, for viewers that show neither reports nor segmentations.

It has the original's frame, so that both can be shown side by side or over each other: the same rows and columns, or
fewer by a whole factor, with the spacing that belongs to them. 'Research use only' is burned into the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from mammo_hf.explainers import Explanation
from mammo_hf.inference.outputs import ScoredExam, ScoredImage

from . import REQUIRES as REQUIRES
from . import available as available

MAPS = True
LONGEST_SIDE = 2048  # a larger image is drawn smaller by a whole factor: in colour it takes three bytes per pixel
BURNED_IN = ("RESEARCH USE ONLY", "NOT FOR DIAGNOSIS")


def files_of(exam: ScoredExam) -> list[tuple[str, bytes]]:
    """Return the captures as files."""
    from .objects import written

    return [written(dataset) for dataset in datasets_of(exam)]


def datasets_of(exam: ScoredExam, replaces: Sequence[Mapping[str, str]] = ()) -> list[Dataset]:
    """Return a capture per map.

    Args:
        exam: The exam.
        replaces: Earlier objects of this kind on the same study, see `mammo_hf_pacs.objects.finish`.

    Raises:
        DataError: The images have no identifiers, or are of several studies.
    """
    from . import objects

    headers = objects.headers_of(exam)
    return [
        _capture(exam, headers, image, header, explanation, replaces)
        for image, header in zip(exam.images, headers, strict=True)
        for explanation in image.explanations
        if explanation.geometry is not None
    ]


def _capture(
    exam: ScoredExam,
    headers: Sequence[Dataset],
    image: ScoredImage,
    header: Dataset,
    explanation: Explanation,
    replaces: Sequence[Mapping[str, str]],
) -> Dataset:
    import highdicom as hd

    from . import objects

    read = exam.processor.open(image.file)
    picture, factor = _draw(read, explanation, (objects.model_name(exam),))
    place = objects.placed(exam, headers, "capture", [header], explanation.target[0], explanation.explainer)
    dataset = hd.sc.SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=str(header.StudyInstanceUID),
        pixel_spacing=_spacing(read, factor),
        laterality=image.laterality if image.laterality in ("L", "R") else None,
        patient_orientation=("L", "P"),  # replaced by the source's below: not all of these are admitted by highdicom
        **place,
    )
    setattr(dataset, "PatientOrientation", header.get("PatientOrientation") or "")  # noqa: B010
    dataset.copy_patient_and_study_information(objects.nameless(header))  # as highdicom does for what has sources
    _describe(dataset, read, explanation, header)
    return objects.finish(dataset, header, f"{explanation.explainer} by {objects.model_name(exam)}", replaces)


def _draw(read: Any, explanation: Explanation, lines: Sequence[str]) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the picture, uint8 (rows, columns, 3), and the source pixels per pixel of it in both directions."""
    from mammo_hf.explainers.overlay import heat_overlay, method_name
    from mammo_hf.processing.geometry import resize_area

    geometry = explanation.known_geometry(0)
    rows, columns = geometry.source_size
    factor = -(-max(rows, columns) // LONGEST_SIDE)
    size = (rows // factor, columns // factor)
    # which slices of a volume were shown, only the processor knows: then what the model saw is drawn
    frames = 1 if read.mammogram is None else read.mammogram.header.frames
    grey = geometry.map_to_source(explanation.images[0]) if frames > 1 else read.view(slice(0, rows), slice(0, columns))
    values, strength = explanation.in_source(), explanation.strength()
    if factor > 1:
        grey, values = resize_area(grey, size), resize_area(values, size)
    text = (*BURNED_IN, *lines, method_name(explanation.explainer), explanation.result())
    tint = heat_overlay(grey, values, strength=strength)
    return _burn_in(tint, grey, text), (rows / size[0], columns / size[1])


def _burn_in(pixels: np.ndarray, grey: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """Return the picture with text in the corner that shows the least tissue."""
    height, width = grey.shape
    longest = max(lines, key=len)
    size = max(10, height // 50)
    while size > 10 and ImageFont.load_default(size=size).getlength(longest) > 0.6 * width:
        size -= 1
    font = ImageFont.load_default(size=size)
    block = Image.new("RGB", (min(width, int(font.getlength(longest)) + 8), min(height, len(lines) * (size + 4) + 4)))
    draw = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        draw.text((4, 2 + number * (size + 4)), line, fill="white", font=font)
    corners = [(top, left) for top in (0, height - block.height) for left in (0, width - block.width)]
    top, left = min(corners, key=lambda at: grey[at[0] : at[0] + block.height, at[1] : at[1] + block.width].sum())
    result = pixels.copy()
    result[top : top + block.height, left : left + block.width] = np.asarray(block)
    return result


def _spacing(read: Any, factor: tuple[float, float]) -> tuple[float, float] | None:
    """Return the spacing in mm of pixels that are larger than the source's by two factors."""
    if read.spacing_mm is None:
        return None
    return (float(f"{read.spacing_mm[0] * factor[0]:.8g}"), float(f"{read.spacing_mm[1] * factor[1]:.8g}"))


def _describe(dataset: Dataset, read: Any, explanation: Explanation, header: Dataset) -> None:
    """Say what is shown and of what (C.7.6.1, C.12.4), and where the spacing is from (C.8.6.2)."""
    from . import codes, objects

    dataset.ImageType = ["DERIVED", "SECONDARY"]
    text = f"Research use only: {explanation.caption()}, drawn over the image"
    dataset.DerivationDescription = objects.ascii_text(text, 1024)
    dataset.ImageComments = objects.RESEARCH
    dataset.BurnedInAnnotation = "YES" if header.get("BurnedInAnnotation") == "YES" else "NO"
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    series, instance = Dataset(), Dataset()
    instance.update(image)
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = header.SeriesInstanceUID, [instance]
    image.PurposeOfReferenceCodeSequence = [objects.coded(codes.SOURCE)]
    dataset.SourceImageSequence, dataset.ReferencedSeriesSequence = [image], [series]
    origin = "" if read.mammogram is None else read.mammogram.header.spacing_source or ""
    if origin == "NominalScannedPixelSpacing":
        dataset.NominalScannedPixelSpacing = dataset.PixelSpacing
    if "Magnification" in origin:
        dataset.PixelSpacingCalibrationType = "GEOMETRY"
        dataset.PixelSpacingCalibrationDescription = "at the detector, over the estimated magnification"
