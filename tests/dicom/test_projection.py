from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from mammo_hf.dicom import Laterality, View
from mammo_hf.dicom.header import find_modifiers, find_orientation, find_projection
from mammo_hf.notes import Note


def header(code: str | None = None, frame_laterality: str | None = None, **keywords: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in keywords.items():
        setattr(dataset, keyword, value)
    if code is not None:
        item = Dataset()
        item.CodeValue = code
        dataset.ViewCodeSequence = [item]
    if frame_laterality is not None:
        anatomy, group = Dataset(), Dataset()
        anatomy.FrameLaterality = frame_laterality
        group.FrameAnatomySequence = [anatomy]
        dataset.SharedFunctionalGroupsSequence = [group]
    return dataset


def found(dataset: Dataset) -> tuple[Laterality, View, list[str]]:
    notes: list[str] = []
    (laterality, _), (view, _) = find_projection(dataset, notes)
    return laterality, view, notes


def test_silence_is_unknown() -> None:
    assert found(Dataset()) == (Laterality.UNKNOWN, View.UNKNOWN, [])


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (header(ImageLaterality="R"), ("R", "")),
        (header(Laterality="L"), ("L", "")),
        (header(frame_laterality="R"), ("R", "")),
        (header(ViewPosition="L MLO"), ("L", "MLO")),
        (header(ViewPosition="RCC"), ("R", "CC")),
        (header(ViewPosition="ML"), ("", "ML")),
        (header(ViewPosition="LM"), ("", "LM")),
        (header(ViewPosition="LML"), ("L", "ML")),
        (header(ViewPosition="AP"), ("", "")),
        (header(PatientID="Mass-Training_P_00001_LEFT_CC"), ("L", "CC")),
        (header(PatientID="Calc-Test_P_00038_RIGHT_MLO_2"), ("R", "MLO")),
        (header(PatientID="P_00038_LEFT_CC.dcm"), ("L", "CC")),
        (header(PatientID="MARTIN_LEFT_CC"), ("", "")),
        (header(PatientOrientation=["A", "R"]), ("L", "CC")),
        (header(PatientOrientation=["P", "FL"]), ("R", "MLO")),
        (header(PatientOrientation=["P", "R"]), ("", "")),
    ],
)
def test_each_attribute_is_heard(dataset: Dataset, expected: tuple[str, str]) -> None:
    laterality, view, notes = found(dataset)
    assert (laterality.value, view.value) == expected
    assert notes == []


@pytest.mark.parametrize("view", [view for view in View if view.codes])
def test_view_codes_old_and_new(view: View) -> None:
    for code in view.codes:
        assert found(header(code))[1] is view


def test_the_first_is_believed_and_the_others_are_reported() -> None:
    dataset = header(
        "R-10226", ImageLaterality="L", Laterality="R", ViewPosition="CC", PatientID="Mass-Test_P_00016_RIGHT_CC"
    )
    laterality, view, notes = found(dataset)
    assert (laterality, view) == (Laterality.LEFT, View.MLO)
    assert notes == [
        "ImageLaterality says L, Laterality says R",
        "ImageLaterality says L, the PatientID text says R",
        "ViewCodeSequence says MLO, ViewPosition says CC",
        "ViewCodeSequence says MLO, the PatientID text says CC",
    ]


def test_what_is_merely_less_exact_is_no_contradiction() -> None:
    dataset = header("399192008", ImageLaterality="R", Laterality="B", ViewPosition="XCC")
    assert found(dataset) == (Laterality.RIGHT, View.XCCL, [])


# texts that makers and sites write, as reported in public, with what they mean
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("R MLO", ("R", "MLO")),
        ("CC DEX", ("R", "CC")),
        ("VIISTO SIN", ("L", "MLO")),
        ("MLO RIGHT", ("R", "MLO")),
        ("RCC", ("R", "CC")),
        ("LMLO Diagnostic 2D", ("L", "MLO")),
        ("MAMMO_L_CRANIO-CAUDAL", ("L", "CC")),
        ("Left medio-lateral oblique", ("L", "MLO")),
        ("Right breast", ("R", "")),
        ("LM", ("", "LM")),
        ("L series 2, R repeat", ("", "")),
        ("R CC and L CC", ("", "CC")),
        ("R CC, MLO", ("R", "")),
        ("SCREENING", ("", "")),
    ],
)
@pytest.mark.parametrize("attribute", ["AcquisitionDeviceProcessingDescription", "ProtocolName", "SeriesDescription"])
def test_free_text_is_heard_and_noted(attribute: str, text: str, expected: tuple[str, str]) -> None:
    laterality, view, notes = found(header(**{attribute: text}))
    assert (laterality.value, view.value) == expected
    assert [note.code.split("_from_")[0] for note in notes] == [
        name for name, value in zip(("laterality", "view"), expected, strict=True) if value
    ]
    assert attribute in "".join(notes) or expected == ("", "")
    silent = find_projection(header(**{attribute: text}), [], use_descriptions=False)
    assert silent == ((Laterality.UNKNOWN, None), (View.UNKNOWN, None))


@given(
    side=st.sampled_from(["R", "L", "RIGHT", "LEFT", "DEX", "SIN", "Rt", "lt"]),
    view=st.sampled_from(["CC", "MLO", "ML", "LM", "LMO", "XCCL", "XCCM"]),
    order=st.permutations(range(2)),
    separator=st.sampled_from([" ", "_", "-", ", ", " / "]),
    around=st.sampled_from(["", "MAMMO ", "2D ", "Screening - ", "1. "]),
)
def test_side_and_view_are_heard_in_any_order_and_spelling(
    side: str, view: str, order: list[int], separator: str, around: str
) -> None:
    text = around + separator.join([(side, view)[index] for index in order])
    laterality, heard, _ = found(header(SeriesDescription=text))
    assert laterality.value == ("R" if side.upper() in ("R", "RIGHT", "DEX", "RT") else "L")
    assert heard.value == view


def test_the_attribute_that_spoke_is_kept_and_free_text_overrules_nothing() -> None:
    dataset = header(ImageLaterality="L", SeriesDescription="R MLO", ViewPosition="CC")
    notes: list[Note] = []
    assert find_projection(dataset, notes) == ((Laterality.LEFT, "ImageLaterality"), (View.CC, "ViewPosition"))
    assert notes == [
        "ImageLaterality says L, SeriesDescription says R",
        "ViewPosition says CC, SeriesDescription says MLO",
    ]


def test_the_first_known_item_of_the_view_codes_counts() -> None:
    dataset = header("X-1")
    known = Dataset()
    known.CodeValue = "R-10226"
    dataset.ViewCodeSequence.append(known)
    assert find_projection(dataset, [])[1] == (View.MLO, "ViewCodeSequence")


@given(st.lists(st.sampled_from(["X-1", "", "399162004", "R-10226", "R-10224"]), min_size=1, max_size=4))
def test_of_any_view_codes_the_first_known_one_counts(written: list[str]) -> None:
    dataset = Dataset()
    dataset.ViewCodeSequence = [header(code).ViewCodeSequence[0] for code in written]
    names = {"399162004": View.CC, "R-10226": View.MLO, "R-10224": View.ML}
    known = [names[code] for code in written if code in names]
    notes: list[str] = []
    assert find_projection(dataset, notes)[1][0] == (known[0] if known else View.UNKNOWN)
    assert bool(notes) == (len(set(known)) > 1)


def test_the_hanging_never_overrules_what_is_written() -> None:
    dataset = header(ImageLaterality="R", ViewPosition="MLO", PatientOrientation=["A", "R"])
    assert found(dataset) == (Laterality.RIGHT, View.MLO, [])


def modified(code: str = "", meaning: str = "", *, beside: bool = False) -> Dataset:
    modifier = Dataset()
    modifier.CodeValue, modifier.CodeMeaning = code, meaning
    dataset = header(code="399162004")
    holder = dataset if beside else dataset.ViewCodeSequence[0]
    holder.ViewModifierCodeSequence = [modifier]
    return dataset


@pytest.mark.parametrize(
    ("dataset", "modifiers"),
    [
        (modified("399055006"), ["spot compression"]),
        (modified("R-102D6"), ["magnification"]),
        (modified("", "Implant Displaced"), ["implant displaced"]),
        (modified("399197002", beside=True), ["rolled lateral"]),
        (modified("0000"), []),
        (header(ViewPosition="RMLOID"), ["implant displaced"]),
        (header(ViewPosition="L MCC"), ["magnification"]),
        (header(ViewPosition="CC S"), ["spot compression"]),
        (header(ViewPosition="LCCRL"), ["rolled lateral"]),
        (header(ViewPosition="AT"), ["axillary tail"]),
        (header(ViewPosition="CV"), ["cleavage"]),
        (header(ViewPosition="MLO"), []),
        (header(ViewPosition="LM"), []),
    ],
)
def test_modifiers_are_heard_in_code_meaning_and_view_position(dataset: Dataset, modifiers: list[str]) -> None:
    assert [modifier.value for modifier in find_modifiers(dataset)] == modifiers


@pytest.mark.parametrize(
    ("position", "expected"),
    [("RMLOID", ("R", "MLO")), ("L MCC", ("L", "CC")), ("MML", ("", "ML")), ("XCCLID", ("", "XCCL")), ("AT", ("", ""))],
)
def test_a_modifier_leaves_side_and_view_readable(position: str, expected: tuple[str, str]) -> None:
    laterality, view, _ = found(header(ViewPosition=position))
    assert (laterality.value, view.value) == expected


def test_the_meaning_is_used_for_an_unknown_code() -> None:
    dataset = header(code="local-17")
    dataset.ViewCodeSequence[0].CodeMeaning = "Medio-Lateral  Oblique"
    assert found(dataset)[1] is View.MLO


def test_orientation_is_kept_where_it_is_one() -> None:
    assert find_orientation(header(PatientOrientation=["p", "FL"])) == ("P", "FL")
    assert find_orientation(header(PatientOrientation=["Doe", "Jane"])) == ()
