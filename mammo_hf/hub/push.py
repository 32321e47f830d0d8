"""Push to the Hub: checked for terms and identifiers, then one commit with all that it takes to use what was made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from ..data.prepare.folder import is_prepared
from ..data.terms import Terms, read_terms, refuse, refuse_images
from ..errors import DataError, MammoError, UsageError
from ..files import write_record
from ..models.checkpoint import CARD, OWN_ENCODER, locate, name_of, read_json, repository_of, write_metrics
from .model_card import DATASET, REPOSITORY, escaped, write_card
from .privacy_check import names_of_this_machine, paths_of_this_machine, refuse_identifiers
from .pushed_files import WEIGHTS, files_to_push, flat_sources, kind_of, patients_of_rows

if TYPE_CHECKING:
    from transformers import TrainingArguments

PUSHED = "pushed.json"  # file next to a checkpoint: where it has been published


@dataclass(frozen=True)
class Pushed:
    """A finished push.

    Attributes:
        repository: Repository's full name, OWNER/NAME.
        commit: Hash of the commit, to be pinned as ``revision``.
        url: Address of the commit on the Hub.
        kind: Kind of the repository, "model" or "dataset".
    """

    repository: str
    commit: str
    url: str
    kind: str = "model"

    @property
    def pinned(self) -> str:
        """The name by which every command loads exactly this commit."""
        return f"{'hub:' if self.kind == 'dataset' else ''}{self.repository}@{self.commit}"

    def __str__(self) -> str:
        return f'pushed to {self.url}; exactly this version is {self.pinned}, or revision="{self.commit}"'


def push(
    folder: str | os.PathLike[str],
    name: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    message: str | None = None,
    private_paths: Iterable[str | Path] = (),
    permission: str | None = None,
    results_dataset: str | None = None,
    encoder: str | os.PathLike[str] | None = None,
) -> Pushed:
    """Push a checkpoint, an export, prepared images or features in one commit, with all that it takes to use them.

    Of a checkpoint that is the configuration, the weights, the processor with its source, the metrics and the card; of
    prepared images and features, which go to a data set's repository, the rows, their processor and the card. An
    existing card is pushed as it is, with the repository's name filled in. Calling it again sends what has not arrived,
    and makes no commit if nothing has changed. The repository and the commit are recorded next to what was pushed
    (``pushed.json``), for the cards of models that are trained from it.

    Args:
        folder: Folder that training, ``prepare`` or ``export`` wrote.
        name: Repository's name, OWNER/NAME, or a name alone for a repository of the token's owner.
        private: Whether the repository must be private; ``None``: the Hub's default for this owner.
        revision: Branch to push to, created if it does not exist; ``None``: main.
        token: Token with write access; ``None``: the one of ``hf auth login``.
        message: Commit message; ``None``: what the folder holds.
        private_paths: Folders that no pushed file may name in addition to this machine's own, such as the data set's.
        permission: Person who permitted the publication, with date and purpose, if the terms of a collection that it
            was made from do not allow it; goes into the card.
        results_dataset: Data set on the Hub that a checkpoint's results are of, for ``.eval_results``; ``None``: the
            one that was recorded in training or by `write_card`, or that the images were loaded from.
        encoder: Encoder that is pushed with a head over features, by folder or name: one of others, whose terms must
            allow it, or one that was moved. ``None``: the head's own if it was trained by mammo_hf; any other is named
            with its commit and the hash of its weights, and is not copied.

    Returns:
        The repository, the commit and its address.

    Raises:
        IdentifierError: A file contains something that names a person, a place or this machine; nothing was sent.
        HubError: The Hub or the connection failed; the folder is unchanged.
        UsageError: There is nothing to push in the folder, the repository's name is not valid, or it is public and must
            be private; or the terms of what it was made from do not allow it, and there is no permission.
    """
    _check_name(name)
    folder = Path(folder)
    kind = kind_of(folder)
    files = files_to_push(folder, permission, results_dataset, None if encoder is None else os.fspath(encoder))
    terms, command = read_terms(folder), f"mammo-hf push {folder} {name}"
    # features are derived from images, as weights are
    (refuse_images if is_prepared(folder) else refuse)(terms, permission, command)
    # Check before the first request: only the repository's full name is still missing from the files.
    searched = refuse_identifiers(
        files | {CARD: _named(files[CARD], name)},
        paths=paths_of_this_machine([folder, *private_paths]),
        names=names_of_this_machine(),
        known=[name, *filter(None, [permission and escaped(permission), results_dataset]), *patients_of_rows(files)],
        ours=flat_sources(),
    )
    repository = _open_repository(name, private, revision, token, keeps=folder, kind=kind)
    files[CARD] = _named(files[CARD], repository)
    with plain_hub_errors(repository, keeps=folder):
        api = HfApi(token=token, library_name="mammo_hf")
        there = api.list_repo_files(repository, revision=revision, repo_type=kind)
        added = [CommitOperationAdd(name, content) for name, content in files.items()]
        _refuse_changes(added, searched, folder)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [*added]
        # Weights or rows of an earlier push under other names would be loaded though they are not in this one.
        operations += [CommitOperationDelete(name) for name in there if name not in files and _is_loaded(name, kind)]
        about: dict[str, Any] = {"revision": revision, "repo_type": kind}
        about["commit_message"] = message or f"{_WHAT[kind]} and card"
        commit = api.create_commit(repository, operations, **about)
    pushed = Pushed(repository, str(commit.oid), str(commit.commit_url), kind)
    record = {"repository": pushed.repository, "commit": pushed.commit}
    write_record(record, folder / PUSHED)
    return pushed


_ENCODER = f"{OWN_ENCODER}/"
_WHAT = {"model": "Model, processor, metrics", "dataset": "Rows, processor"}


def _is_loaded(name: str, kind: str) -> bool:
    return name.startswith("data/") if kind == "dataset" else bool(WEIGHTS.fullmatch(name.removeprefix(_ENCODER)))


def _named(card: bytes | Path, repository: str) -> bytes:
    """Return the card with the repository's name in it."""
    text = card if isinstance(card, bytes) else card.read_bytes()
    return text.replace(REPOSITORY.encode(), repository.encode()).replace(DATASET.encode(), repository.encode())


def _refuse_changes(added: Iterable[CommitOperationAdd], searched: Mapping[str, str], folder: Path) -> None:
    """Refuse a file that is not, byte for byte, the one that was searched; the card's only change is its name."""
    for operation in added:
        name = operation.path_in_repo
        if name != CARD and operation.upload_info.sha256.hex() != searched[name]:
            problem = f"{name} was changed while it was checked; nothing was sent"
            raise DataError(problem, source=folder, remedy="wait until nothing writes there, then push again")


def _check_name(name: str) -> None:
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise _bad_name(name) from error


def _open_repository(
    name: str,
    private: bool | None,
    revision: str | None,
    token: str | None,
    keeps: Path | None = None,
    kind: str = "model",
) -> str:
    """Create the repository and the branch if they do not exist yet, and return the repository's full name."""
    api = HfApi(token=token, library_name="mammo_hf")
    with plain_hub_errors(name, keeps=keeps):
        repository = api.create_repo(name, private=private, exist_ok=True, repo_type=kind).repo_id
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True, repo_type=kind)
        # An existing repository does not become private by asking for it.
        if private and not api.repo_info(repository, repo_type=kind).private:
            raise UsageError(
                "exists already, and is public",
                source=repository,
                remedy="make it private in its settings on the Hub, or choose another name",
            )
    return repository


# How a training ends: metrics and card next to the checkpoint and, if asked for, a push.


def take_over_push(args: TrainingArguments, out: Path, terms: Iterable[Terms] = ()) -> dict[str, Any]:
    """Return where Trainer's arguments ask to push to, and switch off Trainer's own push.

    Trainer would push every file of the folder, and keep the token in ``training_args.bin``. The repository is opened
    now, as Trainer does, so that a token without write access is found before the training and not after it.

    Args:
        args: Trainer's arguments; ``push_to_hub`` and ``hub_token`` are cleared.
        out: Output folder; its name is the repository's if the arguments give none.
        terms: Terms of all that the model will have been trained on.

    Returns:
        Keyword arguments for `push`.

    Raises:
        UsageError: The name is not valid on the Hub, or the terms do not allow it and there is no permission.
        HubError: The Hub cannot be reached, or does not let this token write.
    """
    target: dict[str, Any] = {
        "name": args.hub_model_id or out.resolve().name,
        "private": args.hub_private_repo,
        "revision": args.hub_revision,
        "token": args.hub_token,
    }
    args.push_to_hub, args.hub_token = False, None
    _check_name(target["name"])
    refuse(terms, getattr(args, "permission", None), "the same command with")
    if args.process_index == 0:
        _open_repository(**target)
    return target


def finish_checkpoint(
    checkpoint: Path,
    stage: str,
    figures: dict[str, Any],
    *,
    plots: Path,
    target: Mapping[str, Any] | None = None,
    license: str | None = None,
    start: str | None = None,
    results_dataset: str | None = None,
    private_paths: Iterable[str | Path] = (),
    permission: str | None = None,
) -> Pushed | None:
    """Write ``metrics.json`` and the card into a checkpoint's folder, and push it if there is a target.

    Args:
        checkpoint: Folder of the checkpoint.
        stage: Stage that was trained, "mim" or "classifier".
        figures: Figures of the stage, for ``metrics.json``.
        plots: Folder of the training curves.
        target: Keyword arguments of `push`, from `take_over_push`; ``None``: do not push.
        license: Licence of the model; ``None``: keep the one recorded before.
        start: Model that training started from; the card names it if it was pushed from this folder.
        results_dataset: Data set on the Hub that the results are of, as for `write_card`.
        private_paths: Folders that nothing pushed may name.
        permission: Permission to publish, as for `push`.

    Returns:
        The push, or ``None`` without a target.

    Raises:
        HubError: The push failed; the checkpoint is complete.
        IdentifierError: Something to be pushed names a person, a place or this machine.
    """
    write_metrics(checkpoint, stage, figures)
    shown = plots if plots.is_dir() else None
    named = {"license": license, "base_model": _published(start), "results_dataset": results_dataset}
    write_card(checkpoint, plots=shown, **named)
    if target is None:
        return None
    try:
        return push(checkpoint, **target, private_paths=private_paths, permission=permission)
    except HubError as error:
        remedy = f"{error.remedy}; or push it later with mammo-hf push {checkpoint} {target['name']}"
        raise HubError(error.problem, source=error.source, remedy=remedy) from error


def _published(start: str | None) -> str | None:
    """Return the repository that the starting checkpoint was loaded from or, if it is a folder here, pushed to.

    With its commit: ``OWNER/NAME@COMMIT``.
    """
    if start is None:
        return None
    try:
        folder = locate(start)
    except UsageError:  # it has been moved away during the training
        return None
    path = folder / PUSHED
    if repository_of(folder) is None and path.is_file():
        pushed = read_json(path)
        return f"{pushed.get('repository')}@{pushed.get('commit')}"
    return name_of(folder) if repository_of(folder) else None


# Errors of the Hub and the connection, in one line each.

AGAIN = "run the same command again: what has arrived is not sent twice"
_OF_STATUS = {
    400: ("the Hub refuses what was sent", "check the metadata at the head of README.md"),
    401: ("the Hub does not know you, or has no such repository for you", "log in (hf auth login), or give a token"),
    403: ("the token has no write access there", "use one that has, or name a repository of your own"),
    404: ("there is no such repository, or not for this token", "check its name"),
    409: ("the repository was changed by somebody else meanwhile", AGAIN),
    413: ("a file is larger than the Hub takes", "save the model in smaller shards (max_shard_size)"),
    429: ("the Hub asks for fewer requests", f"wait a few minutes, then {AGAIN}"),
}
_BROKEN = ("the connection to the Hub broke, or there is none", f"check the network, then {AGAIN}")


class HubError(MammoError):
    """Error of the Hub or of the connection to it; nothing on this machine has changed."""


@contextmanager
def plain_hub_errors(repository: str, *, keeps: object = None) -> Iterator[None]:
    """Turn what ``huggingface_hub`` raises into one line.

    Args:
        repository: Name of the repository.
        keeps: Folder that is still complete, for the message; ``None``: nothing was to be sent.

    Raises:
        UsageError: The repository's name has characters that the Hub does not take.
        HubError: The Hub or the connection failed in another way.
    """
    try:
        yield
    except HFValidationError as error:
        raise _bad_name(repository) from error
    except MammoError:
        raise
    except Exception as error:
        known = _problem_and_remedy(error)
        if known is None:
            raise
        problem, remedy = known
        whole = "" if keeps is None else f"; {keeps} is complete"
        raise HubError(problem, source=repository, remedy=remedy + whole) from error


def _bad_name(repository: str) -> UsageError:
    """Return the error about a name that the Hub does not take."""
    return UsageError(
        "is not a valid name of a repository",
        source=repr(repository),
        remedy="use OWNER/NAME of letters, digits, '-', '_' and '.', of 96 characters at most",
    )


def _problem_and_remedy(error: BaseException | None) -> tuple[str, str] | None:
    """Return problem and remedy of the first cause that is known."""
    while error is not None:
        if isinstance(error, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set", "unset it, or push from a machine with a network"
        if isinstance(error, LocalTokenNotFoundError):
            return _OF_STATUS[401]
        if isinstance(error, RevisionNotFoundError):
            return "there is no such revision", "check its name"
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            return _of_status(error)
        # The client's transport is httpx, which later versions call httpx2.
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2"):
            return _BROKEN
        if isinstance(error, ConnectionError | TimeoutError):
            return _BROKEN
        if isinstance(error, RuntimeError) and error.__cause__ is None:
            # The client of the Hub's chunked storage raises no other type.
            return f"the upload failed ({str(error).strip().partition(chr(10))[0][:200]})", AGAIN
        error = error.__cause__ or error.__context__
    return None


def _of_status(error: HfHubHTTPError) -> tuple[str, str]:
    status = error.response.status_code
    if status in _OF_STATUS:
        problem, remedy = _OF_STATUS[status]
    elif status >= 500:
        problem, remedy = "the Hub has an internal error", f"wait a while, then {AGAIN}"
    else:
        problem, remedy = "the Hub refuses the request", "see https://status.huggingface.co, or try again later"
    return f"{problem} ({status})", remedy
