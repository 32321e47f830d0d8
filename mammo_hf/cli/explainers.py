"""The explainers that are installed, ours and plugins', and why one cannot be used."""

from __future__ import annotations

import argparse

from ..explainers import explainers


def parser() -> argparse.ArgumentParser:
    """The command's arguments: none."""
    return argparse.ArgumentParser(prog="mammo-hf explainers", description=(__doc__ or ""))


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf explainers``."""
    parser().parse_args(arguments)
    for name, found in sorted(explainers().items()):
        state = found.reason or ("ready, supervised" if found.supervised else "ready")
        print(f"{name:<32}{state:<19}{found.about}".rstrip())
