"""Segmentations of each image: the map as fractions, and the breast.

Those of a volume are placed at the slice that the model saw, and its map is a parametric map too: volumes have the
frame of reference that one needs, mammograms have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from mammo_hf.inference.outputs import ScoredExam, ScoredImage

from . import REQUIRES as REQUIRES
from . import available as available

MAPS = True
LEVELS = 255  # of the map's value from 0 to 1


def files_of(exam: ScoredExam) -> list[tuple[str, bytes]]:
    """Return the segmentations as files."""
    from .objects import written

    return [written(dataset) for dataset in datasets_of(exam)]


def datasets_of(exam: ScoredExam, replaces: Sequence[Mapping[str, str]] = ()) -> list[Dataset]:
    """Return the segmentations, all in the pixels of their image.

    A map that is empty everywhere is left out, and so is a breast that does not stand out from its background. Of a
    volume that does not say where its slices are nothing is written.

    Args:
        exam: The exam.
        replaces: Earlier objects of this kind on the same study, see `mammo_hf_pacs.objects.finish`.

    Raises:
        DataError: The images have no identifiers, or are of several studies.
    """
    from . import objects

    headers, found = objects.headers_of(exam), []
    for image, header in zip(exam.images, headers, strict=True):
        plane = objects.as_one_frame(exam, header)
        if plane is not None:
            made = [*_maps(exam, headers, image, plane), *_breasts(exam, headers, image, plane)]
            found += [
                objects.finish(one, header, f"{what} by {objects.model_name(exam)}", replaces) for what, one in made
            ]
            _name_frames([one for _, one in made], objects.shown_frames(exam, header))
    return found


def _name_frames(made: Sequence[Dataset], frames: Sequence[int] | None) -> None:
    """State which frames of a volume objects were made of: highdicom was given a volume of one."""
    for one in made if frames else ():
        sources = one.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence
        for reference in sources:
            reference.ReferencedFrameNumber = list(frames or ())


def breast_of(exam: ScoredExam, image: ScoredImage) -> np.ndarray:
    """Return the mask of the breast in source pixels, bool (rows, columns), as the processor finds it."""
    source = exam.processor.open(image.file)
    source.override(image.laterality, image.view)
    breast = exam.processor.find_breast(source)
    return breast.mask_at(np.arange(source.size[0]), np.arange(source.size[1]))


def _maps(
    exam: ScoredExam, headers: Sequence[Dataset], image: ScoredImage, header: Dataset
) -> Iterator[tuple[str, Dataset]]:
    from . import codes, objects

    for explanation in image.explanations:
        if explanation.geometry is None or explanation.flat[0]:
            continue
        task, _, label = explanation.target[0].partition(":")
        described = _segment(
            exam,
            image,
            explanation.caption(),
            (codes.SPATIAL, codes.SALIENCY),
            f"{objects.model_name(exam)}, {explanation.explainer}",
            objects.uid_of("map", str(header.SOPInstanceUID), exam.model["sha256"], explanation.target[0]),
        )
        values = np.rint(np.clip(explanation.in_source(), 0, 1) * LEVELS).astype(np.float64) / LEVELS
        text = f"Where the model looked for {task} {label}: relevance over its maximum, not a probability"
        parts = explanation.target[0], explanation.explainer
        place = objects.placed(exam, headers, "seg_map", [header], *parts)
        yield "map", _segmentation(header, values[None, :, :, None], "FRACTIONAL", described, text, RLELossless, place)
        if "PerFrameFunctionalGroupsSequence" in header:
            place = objects.placed(exam, headers, "map", [header], *parts)
            yield "map", _parametric(header, image.laterality, values.astype(np.float32), text, place)


def _parametric(header: Dataset, side: str, values: np.ndarray, text: str, place: dict[str, Any]) -> Dataset:
    import highdicom as hd

    from . import codes, objects

    what = "relevance over its maximum, not a probability", codes.NO_UNIT
    meaning = hd.pm.RealWorldValueMapping("MAP", *what, (0.0, 1.0), 1, 0, quantity_definition=codes.SALIENCY)
    made = hd.pm.ParametricMap(
        [objects.nameless(header)],
        values[None, :, :, None],
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[[meaning]],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_description=objects.ascii_text(text, 64),
        content_label="RESEARCH",
        **place,
    )
    made.Laterality = side if side in codes.SIDES else ""
    return made


def _breasts(
    exam: ScoredExam, headers: Sequence[Dataset], image: ScoredImage, header: Dataset
) -> Iterator[tuple[str, Dataset]]:
    from pydicom.uid import ExplicitVRLittleEndian

    from . import codes, objects

    mask = breast_of(exam, image)
    if not mask.any():
        return
    kinds = (codes.STRUCTURE, codes.BREAST)
    uid = objects.uid_of("breast", str(header.SOPInstanceUID))
    described = _segment(exam, image, "breast", kinds, "mammo_hf breast finder", uid)
    place = objects.placed(exam, headers, "seg_breast", [header])
    text = "The breast as it was found in the image"
    yield "breast", _segmentation(header, mask, "BINARY", described, text, ExplicitVRLittleEndian, place)


def _segment(exam: ScoredExam, image: ScoredImage, name: str, kinds: Sequence[Any], made_by: str, uid: str) -> Any:
    import highdicom as hd

    from . import codes, objects

    described = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=objects.ascii_text(name, 64),
        segmented_property_category=kinds[0],
        segmented_property_type=kinds[1],
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=objects.algorithm(exam, made_by),
        tracking_uid=uid,
        tracking_id=objects.ascii_text(name, 64),
        anatomic_regions=[codes.BREAST],
    )
    side = objects.site_of(image)
    if side is not None:
        described.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [objects.coded(side)]
    return described


def _segmentation(
    header: Dataset, pixels: np.ndarray, kind: str, described: Any, text: str, syntax: str, place: dict[str, Any]
) -> Dataset:
    import highdicom as hd

    from . import objects

    made = hd.seg.Segmentation(
        source_images=[objects.nameless(header)],
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[described],
        max_fractional_value=LEVELS,
        content_description=objects.ascii_text(text, 64),
        content_label="RESEARCH",
        transfer_syntax_uid=syntax,
        omit_empty_frames=False,
        **place,
    )
    # General Image (C.7.6.1): type 2 for an image without position and orientation in space, which highdicom leaves out
    made.PatientOrientation = header.get("PatientOrientation") or ""
    return made
