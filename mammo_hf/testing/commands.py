"""The conformance kit for authors of a command."""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
from typing import Any

from ..cli import COMMANDS, GROUP, NAMES
from ..errors import UsageError
from ..plugins import find_plugin

_HEAVY = ("torch", "transformers", "datasets", "pandas", "matplotlib")


def check_command(command: str | Any, name: str = "") -> None:
    """Check that a command keeps the contract of a subcommand of ``mammo-hf``.

    Names: ``parser`` and ``main`` are there, the docstring begins with a line for the list of commands, and no command
    of mammo_hf has its name. Parser: it calls itself ``mammo-hf NAME``, prints its help, shows an example, and refuses
    what it does not know with a `UsageError`. Import: it loads nothing heavy, so that the help is there at once.

    Args:
        command: Name of an installed one, or its module.
        name: Name of a module's command, if it is not installed.

    Raises:
        AssertionError: It breaks the contract; the text says which part.
        UsageError: No command of that name can be used.
    """
    module = find_plugin(GROUP, command, NAMES, kind="command") if isinstance(command, str) else command
    name = command if isinstance(command, str) else name
    lacking = [one for one in NAMES if not hasattr(module, one)]
    assert not lacking, f"it has no {', '.join(lacking)}"
    assert (module.__doc__ or "").strip(), "it has no docstring, whose first line mammo-hf --help shows"
    assert name not in COMMANDS, f"{name} is a command of mammo_hf"
    _check_parser(module.parser(), name)
    _check_refusal(module)
    _check_import(module.__name__)


def _check_parser(parser: argparse.ArgumentParser, name: str) -> None:
    assert parser.prog == f"mammo-hf {name}", f"its parser calls itself {parser.prog}, not mammo-hf {name}"
    assert "example:" in (parser.epilog or ""), "its help has no example: use mammo_hf.cli.running.Parser"
    assert "%(" not in parser.format_help(), "its help names a default that does not exist"


def _check_refusal(module: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            module.main(["--help"])
        except SystemExit as end:
            failed = end.code
        else:
            raise AssertionError("main(['--help']) does not end the command")
    assert not failed, "--help ends in an error"
    try:
        module.main(["--no-such-option"])
    except UsageError:
        return
    except SystemExit:
        pass
    raise AssertionError("an unknown option is not refused with a UsageError: use mammo_hf.cli.running.Parser")


def _check_import(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({set(_HEAVY)} & sys.modules.keys()))"
    path = f"import sys; sys.path[:0] = {[entry for entry in sys.path if entry]}; "
    done = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True)
    assert done.returncode == 0, f"its module cannot be imported alone: {done.stderr.strip().splitlines()[-1:]}"
    assert not done.stdout.strip(), f"importing it loads {done.stdout.strip()}: import that inside main"
