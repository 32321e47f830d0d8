from __future__ import annotations

import pytest
from pydicom.sr._snomed_dict import mapping as snomed_mapping
from pydicom.sr.codedict import codes

from mammo_hf.dicom import ImageKind, Implant, Laterality, Photometric, PresentationIntent, Vendor, View, ViewModifier

KINDS = [Laterality, View, ViewModifier, ImageKind, Implant, PresentationIntent, Photometric, Vendor]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_and_nonsense_are_unknown(kind: type) -> None:
    for value in (None, "", "  ", "zz", 7):
        assert kind.from_dicom(value) is kind.UNKNOWN


@pytest.mark.parametrize("kind", KINDS)
def test_every_member_is_found_by_its_own_text(kind: type) -> None:
    for member in kind:
        assert kind.from_dicom(member) is member
        for text in member.dicom_values():
            assert kind.from_dicom(f" {text.lower()} ") is member


def test_laterality_words() -> None:
    assert [Laterality.from_dicom(word) for word in ("L", "right", "B")] == [
        Laterality.LEFT,
        Laterality.RIGHT,
        Laterality.BOTH,
    ]


def test_view_codes_are_those_of_the_standard() -> None:
    # pydicom carries PS3.16 CID 4014 by itself
    standard = {getattr(codes.cid4014, name).value for name in codes.cid4014.dir()}
    coded = [view for view in View if view.codes]
    assert {view.codes[0] for view in coded} == standard
    assert {view for view in View if view.names} == set(coded)
    for view in coded:
        sct, srt = view.codes
        assert View.from_meaning(view.names[0]) is view
        assert View.from_code(sct) is View.from_code(srt.lower()) is view
    assert View.from_code(None) is View.from_code("R-1") is View.UNKNOWN


@pytest.mark.parametrize(
    ("manufacturer", "vendor"),
    [
        ("HOLOGIC, Inc.", Vendor.HOLOGIC),
        ("Lorad, A Hologic Company", Vendor.HOLOGIC),
        ("GE MEDICAL SYSTEMS", Vendor.GE),
        ("GEORGE Imaging", Vendor.UNKNOWN),
        ("SIEMENS Healthineers", Vendor.SIEMENS),
        ("FUJIFILM Corporation", Vendor.FUJIFILM),
        ("Philips Digital Mammography Sweden AB", Vendor.PHILIPS),
        ("Sectra Imtec AB", Vendor.PHILIPS),
        ("IMS s.r.l.", Vendor.IMS_GIOTTO),
        ("KONICA MINOLTA", Vendor.KONICA_MINOLTA),
        ("Carestream Health", Vendor.CARESTREAM),
    ],
)
def test_vendor_families(manufacturer: str, vendor: Vendor) -> None:
    assert Vendor.from_dicom(manufacturer) is vendor


def test_modifier_codes_are_those_of_the_standard() -> None:
    standard = {getattr(codes.cid4015, name).value for name in codes.cid4015.dir()}
    coded = [modifier for modifier in ViewModifier if modifier is not ViewModifier.UNKNOWN]
    assert {modifier.codes[0] for modifier in coded} == standard
    for modifier in coded:
        sct, srt = modifier.codes
        assert snomed_mapping["SCT"][sct] == srt
        assert ViewModifier.from_code(sct) is ViewModifier.from_code(srt.lower()) is modifier


@pytest.mark.parametrize(
    ("model", "vendor"),
    [
        ("Mammomat Inspiration", Vendor.SIEMENS),
        ("Selenia Dimensions", Vendor.HOLOGIC),
        ("Senographe Essential", Vendor.GE),
        ("FDR-3000AWS", Vendor.FUJIFILM),
        ("Some Workstation", Vendor.UNKNOWN),
        (None, Vendor.UNKNOWN),
    ],
)
def test_the_model_tells_the_maker_where_the_file_does_not(model: object, vendor: Vendor) -> None:
    assert Vendor.from_model(model) is vendor
