"""Publish a checkpoint, an export or prepared images on the Hub, with processor and card, in one commit."""

from __future__ import annotations

from .running import Parser


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    p = Parser("mammo-hf push", __doc__ or "", "mammo-hf push out/cls lab/mammo-swin --private")
    p.add_argument("folder", metavar="FOLDER", help="folder that training, export or prepare wrote")
    p.add_argument("name", metavar="NAME", help="OWNER/NAME on the Hub, or a name alone for a repository of your own")
    p.add_argument("--private", action="store_true", help="make the repository private; refused if it is public")
    p.add_argument("--revision", help="branch to push to, created if it does not exist (default: main)")
    p.add_argument("--token", help="token with write access (default: the one of hf auth login)")
    p.add_argument("--message", help="commit message (default: what the folder holds)")
    p.add_argument(
        "--permission", metavar="TEXT", help="who permitted it, when, for what, if the terms of the images forbid it"
    )
    p.add_argument(
        "--encoder",
        help="encoder to push with a head over features: one of others, whose terms allow it, or a moved one",
    )
    p.add_argument("--results_dataset", metavar="NAME", help="data set on the Hub that the results are listed at")
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf push``."""
    args = parser().parse_args(arguments)
    from ..hub.push import push  # imports torch, which --help should not

    options = {
        name: getattr(args, name)
        for name in ("revision", "token", "message", "permission", "results_dataset", "encoder")
    }
    pushed = push(args.folder, args.name, private=args.private or None, **options)
    print(f"pushed: {pushed.url}")
    print(f'exactly this version is {pushed.pinned}, or revision="{pushed.commit}"')
