"""Pushing a checkpoint: looked through for identifiers, then one commit with everything that it takes to use it."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from ..errors import DataError, MammoError, UsageError
from ..models.checkpoint import CARD, CONFIG, INDEX, METRICS, PICTURES, PROCESSOR, Checkpoint, read_checkpoint
from .identifiers import Machine, refuse_identifiers
from .model_card import REPOSITORY


@dataclass(frozen=True)
class Target:
    """Where a checkpoint is pushed.

    Attributes:
        name: OWNER/NAME, or a name alone for a repository of the token's owner.
        private: Whether it must be private; ``None``: as the Hub makes repositories for this owner.
        revision: The branch; ``None``: main. It is made where it is not there.
        token: With the right to write; ``None``: the one that was logged in with.

    Raises:
        UsageError: The Hub takes no such name.
    """

    name: str
    private: bool | None = None
    revision: str | None = None
    token: str | None = None

    def __post_init__(self) -> None:
        try:
            validate_repo_id(self.name)
        except HFValidationError as error:
            raise bad_name(self.name) from error

    def api(self) -> HfApi:
        """The Hub's client."""
        return HfApi(token=self.token, library_name="mammo_hf")

    def open(self, keeps: object = None) -> str:
        """Makes the repository and the branch where they are not there yet.

        Args:
            keeps: The folder that an error is to name as whole.

        Returns:
            OWNER/NAME.

        Raises:
            HubError: The Hub did not let us.
            UsageError: It is public where it must be private.
        """
        with plain_hub_errors(self.name, keeps=keeps):
            repository = self.api().create_repo(self.name, private=self.private, exist_ok=True).repo_id
            if self.revision is not None:
                self.api().create_branch(repository, branch=self.revision, exist_ok=True)
            # one that was there before is not made private by asking for it
            if self.private and not self.api().model_info(repository).private:
                raise UsageError(
                    "is there already, and is public",
                    source=repository,
                    remedy="make it private in its settings on the Hub, or name another",
                )
        return repository


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Attributes:
        repository: OWNER/NAME.
        commit: Its hash, to be pinned as ``revision``.
        url: Of the commit.
    """

    repository: str
    commit: str
    url: str


def push_to_hub(
    folder: str | os.PathLike[str],
    target: Target | str,
    *,
    places: tuple[str | Path, ...] = (),
    message: str = "Checkpoint, processor, metrics and card",
) -> Pushed:
    """Pushes configuration, weights, processor with its source, metrics and card of a folder in one commit.

    A card that is there goes as it is, with the repository's name put in; without one it is written first. The same
    call again sends what has not arrived, and makes no commit where nothing has changed.

    Args:
        folder: What training wrote.
        target: Where to; a name alone for the main branch.
        places: Folders that no pushed file may name, besides this machine's own: the data set's.
        message: Of the commit.

    Raises:
        IdentifierError: A file holds something that names a person, a place or this machine; nothing was sent.
        HubError: The Hub or the connection failed; the folder is as it was.
        UsageError: There is no model in the folder, or the repository's name is none.
    """
    where = Target(target) if isinstance(target, str) else target
    place = Path(folder)
    checkpoint = read_checkpoint(place)
    if not (place / CARD).is_file():
        from .model_card import write_card  # which takes the seconds of importing torch

        write_card(place)
    machine = Machine.here((place, *places))
    # before the first request: whatever is in them, only the repository's name is still to come
    refuse_identifiers(files_to_push(checkpoint, where.name), machine, known=[where.name], ours=flat_sources())
    repository = where.open(keeps=place)
    files = files_to_push(checkpoint, repository)
    with plain_hub_errors(repository, keeps=place):
        api = where.api()
        there = api.list_repo_files(repository, revision=where.revision)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(name, content) for name, content in files.items()
        ]
        operations += [CommitOperationDelete(name) for name in there if left_behind(name) and name not in files]
        commit = api.create_commit(repository, operations, commit_message=message, revision=where.revision)
    return Pushed(repository, str(commit.oid), str(commit.commit_url))


# What went wrong on the way to the Hub, in one line each; whatever it was, the folder is as it was.


AGAIN = "run the same command again: what has arrived is not sent twice"
_SAID = {
    400: ("the Hub refuses what was sent", "look at the head of README.md"),
    401: ("the Hub does not know you, or has no such repository for you", "log in (hf auth login), or give a token"),
    403: ("the token may not write there", "use one that may, or name a repository of your own"),
    404: ("there is no such repository, or not for this token", "check its name"),
    409: ("the repository was changed by somebody else in between", AGAIN),
    413: ("a file is larger than the Hub takes", "save the model in smaller shards (max_shard_size)"),
    429: ("the Hub asks for fewer requests", f"wait some minutes, then {AGAIN}"),
}
_BROKEN = ("the connection to the Hub broke, or there is none", f"check the network, then {AGAIN}")


class HubError(MammoError):
    """The Hub did not do what was asked; nothing on this machine has changed."""


@contextmanager
def plain_hub_errors(repository: str, *, keeps: object = None) -> Iterator[None]:
    """Turns what ``huggingface_hub`` raises into one line.

    Args:
        repository: Its name.
        keeps: The folder that holds everything still; ``None`` where none was to be sent.

    Raises:
        UsageError: The repository's name has characters that the Hub does not take.
        HubError: Anything else that the Hub or the connection did.
    """
    try:
        yield
    except HFValidationError as error:
        raise bad_name(repository) from error
    except MammoError:
        raise
    except Exception as error:
        said = _said(error)
        if said is None:
            raise
        problem, remedy = said
        whole = "" if keeps is None else f"; {keeps} is whole"
        raise HubError(problem, source=repository, remedy=remedy + whole) from error


def bad_name(repository: str) -> UsageError:
    """For a name that the Hub does not take."""
    return UsageError(
        "is no name for a repository",
        source=repr(repository),
        remedy="use OWNER/NAME of letters, digits, '-', '_' and '.', of 96 characters at most",
    )


def _said(error: BaseException | None) -> tuple[str, str] | None:
    """Problem and remedy of the first cause that is known."""
    while error is not None:
        if isinstance(error, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set", "unset it, or push from a machine with a network"
        if isinstance(error, LocalTokenNotFoundError):
            return _SAID[401]
        if isinstance(error, RevisionNotFoundError):
            return "there is no such revision", "check its name"
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            return _of_status(error)
        # the client's transport is httpx, under another name in later versions
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2"):
            return _BROKEN
        if isinstance(error, ConnectionError | TimeoutError):
            return _BROKEN
        if isinstance(error, RuntimeError) and error.__cause__ is None:
            # what uploads to the Hub's chunked storage knows no other kind of error
            return f"the upload failed ({str(error).strip().partition(chr(10))[0][:200]})", AGAIN
        error = error.__cause__ or error.__context__
    return None


def _of_status(error: HfHubHTTPError) -> tuple[str, str]:
    status = error.response.status_code
    if status in _SAID:
        problem, remedy = _SAID[status]
    elif status >= 500:
        problem, remedy = "the Hub has a fault of its own", f"wait a while, then {AGAIN}"
    else:
        problem, remedy = "the Hub refuses the request", "see https://status.huggingface.co, or try again later"
    return f"{problem} ({status})", remedy


# Which files of a checkpoint's folder are pushed, and as what: those that this list names, and nothing else.
#
# Checkpoints of the optimiser, ``training_args.bin``, the split and the label subset stay: they hold paths of the
# machine or patients' keys.


_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


def files_to_push(checkpoint: Checkpoint, repository: str) -> dict[str, bytes | Path]:
    """By name in the repository: what a file holds, or where it is.

    Args:
        checkpoint: The folder, with its card.
        repository: The name that the card is to give.

    Raises:
        UsageError: There are no weights.
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
    card = (folder / CARD).read_text(encoding="utf-8").replace(REPOSITORY, repository)
    files[CARD] = card.encode()
    shown = {f"{PICTURES}/{picture.name}": picture for picture in sorted((folder / PICTURES).glob("*.png"))}
    files |= {name: picture for name, picture in shown.items() if f"({name})" in card}
    return files


def left_behind(name: str) -> bool:
    """Whether a file in a repository is of an earlier push and would be loaded though it is not in this one."""
    return _WEIGHTS.fullmatch(name) is not None


def _config(config: dict[str, Any]) -> bytes:
    # what begins with an underscore tells where and how it was loaded; a pipeline of ours in a configuration would turn
    # a plain call into a demand for remote code
    kept = {key: value for key, value in config.items() if not key.startswith("_") and key != "custom_pipelines"}
    return _json(kept)


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


# The processor's source as flat sibling files, which transformers takes from a repository where it is trusted.
#
# With them ``AutoImageProcessor.from_pretrained(name, trust_remote_code=True)`` works where mammo_hf is not installed,
# for arrays and PIL images. What reads DICOM does not travel.


MODULE = "image_processing_mammo"
AUTO_MAP = {"AutoImageProcessor": f"{MODULE}.MammoImageProcessor"}


@cache
def flat_sources(module: str = f"processing.{MODULE}") -> dict[str, bytes]:
    """Returns a module of this package and all that it imports from the package, as files of one flat folder.

    Args:
        module: Dotted name below ``mammo_hf``.

    Returns:
        Source by file name; relative imports are rewritten to siblings, which is all that transformers follows.

    Raises:
        ValueError: Two of the modules have one file name, or one imports a whole package.
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
            raise ValueError(f"the package {name} is imported, which is no flat sibling")
        source, siblings = _flattened(folder.joinpath(*name.split(".")[:-1], file).read_text(encoding="utf-8"), name)
        found[file] = (name, source.encode())
        waiting += siblings
    return {file: source for file, (_, source) in sorted(found.items())}


def _flattened(source: str, name: str) -> tuple[str, list[str]]:
    """Returns the source with imports from siblings, and the dotted names of the modules that it imports."""
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
