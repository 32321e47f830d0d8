"""What all commands share: the parser of their arguments, the exit status, one line per known error, and the log."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, get_args, get_type_hints

from ..data import READING
from ..errors import MammoError, UsageError, did_you_mean, in_flags
from ..files import writable_folder, writing_errors
from ..isolation import isolating
from ..training.options import StageOptions


def reading_options(given: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `Parser.add_reading_options` out of the given ones.

    Args:
        given: Options by name, as ``vars`` of what was parsed; those of reading are removed.
    """
    return {name: given.pop(name) for name in READING if name in given}


def opened(source: str, given: dict[str, Any], settings: Mapping[str, Any]) -> Any:
    """Return the collection that a function is given, loaded if there are options of reading among the given ones.

    Without any it is the text as it is: the function reads headers as its model's processor does.

    Args:
        source: Collection as the user names it.
        given: Options by name; those of reading are removed.
        settings: Settings of the processor that were given.
    """
    reading = reading_options(given)
    if not reading:
        return source
    from ..data.loading import HEADER, load  # imports datasets, which --help should not

    return load(source, **reading, **{name: settings[name] for name in HEADER if name in settings})


def processor_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `Parser.add_processor_options` out of the given ones.

    Args:
        given: Options by name, as ``vars`` of what was parsed; those of the processor are removed.
    """
    return {name: given.pop(name) for name in PROCESSOR_OPTIONS if name in given}


def preparing_options(given: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Return the source and the folder of a command with `Parser.add_preparing_options`, and its function's arguments.

    Args:
        given: Options by name, as ``vars`` of what was parsed; source and folder are removed.
    """
    from ..processing.geometry import parse_size  # imports numpy, which --help should not

    source, out, settings = given.pop("source"), given.pop("output_dir"), processor_settings(given)
    if "image_size" in given:
        given["image_size"] = parse_size(given["image_size"])
    return source, out, {**given, "processor_settings": settings}


def boolean(text: str) -> bool:
    """Return the value of an option that is true or false.

    Raises:
        ArgumentTypeError: The text is neither.
    """
    if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "yes", "1")


def _whole_or_text(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdecimal() else text


BOOLEAN: dict[str, Any] = {"nargs": "?", "const": True, "type": boolean, "metavar": "BOOL"}
# the settings of MammoImageProcessor that commands take in place of a processor's own; its docstring explains them
PROCESSOR_OPTIONS: dict[str, dict[str, Any]] = {
    "window": {
        "type": _whole_or_text,
        "help": "which of several windows or VOI LUTs: its index or explanation (default: NORMAL)",
    },
    "prefer": {
        "choices": ("lut", "window"),
        "help": "what is used if a file has a VOI LUT and a window (default: lut)",
    },
    "on_missing_window": {
        "choices": ("robust", "full_range", "raise"),
        "help": "what is done with For Processing images and files without a window (default: robust)",
    },
    "on_missing_end": {
        "choices": ("raise", "note"),
        "help": "what is done with compressed frames without end marker: refused, or read and noted (default: raise)",
    },
    "on_useless_display": {
        "choices": ("note", "robust", "raise"),
        "help": "what is done if the display shows nothing of the breast: noted, replaced or refused (default: note)",
    },
    "orientation": {
        "choices": ("agreeing", "header", "ignore"),
        "help": "when an image is turned upright by its PatientOrientation: if the picture agrees, always, never "
        "(default: agreeing)",
    },
    "use_descriptions": {**BOOLEAN, "help": "take side and view from free text too (default: true)"},
    "any_anatomy": {
        **BOOLEAN,
        "help": "read images of other body parts, projections and slices of a tomosynthesis too (default: false)",
    },
    "tomosynthesis": {
        "type": _whole_or_text,
        "metavar": "SLICES",
        "help": "slices of a volume: middle, their maximum (all), or an index (default: middle)",
    },
    "invert_negatives": {**BOOLEAN, "help": "invert images with dark tissue on a bright background (default: true)"},
    "equalize_ranks": {
        **BOOLEAN,
        "help": "show pixels by their rank within the image, not their tone (default: false)",
    },
    "blank_pectoral_muscle": {**BOOLEAN, "help": "look for the pectoral muscle, and make it black (default: false)"},
    "decode": {
        "choices": ("exact", "fast"),
        "help": "how JPEG 2000 and HTJ2K are read: exactly, or at 1/2, 1/4, ... if that is enough (default: exact)",
    },
}


def add_field(group: Any, field: Any, hint: Any) -> None:
    """Add a field of a stage's options as a command's option: a flag, one value, or several.

    Args:
        group: Group of the parser.
        field: Field of a dataclass, with the help text that `mammo_hf.training.options.option` gave it.
        hint: Type of the field.
    """
    alternatives = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kind = next(found for found in alternatives if found is not type(None))
    default = field.default if field.default is not MISSING else field.default_factory()
    shown = "" if default in (None, []) else f" (default: {str(default).lower()})"
    more: dict[str, Any] = {"help": field.metadata["help"].replace("%", "%%") + shown}
    if kind is bool:
        more |= BOOLEAN
    elif get_args(kind):
        more |= {"nargs": "*", "type": get_args(kind)[0], "metavar": "..."}
    else:
        more |= {"type": kind, "metavar": {int: "N", float: "X"}.get(kind, "TEXT")}
    group.add_argument(f"--{field.name}", **more)


def _add_reading(group: Any, name: str) -> None:
    """Add an option of reading a collection, as the training stages have it."""
    (field,) = (field for field in fields(StageOptions) if field.name == name)
    add_field(group, field, get_type_hints(StageOptions)[name])


class Parser(argparse.ArgumentParser):
    """Parser of a command's arguments, with an example in its help and the nearest option for a misspelled one.

    Args:
        prog: Command as the user types it, such as "mammo-hf predict".
        description: Sentence that says what the command does.
        example: Complete command line that works.
        **others: Further arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, prog: str, description: str, example: str, **others: Any) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **others,
        )

    def add_reading_options(self, *names: str) -> None:
        """Add the options of `mammo_hf.load` that every source takes; `reading_options` gathers them.

        Args:
            names: Options that are added; by default all.
        """
        group = self.add_argument_group("reading the collection", argument_default=argparse.SUPPRESS)
        for name in names or READING:
            _add_reading(group, name)

    def add_processor_options(self, *names: str, overrides: bool = True) -> None:
        """Add the settings of a processor in place of its own, which `processor_settings` gathers, and ``--overrides``.

        Args:
            names: Settings that are added; by default all.
            overrides: Whether the command takes an overrides file, which `add_reading_options` adds too.
        """
        group = self.add_argument_group(
            "how images are read", "by default as the processor of the model says", argument_default=argparse.SUPPRESS
        )
        for name in names or PROCESSOR_OPTIONS:
            group.add_argument(f"--{name}", **PROCESSOR_OPTIONS[name])
        if overrides and "--overrides" not in self._option_string_actions:
            _add_reading(group, "overrides")

    def add_shown_label(self, group: Any) -> None:
        """Add the options that name the label of maps, and the operating point below which none is drawn."""
        group.add_argument(
            "--target",
            metavar="LABEL",
            help="label such as pathology:malignant (default: of two labels the positive one, of more the predicted)",
        )
        group.add_argument(
            "--operating_point",
            choices=("specificity_95", "specificity_90", "sensitivity_90", "none"),
            default="specificity_95",
            help="no map of a positive label that scores below it; none: a map of every image (default: %(default)s)",
        )

    def add_encoder_options(self) -> None:
        """Add the options of the encoder of a head over features."""
        group = self.add_argument_group("a head over features")
        group.add_argument("--encoder", help="its encoder, if that is no longer where the head says")
        group.add_argument("--trust_remote_code", action="store_true", help="run code of the encoder's own repository")

    def add_preparing_options(self, images: Any) -> None:
        """Add the options of a folder of prepared rows, which `preparing_options` gathers with the others.

        Args:
            images: Group of the options on images.
        """
        self.add_argument(
            "--output_dir",
            required=True,
            help="folder, or fsspec URL such as s3://bucket/folder; run again, it resumes",
        )
        images.add_argument(
            "--processor", help="folder with a preprocessor_config.json: how images are read and cropped"
        )
        images.add_argument("--terms", help='terms of own images, such as "allowed: ethics vote 12/2024"')
        images.add_argument(
            "--max_rejected_fraction",
            type=float,
            help="fraction of unreadable files, 0 to 1, above which the run ends in an error (default: 0.5)",
        )
        self.add_reading_options()
        self.add_processor_options()
        files = self.add_argument_group("files")
        files.add_argument("--format", choices=("arrow", "parquet"), help="memory-mapped, or compressed and streamable")
        files.add_argument("--shard_size", type=int, help="images per file (default: 128)")
        work = self.add_argument_group("processes")
        work.add_argument("--num_workers", type=int, help="processes in addition to the main one (default: none)")
        work.add_argument("--ray", action="store_true", help="use a Ray cluster, or a local Ray of --num_workers CPUs")
        work.add_argument("--ray_address", help="address of the cluster, such as auto or ray://head:10001")

    def add_scoring_options(self) -> None:
        """Add the options of the bootstrap, and of scoring many images."""
        bootstrap = self.add_argument_group("bootstrap")
        bootstrap.add_argument("--resamples", type=int, default=2000, help="bootstrap resamples (default: %(default)s)")
        bootstrap.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: %(default)s)")
        running = self.add_argument_group("running")
        running.add_argument("--batch_size", type=int, default=16, help="images per batch (default: %(default)s)")
        running.add_argument(
            "--num_workers", type=int, default=2, help="processes that read images (default: %(default)s)"
        )
        running.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse the arguments, or name the nearest option for one that does not exist.

        Raises:
            UsageError: An option is unknown, is missing, or has a value of the wrong type.
        """
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            refuse_unknown(unknown[0], [*self._option_string_actions], self.prog)
        return found

    def error(self, message: str) -> NoReturn:
        """Raise the error as one that `run_command` prints in one line."""
        raise UsageError(message, remedy=f"see {self.prog} --help")


def refuse_unknown(option: str, known: Sequence[str], prog: str) -> NoReturn:
    """Refuse an argument that a command does not have.

    Args:
        option: Argument as it was given, such as "--seeds=3".
        known: All options of the command.
        prog: Command as the user types it.

    Raises:
        UsageError: Names the argument and the nearest option.
    """
    given = option.partition("=")[0]
    near = did_you_mean(given, known).rstrip() if given.startswith("-") else ""
    what = "is not an option" if given.startswith("-") else "is one argument too many"
    raise UsageError(f"{what} of {prog}", source=given, remedy=near or f"see {prog} --help")


@contextmanager
def named_as_flags(flags: Mapping[str, str]) -> Iterator[None]:
    """Name an option of a function as the command line does.

    Args:
        flags: Flag of each option.

    Raises:
        MammoError: The same error; its message names flags.
    """
    try:
        yield
    except MammoError as error:
        raise with_flags(error, flags) from error


def with_flags(error: MammoError, flags: Mapping[str, str]) -> MammoError:
    """Write the options of a function as a command's flags in the message of an error."""
    source = flags.get(str(error.source), error.source)
    problem, remedy = (text and in_flags(text, flags) for text in (error.problem, error.remedy))
    return type(error)(str(problem), source=source, remedy=remedy, code=error.code)


def run_command(command: Callable[[list[str]], None], arguments: Sequence[str] | None = None) -> int:
    """Run a command; a known error becomes one line on standard error and its exit status."""
    try:
        with isolating():
            command(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()  # here, because a reader that has gone is not an error
    except MammoError as error:
        print(f"error: {in_flags(str(error))}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our output has gone: there is nobody left to report to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # a disk that fills up or a folder that goes away: a traceback would not explain it
        reason = error.strerror or " ".join(str(error).split())
        print(
            f"error: {error.filename or 'files'}: {reason}; check the path, its permissions and the free space",
            file=sys.stderr,
        )
        return 1
    return 0


def log_to(target: str, output_dir: Path | None = None) -> None:
    """Log to the console, or to ``training_log.txt`` in the output folder.

    Raises:
        UsageError: The folder cannot be written to.
    """
    handler: logging.Handler = logging.StreamHandler()
    if target == "file" and output_dir is not None:
        writable_folder(output_dir)
        file = output_dir / "training_log.txt"
        with writing_errors(file):
            handler = logging.FileHandler(file, encoding="utf-8")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", handlers=[handler], force=True)
    quiet()


def quiet() -> None:
    """Silence what other libraries report of themselves, such as a progress bar for each file that they load."""
    for name in ("httpx", "httpx2", "datasets", "matplotlib", "PIL"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from transformers.utils import logging as of_transformers  # importing it takes a second, which --help should not

    of_transformers.disable_progress_bar()


def print_next(*words: object) -> None:
    """Print the command that can follow, its paths quoted as a shell takes them."""
    print(f"next: {shlex.join(['mammo-hf', *map(str, words)])}")


def check_outputs(out: Path, *folders: Path) -> None:
    """Create the folders of a run and check that they can be written to, before hours are spent on it.

    Raises:
        UsageError: A folder cannot be made or written to, or ``metrics.json`` is something else.
    """
    for folder in (out, *folders):
        writable_folder(folder)
    from ..models.checkpoint import read_metrics  # imports torch, which --help should not

    read_metrics(out)
