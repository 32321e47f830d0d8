"""The errors that a user can fix: each names the source, what is wrong with it, and what to do."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


class MammoError(Exception):
    """Something in the user's input or call that cannot be worked with; prints as one line.

    Options are written as in Python, between backticks; a command writes them as flags (`in_flags`).

    Args:
        problem: What is wrong, in plain words.
        source: File, folder, column or argument that it is about; ``None`` if the problem names it.
        remedy: What the user can do about it.
        code: Why a file is refused, a key of `mammo_hf.notes.REFUSALS`.

    Attributes:
        exit_status: Exit status of a command that this error ends.
    """

    exit_status = 1

    def __init__(
        self, problem: str, *, source: object = None, remedy: str | None = None, code: str = "damaged"
    ) -> None:
        self.problem = problem
        self.source = None if source is None else printable(str(source))
        self.remedy = remedy
        self.code = code
        text = problem if source is None else f"{self.source}: {problem}"
        super().__init__(" ".join((text if remedy is None else f"{text}; {remedy}").split()))

    def __reduce__(self) -> tuple[object, ...]:
        # keyword-only arguments do not survive the default pickling, which worker processes rely on
        return _rebuild, (type(self), self.problem, self.source, self.remedy, self.code)


def _rebuild(kind: type[MammoError], problem: str, source: str | None, remedy: str | None, code: str) -> MammoError:
    return kind(problem, source=source, remedy=remedy, code=code)


class UsageError(MammoError):
    """A wrong command or call: a missing argument, a path that does not exist, an unknown name."""

    exit_status = 2


class DataError(MammoError):
    """Data that cannot be used as asked: no labels, one class only, a table that contradicts itself."""


def printable(path: str) -> str:
    """Return a path as tables and messages show it: bytes of a name that are not UTF-8 as ``%FF``."""
    # how Python writes the bytes of such a name: PEP 383
    return re.sub("[\udc80-\udcff]", lambda match: f"%{ord(match[0]) - 0xDC00:02X}", path)


@contextmanager
def refusing(source: object, kind: type[DataError] = DataError) -> Iterator[None]:
    """Turn whatever goes wrong while a file is parsed into an error that names it.

    Foreign parsers raise almost anything on a damaged file, and quote the file's values in the text: only the kind of
    the exception is repeated, and the original is cut off from the traceback.

    Args:
        source: File that the error names, unless it names one already.
        kind: Class of the error.

    Raises:
        DataError: Anything but a UsageError was raised, and it was not an interrupt or the program's end.
    """
    try:
        yield
    except UsageError:
        raise
    except MammoError as error:
        named = source if error.source is None else error.source
        raise kind(error.problem, source=named, remedy=error.remedy, code=error.code) from None
    except OSError as error:
        problem = f"cannot be read ({error.strerror})" if error.strerror else "is damaged, or cut short"
        code = "missing" if error.strerror else "damaged"
        raise kind(problem, source=source, remedy="check the path, or copy the file again", code=code) from None
    except (MemoryError, RecursionError) as error:
        what = "is too large for the memory" if isinstance(error, MemoryError) else "is nested too deeply"
        raise kind(what, source=source, remedy="leave it out, or lower max_pixels", code="hostile") from None
    except Exception as error:
        problem = f"is damaged: parsing stopped with a {type(error).__name__}"
        raise kind(problem, source=source, remedy="copy or download the file again") from None


def check_json_object(path: str | os.PathLike[str]) -> None:
    """Refuse a file that does not hold a JSON object; one that does not exist is left to whoever looks for it.

    Raises:
        DataError: It holds something else, or cannot be read.
    """
    if os.path.isfile(path):
        with refusing(path):
            text = Path(path).read_bytes()
            try:
                content = json.loads(text)
            except (ValueError, RecursionError):
                content = None
            if not isinstance(content, dict):
                raise DataError("is not a JSON object", remedy="copy or download the file again")


def in_flags(text: str, flags: Mapping[str, str] | None = None) -> str:
    """Return a message with its options written as on the command line.

    Messages write an option as in Python, between backticks: ```output_dir```, ```folds=5```.

    Args:
        text: Message of an error.
        flags: Flag of each option that the command names; ``None``: every option's own name.
    """

    def flag(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        if flags is not None and name not in flags:
            return match[0]
        shown = f"--{name}" if flags is None else flags[name]
        return shown if value is None else f"{shown} {value.lower() if value == 'True' else value}"

    return re.sub(r"`(\w+)(?:=([^`]+))?`", flag, text)


def check_file(name: str, path: str | None, what: str = "a file that training wrote next to a checkpoint") -> None:
    """Raise UsageError if a file that an argument names is not there."""
    if path is not None and not Path(path).is_file():
        raise UsageError("no such file", source=path, remedy=f"{name} takes {what}")


def check_number(name: str, value: float | None, holds: bool, rule: str) -> None:
    """Raise UsageError if a number breaks its rule; NaN breaks every one."""
    if not holds:
        raise UsageError(f"is {value}", source=name, remedy=f"it must be {rule}")


def check_device(device: str | None) -> None:
    """Raise UsageError if CUDA is asked for and is not available."""
    import torch  # takes a second, which commands that only show their help should not

    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("CUDA is not available", source="device", remedy="use cpu, or auto")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise UsageError if a value is not among its choices."""
    if value not in choices:
        raise UsageError(f"is {value!r}", source=name, remedy=f"use {', '.join(choices)}")


def check_hub_name(name: str, value: str | None) -> None:
    """Raise UsageError if a value is not the full name of a repository on the Hub."""
    if value is not None and not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", value, re.ASCII):
        raise UsageError(f"is {value!r}", source=name, remedy="give a name on the Hub, OWNER/NAME")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the question for the nearest known name, with a space at its end; empty if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}? " if near else ""


# Where the package is installed from: a copy of its repository until the name is registered at PyPI, then "mammo-hf".
INSTALLED_FROM = "."


def install(extra: str = "") -> str:
    """Return the line that installs the package, with one of its extras.

    Args:
        extra: Name of the extra, such as "codecs"; "": none.
    """
    where = " in a copy of the repository of mammo_hf" if INSTALLED_FROM == "." else ""
    return f'pip install "{INSTALLED_FROM}{f"[{extra}]" if extra else ""}"{where}'
