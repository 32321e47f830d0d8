"""Native decoders in a process of their own: what a file makes them do ends that process, and no other.

A decoder written in C may hang, crash or eat the memory on a file that was made or damaged for it. Within `isolating`
it runs in a reader process with limits of time and memory; a reader that a file kills or outlasts is replaced, and the
file is refused. Frames and decoded values cross in shared memory. A reader imports neither torch nor transformers.
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
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from .errors import DataError, MammoError

SECONDS = 10.0  # for one frame or picture
MEMORY = 6 << 30  # bytes of address space of a reader: a frame of the most pixels takes a tenth
_STARVED = 6  # times `SECONDS` for a reader that waits for a processor all that time
_START = 120.0  # seconds for a reader's imports
_LARGE = 1 << 16  # bytes of an argument that crosses in shared memory
_IDLE = 4  # readers that are kept for later
_REMEDY = "copy or download the file again, or leave it out"

Result = TypeVar("Result")
_lock = threading.Lock()
_idle: list[_Reader] = []
_open = 0  # blocks of `isolating` that are open


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
    """Run the native decoders of this process in processes of their own from now on; for a worker's start."""
    isolating().__enter__()


def isolated(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function on what a stranger sent: in a reader process within `isolating`, else here.

    Args:
        function: Function of a module. Outside `isolating`, whatever it raises is raised here.
        *arguments: Arguments that can be pickled; bytes cross in shared memory.

    Raises:
        MammoError: The function has raised one.
        DataError: It has raised anything else in the reader, or the reader was killed or has taken too long.
    """
    if not _open:
        return function(*arguments)
    with _lock:
        reader = _idle.pop() if _idle else None
    reader = reader or _Reader()
    try:
        done, result = reader.call(function, arguments)
    except BaseException:
        reader.end()
        raise
    with _lock:
        keep = bool(_open) and len(_idle) < _IDLE
        if keep:
            _idle.append(reader)
    if not keep:
        reader.end()
    if not done:
        raise result
    found: Result = result
    return found


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

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Return whether the function has returned, and its result, or the error that it has raised.

        Raises:
            DataError: The process was killed or has taken too long.
        """
        try:
            _send(self._to, self._shared, (function, *arguments))
            self._wait(time.monotonic() + _START)
            os.read(self._from, 1)  # all is imported: the time counts from here
            self._wait(time.monotonic() + SECONDS)
            done, result = _receive(self._from, self._shared)
        except (EOFError, BrokenPipeError):
            raise self._killed() from None
        return done, result

    def _wait(self, deadline: float) -> None:
        last = deadline + (_STARVED - 1) * SECONDS
        while not select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if time.monotonic() > last or not _is_starved(self._process.pid):
                raise DataError(f"decoding it takes more than {SECONDS:g} s", remedy=_REMEDY, code="hostile")
            deadline = time.monotonic() + SECONDS / 4

    def _killed(self) -> DataError:
        status = self._process.wait()
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return DataError(f"decoding it ended the process that read it ({how})", remedy=_REMEDY, code="hostile")

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._process.wait()
        os.close(self._shared)


def _is_starved(pid: int) -> bool:
    """Return whether a process has got less than its time because others had the processors."""
    try:
        with open(os.path.join("/proc", str(pid), "stat"), "rb") as file:
            state, *fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return state == b"R" and (int(fields[10]) + int(fields[11])) / os.sysconf("SC_CLK_TCK") < SECONDS


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


def _receive(pipe: int, shared: int) -> Any:
    length, number = struct.unpack("<QQ", _read(pipe, 16))
    sizes = struct.unpack(f"<{number}Q", _read(pipe, 8 * number))
    head, parts, position = _read(pipe, length), [], 0
    for size in sizes:
        # writable, as arrays usually are
        part = bytearray(size)
        view = memoryview(part)
        while view:
            view = view[os.preadv(shared, [view], position + size - len(view)) :]
        parts.append(part)
        position += size
    return pickle.loads(head, buffers=parts)


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
    coming, going = os.dup(0), os.dup(1)
    with open(os.devnull, "rb+", buffering=0) as nothing:  # libraries written in C print to the standard output
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    _limit_memory()
    while True:
        try:
            function, *arguments = _receive(coming, shared)
        except EOFError:
            return
        os.write(going, b"+")
        signal.alarm(int(2 * _STARVED * SECONDS))  # ends this process if the parent, which should, is gone
        try:
            content = (bytes(one) if isinstance(one, memoryview) else one for one in arguments)
            answer: tuple[bool, Any] = True, function(*content)
        except MammoError as error:
            answer = False, error
        except Exception as error:  # what foreign parsers raise; its text may quote the file
            code = "hostile" if isinstance(error, (MemoryError, RecursionError)) else "damaged"
            answer = False, DataError(f"decoding it stopped with a {type(error).__name__}", remedy=_REMEDY, code=code)
        signal.alarm(0)
        _send(going, shared, answer)
        del answer, arguments


def _limit_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # a system without these limits


def _after_fork() -> None:
    """Leave the readers to the process that has started them."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
