from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from mammo_hf.dicom import (
    ImageKind,
    Implant,
    Laterality,
    MammogramHeader,
    Photometric,
    PresentationIntent,
    Vendor,
    View,
    mammogram_dataset,
)
from mammo_hf.dicom.header import find_intent, mammogram_header
from mammo_hf.dicom.pixels import image_pixel

RAW = {"PresentationIntentType": "FOR PROCESSING"}


def header(**keywords: object) -> MammogramHeader:
    dataset = mammogram_dataset(np.zeros((6, 4), np.int16), bits_stored=12, laterality="R", view="MLO", **keywords)
    return mammogram_header(dataset, image_pixel(dataset, []), ("something found before",))


def test_every_fact_is_there() -> None:
    assert header(Manufacturer="GE MEDICAL SYSTEMS", SeriesDescription="cropped images") == MammogramHeader(
        laterality=Laterality.RIGHT,
        laterality_source="ImageLaterality",
        view=View.MLO,
        view_source="ViewCodeSequence",
        modifiers=(),
        orientation=(),
        kind=ImageKind.FFDM,
        intent=PresentationIntent.FOR_PRESENTATION,
        spacing_mm=(0.1, 0.1),
        spacing_source="ImagerPixelSpacing",
        vendor=Vendor.GE,
        implant=Implant.UNKNOWN,
        model_name="",
        kvp=None,
        exposure_mas=None,
        compression_force_n=None,
        thickness_mm=None,
        photometric=Photometric.MONOCHROME2,
        rows=6,
        columns=4,
        frames=1,
        bits_allocated=16,
        bits_stored=12,
        high_bit=11,
        signed=True,
        series_description="cropped images",
        contradictions=("something found before",),
    )


def test_the_intent_comes_from_the_sop_class_where_it_is_not_said() -> None:
    dataset, notes = Dataset(), []
    assert find_intent(dataset, notes) is PresentationIntent.UNKNOWN
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    assert find_intent(dataset, notes) is PresentationIntent.UNKNOWN
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForProcessing
    assert find_intent(dataset, notes) is PresentationIntent.FOR_PROCESSING
    assert notes == []
    dataset.PresentationIntentType = "FOR PRESENTATION"
    assert find_intent(dataset, notes) is PresentationIntent.FOR_PRESENTATION
    assert notes == ["PresentationIntentType says FOR PRESENTATION, the SOP class FOR PROCESSING"]


@pytest.mark.parametrize(
    ("keywords", "note"),
    [
        ({"photometric": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"}, "IDENTITY with MONOCHROME1"),
        ({"PresentationLUTShape": "INVERSE"}, "INVERSE with MONOCHROME2"),
        ({"RescaleIntercept": None}, "RescaleSlope and RescaleIntercept do not come together"),
        ({"WindowCenter": 5}, "WindowCenter and WindowWidth do not come together"),
        ({"VOILUTSequence": [Dataset()]}, "VOILUTSequence has an empty item"),
        ({"ModalityLUTSequence": [Dataset()]}, "ModalityLUTSequence and RescaleSlope are both there"),
        ({**RAW, "WindowCenter": 5, "WindowWidth": 9}, "which For Processing values are not meant for"),
        ({**RAW, "PixelIntensityRelationship": None}, "neither LIN nor LOG; taken as LIN"),
        ({**RAW, "PixelIntensityRelationship": "DISP"}, "neither LIN nor LOG; taken as LOG"),
        ({**RAW, "PixelIntensityRelationshipSign": None}, "neither 1 nor -1; decided by the image"),
        ({**RAW, "PixelIntensityRelationshipSign": 7}, "neither 1 nor -1; decided by the image"),
        ({**RAW, "PixelIntensityRelationshipSign": 1}, "Sign is 1 with MONOCHROME2; the sign is used"),
        (
            {**RAW, "PixelIntensityRelationshipSign": -1, "photometric": "MONOCHROME1"},
            "Sign is -1 with MONOCHROME1; the sign is used",
        ),
        ({"PixelSpacing": [3, 3]}, "PixelSpacing is neither"),
        ({"Laterality": "L"}, "Laterality says L"),
    ],
)
def test_contradictions_are_reported(keywords: dict[str, object], note: str) -> None:
    *found, before = header(**keywords).contradictions
    assert before == "something found before"
    assert any(note in text for text in found)
