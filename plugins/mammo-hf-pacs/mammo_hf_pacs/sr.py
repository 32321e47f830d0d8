"""A structured report of an exam (TID 1500): the scores of each image and task, by which model, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from mammo_hf.explainers import Explanation
from mammo_hf.inference.outputs import ScoredExam, ScoredImage, Scores
from mammo_hf.models.own_figures import is_tested_for

from . import REQUIRES as REQUIRES
from . import available as available

MAPS = True  # their peaks, if they have their warrant


def files_of(exam: ScoredExam) -> list[tuple[str, bytes]]:
    """Return the report as a file."""
    from .objects import written

    return [written(dataset) for dataset in datasets_of(exam)]


def datasets_of(exam: ScoredExam, replaces: Sequence[Mapping[str, str]] = ()) -> list[Dataset]:
    """Return the report: a group of measurements per image and task, and per breast and exam if they were scored.

    Args:
        exam: The exam.
        replaces: Earlier objects of this kind on the same study, see `mammo_hf_pacs.objects.finish`.

    Raises:
        DataError: The images have no identifiers, or are of several studies.
    """
    import highdicom as hd

    from . import codes, objects

    headers = objects.headers_of(exam)
    groups = [
        group
        for image, header in zip(exam.images, headers, strict=True)
        for group in [*_scores(exam, image.scores, image.laterality, [header]), *_peaks(exam, image, header)]
    ]
    for unit, scores in exam.units.items():
        of_unit = [h for i, h in zip(exam.images, headers, strict=True) if unit in (i.laterality, "exam")]
        groups += _scores(exam, scores, unit, of_unit)
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=objects.uid_of("device", exam.model["sha256"]),
        name=objects.model_name(exam),
        manufacturer_name=objects.MAKER,
        model_name=objects.model_name(exam),
        serial_number=objects.model_version(exam),
    )
    observer = hd.sr.ObserverContext(codes.DCM.Device, device)
    context = hd.sr.ObservationContext(observer_device_context=observer)
    report = hd.sr.MeasurementReport(context, codes.PROCEDURE, groups, codes.REPORT)
    # the tests of maps may be made after a first report
    passed = sorted(f"{name} {tests['target']}" for name, tests in _passed(exam.model).items())
    place = objects.placed(exam, headers, "sr", headers, *passed)
    earlier = [_earlier(one) for one in replaces if one["instance"] != place["sop_instance_uid"]]
    dataset = hd.sr.ComprehensiveSR(
        evidence=[objects.nameless(header) for header in headers],
        content=report[0],
        is_complete=True,
        is_verified=False,
        previous_versions=earlier or None,
        **place,
    )
    return [objects.finish(dataset, headers[0], f"scores by {objects.model_name(exam)}", replaces)]


def _scores(exam: ScoredExam, scores: Scores, side: str, headers: Sequence[Dataset]) -> list[Any]:
    """Return a group per task: the probability of each label, and the label that the model decides for."""
    import highdicom as hd

    from . import codes, objects

    found = []
    for task, of_task in scores.items():
        measurements = [
            hd.sr.Measurement(codes.probability(task, label), float(f"{value:.6g}"), codes.NO_UNIT)
            for label, value in of_task.items()
        ]
        decided = hd.sr.QualitativeEvaluation(codes.task(task), codes.label(task, _decided(exam, task, of_task)))
        images = [
            hd.sr.SourceImageForMeasurementGroup.from_source_image(header, objects.shown_frames(exam, header))
            for header in headers
        ]
        found.append(
            hd.sr.MeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking(exam, headers, task, side),
                finding_type=codes.task(task) if side != "exam" else codes.EXAM,
                algorithm_id=_algorithm(exam),
                finding_sites=_sites(side),
                measurements=measurements,
                qualitative_evaluations=[decided],
                source_images=images,
            )
        )
    return found


def _decided(exam: ScoredExam, task: str, scores: Mapping[str, float]) -> str:
    """Return the label at the operating point of a task with two labels, else the most probable one."""
    from .objects import operating_point

    threshold, labels = operating_point(exam, task), list(scores)
    if threshold is not None and len(labels) == 2:
        return labels[scores[labels[1]] >= threshold]
    return max(labels, key=lambda label: scores[label])


def _peaks(exam: ScoredExam, image: ScoredImage, header: Dataset) -> list[Any]:
    """Return the strongest point of each map that has its warrant."""
    import highdicom as hd

    from . import codes, objects

    found = []
    for explanation in image.explanations:
        if not warranted(exam.model, explanation) or explanation.flat[0] or not explanation.strength():
            continue
        if explanation.geometry is None:
            continue
        (peak,) = explanation.peaks(1)
        assert peak.source is not None
        task, _, label = explanation.target[0].partition(":")
        region = hd.sr.ImageRegion(
            hd.sr.GraphicTypeValues.POINT,
            np.array([peak.source[::-1]]),
            hd.sr.SourceImageForRegion.from_source_image(header, objects.shown_frames(exam, header)),
        )
        found.append(
            hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking(exam, [header], explanation.target[0], explanation.explainer),
                referenced_region=region,
                finding_type=codes.SALIENCY,
                algorithm_id=_algorithm(exam, explanation.explainer),
                finding_sites=_sites(image.laterality),
                measurements=[hd.sr.Measurement(codes.MAP_VALUE, peak.value, codes.NO_UNIT)],
                qualitative_evaluations=[hd.sr.QualitativeEvaluation(codes.task(task), codes.label(task, label))],
            )
        )
    return found


def warranted(model: Mapping[str, Any], explanation: Explanation) -> bool:
    """Return whether such maps, for the label that is explained, have passed every test of this model's warrant.

    Args:
        model: Facts on the model; those without a ``warrant`` of the explainer give none.
        explanation: Explanation of one image.
    """
    tests = _passed(model).get(explanation.explainer)
    return tests is not None and is_tested_for(tests["target"], explanation.target[0], any(explanation.predicted))


def _passed(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the warrant of each explainer whose maps have passed every test."""
    found = model.get("warrant", {})
    return {name: tests for name, tests in found.items() if all(one is True for one in tests["passed"].values())}


def _tracking(exam: ScoredExam, headers: Sequence[Dataset], *what: str) -> Any:
    import highdicom as hd

    from .objects import ascii_text, uid_of

    uid = uid_of("tracking", exam.model["sha256"], [str(header.SOPInstanceUID) for header in headers], *what)
    return hd.sr.TrackingIdentifier(uid=uid, identifier=ascii_text(" ".join(what).strip(), 64))


def _algorithm(exam: ScoredExam, explainer: str = "") -> Any:
    import highdicom as hd

    from . import codes, objects

    name = f"{objects.model_name(exam)}, {explainer}" if explainer else objects.model_name(exam)
    stated = [f"{what}: {text}" for what, text in objects.statements(exam).items()]
    version = objects.model_version(exam)
    return hd.sr.AlgorithmIdentification(name, version, stated, codes.FAMILY, objects.MAKER)


def _sites(side: str) -> Any:
    import highdicom as hd

    from . import codes

    return [hd.sr.FindingSite(codes.BREAST, codes.SIDES.get(side))]


def _earlier(one: Mapping[str, str]) -> Dataset:
    """Return an earlier object as highdicom refers to it."""
    dataset = Dataset()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = one["study"], one["series"]
    dataset.SOPClassUID, dataset.SOPInstanceUID = one["class"], one["instance"]
    return dataset
