"""The queue of exams on disk: what has come, what is to be scored and sent, and what was done.

Everything is in one folder for this user alone: a database, the files of exams that are not done, and the audit. The
database holds no identifier of a person: studies and images are named by salted hashes, which outlast their files.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mammo_hf.data.privacy import private_salt, salted_hash
from mammo_hf.errors import UsageError
from mammo_hf.files import size_text, whole_file, writing_errors

TABLES = """
create table if not exists exams (
    study text primary key, state text, changed real, attempts integer default 0, due real default 0, reason text,
    object_bytes integer default 0
);
create table if not exists images (
    study text, image text, view text, done text default '', bytes integer, primary key (study, image)
);
create table if not exists objects (
    study text, kind text, series text, class text, instance text primary key, made real
);
create table if not exists audit (number integer primary key, line text);
create index if not exists exams_by_state on exams (state, due);
create index if not exists exams_with_objects on exams (object_bytes) where object_bytes > 0;
create index if not exists images_that_are_here on images (bytes) where bytes > 0;
create index if not exists objects_by_study on objects (study);
"""
STATES = ("arriving", "scored", "done", "aside")  # of an exam; "scored": its objects are to be sent
STANDARD = {"RCC", "RMLO", "LCC", "LMLO"}
LONGEST_PAUSE = 600.0  # seconds between two tries
ROOM = 1 << 30  # bytes that incoming images leave free for results, or a tenth of a small disk


_IS_DUE = "(due <= ? or due > ?)"  # after `_now`


def _now() -> tuple[float, float]:
    """Return the time, and one after which nothing is due unless the clock was set back since."""
    return time.time(), time.time() + LONGEST_PAUSE


class Queue:
    """The queue in a folder.

    Args:
        folder: Folder of the queue; created if it does not exist.
        quota: Most bytes of files that are kept.

    Raises:
        UsageError: The folder cannot be written to.
    """

    def __init__(self, folder: Path, quota: int = 20 << 30) -> None:
        self.folder, self.quota, self._salt = folder, quota, private_salt()
        self._lock = threading.RLock()
        self._held: IO[bytes] | None = None
        with writing_errors(folder), self._errors():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chmod(folder, 0o700)
            self._database = sqlite3.connect(folder / "queue.sqlite", check_same_thread=False, isolation_level=None)
            self._database.execute("pragma journal_mode=wal")
            self._database.execute("pragma synchronous=full")
            self._database.execute("pragma wal_autocheckpoint=100")  # pages: a log that stays small
            self._database.executescript(TABLES)
        self._audited = (0, 0)  # lines and bytes of the audit's file when it was last written
        self._write_audit()

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()
            if self._held is not None:
                self._held.close()

    def hold(self) -> None:
        """Keep other processes from scoring what is here, until this one ends.

        Raises:
            UsageError: Another one does.
        """
        self._held = open(self.folder / "lock", "wb")  # noqa: SIM115 - until this process ends
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            problem, remedy = "another node works on this folder", "give another --state, or stop that node"
            raise UsageError(problem, source=self.folder, remedy=remedy) from error

    @contextmanager
    def _errors(self) -> Any:
        """Turn what the database reports, such as a full disk, into an error after which all can be tried again."""
        try:
            yield
        except sqlite3.Error as error:
            problem = (
                f"the queue cannot be read or written ({getattr(error, 'sqlite_errorname', type(error).__name__)})"
            )
            raise UsageError(problem, source=self.folder, remedy="free space, and check the disk") from error

    @contextmanager
    def _changing(self) -> Any:
        """Change the database, all or nothing."""
        with self._lock, self._errors():
            self._database.execute("begin immediate")
            try:
                yield self._database
                self._database.execute("commit")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk may have ended the transaction
                    self._database.execute("rollback")
                raise

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, self._errors():
            return self._database.execute(query, values).fetchall()

    # What comes in

    def name_of(self, uid: str) -> str:
        """Return the salted hash that names a study or image."""
        return salted_hash(uid, self._salt)

    def files_folder(self, study: str, kind: str = "images") -> Path:
        """Return the folder of a study's images, or of its objects ("objects") or its scoring ("work")."""
        return self.folder / kind / study

    def add(self, study_uid: str, image_uid: str, view: str, content: bytes) -> str:
        """Take an image; when this returns it is on the disk.

        Args:
            study_uid: StudyInstanceUID.
            image_uid: SOPInstanceUID.
            view: Side and view, such as "LMLO"; "" if they are not known.
            content: The file.

        Returns:
            The name of the study.

        Raises:
            UsageError: The quota is used up, or the disk is full.
        """
        study, image = self.name_of(study_uid), self.name_of(image_uid)
        folder = self.files_folder(study)
        if self.size() + len(content) > self.quota:
            raise UsageError("the quota of the node is used up", source=self.folder, remedy="raise --quota, or wait")
        self._leave_room(len(content))
        with self._lock, writing_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (folder / f"{image}.dcm").exists():  # the first of two images of one identifier counts
                with whole_file(folder / f"{image}.dcm") as part:
                    part.write_bytes(content)
            with self._changing() as database:
                database.execute(
                    "insert into images (study, image, view, bytes) values (?, ?, ?, ?) on conflict (study, image) do"
                    " update set bytes = max(bytes, excluded.bytes)",
                    (study, image, view, len(content)),
                )
                database.execute(
                    "insert into exams (study, state, changed) values (?, 'arriving', ?) on conflict (study) do update"
                    " set state = 'arriving', changed = excluded.changed, attempts = 0, due = 0, reason = null",
                    (study, time.time()),
                )
        return study

    def _leave_room(self, size: int) -> None:
        """Refuse an image without which there is just enough room to score and send what is here, which frees more."""
        with writing_errors(self.folder):
            total, _, free = shutil.disk_usage(self.folder)
        if free - size < min(ROOM, total // 10):
            problem = f"the disk is almost full ({size_text(free)} are free)"
            raise UsageError(problem, source=self.folder, remedy="free space, lower --quota, or wait")

    def size(self) -> int:
        """Return the bytes of all images and objects that are kept."""
        ((images, made),) = self._rows(
            "select (select total(bytes) from images where bytes > 0),"
            " (select total(object_bytes) from exams where object_bytes > 0)"
        )
        return int(images + made)

    def not_come(self, study_uid: str, image_uids: Iterable[str]) -> list[str]:
        """Return those of some images of a study that have not come before."""
        came = {image for (image,) in self._rows("select image from images where study = ?", self.name_of(study_uid))}
        return sorted(uid for uid in image_uids if self.name_of(uid) not in came)

    def is_aside(self, study_uid: str) -> bool:
        """Return whether a study is put aside."""
        return bool(self._rows("select 1 from exams where study = ? and state = 'aside'", self.name_of(study_uid)))

    # What is to be done

    def whole(self, quiet: float, quiet_of_four: float) -> list[str]:
        """Return the exams that are to be scored, as nothing has come for them for some seconds; the oldest first.

        Args:
            quiet: Seconds after which an exam counts as whole.
            quiet_of_four: Seconds after which one with the four standard views does.
        """
        now, found = time.time(), []
        query = "select study, changed, group_concat(view) from exams left join images using (study)"
        query += f" where state = 'arriving' and {_IS_DUE} group by study order by changed"
        for study, changed, views in self._rows(query, *_now()):
            waited = now - changed
            # a clock that was set back must not keep an exam waiting
            if waited < 0 or waited >= (quiet_of_four if set((views or "").split(",")) >= STANDARD else quiet):
                found.append(study)
        return found

    def due(self) -> list[str]:
        """Return the exams whose objects are to be sent now."""
        query = f"select study from exams where state = 'scored' and {_IS_DUE} order by due"
        return [study for (study,) in self._rows(query, *_now())]

    def open_exams(self) -> int:
        """Return the number of exams that are neither done nor put aside."""
        ((count,),) = self._rows("select count(*) from exams where state in ('arriving', 'scored')")
        return int(count)

    def aside(self) -> list[tuple[str, str]]:
        """Return the exams that were put aside, with the reason."""
        return [
            (str(study), str(reason))
            for study, reason in self._rows("select study, reason from exams where state = 'aside'")
        ]

    def files(self, study: str) -> list[str]:
        """Return the paths of a study's images that are here."""
        return sorted(str(path) for path in self.files_folder(study).glob("*.dcm"))

    def missing(self, study: str) -> bool:
        """Return whether images of a study came before whose files are gone, because they were scored then."""
        here = {Path(path).stem for path in self.files(study)}
        return any(image not in here for (image,) in self._rows("select image from images where study = ?", study))

    def scored_already(self, study: str, model: str) -> bool:
        """Return whether all images of a study were scored by a model before."""
        rows = self._rows("select done from images where study = ?", study)
        return bool(rows) and all(done == model for (done,) in rows)

    def stamp(self, study: str) -> float:
        """Return when the last image of a study came."""
        ((changed,),) = self._rows("select changed from exams where study = ?", study)
        return float(changed)

    def earlier(self, study: str) -> dict[str, list[dict[str, str]]]:
        """Return the newest objects of each kind that were sent for a study."""
        found: dict[str, list[dict[str, str]]] = {}
        newest = dict(self._rows("select kind, max(made) from objects where study = ? group by kind", study))
        for kind, *values, made in self._rows(
            "select kind, series, class, instance, made from objects where study = ?", study
        ):
            if made == newest[kind]:
                found.setdefault(kind, []).append(dict(zip(("series", "class", "instance"), values, strict=True)))
        return found

    # What was done

    def scored(self, study: str, stamp: float, size: int) -> bool:
        """Note that the objects of an exam are on the disk, to be sent; not if an image has come since its stamp.

        Args:
            study: The study.
            stamp: What `stamp` returned before it was scored.
            size: Bytes of its objects.
        """
        change = "update exams set state = 'scored', attempts = 0, due = 0, object_bytes = ?"
        with self._changing() as database:
            return bool(database.execute(f"{change} where study = ? and changed = ?", (size, study, stamp)).rowcount)

    def later(self, study: str, reason: str) -> float:
        """Note that an exam could not be sent, and return the seconds until it is tried again."""
        ((attempts,),) = self._rows("select attempts from exams where study = ?", study)
        pause = min(LONGEST_PAUSE, 2.0 * 2 ** min(attempts, 10))
        with self._changing() as database:
            change = "update exams set attempts = attempts + 1, due = ?, reason = ? where study = ?"
            database.execute(change, (time.time() + pause, reason, study))
        return pause

    def skip(self, study: str) -> None:
        """Remove the files of an exam that has come again and needs no new result."""
        with self._changing() as database:
            database.execute("update exams set state = 'done' where study = ?", (study,))
        self.remove_files(study, ("images",))

    def put_aside(self, study: str, stamp: float, reason: str, line: Mapping[str, Any]) -> None:
        """Note why an exam gives no result, and remove its files; not if an image has come since its stamp."""
        with self._lock:
            with self._changing() as database:
                change = "update exams set state = 'aside', reason = ? where study = ? and changed = ?"
                if not database.execute(change, (reason, study, stamp)).rowcount:
                    return
                database.execute("delete from images where study = ? and done = ''", (study,))
                self._note(database, line)
            self.remove_files(study, ("images",))
            self._write_audit()

    def finish(
        self, study: str, model: str, line: Mapping[str, Any], sent: Mapping[str, Iterable[Mapping[str, str]]]
    ) -> None:
        """Note that the objects of an exam are in the PACS, and remove its files.

        An image that has come while they were sent keeps the exam open and its files here.

        Args:
            study: The study.
            model: The model that has scored it.
            line: Line of the audit.
            sent: Objects by kind, each with ``series``, ``class`` and ``instance``.
        """
        with self._lock:
            with self._changing() as database:
                # the newest are those that the next ones replace, also if the clock was set back meanwhile
                ((last,),) = database.execute("select max(made) from objects where study = ?", (study,))
                now = max(time.time(), (last or 0.0) + 0.001)
                ended = database.execute(
                    "update exams set state = 'done' where study = ? and state = 'scored'", (study,)
                )
                if ended.rowcount:
                    database.execute("update images set done = ? where study = ?", (model, study))
                for kind, objects in sent.items():
                    for one in objects:
                        values = (study, kind, one["series"], one["class"], one["instance"], now)
                        database.execute("insert or replace into objects values (?, ?, ?, ?, ?, ?)", values)
                self._note(database, line)
            self.remove_files(study, ("images",) if ended.rowcount else ())
            self._write_audit()

    @staticmethod
    def _note(database: sqlite3.Connection, line: Mapping[str, Any]) -> None:
        database.execute("insert into audit (line) values (?)", (json.dumps(dict(line), sort_keys=True),))

    def remove_files(self, study: str, more: Iterable[str] = ()) -> None:
        """Remove an exam's objects and what scoring has left, and what else is named."""
        kinds = ("objects", "work", *more)
        for kind in kinds:
            shutil.rmtree(self.files_folder(study, kind), ignore_errors=True)
        with self._changing() as database:
            database.execute("update exams set object_bytes = 0 where study = ?", (study,))
            if "images" in kinds:
                database.execute("update images set bytes = 0 where study = ?", (study,))

    def sweep(self) -> None:
        """Remove files that a kill has left of exams that are done or unknown; call it before any can come."""
        open_exams = {study for (study,) in self._rows("select study from exams where state in ('arriving', 'scored')")}
        for folder in self.folder.glob("*/*"):
            if folder.is_dir() and folder.name not in open_exams:
                self.remove_files(folder.name, ("images",))
        with self._changing() as database:  # a kill between the removal of files and its note
            ended = "(select study from exams where state in ('done', 'aside'))"
            database.execute(f"update images set bytes = 0 where bytes > 0 and study in {ended}")
            database.execute("update exams set object_bytes = 0 where state in ('done', 'aside')")

    def _write_audit(self) -> None:
        """Append the lines of the audit that its file lacks: a kill may have come between database and file."""
        path = self.folder / "audit.jsonl"
        count, size = self._audited
        if not path.exists() or path.stat().st_size != size:  # of a killed process, or another one has written
            there = path.read_bytes() if path.exists() else b""
            count, size = there.count(b"\n"), there.rfind(b"\n") + 1
        rows = self._rows("select line from audit where number > ? order by number", count)
        lines = "".join(f"{line}\n" for (line,) in rows).encode()
        with open(path, "r+b" if path.exists() else "wb") as file:
            file.truncate(size)
            file.seek(size)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        self._audited = count + len(rows), size + len(lines)

    # Pause and resume, by another process too

    @property
    def paused(self) -> bool:
        """Whether exams are taken in, but neither scored nor sent."""
        return (self.folder / "paused").exists()

    def pause(self, paused: bool) -> None:
        """Pause or resume the node of this folder."""
        if paused:
            (self.folder / "paused").touch()
        else:
            (self.folder / "paused").unlink(missing_ok=True)
