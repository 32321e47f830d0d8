"""List the explainers that are installed, ours and plug-ins', and why one cannot be used."""

from __future__ import annotations

from .running import Parser


def parser() -> Parser:
    """Return the parser of the command, which has no arguments."""
    return Parser("mammo-hf explainers", __doc__ or "", "mammo-hf explainers")


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf explainers``."""
    parser().parse_args(arguments)
    from ..explainers import explainers, is_supervised  # imports torch, which --help should not

    for name, found in sorted(explainers().items()):
        state = found.reason or ("ready, supervised" if is_supervised(found.object) else "ready")
        print(f"{name:<32}{state:<19}{found.about}".rstrip())
