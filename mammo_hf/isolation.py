"""Native decoders in a process of their own: what a file makes them do ends that process, and no other.

A decoder written in C may hang, crash or eat the memory on a file that was made or damaged for it. Within `isolating`
it runs in a reader process with limits of time and memory; a reader that a file kills or outlasts is replaced, and the
file is refused. Frames and decoded values cross in shared memory; such a reader imports neither torch nor transformers.
Many files are read side by side by `Readers`: each file whole in a reader, and only what is made of it crosses.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import DataError, MammoError, UsageError

if TYPE_CHECKING:
    import numpy as np

SECONDS = 10.0  # for one frame or picture
MEMORY = 6 << 30  # bytes of address space for what a reader reads: a frame of the most pixels takes a tenth
_AROUND = 6  # times `SECONDS` for a file's work outside of decoders, and for a reader that waits for a processor
_START = 120.0  # seconds for a reader's imports
_LARGE = 1 << 16  # bytes of an argument that crosses in shared memory
_IDLE = 4  # readers that are kept for later
_REMEDY = "copy or download the file again, or leave it out"
# what a reader reports: it decodes, it reads what is around that, its answer follows
_DECODES, _READS, _ANSWERS = b"(", b")", b"="

Result = TypeVar("Result")
_lock = threading.Lock()
_idle: list[_Reader] = []
_open = 0  # blocks of `isolating` that are open
_thread = threading.local()  # of a thread of `Readers`: its own reader, as `desk`
_report: Callable[[bytes], object] | None = None  # in a reader: how it reports to its parent


@contextmanager
def isolating() -> Iterator[None]:
    """Run native decoders in processes of their own within the block, on all threads."""
    global _open
    with _lock:
        _open += 1
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            ended = [] if _open else _idle[:]
            del _idle[len(_idle) - len(ended) :]
        for reader in ended:
            reader.end()


def isolate_process() -> None:
    """Run the native decoders of this process in processes of their own from now on."""
    isolating().__enter__()


def isolated(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a decoder on what a stranger sent: in a reader process within `isolating`, else here.

    Args:
        function: Function of a module. Outside `isolating`, whatever it raises is raised here.
        *arguments: Arguments that can be pickled; bytes cross in shared memory.

    Raises:
        MammoError: The function has raised one.
        DataError: It has raised anything else in the reader, or the reader was killed or has taken too long.
    """
    if _report is not None:
        _report(_DECODES)
        try:
            return function(*arguments)
        finally:
            _report(_READS)
    own: _Desk | None = getattr(_thread, "desk", None)
    if own is not None:
        return own.call(_DECODES, function, arguments)
    if not _open:
        return function(*arguments)
    with _lock:
        desk = _Desk(_idle.pop() if _idle else None)
    try:
        return desk.call(_DECODES, function, arguments)
    finally:
        with _lock:
            if _open and len(_idle) < _IDLE and desk.reader is not None:
                _idle.append(desk.reader)
                desk.reader = None
        desk.end()


def read_apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function that reads a whole file: on a thread of `Readers` in its reader process, else here.

    Args:
        function: Function of a module, which calls decoders by `isolated`; each has a time limit of its own.
        *arguments: Arguments that can be pickled.

    Raises:
        MammoError: The function has raised one.
        DataError: It has raised anything else in the reader, or the reader was killed or has taken too long.
    """
    desk: _Desk | None = getattr(_thread, "desk", None)
    return function(*arguments) if desk is None else desk.call(_READS, function, arguments)


class Readers:
    """Threads with a reader process each: what they read by `read_apart` is read side by side, and isolated.

    Leaving the block ends the processes at once.

    Args:
        number: Number of threads.
    """

    def __init__(self, number: int) -> None:
        self._desks: list[_Desk] = []
        self._threads = ThreadPoolExecutor(number, initializer=self._start)

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for desk in self._desks[:]:
            desk.close()
        self._threads.shutdown()

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Call a function on the next free thread."""
        return self._threads.submit(function, *arguments)

    def _start(self) -> None:
        _thread.desk = _Desk()
        self._desks.append(_thread.desk)


class _Desk:
    """The place of a reader process, which is started when it is needed and replaced when it was lost."""

    def __init__(self, reader: _Reader | None = None) -> None:
        self.reader = reader
        self._closed = False
        self._changing = threading.Lock()

    def call(self, mark: bytes, function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
        try:
            done, result = self._answer(mark, function, arguments)
        except _KilledError:
            # as by a system without memory, which may have chosen this process for the others' needs
            done, result = self._answer(mark, function, arguments)
        if not done:
            raise result
        found: Result = result
        return found

    def _answer(self, mark: bytes, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        with self._changing:
            if self._closed:
                raise UsageError("reading was ended")
            reader = self.reader = self.reader or _Reader()
        try:
            return reader.call(mark, function, arguments)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End the process."""
        with self._changing:
            if self.reader is not None:
                self.reader.end()
            self.reader = None

    def close(self) -> None:
        """Kill the process while a thread waits for it, and let no other start; the thread cleans up."""
        with self._changing:
            self._closed = True
            if self.reader is not None:
                self.reader.kill()


class _KilledError(DataError):
    """A reader was killed by something other than the file: the system, or a user."""


class _Reader:
    """A reader process, as its parent sees it."""

    def __init__(self) -> None:
        self._shared = _shared_memory()
        # in a session of its own, so that Ctrl-C reaches the parent alone; not on the path of what lies in this folder
        environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import _serve; _serve({self._shared})"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(self._shared,),
            start_new_session=True,
            env=os.environ | environment | {"PYTHONPATH": path},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._answered = select.poll()
        self._answered.register(self._from, select.POLLIN)

    def call(self, mark: bytes, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Return whether the function has returned, and its result, or the error that it has raised.

        Raises:
            DataError: The process was killed or has taken too long.
        """
        try:
            _send(self._to, self._shared, (mark, function, *arguments))
            limit, what = _START, "the start of the process that reads it"
            while True:
                self._wait(limit, what)
                mark = _read(self._from, 1)
                if mark == _ANSWERS:
                    done, result = _receive(self._from, self._shared, _as_array)
                    return done, result
                limit, what = (SECONDS, "decoding it") if mark == _DECODES else (_AROUND * SECONDS, "reading it")
        except (EOFError, BrokenPipeError):
            raise self._lost() from None

    def _wait(self, seconds: float, what: str) -> None:
        used, started = _processor_seconds(self._process.pid), time.monotonic()
        deadline, last = started + seconds, started + _AROUND * seconds
        while not self._answered.poll(max(0.0, deadline - time.monotonic()) * 1000):
            spent = _processor_seconds(self._process.pid) - used
            if time.monotonic() > last or spent >= seconds or not _wants_processor(self._process.pid):
                raise DataError(f"{what} takes more than {seconds:g} s", remedy=_REMEDY, code="hostile")
            deadline = time.monotonic() + seconds / 4

    def _lost(self) -> DataError:
        status = self._process.wait()
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        if status == -signal.SIGKILL:
            problem = f"the process that read it was killed ({how}), perhaps because memory ran out"
            return _KilledError(problem, remedy="free memory, or use fewer workers", code="hostile")
        return DataError(f"decoding it ended the process that read it ({how})", remedy=_REMEDY, code="hostile")

    def kill(self) -> None:
        """Kill the process; `end` is to be called after."""
        self._process.kill()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._process.wait()
        os.close(self._shared)


def _statistics(path: str) -> list[bytes]:
    """Return the fields of a process or thread from its state on (proc(5)); none on a system without them."""
    try:
        with open(path, "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _processor_seconds(pid: int) -> float:
    fields = _statistics(f"/proc/{pid}/stat")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _wants_processor(pid: int) -> bool:
    """Return whether a thread of a process is running, waits for a processor that others have, or for a disk."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    return any(_statistics(f"/proc/{pid}/task/{thread}/stat")[:1] in ([b"R"], [b"D"]) for thread in threads)


def _shared_memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("mammo-hf")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


# Messages: a pickle through a pipe, large parts of it in the shared memory.


def _send(pipe: int, shared: int, content: tuple[Any, ...]) -> None:
    parts: list[pickle.PickleBuffer] = []
    wrapped = tuple(
        pickle.PickleBuffer(one) if isinstance(one, (bytes, bytearray, memoryview)) and len(one) > _LARGE else one
        for one in content
    )
    head = pickle.dumps(wrapped, 5, buffer_callback=parts.append)
    sizes, position = [], 0
    for part in parts:
        raw = part.raw()
        sizes.append(raw.nbytes)
        written = 0
        while written < raw.nbytes:
            written += os.pwrite(shared, raw[written:], position + written)
        position += raw.nbytes
    message = memoryview(struct.pack(f"<QQ{len(sizes)}Q", len(head), len(sizes), *sizes) + head)
    while message:
        message = message[os.write(pipe, message) :]


def _receive(pipe: int, shared: int, take: Callable[[int, int, int], Any]) -> Any:
    length, number = struct.unpack("<QQ", _read(pipe, 16))
    sizes = struct.unpack(f"<{number}Q", _read(pipe, 8 * number))
    head, parts, position = _read(pipe, length), [], 0
    for size in sizes:
        parts.append(take(shared, size, position))
        position += size
    return pickle.loads(head, buffers=parts)


def _as_array(shared: int, size: int, position: int) -> np.ndarray:
    """Copy a part out of the shared memory, writable, as arrays usually are."""
    import numpy as np  # only here: every command's help imports this module

    part = np.empty(size, np.uint8)
    view = memoryview(part.data)
    while view:
        view = view[os.preadv(shared, [view], position + size - len(view)) :]
    return part


def _as_bytes(shared: int, size: int, position: int) -> bytes:
    part = os.pread(shared, size, position)
    return part if len(part) == size else part + _as_bytes(shared, size - len(part), position + len(part))


def _read(pipe: int, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = os.read(pipe, size - len(found))
        if not part:
            raise EOFError
        found += part
    return bytes(found)


# The reader's side.


def _serve(shared: int) -> None:
    """Call what the parent sends, until it closes the pipe."""
    global _report
    coming, going = os.dup(0), os.dup(1)
    with open(os.devnull, "rb+", buffering=0) as nothing:  # libraries written in C print to the standard output
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    limit: Callable[[], Any] = _limit_memory
    while True:
        try:
            mark, function, *arguments = _receive(coming, shared, _as_bytes)
        except EOFError:
            return
        except Exception as error:  # a class of the main script, or of a module that was loaded in another way
            mark, function, arguments = _READS, _refuse, [type(error).__name__]
        limit()  # now that what it needs is imported, which the memory of what it reads does not pay for
        limit = int
        _report = partial(_tell, going)
        _report(mark)
        try:
            answer: tuple[bool, Any] = True, function(*arguments)
        except MammoError as error:
            answer = False, error
        except Exception as error:  # what foreign parsers raise; its text may quote the file
            code = "hostile" if isinstance(error, (MemoryError, RecursionError)) else "damaged"
            answer = False, DataError(f"decoding it stopped with a {type(error).__name__}", remedy=_REMEDY, code=code)
        signal.alarm(0)
        os.write(going, _ANSWERS)
        _send(going, shared, answer)
        del answer, arguments


def _tell(pipe: int, mark: bytes) -> None:
    os.write(pipe, mark)
    # ends this process if the parent, which should, is gone
    signal.alarm(int(2 * _AROUND * _AROUND * SECONDS))


def _refuse(kind: str) -> None:
    problem = f"what reads it cannot be sent to a reader process ({kind})"
    raise UsageError(problem, remedy="define its class in a module of its own, or use no workers")


def _limit_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/statm", "rb") as file:
            own = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (own + MEMORY, own + MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # a system without these limits


def _after_fork() -> None:
    """Leave the readers to the process that has started them."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
