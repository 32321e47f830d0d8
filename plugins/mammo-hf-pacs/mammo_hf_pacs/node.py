"""The node: exams come in by C-STORE or DICOMweb, are scored as `mammo-hf predict` does, and objects go back.

An exam goes through the states of `mammo_hf_pacs.queue`: "arriving" until it is whole, "scored" once its objects are on
the disk, "done" once they are in the PACS, or "aside" with a reason. A kill at any moment leaves it in one of these;
scoring again gives the same objects, which the PACS is asked for before any is sent.
"""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from mammo_hf.errors import DataError, MammoError, UsageError
from mammo_hf.files import read_record, write_record, write_whole, writing_errors
from mammo_hf.inference.outputs import ScoredExam
from mammo_hf.inference.predict import ScoringOptions, score_files

from . import objects
from .exchange import Dicomweb, LaterError, Peer
from .queue import Queue
from .receiver import CLASSES, take

logger = logging.getLogger(__name__)

TICK = 0.5  # seconds between two looks at the queue
TROUBLE = 5.0  # seconds until the queue is looked at again if it cannot be read or written
DAYS = 1  # of studies that are asked for before and after today: the clock of the PACS may be ahead, or in another zone


class Scorer:
    """A loaded model, and what is made of an exam with it.

    Args:
        model: A classifier, as `mammo_hf.inference.scoring.load_classifier` returns it.
        processor: Its processor.
        facts: Facts on it, from `mammo_hf.inference.outputs.facts_of_model`.
        outputs: Modules of the objects by name, such as `mammo_hf_pacs.sr`.
    """

    def __init__(self, model: Any, processor: Any, facts: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        self.model, self.processor, self.facts, self.outputs = model, processor, facts, outputs

    @property
    def name(self) -> str:
        """What distinguishes the results of this model, with its tests of maps, and version from others."""
        tests = json.dumps(self.facts.get("warrant", {}), sort_keys=True)
        about = self.facts["sha256"][:16], self.facts["version"], *sorted(self.outputs), tests
        return " ".join(about)

    def score(
        self, files: Sequence[str], work: Path, earlier: Mapping[str, list[dict[str, str]]]
    ) -> tuple[dict[str, list[Dataset]], ScoredExam, dict[str, Any]]:
        """Score the files of one exam, and make its objects.

        Args:
            files: Paths of its images.
            work: Empty folder to work in.
            earlier: Objects that were sent for it before, by kind.

        Returns:
            The objects by kind, the exam, and for the audit the seconds that making the objects has taken, and why how
            many of the images were refused.

        Raises:
            MammoError: None of the images can be read, or an object cannot be made.
        """
        found: dict[str, list[Dataset]] = {}
        failed: list[MammoError] = []
        seen: list[ScoredExam] = []
        seconds: list[float] = []

        def make(exam: ScoredExam) -> list[tuple[str, bytes]]:
            seen.append(exam)
            started = time.monotonic()
            try:
                study = str(objects.headers_of(exam)[0].StudyInstanceUID)
                for kind, output in self.outputs.items():
                    replaces = [{"study": study, **one} for one in earlier.get(kind, ())]
                    found[kind] = output.datasets_of(exam, replaces)
            except MammoError as error:
                failed.append(error)
            except Exception as error:  # not to be logged by others: its text may quote the header
                failed.append(DataError(f"an object cannot be made ({_without_text(error)})", source="an exam"))
            seconds.append(time.monotonic() - started)
            return []

        made_by = SimpleNamespace(MAPS=any(one.MAPS for one in self.outputs.values()), files_of=make)
        table = work / "scores.csv"
        options = ScoringOptions(level="exam")
        written: dict[str, Any] = {"write": {"objects": made_by}, "facts": self.facts, "num_workers": 0}
        result = score_files(self.model, self.processor, files, table, options, **written)
        if failed:
            raise failed[0]
        if not seen or result is None:
            codes = ", ".join(sorted(result.refusals)) if result is not None else ""
            raise DataError(f"none of its {len(files)} images can be read ({codes})", source="an exam")
        if not any(found.values()):
            raise DataError(f"there is nothing to write as {', '.join(found)} of it", source="an exam")
        if len(seen) > 1:
            raise DataError("its images are of several studies", source="an exam")
        return found, seen[0], {"seconds_of_objects": round(sum(seconds), 3), "refused": dict(result.refusals)}


class Node:
    """The loop over a queue.

    Args:
        queue: The queue.
        scorer: The model.
        peer: PACS that gets the objects.
        web: PACS that images can be retrieved from, if it speaks DICOMweb.
        quiet: Seconds without a new image after which an exam counts as whole.
        quiet_of_four: Seconds for one with the four standard views.
        poll: Seconds between two searches for new studies; 0: none.
    """

    def __init__(
        self,
        queue: Queue,
        scorer: Scorer,
        peer: Peer,
        web: Dicomweb | None = None,
        *,
        quiet: float = 60.0,
        quiet_of_four: float = 5.0,
        poll: float = 0.0,
    ) -> None:
        self.queue, self.scorer, self.peer, self.web = queue, scorer, peer, web
        self.quiet, self.quiet_of_four, self.poll = quiet, quiet_of_four, poll
        self._polled = 0.0
        # of the studies that a search has found: how many instances they had then, and which images
        self._seen: dict[str, tuple[str, set[str]]] = {}

    def run(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Work until ``stop`` returns true; nothing that an exam or a peer does ends it."""
        while not stop():
            try:
                pause = 0.0 if self.step() else TICK
            except (MammoError, OSError) as error:  # a full disk: nothing can be noted
                logger.warning("%s", error.problem if isinstance(error, MammoError) else type(error).__name__)
                pause = TROUBLE
            time.sleep(pause)

    def step(self) -> bool:
        """Do what is to be done now, and return whether there was anything."""
        if self.queue.paused:
            return False
        if self.poll and self.web is not None and time.monotonic() - self._polled > self.poll:
            self._polled = time.monotonic()
            self._guarded("", self._search)
        # one exam is scored and sent before the next is scored: the first of many does not wait for the last
        whole = self.queue.whole(self.quiet, self.quiet_of_four)[:1]
        for study in whole:
            self._guarded(study, lambda study=study: self.score(study))  # type: ignore[misc]
        due = self.queue.due()
        for study in due:
            self._guarded(study, lambda study=study: self.send(study))  # type: ignore[misc]
        return bool(whole or due)

    def _guarded(self, study: str, action: Callable[[], object]) -> None:
        """Run an action; what cannot be done now is done later, what can never be done is put aside with the reason."""
        stamp = self.queue.stamp(study) if study else 0.0
        try:
            action()
            return
        except (LaterError, UsageError, OSError) as error:  # a peer that is away, a full disk
            reason = error.problem if isinstance(error, MammoError) else f"{type(error).__name__}"
            pause = self.queue.later(study, reason) if study else self.poll
            logger.warning("%s: %s; tried again in %.0f s", study or "search", reason, pause)
        except MammoError as error:
            self._put_aside(study, stamp, error.problem)
        except Exception as error:  # whatever a stranger's exam makes of a library
            self._put_aside(study, stamp, f"failed with {_without_text(error)}")

    def once(self, study_uid: str) -> int:
        """Retrieve, score and send one study, and return the number of objects that it has now.

        Returns:
            0 if this model has scored the same images before.

        Raises:
            LaterError: The PACS is away; a running node sends the results later.
            MammoError: It cannot be scored.
        """
        study = self.retrieve(study_uid)
        stamp = self.queue.stamp(study)
        try:
            self.score(study)
            if study not in self.queue.due():
                return 0
            self.send(study)
        except LaterError:
            raise
        except MammoError as error:
            self._put_aside(study, stamp, error.problem)
            raise
        return sum(map(len, self.queue.earlier(study).values()))

    def _put_aside(self, study: str, stamp: float, reason: str) -> None:
        logger.warning("%s: put aside: %s", study or "search", reason)
        if study:
            line = self._line(study, "aside", 0.0) | {"reason": reason}
            self.queue.put_aside(study, stamp, reason, line)

    def _search(self) -> None:
        """Retrieve the images of studies of today, and of the days around it, that have not come before."""
        assert self.web is not None
        today = datetime.now().date()
        studies = self.web.studies(f"{today - timedelta(DAYS):%Y%m%d}-{today + timedelta(DAYS):%Y%m%d}")
        self._seen = {uid: seen for uid, seen in self._seen.items() if uid in studies}
        for uid, count in studies.items():
            try:
                if not count or count != self._seen.get(uid, ("",))[0]:
                    self._seen[uid] = count, self._retrieve_new(uid)
            except MammoError as error:  # one study must not keep the others waiting
                logger.warning("a study was not retrieved: %s", error.problem)

    def _retrieve_new(self, study_uid: str) -> set[str]:
        """Retrieve the images of a study that have not come before, and return all that it has.

        One that was put aside before this node was started is retrieved once it has another image.
        """
        assert self.web is not None
        found = self.web.found(study_uid, CLASSES)
        before = self._seen.get(study_uid, ("", set(found) if self.queue.is_aside(study_uid) else set()))[1]
        new = {uid: found[uid] for uid in self.queue.not_come(study_uid, set(found) - before)}
        for dataset in self.web.images(study_uid, new):
            take(self.queue, objects.written(dataset)[1])
        return set(found)

    def retrieve(self, study_uid: str) -> str:
        """Retrieve the images of a study from the PACS into the queue, and return the study's name there."""
        if self.web is None:
            raise UsageError("needs the URL of a DICOMweb service", source="retrieving", remedy="give --url")
        found = self.web.found(study_uid, CLASSES)
        if not found:
            raise DataError("has no mammogram", source="the study", remedy="check its UID and the SOP classes")
        study = ""
        for dataset in self.web.images(study_uid, found):
            study = take(self.queue, objects.written(dataset)[1]) or study
        if not study:
            raise DataError("holds nothing but objects of mammo_hf", source="the study", remedy="check its UID")
        return study

    def score(self, study: str) -> None:
        """Score an exam that is whole, and keep its objects on the disk until they are sent.

        Raises:
            MammoError: It cannot be scored.
        """
        if self.queue.scored_already(study, self.scorer.name):
            self.queue.skip(study)
            return
        started, stamp = time.monotonic(), self.queue.stamp(study)
        if self.queue.missing(study):
            self._complete(study)
            stamp = self.queue.stamp(study)
        files = self.queue.files(study)
        if not files:
            raise DataError("its files are gone", source="an exam", remedy="send it again")
        self.queue.remove_files(study)
        work, folder = self.queue.files_folder(study, "work"), self.queue.files_folder(study, "objects")
        with writing_errors(work):
            work.mkdir(mode=0o700, parents=True)
            folder.mkdir(mode=0o700, parents=True)
        found, exam, facts = self.scorer.score(files, work, self.queue.earlier(study))
        sizes: dict[str, int] = {}
        for kind, datasets in found.items():
            for number, dataset in enumerate(datasets):
                content = objects.written(dataset)[1]
                write_whole(folder / f"{kind}-{number:03d}.dcm", content)
                sizes[kind] = sizes.get(kind, 0) + len(content)
        line = self._line(study, "done", time.monotonic() - started) | _results(exam)
        line |= facts | {"bytes": sizes}
        write_record(line, folder / "line.json")
        if not self.queue.scored(study, stamp, sum(sizes.values())):
            self.queue.remove_files(study)  # an image has come meanwhile: all are scored again

    def _complete(self, study: str) -> None:
        """Retrieve the images of a study that were scored before, because another one has come late."""
        uid = next(iter(_study_uids(self.queue.files(study))), "")
        if self.web is None:
            remedy = "send the whole exam again"
            raise DataError("an image came late, and the others are no longer here", source="an exam", remedy=remedy)
        self.retrieve(uid)

    def send(self, study: str) -> None:
        """Send the objects of an exam, and see that the PACS has them.

        Raises:
            LaterError: It cannot take them now.
            DataError: It refuses one.
        """
        folder = self.queue.files_folder(study, "objects")
        named = {path: pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))}
        if not named:
            raise DataError("its objects are gone", source="an exam", remedy="send it again")
        (uid,) = {str(one.StudyInstanceUID) for one in named.values()}
        there = self.peer.stored(uid)
        lacking = [one for one in named.values() if str(one.SOPInstanceUID) not in there]
        if lacking:
            self.peer.send(lacking)
            left = {str(one.SOPInstanceUID) for one in named.values()} - self.peer.stored(uid)
            if left:
                raise LaterError(f"does not show {len(left)} objects that it has taken", source="the PACS")
        sent: dict[str, list[dict[str, str]]] = {}
        for path, one in named.items():
            facts = {"series": one.SeriesInstanceUID, "class": one.SOPClassUID, "instance": one.SOPInstanceUID}
            sent.setdefault(path.name.rpartition("-")[0], []).append({name: str(uid) for name, uid in facts.items()})
        line = read_record(folder / "line.json")
        line |= {"time": _now(), "objects": len(named), "sent": len(lacking)}
        self.queue.finish(study, self.scorer.name, line, sent)
        logger.info("%s: done, %d objects", study, len(named))

    def _line(self, study: str, outcome: str, seconds: float) -> dict[str, Any]:
        facts = self.scorer.facts
        return {
            "time": _now(),
            "study": study,
            "outcome": outcome,
            "model": facts["name"],
            "sha256": facts["sha256"],
            "version": facts["version"],
            "seconds": round(seconds, 3),
        }


def _without_text(error: Exception) -> str:
    """Return the kind of an error and where it was raised; its text may quote what identifies a person."""
    *_, frame = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {os.path.basename(frame.filename)}, line {frame.lineno}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _results(exam: ScoredExam) -> dict[str, Any]:
    """Return what the audit says of an exam: scores, and images by their salted hashes."""
    images = [os.path.basename(image.file).rpartition(".")[0] for image in exam.images]
    result = exam.units.get("exam") or exam.images[0].scores
    rounded = {task: {label: round(value, 6) for label, value in of.items()} for task, of in result.items()}
    return {"images": images, "result": rounded}


def _study_uids(files: Sequence[str]) -> set[str]:
    return {str(pydicom.dcmread(file, stop_before_pixels=True, force=True).StudyInstanceUID) for file in files}
