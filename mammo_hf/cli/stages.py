"""The common parts of the two training commands: parser, ``--config``, and the end of a distributed run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from ..data.datasets.tables import SUFFIXES as TABLE_SUFFIXES
from ..errors import UsageError
from .running import Parser, add_field, log_to, named_as_flags, print_next, processor_settings, refuse_unknown

MODEL_HELP = (
    "what training starts from: nano, tiny, small, base, large, a checkpoint's folder, a .pth file of Swin or SimMIM, "
    "or a Hub name with @revision (default: tiny)"
)


def stage_parser(command: str, description: str, example: str, options: type) -> Parser:
    """Return the parser of a stage's own options, in groups; those of Trainer are read by `parse_stage`.

    Args:
        command: Name of the command, such as "pretrain".
        description: Sentence that says what it does.
        example: Command line that works.
        options: Dataclass of the stage's options.
    """
    usage = f"mammo-hf {command} --dataset DATASET --output_dir DIR [options]"
    p = Parser(f"mammo-hf {command}", description, example, usage=usage, argument_default=argparse.SUPPRESS)
    p.add_argument("--help-all", action="store_true", help="show Trainer's arguments too, all of which are taken")
    group = p.add_argument_group("input and output")
    group.add_argument(
        "--dataset", help="table of images, folder of a collection, SOURCE:FOLDER, a mapping, or a prepared folder"
    )
    group.add_argument("--model", help=MODEL_HELP)
    group.add_argument("--output_dir", metavar="DIR", help="folder of the checkpoint")
    group.add_argument("--config", metavar="FILE", help="run.yaml of an earlier run, whose options are repeated")
    group.add_argument(
        "--resume_from_checkpoint", metavar="TRUE", help="true: resume from the newest checkpoint; or its folder"
    )
    groups: dict[str, Any] = {}
    hints = get_type_hints(options)
    for field in fields(options):
        name = field.metadata["group"]
        if field.name == "processor_settings":
            p.add_processor_options(overrides=False)  # which is a field too
            continue
        groups[name] = groups.get(name) or p.add_argument_group(name)
        add_field(groups[name], field, hints[field.name])
    return p


def parse_stage(parser: Parser, arguments: list[str]) -> dict[str, Any] | None:
    """Return the given options of a stage, its own and Trainer's, by name; ``None`` if all were only to be shown.

    Raises:
        UsageError: An option is unknown or has a value of the wrong type, or the configuration cannot be read.
    """
    own, rest = parser.parse_known_args(arguments)
    given = vars(own)
    settings = processor_settings(given)
    if given.pop("help_all", False) or rest:
        from transformers import HfArgumentParser, TrainingArguments  # only here: it takes seconds

        trainers = HfArgumentParser(TrainingArguments, prog=parser.prog, add_help=False, allow_abbrev=False)  # type: ignore[arg-type]
        if not rest:
            print(parser.format_help(), "\nTrainer's arguments:\n", trainers.format_help(), sep="")
            return None
        for action in trainers._actions:
            action.default = argparse.SUPPRESS
        try:
            found, unknown = trainers.parse_known_args(rest)
        except SystemExit as error:
            raise UsageError("Trainer refuses its arguments", remedy=f"see {parser.prog} --help-all") from error
        if unknown:
            refuse_unknown(unknown[0], [*parser._option_string_actions, *trainers._option_string_actions], parser.prog)
        given = vars(found) | given
    given = _from_file(given.pop("config", None)) | given
    if settings:
        given["processor_settings"] = (given.get("processor_settings") or {}) | settings
    return given


def _from_file(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError("cannot be read as YAML", source=path, remedy="give the run.yaml of a checkpoint") from error
    if not isinstance(content, dict):
        raise UsageError("does not hold options", source=path, remedy="give the run.yaml of a checkpoint")
    return content


def run_stage(parser: Parser, arguments: list[str], train: Callable[[], Callable[..., Any]], next_command: str) -> None:
    """Parse the arguments of a stage, train, and print the result and the next command.

    Args:
        parser: Parser of the stage, from `stage_parser`.
        arguments: Arguments of the command line.
        train: Function that imports and returns the stage's function.
        next_command: Command to try next without ``mammo-hf``; ``{out}`` and ``{dataset}`` become what was given.

    Raises:
        MammoError: The stage cannot run; options are named as on the command line.
    """
    given = parse_stage(parser, arguments)
    if given is None:
        return
    for name in ("dataset", "output_dir"):
        if not given.get(name):
            raise UsageError(f"--{name} is missing", remedy=f"see {parser.prog} --help")
    dataset, out = given.pop("dataset"), Path(given.pop("output_dir"))
    check_dataset(dataset, "--dataset")
    log_to("console")
    with named_as_flags({name: f"--{name}" for name in given}):
        result = train()(dataset, out, **given)
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(result)
        print_next(*(word.format(out=out, dataset=dataset) for word in next_command.split()))
    leave_together()


def leave_together() -> None:
    """Let the processes of a distributed run leave together, after the main one has written its results.

    One that leaves early, with the group's threads alive, may be aborted, and then the launcher ends the others while
    they write.
    """
    from accelerate import PartialState

    state = PartialState()
    state.wait_for_everyone()
    state.destroy_process_group()


def check_dataset(dataset: str, argument: str) -> None:
    """Refuse what cannot be a collection, before anything is read.

    Raises:
        UsageError: Names the argument.
    """
    # a source by name ("folder:/data"), a mapping and an object store's URL are looked at when they are opened
    is_table = Path(dataset).is_file() and Path(dataset).suffix.lower() in TABLE_SUFFIXES
    if not (Path(dataset).is_dir() or is_table or Path(dataset).suffix == ".toml" or ":" in dataset):
        remedy = f"give {argument} the collection's folder, or a table of its images"
        raise UsageError("is not a folder", source=dataset, remedy=remedy)
