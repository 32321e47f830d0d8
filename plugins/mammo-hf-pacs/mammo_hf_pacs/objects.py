"""What all objects share: the headers of the images, UIDs, patient and study, dates, and what they say of the model.

The same images, model, options and version give the same bytes. UIDs are made from these, dates are the source's.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pydicom
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.content import AlgorithmIdentificationSequence
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from mammo_hf.dicom import Slab
from mammo_hf.errors import DataError
from mammo_hf.inference.outputs import ScoredExam, ScoredImage

from . import __version__, codes

logging.getLogger("highdicom").setLevel(logging.WARNING)  # at INFO it logs the identifiers of studies

MAKER = "mammo_hf"
RESEARCH = "RESEARCH USE ONLY, NOT FOR DIAGNOSIS"
RULE = "specificity_95"  # operating point that objects state
SERIES_NUMBERS = {
    "sr": 9001,
    "seg_map": 9002,
    "seg_breast": 9003,
    "capture": 9004,
    "map": 9005,
}  # after the study's own
NO_DATE = ("19000101", "000000")  # of an exam whose images bear no date: objects must have one
# Patient, Clinical Trial Subject, General Study, Patient Study and Clinical Trial Study (PS3.3 C.7.1, C.7.2)
PATIENT = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("OtherPatientIDsSequence", "EthnicGroup", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("DeidentificationMethodCodeSequence", "ClinicalTrialSponsorName", "ClinicalTrialProtocolID"),
    *("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID"),
    "ClinicalTrialSubjectReadingID",
)
STUDY = (
    *("StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "IssuerOfAccessionNumberSequence"),
    *("ReferringPhysicianName", "StudyID", "StudyDescription", "ProcedureCodeSequence", "PatientAge"),
    *("ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription"),
)
_DATE = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_FRACTION = re.compile(r"\d+\.\d+(e-?\d+)?|\d+e-?\d+")
_TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName", "StudyID"),
)
_DATES = tuple((f"{name}Date", f"{name}Time") for name in ("Content", "Acquisition", "Series", "Study"))


def headers_of(exam: ScoredExam) -> list[Dataset]:
    """Read the headers of an exam's images, without pixels.

    Raises:
        DataError: An image has no identifiers of its own, or the images are of several studies or patients.
    """
    found = [_header(image.file) for image in exam.images]
    for keyword, what in (("StudyInstanceUID", "studies"), ("PatientID", "patients")):
        if len({str(header.get(keyword, "")) for header in found}) > 1:
            remedy = "give the images of one study and patient"
            raise DataError(f"its images are of several {what}", source="the exam", remedy=remedy)
    return found


def _header(file: str) -> Dataset:
    try:
        header = pydicom.dcmread(file, force=True, stop_before_pixels=True)
        named = all(header.get(name) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
        whole = named and all(header.get(name) for name in ("SOPClassUID", "Rows", "Columns"))
    except Exception as error:  # whatever a stranger's header makes of a parser
        problem = f"its header cannot be read ({type(error).__name__})"
        raise DataError(problem, source=file, remedy="give the DICOM file that was scored") from error
    if not whole:
        problem = "has no study, series or identifier of its own, so that nothing can be added to its study"
        raise DataError(problem, source=file, remedy="give the original DICOM file")
    return header


def nameless(header: Dataset) -> Dataset:
    """Return a header without patient and study, for highdicom, which refuses dates such as 00000000 and quotes names.

    `finish` gives the object those of the source as they are.
    """
    copy = Dataset()
    copy.update(header)
    for keyword in {*PATIENT, *STUDY} - {"StudyInstanceUID"}:
        if keyword in copy:
            del copy[keyword]
    for keyword in _TYPE_2:
        setattr(copy, keyword, "")
    return copy


def shown_frames(exam: ScoredExam, header: Dataset) -> list[int] | None:
    """Return the numbers, from 1, of the frames of a volume that the model saw; ``None`` for an image of one frame."""
    frames = int(header.get("NumberOfFrames") or 1)
    if frames < 2:
        return None
    return [1 + index for index in Slab.from_policy(exam.processor.tomosynthesis).indices(frames)]


def as_one_frame(exam: ScoredExam, header: Dataset) -> Dataset | None:
    """Return the header of a volume as if it had only the frame that the model saw, the middle one of several.

    What is made of one plane of a volume can then be placed in space. The header of an image of one frame is returned
    as it is; of a volume that does not say where its frames are, ``None``.
    """
    shown = shown_frames(exam, header)
    if shown is None:
        return header
    shared, own = Dataset(), Dataset()
    try:
        frame = header.PerFrameFunctionalGroupsSequence[shown[len(shown) // 2] - 1]
        groups = [frame, *header.get("SharedFunctionalGroupsSequence", ())]
        for target, name in ((own, "PlanePosition"), (shared, "PlaneOrientation"), (shared, "PixelMeasures")):
            keyword = f"{name}Sequence"
            setattr(target, keyword, next(group[keyword].value for group in groups if keyword in group))
        (measures,), (position,) = shared.PixelMeasuresSequence, own.PlanePositionSequence
        whole = position.ImagePositionPatient and measures.PixelSpacing and measures.SliceThickness
    except (AttributeError, IndexError, StopIteration, ValueError):  # a group that is not there, or is not whole
        return None
    one = Dataset()
    one.update(header)
    replaced = {
        "NumberOfFrames": 1,
        "SharedFunctionalGroupsSequence": [shared],
        "PerFrameFunctionalGroupsSequence": [own],
    }
    for keyword, value in replaced.items():
        one.pop(keyword, None)  # its element is the header's own
        setattr(one, keyword, value)
    return one if whole and header.get("FrameOfReferenceUID") else None


def uid_of(*parts: object) -> str:
    """Return a UID below 2.25 (PS3.5 B.2) that follows from its parts."""
    text = json.dumps([__version__, *parts], sort_keys=True, default=str)
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], 'big')}"


def series_uid(exam: ScoredExam, headers: Sequence[Dataset], kind: str) -> str:
    """Return the UID of the series of a kind: another model, version or option gives another one."""
    return uid_of(kind, str(headers[0].StudyInstanceUID), exam.model["sha256"], exam.model["version"], exam.options)


def placed(
    exam: ScoredExam, headers: Sequence[Dataset], kind: str, sources: Sequence[Dataset], *parts: str
) -> dict[str, Any]:
    """Return the arguments of an object that say where it is in its study, for the constructors of highdicom.

    Args:
        exam: The exam.
        headers: Headers of the images of the exam.
        kind: Kind of the object, a key of `SERIES_NUMBERS`.
        sources: Headers of the images that this object is made of.
        parts: What else distinguishes it, such as the label that a map explains.
    """
    series = series_uid(exam, headers, kind)
    image = exam.images[[str(header.SOPInstanceUID) for header in headers].index(str(sources[0].SOPInstanceUID))]
    # what is made of one image stays the same when another image of the exam comes late
    digest, number = (exam_digest(exam), 1) if kind == "sr" else (_digest(image.scores), _number(image))
    content = [[str(source.SOPInstanceUID) for source in sources], digest]
    return {
        "series_instance_uid": series,
        "series_number": SERIES_NUMBERS[kind],
        "sop_instance_uid": uid_of(series, content, *parts),
        "instance_number": number,
        "manufacturer": MAKER,
        "manufacturer_model_name": model_name(exam),
        "software_versions": str(exam.model["version"]),
        "device_serial_number": model_version(exam),
        "coding_schemes": [CodingSchemeIdentificationItem(codes.SCHEME, responsible_organization=MAKER)],
    }


def exam_digest(exam: ScoredExam) -> str:
    """Return a digest of the scores: an image that came late, or was read in another way, gives another object."""
    return _digest([[image.scores for image in exam.images], exam.units])


def _digest(scores: Any) -> str:
    """Return a digest of scores as they are stated; what is beyond differs with the number of images in a batch."""
    text = json.dumps(scores, sort_keys=True)
    return hashlib.sha256(_FRACTION.sub(lambda found: f"{float(found[0]):.5f}", text).encode()).hexdigest()


def _number(image: ScoredImage) -> int:
    """Return the place of an image among the standard views; the others follow."""
    views = ["RCC", "LCC", "RMLO", "LMLO", f"{image.laterality}{image.view}"]
    return 1 + views.index(views[-1])


def model_name(exam: ScoredExam) -> str:
    """Return the name of the model as objects state it."""
    return ascii_text(exam.model["name"], 64)


def model_version(exam: ScoredExam) -> str:
    """Return what tells this state of the model from others: the beginning of its weights' hash."""
    return str(exam.model["sha256"][:16])


def statements(exam: ScoredExam) -> dict[str, str]:
    """Return what objects state of the model: use, hash, calibration and operating point."""
    facts = {"Use": RESEARCH, "Weights": f"sha256 {exam.model['sha256']}"}
    facts["Software"] = f"mammo_hf {exam.model['version']}, mammo-hf-pacs {__version__}"
    for task, fitted in exam.model["calibration"].items():
        numbers = ", ".join(f"{name} {value:.6g}" for name, value in fitted.items() if isinstance(value, (int, float)))
        facts[f"Calibration of {task}"] = f"{fitted.get('method', '')} {numbers}".strip()
    for task in exam.model["operating_points"]:
        point = operating_point(exam, task)
        if point is not None:
            facts[f"Operating point of {task}"] = f"threshold {point:.6g} of one image, {RULE} on validation"
    facts |= {f"Option {name}": str(value) for name, value in exam.options.items() if value is not None}
    return {ascii_text(name, 64): ascii_text(text, 1024) for name, text in facts.items()}


def operating_point(exam: ScoredExam, task: str) -> float | None:
    """Return the threshold of a task's positive label for one image; ``None`` if the model has none."""
    point = exam.model["operating_points"].get(task, {}).get("image", {}).get(RULE, {})
    return point.get("threshold")


def algorithm(exam: ScoredExam, name: str) -> AlgorithmIdentificationSequence:
    """Return the identification of what made a segmentation: the model, or an explainer of it."""
    return AlgorithmIdentificationSequence(
        name=ascii_text(name, 64),
        family=codes.FAMILY,
        version=model_version(exam),
        source=f"{MAKER} {exam.model['version']}",
        parameters=statements(exam),
    )


def site_of(image: ScoredImage) -> Code | None:
    """Return the code of an image's side."""
    return codes.SIDES.get(image.laterality)


def finish(dataset: Dataset, source: Dataset, description: str, replaces: Iterable[Mapping[str, str]] = ()) -> Dataset:
    """Give an object the patient, study and dates of its source, and the statement of its use.

    Args:
        dataset: Object that highdicom has made; it is changed.
        source: Header of an image that it is made of.
        description: Description of its series.
        replaces: Objects that it replaces, each with ``study``, ``series``, ``class`` and ``instance``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes what is not valid
        for keyword in (*PATIENT, *STUDY):
            if keyword in source:
                dataset[keyword] = source[keyword]
            elif keyword in dataset and keyword not in _TYPE_2:
                del dataset[keyword]
    for keyword in ("SpecificCharacterSet", "TimezoneOffsetFromUTC"):
        if source.get(keyword):
            dataset[keyword] = source[keyword]
    _set_dates(dataset, source)
    _set_dimensions(dataset)
    dataset.SoftwareVersions = [dataset.SoftwareVersions, __version__]
    dataset.SeriesDescription = ascii_text(f"RESEARCH USE ONLY: {description}", 64)
    dataset.ContentQualification = "RESEARCH"
    series = {(str(one["study"]), str(one["series"])) for one in replaces} - {
        (str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID))
    }
    if series:
        dataset.RelatedSeriesSequence = [_related(*one) for one in sorted(series)]
    return dataset


def _set_dates(dataset: Dataset, source: Dataset) -> None:
    """Replace the time of the run by that of the source: another run is to give the same bytes."""
    given = ((str(source.get(date, "")), str(source.get(time, ""))) for date, time in _DATES)
    date, time = next((pair for pair in given if _DATE.fullmatch(pair[0])), NO_DATE)
    time = time if _TIME.fullmatch(time) else NO_DATE[1]
    dataset.ContentDate = dataset.InstanceCreationDate = date
    dataset.ContentTime = dataset.InstanceCreationTime = time
    if "DateOfSecondaryCapture" in dataset:
        dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = date, time
    for equipment in dataset.get("ContributingEquipmentSequence", ()):
        equipment.ContributionDateTime = f"{date}{time}"


def _set_dimensions(dataset: Dataset) -> None:
    """Replace the random UID of a segmentation's dimensions."""
    uid = uid_of("dimensions", str(dataset.SOPInstanceUID))
    items = (*dataset.get("DimensionOrganizationSequence", ()), *dataset.get("DimensionIndexSequence", ()))
    for item in items:
        item.DimensionOrganizationUID = uid


def _related(study: str, series: str) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID, item.SeriesInstanceUID = study, series
    item.PurposeOfReferenceCodeSequence = [coded(codes.REPLACED)]
    return item


def coded(code: Code) -> Dataset:
    """Return a code as an item of a sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def written(dataset: Dataset) -> tuple[str, bytes]:
    """Return the name and the content of an object's file."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return f"{dataset.SOPInstanceUID}.dcm", file.getvalue()


def ascii_text(text: str, longest: int) -> str:
    """Return text that any character set has, cut to a length; a backslash would separate values."""
    return text.encode("ascii", "replace").decode().replace("\\", "/")[:longest]
