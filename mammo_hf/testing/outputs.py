"""The conformance kit for authors of an output, and the exam that it runs on."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.privacy import salted_hash
from ..dicom import mammogram_dataset
from ..errors import MammoError
from ..explainers import explain
from ..inference.outputs import GROUP, NAMES, ScoredExam, ScoredImage
from ..metrics.calibration import calibrated
from ..plugins import find_plugin
from ..processing.image_processing_mammo import MammoImageProcessor
from .explainers import TASKS, tiny_classifier

# what must not be in the name of a file
PATIENT = {"PatientName": "Planted^Name", "PatientID": "PLANTED-4711", "AccessionNumber": "PLANTED-ACC"}
_VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))


def scored_exam(folder: str | os.PathLike[str], *, maps: bool = True, seed: int = 0) -> ScoredExam:
    """Return an exam of four drawn views as `predict` gives it to outputs, with scores and maps of a tiny classifier.

    Args:
        folder: Folder that the DICOM files of the views are written to.
        maps: Whether the predicted pathology is explained.
        seed: Seed of the classifier's weights.
    """
    model, processor = tiny_classifier(seed=seed), MammoImageProcessor(size={"height": 112, "width": 56})
    study = f"2.25.{int(salted_hash('a study', 'kit')[:16], 16)}"
    images = []
    for number, (side, view) in enumerate(_VIEWS):
        path = Path(folder) / f"{number}.dcm"
        _draw(side, view, number, study).save_as(path, enforce_file_format=True)
        made: Any = processor(path, return_tensors="pt", return_geometry=True)
        with torch.no_grad():
            logits = model(pixel_values=made["pixel_values"]).logits.double().numpy()
        shown = {"images": processor.denormalize(made["pixel_values"].numpy()), "geometry": made["geometry"]}
        found = (explain(model, made["pixel_values"], None, "grad_cam", **shown),) if maps else ()
        images.append(ScoredImage(str(path), side, view, _by_task(logits), (), found))
    model_facts = {
        "name": "tiny",
        "sha256": salted_hash(str(seed), "weights").ljust(64, "0"),
        "version": "0.1.0",
        "calibration": {"pathology": {"method": "platt", "slope": 1.0, "intercept": 0.0}},
        "operating_points": {"pathology": {"image": {"specificity_95": {"threshold": 0.5}}}},
    }
    options = {"tta": False, "explainer": "grad_cam" if maps else None, "level": "image", "aggregate": "mean"}
    return ScoredExam(tuple(images), {}, model_facts, options, processor)


def _draw(side: str, view: str, number: int, study: str) -> Any:
    """Return a half disk as a breast at the chest wall's edge, with a brighter spot."""
    rows, columns = np.ogrid[:400, :240]
    pixels = np.where((rows - 200) ** 2 + columns**2 < 180**2, 500 + 100 * number, 10)
    pixels = pixels + 400 * ((rows - 220) ** 2 + (columns - 70) ** 2 < 15**2)
    pixels = pixels[:, ::-1] if side == "R" else pixels
    named = {"StudyInstanceUID": study, "StudyDate": "20240203", "StudyTime": "101112", "InstanceNumber": str(number)}
    window = {"WindowCenter": "512", "WindowWidth": "1024"}
    return mammogram_dataset(
        pixels.astype(np.uint16), bits_stored=12, laterality=side, view=view, **named, **window, **PATIENT
    )


def _by_task(logits: np.ndarray) -> dict[str, dict[str, float]]:
    found, start = {}, 0
    for task in TASKS:
        labels: Any = task["labels"]
        scores = calibrated(logits[:, start : start + len(labels)], None)[0]
        found[str(task["name"])] = dict(zip(labels, scores.tolist(), strict=True))
        start += len(labels)
    return found


def check_output(output: str | Any) -> list[tuple[str, bytes]]:
    """Check that an output keeps the contract of ``mammo_hf.inference.outputs.Output``.

    Names: all are there and available. Files: of an exam of four views, at least one; each name is a plain file name,
    is given once and holds nothing of the patient; the same exam gives the same bytes, also from another folder; the
    exam's own files are unchanged, and nothing is written next to them. An exam of pictures without a header, and
    without maps if it shows them, is written or refused with a `MammoError`.

    Args:
        output: Name of an installed one, or a module or object with the names of the protocol.

    Returns:
        The names and contents of the files, for further checks.

    Raises:
        AssertionError: It breaks the contract; the text says which part.
        UsageError: No output of that name can be used.
    """
    plugin = find_plugin(GROUP, output, NAMES, kind="output") if isinstance(output, str) else output
    _check_names(plugin)
    found = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            exam = scored_exam(folder)
            before = _contents(folder)
            found.append(list(plugin.files_of(exam)))
            assert _contents(folder) == before, "files_of changed the folder of the exam"
            assert list(plugin.files_of(exam)) == found[-1], "the same exam gave other bytes"
    assert found[0] == found[1], "the same exam in another folder gave other bytes"
    _check_files(found[0])
    _check_strangers(plugin)
    return found[0]


def _check_names(plugin: Any) -> None:
    lacking = [name for name in NAMES if not hasattr(plugin, name)]
    assert not lacking, f"it has no {', '.join(lacking)}"
    assert isinstance(plugin.REQUIRES, tuple), "REQUIRES is a tuple of package names"
    assert isinstance(plugin.MAPS, bool), "MAPS says whether it shows maps"
    assert plugin.available(), f"available() is false: it needs {', '.join(plugin.REQUIRES)}"


def _check_files(files: list[tuple[str, bytes]]) -> None:
    assert files, "it gave no file of an exam of four views"
    names = [name for name, _ in files]
    assert len(set(names)) == len(names), "two files have one name"
    for name, content in files:
        assert os.path.basename(name) == name, f"{name} is not a plain file name"
        assert not name.startswith("."), f"{name} is hidden"
        assert isinstance(content, bytes), f"the content of {name} is not bytes"
        assert content, f"{name} is empty"
        assert not any(value in name for value in PATIENT.values()), f"{name} names a patient"


def _check_strangers(plugin: Any) -> None:
    """Give it a picture without a header, and an exam without maps."""
    with tempfile.TemporaryDirectory() as folder:
        exam = scored_exam(folder, maps=False)
        picture = Path(folder) / "picture.pgm"
        picture.write_bytes(b"P5 56 112 255\n" + bytes(56 * 112))
        image = exam.images[0]
        for images in (exam.images, (ScoredImage(str(picture), "", "", image.scores),)):
            other = ScoredExam(images, {}, exam.model, exam.options, exam.processor)
            try:
                list(plugin.files_of(other))
            except MammoError:
                continue
            except Exception as error:
                raise AssertionError(f"what it cannot write raised {type(error).__name__}, not a MammoError") from error


def _contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
