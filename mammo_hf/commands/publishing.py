"""What training commands end with: figures and card beside the checkpoint, and where asked for a push of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from ..publish.checkpoint import read_json
from ..publish.hub import Pushed, Target, push_to_hub
from ..publish.hub_errors import HubError
from ..publish.model_card import write_card
from ..training.arguments import CollectionArguments
from .running import read_metrics, write_metrics

PUSHED = "pushed.json"  # beside a checkpoint: where it has been published


def take_over_push(args: TrainingArguments, out: Path) -> Target | None:
    """Where Trainer's arguments ask to push to; Trainer itself then does not.

    Its own push would take every file of the folder along, and keep the token in ``training_args.bin``. The repository
    is opened now, as Trainer does: a token that may not write is found before the training and not after.

    Raises:
        UsageError: The Hub takes no such name.
        HubError: The Hub cannot be reached, or does not let this token write.
    """
    if not args.push_to_hub:
        return None
    name = args.hub_model_id or out.resolve().name
    target = Target(name, private=args.hub_private_repo, revision=args.hub_revision, token=args.hub_token)
    args.push_to_hub, args.hub_token = False, None
    if args.process_index == 0:
        target.open()
    return target


def finish_checkpoint(
    checkpoint: Path,
    stage: str,
    figures: dict[str, Any],
    *,
    plots: Path,
    target: Target | None = None,
    own: CollectionArguments | None = None,
    start: str | None = None,
) -> None:
    """Writes ``metrics.json`` and the card into a checkpoint's folder, and pushes it where there is a target.

    Args:
        checkpoint: The folder.
        stage: "mim" or "classifier".
        figures: Of the stage.
        plots: Where its curves were drawn.
        target: Where to push; ``None``: nowhere.
        own: The command's arguments: the licence, and the paths that nothing pushed may name.
        start: What training started from: the card names it where it was published.

    Raises:
        HubError: The push failed; the checkpoint is whole.
        IdentifierError: Something to be pushed names a person, a place or this machine.
    """
    write_metrics(checkpoint, stage, figures)
    about = {"license": own.license if own else None, "base_model": _published(start)}
    tell(checkpoint, about)
    write_card(checkpoint, plots=plots)
    if target is not None:
        places = () if own is None else (own.dataset, own.prepared_folder(str(checkpoint)))
        print(f"pushed: {push_and_note(checkpoint, target, places).url}")


def tell(checkpoint: Path, about: dict[str, Any]) -> None:
    """Keeps what is said of a model by hand; ``None`` leaves what was said before."""
    before = read_metrics(checkpoint).get("card") or {}
    write_metrics(checkpoint, "card", {**before, **{key: value for key, value in about.items() if value is not None}})


def push_and_note(checkpoint: Path, target: Target, places: tuple[str | Path, ...] = ()) -> Pushed:
    """Pushes a checkpoint, and notes beside it where to.

    Raises:
        HubError: With the command that goes on from there.
    """
    try:
        pushed = push_to_hub(checkpoint, target, places=places)
    except HubError as error:
        remedy = f"{error.remedy}; or go on later with mammo-hf push {checkpoint} {target.name}"
        raise HubError(error.problem, source=error.source, remedy=remedy) from error
    note(checkpoint, pushed)
    return pushed


def note(checkpoint: Path, pushed: Pushed) -> None:
    """Keeps beside a checkpoint where it has been published: the card of what starts from it names it."""
    facts = {"repository": pushed.repository, "commit": pushed.commit}
    (checkpoint / PUSHED).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _published(start: str | None) -> str | None:
    """The repository of the checkpoint that training started from, where it was pushed from this folder."""
    path = Path(start or "") / PUSHED
    return str(read_json(path).get("repository")) if start and path.is_file() else None
