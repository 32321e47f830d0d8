"""Publish a checkpoint's folder on the Hub: weights, processor, metrics and card in one commit.

mammo-hf push out/cls lab/mammo-swin --private
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..hub.push import Target, push_to_hub
from .stages import note


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="mammo-hf push", description=(__doc__ or "").split("\n")[0])
    p.add_argument("folder", help="what training wrote")
    p.add_argument("name", help="OWNER/NAME on the Hub, or a name alone for a repository of your own")
    p.add_argument("--private", action="store_true", help="make the repository private; refused where it is public")
    p.add_argument("--revision", help="the branch, made where it is not there (default: main)")
    p.add_argument("--token", help="with the right to write (default: the one that hf auth login keeps)")
    p.add_argument("--message", default="Checkpoint, processor, metrics and card", help="of the commit")
    return p


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf push``."""
    args = parser().parse_args(arguments)
    target = Target(args.name, private=args.private or None, revision=args.revision, token=args.token)
    pushed = push_to_hub(args.folder, target, message=args.message)
    note(Path(args.folder), pushed)
    print(f"pushed: {pushed.url}")
    print(f'load it with revision="{pushed.commit}" to keep to this very commit')
