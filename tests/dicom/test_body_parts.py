"""Only breasts are read: images of other parts of the body, and parts of a tomosynthesis, are refused or noted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
)

from mammo_hf.dicom import MammogramError, mammogram_dataset, read_mammogram
from mammo_hf.dicom.report import file_report
from mammo_hf.notes import codes


def image(
    modality: str, part: str = "", view: str = "", region: tuple[str, str] | None = None, **more: object
) -> Dataset:
    dataset = mammogram_dataset(np.zeros((8, 6), np.uint16), laterality="L", view=view or "CC", bits_stored=12)
    dataset.Modality = modality
    for keyword in ("AnatomicRegionSequence", "BodyPartExamined"):  # which the writer adds
        dataset.pop(keyword, None)
    if not view:
        del dataset.ViewCodeSequence
        if "ViewPosition" in dataset:
            del dataset.ViewPosition
    if part:
        dataset.BodyPartExamined = part
    if region is not None:
        item = Dataset()
        item.CodeValue, item.CodeMeaning = region
        dataset.AnatomicRegionSequence = [item]
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    return dataset


def refusal(dataset: Dataset) -> MammogramError:
    with pytest.raises(MammogramError) as caught:
        read_mammogram(dataset)
    return caught.value


@pytest.mark.parametrize("part", ["CHEST", "HAND", "SKULL", "THORAX", "PELVIS"])
@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "OT"])
def test_other_parts_of_the_body_are_refused_with_the_reason(modality: str, part: str) -> None:
    dataset = image(modality, part)
    error = refusal(dataset)
    assert error.code == "not_a_breast"
    assert "another part of the body" in str(error)
    assert read_mammogram(dataset, any_anatomy=True).header.rows == 8


WORDS = {
    True: ["BREAST", "Left breast", "MAMMA RE", "mama", "SENO", "SEIN GAUCHE", "Brust links"],
    False: ["CHEST", "hand", "LSPINE", "Becken", "THORAX", "TORAX", "crane", "PHANTOM"],
    None: [""],
}


@pytest.mark.filterwarnings("ignore:Invalid value")  # of a code string: words as they are written
@given(
    st.sampled_from(["MG", "CR", "DX", "RG", "OT", ""]),
    st.sampled_from([True, False, None]).flatmap(lambda said: st.tuples(st.just(said), st.sampled_from(WORDS[said]))),
    st.sampled_from([True, False, None]).flatmap(lambda said: st.tuples(st.just(said), st.sampled_from(WORDS[said]))),
    st.sampled_from(["", "CC", "MLO"]),
)
def test_an_image_is_refused_only_if_its_header_names_another_part_and_its_modality_does_not_mean_a_breast(
    modality: str, part: tuple[bool | None, str], region: tuple[bool | None, str], view: str
) -> None:
    dataset = image(modality, part[1], view, ("1", region[1]) if region[1] else None)
    is_breast = True if True in (part[0], region[0]) else False if False in (part[0], region[0]) else None
    if is_breast is False and modality in ("CR", "DX", "RG", "OT"):
        assert refusal(dataset).code == "not_a_breast"
        return
    found = set(codes(read_mammogram(dataset).header.contradictions))
    assert ("body_part_contradicted" in found) == (is_breast is False)
    assert ("body_part_unknown" in found) == (is_breast is None and not view and modality in ("CR", "DX", "RG"))


@pytest.mark.parametrize("modality", ["MG", "CR", "OT", ""])
@pytest.mark.parametrize("part", ["BREAST", "L BREAST", "MAMMO", "MAMA", "BRUST", "AXILLA"])
def test_breasts_of_any_modality_are_read_without_a_note(modality: str, part: str) -> None:
    for dataset in (image(modality, part), image(modality, region=("76752008", ""))):
        notes = codes(read_mammogram(dataset).header.contradictions)
        assert not {"body_part_contradicted", "body_part_unknown"} & set(notes)


def test_what_is_not_certain_is_noted() -> None:
    assert "body_part_contradicted" in codes(read_mammogram(image("MG", "CHEST")).header.contradictions)
    for modality in ("CR", "DX", "RG"):
        assert "body_part_unknown" in codes(read_mammogram(image(modality)).header.contradictions)
        assert "body_part_unknown" not in codes(read_mammogram(image(modality, view="MLO")).header.contradictions)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"SOPClassUID": CTImageStorage}, "slice of a volume"),
        ({"SOPClassUID": BreastProjectionXRayImageStorageForPresentation}, "projection"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "TOMO_PROJ", "LEFT"]}, "projection"),
    ],
)
def test_parts_of_a_tomosynthesis_are_refused(more: dict[str, object], reason: str) -> None:
    dataset = image("MG", "BREAST", "CC", **more)
    assert reason in str(refusal(dataset))
    assert refusal(dataset).code == "not_a_breast"
    assert read_mammogram(dataset, any_anatomy=True).header.rows == 8


PARTS = (
    *(CTImageStorage, EnhancedCTImageStorage, BreastProjectionXRayImageStorageForPresentation),
    BreastProjectionXRayImageStorageForProcessing,
)


@given(
    st.sampled_from(["MG", "CT", "DX", "OT", ""]),
    st.sampled_from(PARTS),
    st.sampled_from([None, ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"], ["ORIGINAL", "PRIMARY"]]),
    st.sampled_from(["BREAST", ""]),
    st.sampled_from(["", "CC", "MLO"]),
)
def test_no_part_of_a_tomosynthesis_is_scored_whatever_else_its_header_says(
    modality: str, sop_class: str, image_type: list[str] | None, part: str, view: str
) -> None:
    more = {"SOPClassUID": sop_class} | ({} if image_type is None else {"ImageType": image_type})
    error = refusal(image(modality, part, view, **more))
    assert error.code == "not_a_breast"


def test_the_container_of_a_volume_is_refused() -> None:
    dataset = image("MG", "BREAST", "CC", SOPClassUID=SecondaryCaptureImageStorage)
    assert read_mammogram(dataset).header.rows == 8
    dataset.add_new(0x7E010010, "LO", "HOLOGIC, Inc.")
    assert "container" in str(refusal(dataset))


def test_the_report_of_a_refused_radiograph_says_what_it_is(tmp_path) -> None:
    dataset = image("CR", "CHEST", SOPClassUID=ComputedRadiographyImageStorage)
    path = tmp_path / "chest.dcm"
    dataset.save_as(path, enforce_file_format=True)
    report, mammogram = file_report(path)
    assert mammogram is None
    assert (report["code"], report["laterality"], report["rows"]) == ("not_a_breast", "L", 8)
    assert "another part" in report["refused"]
