"""The command line ``mammo-hf``; each subcommand is the same code as its script, or a plug-in's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from .. import __version__
from ..errors import MammoError, did_you_mean
from ..plugins import find_plugin, offered, plugin_errors, plugins
from .running import run_command, with_flags

GROUP = "mammo_hf.commands"
NAMES = ("parser", "main")
COMMANDS = {
    "analysis": "all steps on a CBIS-DDSM folder: pre-train, classify, explain",
    "pretrain": "stage 1: masked image modelling, without labels",
    "finetune": "stage 2: classification of several tasks from few labels",
    "crops": "contact sheets of a folder, with breast masks and crops drawn",
    "evaluate": "figures of a classifier with intervals on any collection, in one report",
    "label-efficiency": "how many labels a method needs, next to baselines",
    "transfer": "how several classifiers fare on several collections, at home and away",
    "app": "a page in the browser: drop an exam, see scores and explanations",
    "predict": "scores of a folder or a list of files as one table",
    "explain": "pictures of where a classifier looked",
    "evaluate-explanations": "how well explainers find lesions, and how faithful they are to the model",
    "export": "a classifier as ONNX or for OpenVINO",
    "explainers": "the explainers that are installed",
    "inspect": "what DICOM files hold and how they are read, or why not",
    "card": "write a checkpoint's model card again",
    "push": "publish a checkpoint, an export or prepared images on the Hugging Face Hub",
    "prepare": "read a collection once, for any number of trainings",
    "embed": "encode a collection once, for heads that are trained in minutes",
    "encoders": "encoders for embed, with licence and commercial use",
    "download": "fetch a public collection from the Imaging Data Commons",
    "load": "what a collection holds: images, patients, labels, splits, terms",
    "mapping": "draft what the columns of an own table are",
    "phantom": "draw a collection of phantom mammograms",
}


def usage() -> str:
    """Return what ``mammo-hf --help`` prints: the commands, and below them those of plug-ins, or why not."""
    lines = [f"  {name:<23}{text}" for name, text in COMMANDS.items()]
    for name, plugin in plugins(GROUP, NAMES).items():
        if name not in COMMANDS:
            lines.append(f"  {name:<23}{plugin.about if plugin.reason is None else f'cannot be used: {plugin.reason}'}")
    return "usage: mammo-hf COMMAND [options]     (mammo-hf COMMAND --help describes its options)\n\n" + "\n".join(
        lines
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] in (["-h"], ["--help"]):
        return run_command(lambda _: print(usage()), given)
    if given[:1] == ["--version"]:
        return run_command(lambda _: print(f"mammo-hf {__version__}"), given)
    if not given or (given[0] not in COMMANDS and given[0] not in offered(GROUP)):
        print(usage(), file=sys.stderr)
        if given:
            near = did_you_mean(given[0], [*COMMANDS, *offered(GROUP)]).rstrip()
            hint = f"; {near}" if near else ""
            print(f"error: {given[0]!r} is not a command of mammo-hf{hint}", file=sys.stderr)
        return 2
    return run_command(_command(given[0]), given[1:])


def _command(name: str) -> Callable[[list[str]], None]:
    def run(arguments: list[str]) -> None:
        # imported here, where an interrupt or a full disk ends in one line: importing torch alone takes seconds
        module = _module(name)
        try:
            with plugin_errors("command", name) if name not in COMMANDS else nullcontext():
                module.main(arguments)
        except MammoError as error:
            # a function names its keyword, which the user of a command knows as an option
            flags = {flag.removeprefix("--"): flag for flag in module.parser()._option_string_actions}
            raise with_flags(error, flags) from error

    return run


def _module(name: str) -> Any:
    """Return the module of a command; our own names are never a plug-in's."""
    if name in COMMANDS:
        return importlib.import_module(f".{name.replace('-', '_')}", __package__)
    return find_plugin(GROUP, name, NAMES, kind="command", others=list(COMMANDS))
