"""The node without a PACS: its queue, its receiver, what it does with what can go wrong, and its command."""

import copy
import http.server
import json
import logging
import shutil
import socket
import sqlite3
import stat
import subprocess
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

pytest.importorskip("highdicom", reason="highdicom is not installed (plugins/mammo-hf-pacs)")
pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (plugins/mammo-hf-pacs)")
pytest.importorskip("dicomweb_client", reason="dicomweb-client is not installed (plugins/mammo-hf-pacs)")

from mammo_hf_pacs import command, node, objects, seg, sr
from mammo_hf_pacs.exchange import Dicomweb, Dimse, LaterError, Secrets
from mammo_hf_pacs.queue import Queue
from mammo_hf_pacs.receiver import Receiver, take
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import SecondaryCaptureImageStorage, SegmentationStorage

from mammo_hf import MammoImageProcessor
from mammo_hf.dicom.writer import mammogram_dataset
from mammo_hf.errors import DataError, UsageError
from mammo_hf.testing import check_command, scored_exam, tiny_classifier
from mammo_hf.testing.outputs import PATIENT

FACTS = {"name": "tiny", "sha256": "ab" * 32, "version": "0.1.0", "calibration": {}, "operating_points": {}}
PLANTED = [value.encode() for value in PATIENT.values()]


@pytest.fixture(scope="module")
def exam(tmp_path_factory):
    """The datasets of an exam of four views."""
    import pydicom

    folder = tmp_path_factory.mktemp("exam")
    return [pydicom.dcmread(image.file) for image in scored_exam(folder, maps=False).images]


@pytest.fixture
def queue(tmp_path):
    found = Queue(tmp_path / "state")
    yield found
    found.close()


class Pacs:
    """A PACS in memory that can be told to fail."""

    def __init__(self):
        self.objects, self.problem = {}, None

    def ping(self):
        pass

    def stored(self, study):
        if isinstance(self.problem, LaterError):
            raise self.problem
        return set(self.objects)

    def send(self, objects):
        if self.problem is not None:
            raise self.problem
        for one in objects:
            assert str(one.SOPInstanceUID) not in self.objects, "sent twice"
            self.objects[str(one.SOPInstanceUID)] = one


@pytest.fixture
def working(queue):
    def make(facts=FACTS, outputs=None, **options):
        scorer = node.Scorer(tiny_classifier(), MammoImageProcessor(size=(112, 56)), facts, outputs or {"sr": sr})
        return node.Node(queue, scorer, Pacs(), quiet=0.0, quiet_of_four=0.0, **options)

    return make


def come(queue, exam):
    return [take(queue, objects.written(one)[1]) for one in exam]


def audit(queue):
    return [json.loads(line) for line in (queue.folder / "audit.jsonl").read_text().splitlines()]


def test_an_exam_goes_through_once_and_leaves_no_trace_of_the_person(working, queue, exam, caplog):
    caplog.set_level(logging.INFO)
    one = working(outputs={"sr": sr, "seg": seg})
    (study,) = set(come(queue, exam))
    assert stat.S_IMODE(queue.folder.stat().st_mode) == 0o700
    assert queue.size() == sum(Path(file).stat().st_size for file in queue.files(study))
    one.score(study)
    assert queue.size() == sum(path.stat().st_size for path in queue.folder.glob("*/*/*.dcm"))
    assert one.step()
    report = next(found for found in one.peer.objects.values() if found.Modality == "SR")
    assert report.PatientID == PATIENT["PatientID"]
    (line,) = audit(queue)
    assert line["outcome"] == "done"
    assert line["study"] == study == queue.name_of(str(exam[0].StudyInstanceUID))
    assert len(line["images"]) == 4
    assert line["objects"] == line["sent"] == len(one.peer.objects) == 1 + 4 + 2 * 4  # a map per task
    assert sum(line["result"]["pathology"].values()) == pytest.approx(1, abs=1e-5)
    assert 0 < line["seconds_of_objects"] < line["seconds"]
    sent = [objects.written(found)[1] for found in one.peer.objects.values()]
    assert line["bytes"].keys() == {"sr", "seg"}
    assert sum(line["bytes"].values()) == sum(map(len, sent))
    kept = b"".join(path.read_bytes() for path in queue.folder.rglob("*") if path.is_file())
    for planted in [*PLANTED, str(exam[0].StudyInstanceUID).encode(), str(exam[0].SOPInstanceUID).encode()]:
        assert planted not in kept
        assert planted.decode() not in caplog.text
    # the same exam again is neither scored nor sent
    come(queue, exam)
    one.step()
    assert len(audit(queue)) == 1
    assert queue.size() == 0


@pytest.mark.slow
def test_a_pacs_that_is_away_for_an_hour_gets_all_results_later(working, queue, exam, monkeypatch):
    one, now = working(), [time.time()]
    monkeypatch.setattr("mammo_hf_pacs.queue.time.time", lambda: now[0])
    other = [copy.deepcopy(image) for image in exam]
    for image in other:
        image.StudyInstanceUID = f"{image.StudyInstanceUID}.1"
    one.peer.problem, tries, start = LaterError("answers 503", source="the PACS"), 0, now[0]
    come(queue, exam)
    while now[0] < start + 3600:
        tries += one.step()
        now[0] += 1
        if now[0] == start + 1800:
            come(queue, other)
    assert queue.open_exams() == 2
    assert tries < 40  # 2, 4, 8, ... up to 600 s apart
    one.peer.problem = None
    while queue.open_exams():
        one.step()
        now[0] += 1
    assert now[0] < start + 3600 + 605
    assert [line["outcome"] for line in audit(queue)] == ["done", "done"]
    assert len(one.peer.objects) == 2


@pytest.mark.slow
def test_a_refused_result_is_put_aside_with_the_reason(working, queue, exam):
    one = working()
    come(queue, exam)
    one.peer.problem = DataError("refuses an object (status C000)", source="the PACS")
    one.step()
    ((_, reason),) = queue.aside()
    assert reason == "refuses an object (status C000)"
    assert audit(queue)[0]["reason"] == reason
    assert queue.size() == 0


@pytest.mark.slow
def test_what_cannot_be_scored_is_put_aside_and_the_next_exam_is_scored(working, queue, exam):
    one = working()
    chest = mammogram_dataset(exam[0].pixel_array, Modality="CT")
    take(queue, objects.written(chest)[1])
    other = mammogram_dataset(exam[1].pixel_array, PatientID="other", StudyInstanceUID=exam[0].StudyInstanceUID)
    cut = copy.deepcopy(exam[0])
    cut.SOPInstanceUID, cut.PixelData = "1.2.3", cut.PixelData[:1000]
    come(queue, [*exam, other])
    while one.step():
        pass
    reasons = sorted(reason for _, reason in queue.aside())
    assert len(reasons) == 2
    assert reasons[0].startswith("its images are of several patients")
    assert "not_a_breast" in reasons[1]
    come(queue, [*exam, cut])  # sent again, without the stranger, but with a damaged image
    one.step()
    assert (audit(queue)[-1]["refused"], len(audit(queue)[-1]["images"])) == ({"damaged": 1}, 4)
    assert len(one.peer.objects) == 1
    assert queue.open_exams() == 0


@pytest.mark.slow
def test_a_late_image_waits_for_the_whole_exam_and_supersedes(working, queue, exam):
    one = working()
    come(queue, exam[:2])
    one.step()
    (first,) = one.peer.objects.values()
    come(queue, exam[2:3])
    one.step()
    assert "came late" in queue.aside()[0][1]
    come(queue, exam)
    one.step()
    second = list(one.peer.objects.values())[-1]
    assert len(one.peer.objects) == 2
    named = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_what_a_library_says_of_an_exam_is_not_logged(working, queue, exam, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    one = working()
    come(queue, exam[:1])

    def quoting(*_):
        raise ValueError(f"invalid value: {exam[0].PatientName}")

    for target, name in ((sr, "datasets_of"), (one.scorer, "score")):  # within the outputs, and around all
        monkeypatch.setattr(target, name, quoting)
        come(queue, exam[:1])
        one.step()
        ((_, reason),) = queue.aside()
        assert "ValueError in test_pacs_node.py, line" in reason
    kept = caplog.text.encode() + b"".join(path.read_bytes() for path in queue.folder.rglob("*") if path.is_file())
    assert not [planted for planted in PLANTED if planted in kept]


class Full:
    """A database on a full disk."""

    def __init__(self, database):
        self.database = database

    def execute(self, query, *values):
        if query.startswith("begin"):
            raise sqlite3.OperationalError("database or disk is full")
        return self.database.execute(query, *values)


def test_the_log_holds_what_the_node_says_and_nothing_of_a_library():
    handler = command.own_lines()
    for name, expected in (
        ("mammo_hf_pacs.node", True),
        ("mammo_hf.plugins", True),
        ("pydicom", False),
        ("pynetdicom.acse", False),
    ):
        assert bool(handler.filter(logging.makeLogRecord({"name": name, "msg": "invalid: Doe^Jane"}))) is expected


def test_a_disk_that_is_full_for_a_while_loses_nothing(working, queue, exam, monkeypatch):
    one, looks = working(), iter([False] * 3 + [True])
    monkeypatch.setattr(node, "TROUBLE", 0.0)
    come(queue, exam[:1])
    database = queue._database
    queue._database = Full(database)
    with pytest.raises(UsageError, match="cannot be read or written"):
        come(queue, exam[1:])
    one.run(lambda: next(looks))  # is not ended by it
    queue._database = database
    assert queue.open_exams() == 1
    come(queue, exam[1:])
    one.step()
    assert [len(line["images"]) for line in audit(queue)] == [4]


def test_two_nodes_do_not_share_a_folder(queue):
    queue.hold()
    other = Queue(queue.folder)  # as --pause opens it
    with pytest.raises(UsageError, match="another node"):
        other.hold()
    other.close()


def test_a_clock_that_is_set_back_delays_nothing_and_keeps_the_order(queue, exam, monkeypatch):
    now = [time.time()]
    monkeypatch.setattr("mammo_hf_pacs.queue.time.time", lambda: now[0])
    (study,) = set(come(queue, exam[:1]))
    for number in range(2):
        queue.scored(study, queue.stamp(study), 1)
        queue.later(study, "away")
        assert queue.due() == []
        now[0] -= 86400
        assert queue.due() == [study]
        queue.finish(study, "m", {}, {"sr": [{"series": "1", "class": "2", "instance": f"1.{number}"}]})
        come(queue, exam[:1])
    assert [one["instance"] for one in queue.earlier(study)["sr"]] == ["1.1"]


class Web:
    """A PACS in memory by DICOMweb."""

    def __init__(self, images):
        self.there, self.asked, self.retrieved = list(images), 0, []

    def studies(self, dates):
        first, last = (datetime.strptime(day, "%Y%m%d") for day in dates.split("-"))
        assert (last - first).days == 2  # a PACS may be a day ahead or behind
        return {str(one.StudyInstanceUID): str(len(self.there)) for one in self.there}

    def found(self, study, classes):
        self.asked += 1
        return {str(one.SOPInstanceUID): str(one.SeriesInstanceUID) for one in self.there}

    def images(self, study, found):
        self.retrieved.append(len(found))
        return [one for one in self.there if str(one.SOPInstanceUID) in found]


@pytest.mark.slow
def test_a_search_finds_the_late_image_of_a_study_that_was_done(working, queue, exam):
    web = Web(exam[:2])
    one = working(web=web, poll=1e-9)
    one.step()
    (first,) = one.peer.objects.values()
    one.step()
    assert (web.asked, web.retrieved) == (1, [2])  # the same number of instances: nothing is asked
    web.there.append(exam[2])
    one.step()
    second = list(one.peer.objects.values())[-1]
    assert len(one.peer.objects) == 2
    assert web.retrieved == [2, 1, 3]  # the new one, then all for the new result
    named = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID
    # a node that is started again asks once, and retrieves nothing
    again = working(web=web, poll=1e-9)
    assert not again.step()
    assert web.retrieved == [2, 1, 3, 0]
    # what is put aside stays there until it has another image
    chest = [mammogram_dataset(exam[0].pixel_array, Modality="CT", StudyInstanceUID="1.2.3", SOPInstanceUID="1.2.4")]
    other = Web(chest)
    one.web = other
    for _ in range(3):
        one.step()
    assert (other.retrieved, len(queue.aside())) == ([1], 1)
    again.web = Web(chest)
    assert not again.step()
    assert again.web.retrieved == [0]


@pytest.mark.slow
def test_another_model_scores_an_exam_again(working, queue, exam):
    first = working()
    come(queue, exam)
    first.step()
    second = working(FACTS | {"sha256": "cd" * 32})
    come(queue, exam)
    second.step()
    (report,) = second.peer.objects.values()
    (old,) = first.peer.objects.values()
    assert [one.SeriesInstanceUID for one in report.RelatedSeriesSequence] == [old.SeriesInstanceUID]


@pytest.mark.slow
def test_an_image_that_comes_while_its_exam_is_scored_is_not_lost(working, queue, exam, monkeypatch):
    one = working()
    (study,) = set(come(queue, exam[:3]))
    score = one.scorer.score

    def slow(*arguments):
        come(queue, exam[3:])
        return score(*arguments)

    monkeypatch.setattr(one.scorer, "score", slow)
    one.score(study)
    assert queue.due() == []
    monkeypatch.setattr(one.scorer, "score", score)
    one.step()
    assert [len(line["images"]) for line in audit(queue)] == [4]


@pytest.mark.slow
def test_a_kill_between_any_two_steps_loses_and_repeats_nothing(working, queue, exam, monkeypatch, tmp_path):
    one = working()
    come(queue, exam)
    for name, after in (("scored", False), ("scored", True), ("finish", False)):
        true = getattr(Queue, name)

        def killed(*arguments, true=true, after=after):
            if after:
                true(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(Queue, name, killed)
        with pytest.raises(KeyboardInterrupt):
            one.step()
        monkeypatch.setattr(Queue, name, true)
        one.queue = Queue(queue.folder)  # as a new process opens it
        assert one.queue.open_exams() == 1
    one.step()
    assert len(one.peer.objects) == 1
    assert len(audit(queue)) == 1
    # a kill between database and file, and in the middle of a line
    (queue.folder / "audit.jsonl").write_text('{"a half')
    Queue(queue.folder).close()
    assert len(audit(queue)) == 1


@pytest.mark.slow
def test_what_a_kill_has_left_of_a_done_exam_is_removed(working, queue, exam):
    one = working()
    (study,) = set(come(queue, exam))
    left = queue.files_folder(study).with_name("never-acknowledged")
    left.mkdir()
    one.step()
    queue.files_folder(study).mkdir()
    (queue.files_folder(study) / "a.dcm").write_bytes(b"left")
    queue.sweep()
    assert not list(queue.folder.glob("images/*"))


def test_a_quota_and_a_full_disk_refuse_images(tmp_path, exam, monkeypatch):
    small = Queue(tmp_path / "small", quota=1000)
    with pytest.raises(UsageError, match="quota"):
        come(small, exam)
    small.quota = 1 << 30
    monkeypatch.setattr("mammo_hf.files.os.fsync", lambda file: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(UsageError, match="disk is full"):
        come(small, exam)
    monkeypatch.undo()
    monkeypatch.setattr("mammo_hf_pacs.queue.shutil.disk_usage", lambda _: (1 << 40, 1 << 40, 1 << 29))
    with pytest.raises(UsageError, match="almost full"):  # what is here must have room to be scored
        come(small, exam)
    assert small.open_exams() == 0
    small.close()


def test_an_exam_is_whole_after_its_quiet_time_whatever_the_clock(queue, exam):
    (study,) = set(come(queue, exam[:3]))
    assert queue.whole(60, 5) == []
    queue._database.execute("update exams set changed = changed - 10")
    assert queue.whole(60, 5) == []
    assert queue.whole(9, 5) == [study]
    come(queue, exam[3:])
    queue._database.execute("update exams set changed = changed - 6")
    assert queue.whole(60, 5) == [study]  # four views
    queue._database.execute("update exams set changed = ?", (time.time() + 1e6,))
    assert queue.whole(60, 5) == [study]  # the clock was set back


def test_pause_and_resume(working, queue, exam):
    one = working()
    come(queue, exam)
    queue.pause(True)
    assert not one.step()
    queue.pause(False)
    assert one.step()


@pytest.fixture
def receiver(queue):
    made = []

    def make(**options):
        made.append(Receiver(queue, "127.0.0.1", 0, "MAMMOHF", **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_the_receiver_takes_images_from_those_it_knows(receiver, queue, exam):
    port = receiver(titles=["DEVICE"]).port
    Dimse("MAMMOHF", "127.0.0.1", port, "DEVICE").send_images(exam)
    assert len(queue.files(queue.name_of(str(exam[0].StudyInstanceUID)))) == 4
    for called, calling in (("MAMMOHF", "STRANGER"), ("OTHER", "DEVICE")):
        with pytest.raises(LaterError, match="rejects the association"):
            Dimse(called, "127.0.0.1", port, calling).ping()
    elsewhere = receiver(hosts=["192.0.2.1"]).port
    with pytest.raises(LaterError, match="0124"):
        Dimse("MAMMOHF", "127.0.0.1", elsewhere, "DEVICE").ping()


def test_the_receiver_refuses_what_is_no_image_and_has_no_room(receiver, queue, exam):
    device = Dimse("MAMMOHF", "127.0.0.1", receiver().port, "DEVICE")
    nameless = mammogram_dataset(exam[0].pixel_array, StudyInstanceUID="")
    with pytest.raises(DataError, match="C000"):
        device.send_images([nameless])
    queue.quota = 10
    with pytest.raises(LaterError, match="A700"):
        device.send_images(exam[:1])
    assert queue.open_exams() == 0


def test_a_pacs_that_nobody_is_at_is_tried_later():
    with pytest.raises(LaterError, match="cannot be reached"):
        Dimse("A", "127.0.0.1", 1, "B").ping()


def test_the_command_keeps_the_contract_and_names_what_is_missing(tmp_path, capsys):
    check_command(command, "node")
    state = ["--state", str(tmp_path / "state")]
    with pytest.raises(UsageError, match="no PACS is named"):
        command.main(["model", *state])
    with pytest.raises(UsageError, match="TITLE@HOST:PORT"):
        command.main(["model", "--pacs", "somewhere", *state])
    command.main(["model", "--pause", *state])
    assert (tmp_path / "state" / "paused").exists()
    command.main(["model", "--resume", *state])
    assert "0 exams open" in capsys.readouterr().out


def test_the_database_is_readable_with_sqlite(queue, exam):
    come(queue, exam[:1])
    with sqlite3.connect(queue.folder / "queue.sqlite") as other:
        assert other.execute("select state from exams").fetchall() == [("arriving",)]


def certificate(folder, name):
    """Write a key and a certificate for this machine that certifies itself."""
    key, found = folder / f"{name}.key", folder / f"{name}.pem"
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    line += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(found)]
    subprocess.run(line, check=True, capture_output=True)
    return {"certificate": found, "key": key}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls_lets_in_whom_the_authority_knows_and_nobody_else(receiver, queue, exam, tmp_path):
    node_, device, stranger = (certificate(tmp_path, name) for name in ("node", "device", "stranger"))
    known = tmp_path / "known.pem"
    known.write_text(node_["certificate"].read_text() + device["certificate"].read_text())
    port = receiver(secrets=Secrets(ca=known, **node_)).port

    def at(**secrets):
        return Dimse("MAMMOHF", "127.0.0.1", port, "DEVICE", Secrets(**secrets))

    at(ca=known, **device).send_images(exam[:1])
    assert queue.open_exams() == 1
    for secrets in ({"ca": known, **stranger}, {}, {"ca": stranger["certificate"], **device}):
        with pytest.raises(LaterError):  # unknown to the node, without TLS, and a node that is unknown to it
            at(**secrets).ping()


@pytest.fixture
def service():
    """A DICOMweb service on this machine, which answers as it is told."""
    servers = []

    def make(answer):
        class Service(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                status, kind, body = answer(self.headers)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_):
                pass

        servers.append(http.server.HTTPServer(("127.0.0.1", 0), Service))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}"

    yield make
    for one in servers:
        one.shutdown()


def test_a_token_is_sent_read_at_each_request_and_an_expired_one_is_tried_again(service, tmp_path):
    seen = []

    def answer(headers):
        seen.append(headers["Authorization"])
        fresh = seen[-1] == "Bearer fresh"
        return (200, "application/dicom+json", b"[]") if fresh else (401, "text/plain", b"")

    token = tmp_path / "token"
    token.write_text("expired\n")
    web = Dicomweb(service(answer), Secrets(token=token))
    with pytest.raises(LaterError, match="answers 401"):
        web.ping()
    token.write_text("fresh\n")
    web.ping()
    assert seen == ["Bearer expired", "Bearer fresh"]


FAILED = '{{"00081198": {{"vr": "SQ", "Value": [{{"00081197": {{"vr": "US", "Value": [{}]}}}}]}}}}'


@pytest.mark.parametrize(
    ("status", "body", "expected", "problem"),
    [
        (503, "", LaterError, "answers 503"),
        (404, "", LaterError, "answers 404"),  # a wrong URL: no exam is put aside for it
        (200, "<html>log in</html>", LaterError, "no answer that can be read"),
        (415, "", DataError, "status 415"),
        (409, "", LaterError, "answers 409"),
        (409, FAILED.format(0xA700), LaterError, "A700"),
        (409, FAILED.format(0x0122), DataError, "0122"),
        (202, FAILED.format(0xC000), DataError, "C000"),
        (409, '<DicomAttribute tag="00081197" vr="US"><Value number="1">290</Value>', DataError, "0122"),
    ],
)
def test_what_a_pacs_answers_is_tried_again_or_refused_with_the_reason(service, exam, status, body, expected, problem):
    web = Dicomweb(service(lambda _: (status, "application/dicom+json", body.encode())))
    with pytest.raises(expected, match=problem):
        web.send(exam[:1])


@pytest.fixture
def archive():
    """A PACS by DIMSE on this machine that takes some SOP classes in some transfer syntaxes, and answers no C-FIND."""
    made = []

    def make(contexts, status=0x0000):
        seen = []

        def store(event):
            seen.append(event.dataset)
            return status

        entity = AE(ae_title="ARCHIVE")
        for sop_class, syntaxes in contexts.items():
            entity.add_supported_context(sop_class, syntaxes)
        handlers = [(evt.EVT_C_STORE, store)]
        made.append(entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers))
        return Dimse("ARCHIVE", "127.0.0.1", made[-1].server_address[1], "MAMMOHF"), seen

    yield make
    for one in made:
        one.shutdown()


@pytest.mark.slow
def test_a_pacs_that_takes_no_compression_gets_the_same_values_without(archive, tmp_path):
    found = [one for one in seg.datasets_of(scored_exam(tmp_path)) if one.SegmentationType == "FRACTIONAL"][:1]
    peer, seen = archive({SegmentationStorage: [ExplicitVRLittleEndian]})
    peer.send(found)
    assert seen[0].SOPInstanceUID == found[0].SOPInstanceUID
    assert seen[0].PixelData == found[0].pixel_array.tobytes()
    with pytest.raises(LaterError, match="does not offer Study Root"):
        peer.stored("1.2.3")
    for status, expected in ((0xA700, LaterError), (0x0124, LaterError), (0xC000, DataError)):
        with pytest.raises(expected, match=f"{status:04X}"):
            archive({SegmentationStorage: [ExplicitVRLittleEndian]}, status)[0].send(found)
    other, _ = archive({SecondaryCaptureImageStorage: [ExplicitVRLittleEndian]})
    with pytest.raises(DataError, match="does not take Segmentation Storage"):
        other.send(found)


def test_an_association_that_is_cut_off_leaves_nothing_and_the_next_is_served(receiver, queue, exam):
    port = receiver().port
    for cut in (10, 300, 5000):
        entity = AE(ae_title="DEVICE")
        entity.add_requested_context(exam[0].SOPClassUID, [exam[0].file_meta.TransferSyntaxUID])
        association = entity.associate("127.0.0.1", port, ae_title="MAMMOHF")
        raw = association.dul.socket.socket
        raw.sendall((b"\x04\x00" + (20000).to_bytes(4, "big") + bytes(20000))[:cut])  # a part of P-DATA
        raw.shutdown(2)
        association.abort()
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    Dimse("MAMMOHF", "127.0.0.1", port, "DEVICE").send_images(exam[:1])
    assert queue.open_exams() == 1
    assert len(queue.files(queue.name_of(str(exam[0].StudyInstanceUID)))) == 1
