"""The whole loop with Debian's Orthanc: exams in by C-STORE and STOW, results back by QIDO and WADO, and kills."""

import copy
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest

for package in ("highdicom", "pynetdicom", "dicomweb_client"):
    pytest.importorskip(package, reason=f"{package} is not installed (plugins/mammo-hf-pacs)")

import highdicom as hd
from mammo_hf_pacs import check, objects
from mammo_hf_pacs.exchange import SENT, Dicomweb, Dimse, LaterError, Secrets
from mammo_hf_pacs.orthanc import INSTALL, Orthanc, free_port, node, program

from mammo_hf import MammoImageProcessor
from mammo_hf.inference.predict import predict
from mammo_hf.testing import tiny_classifier

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(program() is None, reason=f"Orthanc is not installed ({INSTALL})"),
]
ROOT = Path(__file__).resolve().parents[2]
PATIENT = {"PatientName": "Planted^Name", "PatientID": "PLANTED-4711", "AccessionNumber": "PLANTED-ACC"}
PATIENT |= {"PatientBirthDate": "PLANTED0"}  # which is no date: libraries quote it


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_classifier().save_pretrained(folder)
    MammoImageProcessor(size=(112, 56)).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def found_by_others(monkeypatch):
    path = [str(ROOT / "plugins" / "mammo-hf-pacs"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))


@pytest.fixture
def pacs(tmp_path):
    one = Orthanc(tmp_path / "orthanc")
    one.start()
    yield one
    one.stop()


def audit(state):
    path = state / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(state, count, seconds=280):
    deadline = time.monotonic() + seconds
    while len(audit(state)) < count:
        assert time.monotonic() < deadline, (state / "log").read_text()[-3000:]
        time.sleep(0.2)


def real_film(real_dicom):
    """A mammogram of a device, with its own header."""
    return pydicom.dcmread(real_dicom / "fo-dicom" / "GH133.dcm")


def results(web, study):
    """The objects in a study, each read as a viewer gets it."""
    return list(web.images(study, web.found(study, SENT)))


def test_what_comes_back_is_valid_and_equals_predict(pacs, model, tmp_path, real_dicom):
    web, port = Dicomweb(pacs.url), free_port()
    exam, film = check.phantom(size=(512, 256), **PATIENT), real_film(real_dicom)
    for number, one in enumerate(exam):
        one.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    film.save_as(tmp_path / "film.dcm")
    with node(str(model), tmp_path / "state", port, "--url", pacs.url, "--quiet", "2"):
        Dimse("MAMMOHF", "127.0.0.1", port, "DEVICE").send_images(exam)  # by C-STORE, ...
        Dimse("ORTHANC", "127.0.0.1", pacs.port, "DEVICE").send_images(exam)
        wait_for(tmp_path / "state", 1)
    web.send([film])  # ... and by STOW, to be retrieved by WADO
    once = [sys.executable, "-m", "mammo_hf_pacs", str(model), "--url", pacs.url, "--state", str(tmp_path / "state")]
    once += ["--once", "--study", str(film.StudyInstanceUID)]
    done = subprocess.run(once, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    again = subprocess.run(once, capture_output=True, text=True, timeout=250)
    assert "nothing to do" in again.stdout, again.stdout + again.stderr
    # the scores are predict's
    files = [str(path) for path in sorted(tmp_path.glob("*.dcm"))]
    predict(model, files, tmp_path / "scores.csv", level="exam", num_workers=0)
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    expected = sorted(float(row["pathology:malignant"]) for row in rows if row["level"] == "exam")
    assert sorted(line["result"]["pathology"]["malignant"] for line in audit(tmp_path / "state")) == pytest.approx(
        expected, abs=2e-6
    )
    stated = []
    for source in (exam[0], film):
        found = results(web, str(source.StudyInstanceUID))
        stated += [value for one in found if one.Modality == "SR" for value in _probabilities(one)]
        images = 4 if source is exam[0] else 1
        kinds = [one.Modality for one in found]
        assert {kind: kinds.count(kind) for kind in set(kinds)} == {
            "SR": 1,
            "SEG": 3 * images,
            "OT": 2 * images,
        }  # a map per task
        for one in found:
            assert one.PatientID == source.PatientID
            assert str(one.PatientName) == str(source.PatientName)
            _check_object(one, tmp_path, source)
    # each image and each exam is in the reports, as in predict's table
    assert sorted(stated) == pytest.approx(sorted(float(row["pathology:malignant"]) for row in rows), abs=2e-6)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    for planted in [*PATIENT.values(), str(film.PatientID)]:
        assert not planted or planted.encode() not in kept


def _probabilities(report):
    """The probabilities of cancer in a report that has come back."""
    groups = hd.sr.srread(io.BytesIO(objects.written(report)[1])).content.get_image_measurement_groups()
    found = [one for group in groups for one in group.get_measurements()]
    return [float(one.value) for one in found if one.name.meaning == "Probability of cancer"]


def _errors(dataset, path):
    """What dciodvfy finds in the file of a dataset."""
    path.write_bytes(objects.written(dataset)[1])
    lines = subprocess.run(["dciodvfy", path], capture_output=True, text=True).stderr.splitlines()
    return {line for line in lines if line.startswith("Error")}


def _check_object(one, folder, source):
    """Read an object by highdicom, dsrdump and dciodvfy."""
    name, content = objects.written(one)
    path = folder / f"back-{name}"
    path.write_bytes(content)
    if one.Modality == "SR":
        assert hd.sr.srread(io.BytesIO(content)).content.get_image_measurement_groups()
    elif one.Modality == "SEG":
        assert hd.seg.segread(io.BytesIO(content)).pixel_array.max() > 0
    if one.Modality == "SR" and shutil.which("dsrdump"):
        shown = subprocess.run(["dsrdump", "+Pl", path], capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
        assert "UNVERIFIED" in shown.stdout
        assert "RESEARCH USE ONLY" in shown.stdout
    if shutil.which("dciodvfy"):
        # what remains is of the source, such as a birth date of 00000000; and warnings on the private scheme
        assert _errors(one, path) <= _errors(source, folder / "source")


def test_many_exams_and_kills_give_each_result_once(tmp_path, model):
    pacs, port, state = Orthanc(tmp_path / "orthanc"), free_port(), tmp_path / "state"
    template = check.phantom(size=(256, 128))[0]
    exams = []
    for number in range(50):
        template.StudyInstanceUID = objects.uid_of("study", number)
        template.SeriesInstanceUID = objects.uid_of("series", number)
        template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = objects.uid_of("image", number)
        template.PatientID = f"P{number}"
        exams.append(copy.deepcopy(template))
    options = ["--url", pacs.url, "--quiet", "1", "--write", "sr"]
    pacs.start()
    try:
        for kill_at in (1, 20, 35):  # results after which node and PACS are killed
            with node(str(model), state, port, *options) as process:
                if kill_at == 1:
                    Dimse("MAMMOHF", "127.0.0.1", port, "DEVICE").send_images(exams)
                wait_for(state, kill_at)
                process.kill()
                pacs.stop(kill=True)
            pacs.start()
        with node(str(model), state, port, *options):
            wait_for(state, 50)
        lines = audit(state)
        assert len({line["study"] for line in lines}) == len(lines) == 50
        assert {line["outcome"] for line in lines} == {"done"}
        web = Dicomweb(pacs.url)
        assert [len(web.stored(str(one.StudyInstanceUID))) for one in exams] == [1] * 50
    finally:
        pacs.stop()


def test_a_pacs_that_asks_for_a_password_and_one_that_is_away(tmp_path, model):
    pacs = Orthanc(tmp_path / "orthanc", users={"node": "secret"})
    pacs.start()
    try:
        (tmp_path / "password").write_text("wrong\n")
        web = Dicomweb(pacs.url, Secrets(user="node", password=tmp_path / "password"))
        with pytest.raises(LaterError, match="answers 401"):
            web.ping()
        (tmp_path / "password").write_text("secret\n")  # renewed: read at each request
        web.ping()
    finally:
        pacs.stop()
    with pytest.raises(LaterError, match="cannot be reached"):
        web.ping()


def test_the_line_of_the_page_shows_the_loop():
    command = [sys.executable, "-m", "mammo_hf_pacs.orthanc", "--end"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    shown = [line.split()[0] for line in done.stdout.splitlines()]
    assert sorted(shown[2:7]) == ["MG", "OT", "SEG", "SEG", "SR"], done.stdout
    assert json.loads(done.stdout.splitlines()[7])["outcome"] == "done"
