"""Pushing a checkpoint: looked through for identifiers, then one commit with everything that it takes to use it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..errors import UsageError
from .checkpoint import CARD, read_checkpoint
from .hub_errors import bad_name, plain_hub_errors
from .identifiers import Machine, refuse_identifiers
from .pushed_files import files_to_push, left_behind
from .remote_code import flat_sources


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
