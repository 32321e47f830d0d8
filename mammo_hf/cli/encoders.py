"""List encoders: plug-ins that are installed, and some on the Hugging Face Hub, with licence and commercial use."""

from __future__ import annotations

from .running import Parser


def parser() -> Parser:
    """Return the parser of the command, which has no arguments."""
    return Parser("mammo-hf encoders", __doc__ or "", "mammo-hf encoders")


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf encoders``."""
    parser().parse_args(arguments)
    from ..encoders.encoder import KNOWN, encoders  # imports torch, which --help should not

    print(f"{'encoder':<46}{'licence':<18}{'commercial use':<18}access")
    for name, found in sorted(encoders().items()):
        if found.reason is not None:
            print(f"{name:<46}cannot be used: {found.reason}")
            continue
        terms = getattr(found.object, "TERMS", {})
        _print_line(name, found.object.LICENCE, terms.get("commercial", ""), "installed")
    for name, known in KNOWN.items():
        _print_line(name, known.licence, known.commercial, "gated: log in and accept" if known.gated else "open")
    print("\nalso the folder of any checkpoint, and any vision model of the Hub with a grid of features, by its name.")
    print("What the card of a model says on the Hub counts; this list may be older.")


def _print_line(name: str, licence: str, commercial: str, access: str) -> None:
    print(f"{name:<46}{licence:<18}{commercial or 'see its licence':<18}{access}".rstrip())
