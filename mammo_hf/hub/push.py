"""Push of a checkpoint to the Hub: checked for identifiers, then one commit with all that it takes to use it."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
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

from ..data.prepare.folder import is_features
from ..data.terms import TERMS, Terms, read_terms, refuse
from ..errors import DataError, MammoError, UsageError
from ..files import write_record
from ..models.checkpoint import (
    CARD,
    CONFIG,
    INDEX,
    METRICS,
    PICTURES,
    PROCESSOR,
    Checkpoint,
    locate,
    read_checkpoint,
    read_json,
    repository_of,
    write_metrics,
)
from .model_card import REPOSITORY, escaped, eval_result_files, write_card
from .privacy_check import names_of_this_machine, paths_of_this_machine, refuse_identifiers

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
    """

    repository: str
    commit: str
    url: str

    def __str__(self) -> str:
        return f'pushed to {self.url}; load it with revision="{self.commit}" to keep this exact version'


def push(
    model_folder: str | os.PathLike[str],
    name: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    message: str = "Checkpoint, processor, metrics and card",
    private_paths: Iterable[str | Path] = (),
    permission: str | None = None,
    results_dataset: str | None = None,
) -> Pushed:
    """Push the configuration, weights, processor with its source, metrics and card of a checkpoint in one commit.

    An existing card is pushed as it is, with the repository's name filled in; a missing one is written first. Calling
    it again sends what has not arrived, and makes no commit if nothing has changed. The repository is recorded next to
    the checkpoint (``pushed.json``), for the cards of models that are trained from it.

    Args:
        model_folder: Folder that training wrote.
        name: Repository's name, OWNER/NAME, or a name alone for a repository of the token's owner.
        private: Whether the repository must be private; ``None``: the Hub's default for this owner.
        revision: Branch to push to, created if it does not exist; ``None``: main.
        token: Token with write access; ``None``: the one of ``hf auth login``.
        message: Commit message.
        private_paths: Folders that no pushed file may name in addition to this machine's own, such as the data set's.
        permission: Person who permitted the publication, with date and purpose, if the terms of a collection that the
            model was trained on do not allow it; goes into the card.
        results_dataset: Data set on the Hub that the results are of, for ``.eval_results``; ``None``: the one that was
            recorded in training or by `write_card`, or that the images were loaded from.

    Returns:
        The repository, the commit and its address.

    Raises:
        IdentifierError: A file contains something that names a person, a place or this machine; nothing was sent.
        HubError: The Hub or the connection failed; the folder is unchanged.
        UsageError: There is no model in the folder, the repository's name is not valid, or it is public and must be
            private; or the terms of what the model was trained on do not allow it, and there is no permission.
    """
    _check_name(name)
    folder = Path(model_folder)
    if is_features(folder):
        refuse(read_terms(folder), None, "there is no command that publishes features, even")
        remedy = "push the head that was trained on them"
        raise UsageError("holds features of images, which are not published", source=folder, remedy=remedy)
    checkpoint = read_checkpoint(folder)
    refuse(read_terms(folder), permission, f"mammo-hf push {folder} {name}")
    if not (folder / CARD).is_file():
        write_card(folder)
    # Check before the first request: only the repository's full name is still missing from the files.
    files = files_to_push(checkpoint, REPOSITORY, permission, results_dataset)
    searched = refuse_identifiers(
        files | {CARD: _named(files[CARD], name)},
        paths=paths_of_this_machine([folder, *private_paths]),
        names=names_of_this_machine(),
        known=[name, *filter(None, [permission and escaped(permission), results_dataset])],
        ours=flat_sources(),
    )
    repository = _open_repository(name, private, revision, token, keeps=folder)
    files[CARD] = _named(files[CARD], repository)
    with plain_hub_errors(repository, keeps=folder):
        api = HfApi(token=token, library_name="mammo_hf")
        there = api.list_repo_files(repository, revision=revision)
        added = [CommitOperationAdd(name, content) for name, content in files.items()]
        _refuse_changes(added, searched, folder)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [*added]
        # Weights of an earlier push under other names would be loaded though they are not in this one.
        operations += [CommitOperationDelete(name) for name in there if _WEIGHTS.fullmatch(name) and name not in files]
        commit = api.create_commit(repository, operations, commit_message=message, revision=revision)
    pushed = Pushed(repository, str(commit.oid), str(commit.commit_url))
    record = {"repository": pushed.repository, "commit": pushed.commit}
    write_record(record, folder / PUSHED)
    return pushed


def _named(card: bytes | Path, repository: str) -> bytes:
    """Return the card with the repository's name in it."""
    text = card if isinstance(card, bytes) else card.read_bytes()
    return text.replace(REPOSITORY.encode(), repository.encode())


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
    name: str, private: bool | None, revision: str | None, token: str | None, keeps: Path | None = None
) -> str:
    """Create the repository and the branch if they do not exist yet, and return the repository's full name."""
    api = HfApi(token=token, library_name="mammo_hf")
    with plain_hub_errors(name, keeps=keeps):
        repository = api.create_repo(name, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        # An existing repository does not become private by asking for it.
        if private and not api.model_info(repository).private:
            raise UsageError(
                "exists already, and is public",
                source=repository,
                remedy="make it private in its settings on the Hub, or choose another name",
            )
    return repository


# How a training ends: metrics and card next to the checkpoint and, if asked for, a push.


def take_over_push(args: TrainingArguments, out: Path, terms: Iterable[Terms] = ()) -> dict[str, Any] | None:
    """Return where Trainer's arguments ask to push to, and switch off Trainer's own push.

    Trainer would push every file of the folder, and keep the token in ``training_args.bin``. The repository is opened
    now, as Trainer does, so that a token without write access is found before the training and not after it.

    Args:
        args: Trainer's arguments; ``push_to_hub`` and ``hub_token`` are cleared.
        out: Output folder; its name is the repository's if the arguments give none.
        terms: Terms of all that the model will have been trained on.

    Returns:
        Keyword arguments for `push`, or ``None`` if no push was asked for.

    Raises:
        UsageError: The name is not valid on the Hub, or the terms do not allow it and there is no permission.
        HubError: The Hub cannot be reached, or does not let this token write.
    """
    if not args.push_to_hub:
        return None
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
    """Return the repository that the starting checkpoint was loaded from or, if it is a folder here, pushed to."""
    try:
        folder = locate(start or "")
    except UsageError:  # it has been moved away during the training
        return None
    path = folder / PUSHED
    return repository_of(folder) or (str(read_json(path).get("repository")) if path.is_file() else None)


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


# The files of a checkpoint's folder that are pushed, and no others. Checkpoints of the optimiser, training_args.bin,
# the split and the label subset stay, because they hold paths of this machine or patients' keys.

_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


def files_to_push(
    checkpoint: Checkpoint, repository: str, permission: str | None = None, results_dataset: str | None = None
) -> dict[str, bytes | Path]:
    """Return the files to push by name in the repository, as content or path.

    Args:
        checkpoint: Checkpoint with its card.
        repository: Repository's name, for the card.
        permission: Permission to publish, for the card.
        results_dataset: Data set on the Hub that the results are of.

    Raises:
        UsageError: There are no weights, or the data set's name is not one of the Hub.
        DataError: The index of the weights names a file elsewhere.
    """
    folder = checkpoint.folder
    files: dict[str, bytes | Path] = {CONFIG: _config(checkpoint.config)}
    for name in checkpoint.weights():
        if not _WEIGHTS.fullmatch(name):
            raise DataError(f"{INDEX} names the file {name!r}", source=folder, remedy="save the model again")
        files[name] = folder / name
    if checkpoint.processor:
        ours = checkpoint.processor.get("image_processor_type") == "MammoImageProcessor"
        code = flat_sources() if ours else {}
        files[PROCESSOR] = _json({**checkpoint.processor, **({"auto_map": AUTO_MAP} if code else {})})
        files |= code
    if checkpoint.metrics:
        files[METRICS] = (folder / METRICS).read_bytes()
    files |= eval_result_files(checkpoint, results_dataset)
    card = _named(folder / CARD, repository).decode()
    if permission:
        card = f"{card.rstrip()}\n\n## Permission\n\nPublished with this permission: {escaped(permission)}\n"
    files[CARD] = card.encode()
    if (folder / TERMS).is_file():
        files[TERMS] = (folder / TERMS).read_bytes()
    shown = {f"{PICTURES}/{picture.name}": picture for picture in sorted((folder / PICTURES).glob("*.png"))}
    files |= {name: picture.read_bytes() for name, picture in shown.items() if f"({name})" in card}
    return files


def _config(config: dict[str, Any]) -> bytes:
    # Keys that begin with an underscore record where it was loaded from. A pipeline of ours in the configuration would
    # make a plain call demand remote code.
    kept = {key: value for key, value in config.items() if not key.startswith("_") and key != "custom_pipelines"}
    return _json(kept)


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


# The processor's source as flat sibling files, which transformers takes from a repository that is trusted. With them
# AutoImageProcessor.from_pretrained(name, trust_remote_code=True) works without mammo_hf, for arrays and PIL images.

MODULE = "image_processing_mammo"
AUTO_MAP = {"AutoImageProcessor": f"{MODULE}.MammoImageProcessor"}


@cache
def flat_sources(module: str = f"processing.{MODULE}") -> dict[str, bytes]:
    """Return a module of this package and all that it imports from the package, as files of one flat folder.

    Args:
        module: Dotted name below ``mammo_hf``.

    Returns:
        Source by file name; relative imports are rewritten to siblings, which is all that transformers follows.

    Raises:
        ValueError: Two of the modules have the same file name, or one imports a whole package.
    """
    folder = resources.files("mammo_hf")
    found: dict[str, tuple[str, bytes]] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = f"{name.rpartition('.')[2]}.py"
        if file in found:
            if found[file][0] != name:
                raise ValueError(f"{name} and {found[file][0]} would both be {file}")
            continue
        if folder.joinpath(*name.split(".")).is_dir():
            raise ValueError(f"the package {name} is imported, which is not a flat sibling")
        source, siblings = _flattened(folder.joinpath(*name.split(".")[:-1], file).read_text(encoding="utf-8"), name)
        found[file] = (name, source.encode())
        waiting += siblings
    return {file: source for file, (_, source) in sorted(found.items())}


def _flattened(source: str, name: str) -> tuple[str, list[str]]:
    """Return the source with imports from siblings, and the dotted names of the modules that it imports."""
    lines, imported = source.split("\n"), []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            target = importlib.util.resolve_name(
                "." * node.level + (node.module or ""), f"mammo_hf.{name}".rpartition(".")[0]
            )
            imported.append(target.removeprefix("mammo_hf").lstrip("."))
            here = lines[node.lineno - 1]
            lines[node.lineno - 1] = here.replace(
                f"from {'.' * node.level}{node.module or ''} ", f"from .{target.rpartition('.')[2]} ", 1
            )
    return "\n".join(lines), imported
