"""Check of the documents' command lines against the commands' own parsers."""

from __future__ import annotations

import argparse
import importlib
import re
import tomllib

from accelerate.commands.launch import launch_command_parser
from document_blocks import ROOT
from transformers import HfArgumentParser, TrainingArguments

from mammo_hf.cli import COMMANDS
from mammo_hf.cli.stages import parse_stage

OF_PLUGINS = {"node": "mammo_hf_pacs.command"}
SCRIPTS = {
    "mammogram_analysis": "analysis",
    "run_mim": "pretrain",
    "run_classification": "finetune",
    "run_evaluation": "evaluate",
    "explain": "explain",
    "label_efficiency": "label-efficiency",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def parser_of(command: str) -> argparse.ArgumentParser:
    """A command's own parser."""
    if command in OF_PLUGINS:
        return importlib.import_module(OF_PLUGINS[command]).parser()
    assert command in COMMANDS, f"mammo-hf has no command {command}"
    return importlib.import_module(f"mammo_hf.cli.{command.replace('-', '_')}").parser()


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """List a command's options; a training takes Trainer's too."""
    own = set(parser._option_string_actions)
    trainers = HfArgumentParser(TrainingArguments)._option_string_actions if _is_stage(parser) else ()
    return own | set(trainers)


def _is_stage(parser: argparse.ArgumentParser) -> bool:
    return parser.prog in ("mammo-hf pretrain", "mammo-hf finetune")


def check_line(words: list[str]) -> None:
    """Fails with the reason where the project would refuse the line.

    Raises:
        AssertionError: It would.
    """
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    program, rest = words[0], words[1:]
    checks = {
        "mammo-hf": _check_command,
        "python": _check_python,
        "accelerate": _check_accelerate,
        "make": _check_make,
        "pip": _check_pip,
    }
    assert program in checks, f"what is {program}? Say here how its lines are checked"
    # what is written into a file is the shell's part of the line
    checks[program](rest[: rest.index(">")] if ">" in rest else rest)


def check_options(words: list[str]) -> None:
    """The same for a part of a line, as sentences have it: only its options must be there."""
    if words[0] == "mammo-hf" and len(words) > 1 and not words[1].startswith("-"):
        known = options_of(parser_of(words[1]))
        unknown = [word for word in words if word.startswith("--") and word not in known]
        assert not unknown, f"mammo-hf {words[1]} has no {', '.join(unknown)}"
    elif words[:2] != ["accelerate", "launch"] or len(words) > 2:
        check_line(words)


def _check_command(words: list[str]) -> None:
    if words in (["--help"], ["--version"]):
        return
    _parse(parser_of(words[0]), words[1:])


def _check_python(words: list[str]) -> None:
    if words[:2] in (["-m", "build"], ["-m", "mammo_hf_pacs.orthanc"]):
        return
    script = ROOT / words[0]
    assert script.is_file(), f"there is no {words[0]}"
    if script.parent.name == "scripts" and script.stem in SCRIPTS:
        _parse(parser_of(SCRIPTS[script.stem]), words[1:])
        return
    # benchmarks and the demonstration: their options by name
    source = script.read_text(encoding="utf-8")
    unknown = [word for word in words[1:] if word.startswith("--") and f'"{word}"' not in source]
    assert not unknown, f"{words[0]} has no {', '.join(unknown)}"


def _check_accelerate(words: list[str]) -> None:
    assert words[0] == "launch", f"accelerate {words[0]}"
    launch = launch_command_parser()
    launch.error = _refuse  # type: ignore[method-assign]
    args = launch.parse_args(words[1:])
    if args.config_file is not None:
        assert (ROOT / args.config_file).is_file(), f"there is no {args.config_file}"
    if args.module:
        assert args.training_script == "mammo_hf", args.training_script
        _check_command(args.training_script_args)
    else:
        _check_python([args.training_script, *args.training_script_args])


def _check_make(words: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for word in words:
        name, given, _ = word.partition("=")
        if given:
            assert f"{name} " in (ROOT / "Makefile").read_text(encoding="utf-8"), f"the Makefile has no {name}"
        else:
            assert word in targets, f"make has no target {word}"


def _check_pip(words: list[str]) -> None:
    assert words[0] == "install", f"pip {words[0]}"
    for word in words[1:]:
        matched = re.fullmatch(r"(mammo-hf|\.)(?:\[([\w,-]+)\])?", word)
        if matched:
            for extra in (matched[2] or "").split(","):
                assert not extra or extra in PROJECT["optional-dependencies"], f"there is no extra {extra}"
        elif word.startswith("./"):
            assert (ROOT / word / "pyproject.toml").is_file(), f"there is nothing to install at {word}"
        else:
            assert word.startswith("-") or word.startswith("dist/"), f"what does pip install {word}?"


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> None:
    known = options_of(parser)
    # argparse accepts the beginning of an option in its place; a document writes it in full
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    assert not unknown, f"{parser.prog} has no {', '.join(unknown)}"
    parser.error = _refuse  # type: ignore[method-assign]
    if _is_stage(parser):
        parse_stage(parser, words)  # type: ignore[arg-type]
    else:
        parser.parse_args(words)


def _refuse(message: str) -> None:
    raise AssertionError(message)
