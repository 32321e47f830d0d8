"""Terms: what a collection allows of its images, and of weights that were trained on them; carried on by what is made.

Each collection's file states its terms; ``terms.json`` in a prepared folder, a checkpoint, an export or a report holds
those of all that it comes from. `refuse` stops a publication that one of them does not allow.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from ..errors import DataError, UsageError
from ..files import Folder

logger = logging.getLogger(__name__)

TERMS = "terms.json"
OWN_IMAGES = "own images"  # what a private collection is called here: its name may tell who it is from
ALLOWED, ATTRIBUTION, ASK, NOT_ALLOWED = VERDICTS = ("allowed", "allowed with attribution", "ask", "not allowed")
# licences of models and data that allow derived works to be passed on if their source is named
_OPEN = ("apache-2.0", "mit", "bsd-", "cc-by-1", "cc-by-2", "cc-by-3", "cc-by-4", "cc-by-sa-", "cc0-", "isc")


@dataclass(frozen=True, order=True)
class Terms:
    """The terms of a collection, or of a model that training started from.

    Attributes:
        name: Name of the collection, or of the model on the Hub.
        images: Terms of the images, as their source states them.
        weights: Whether weights, features and embeddings that were derived from the images may be published: one of
            `VERDICTS`.
        clause: Words of the terms that say so; empty if they say nothing, which counts as "ask".
        read_at: Place where the clause was read.
        commercial: Whether commercial use is allowed: "yes", "no", or "" if the terms do not say.
        citation: What to cite.
    """

    name: str
    images: str
    weights: str = ASK
    clause: str = ""
    read_at: str = ""
    commercial: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        if self.weights not in VERDICTS:
            raise UsageError(f"weights is {self.weights!r}", source=f"terms of {self.name}", remedy=_one_of())
        if self.weights != ASK and not self.clause:
            raise UsageError(
                f"weights is {self.weights!r} without a clause",
                source=f"terms of {self.name}",
                remedy="quote the clause that says so, or use 'ask'",
            )

    @property
    def may_be_published(self) -> bool:
        """Whether weights may be published without a permission."""
        return self.weights in (ALLOWED, ATTRIBUTION)

    @property
    def images_may_be_published(self) -> bool:
        """Whether the images may be passed on without a permission: they are drawn, or under an open licence."""
        return self == PHANTOMS or self.images.lower().replace(" ", "-").startswith(_OPEN)

    def __str__(self) -> str:
        clause = f' ("{self.clause}")' if self.clause else " (no clause is known)"
        return f"{self.name}: publishing derived weights: {self.weights}{clause}"


PHANTOMS = Terms(
    "phantoms",
    "drawn by mammo_hf",
    weights=ALLOWED,
    clause="drawn by a program; no image of a person",
    read_at="mammo_hf",
    commercial="yes",
)


def _one_of() -> str:
    return "use " + ", ".join(repr(verdict) for verdict in VERDICTS)


def terms_of_source(name: str, images: str, stated: Mapping[str, Any] | None) -> Terms:
    """Return the terms that a collection's file states.

    Args:
        name: Name of the collection.
        images: Terms of the images.
        stated: The other entries of `Terms` by name; ``None``: nothing is stated, which counts as "ask".

    Raises:
        ValueError: An entry is not one of `Terms`.
    """
    known = [field.name for field in fields(Terms)][2:]
    for key in stated or {}:
        if key not in known:
            raise ValueError(f"terms.{key} is not a key; use {', '.join(known)}")
    return Terms(name, images, **{key: str(value) for key, value in (stated or {}).items()})


def terms_of_text(text: str, name: str) -> Terms:
    """Return the terms that a user states in a text, such as "allowed: ethics vote 12/2024, section 3".

    Args:
        text: One of `VERDICTS`, a colon and the clause; a text without a verdict counts as "ask".
        name: Name of what the terms are of.
    """
    verdict, colon, clause = (part.strip() for part in text.partition(":"))
    if not colon or verdict.lower() not in VERDICTS:
        verdict, clause = ASK, text.strip()
    return Terms(name, clause, weights=verdict.lower(), clause=clause, read_at="stated by the user")


def united(*groups: Iterable[Terms]) -> tuple[Terms, ...]:
    """Return the terms of several groups, each once, in the order of their names."""
    return tuple(sorted({one for group in groups for one in group}))


def read_terms(folder: str | os.PathLike[str]) -> tuple[Terms, ...] | None:
    """Return what ``terms.json`` of a folder says; ``None`` if there is none.

    Args:
        folder: Folder, or fsspec URL.

    Raises:
        DataError: The file is damaged.
    """
    text = Folder(folder).read_text(TERMS)
    if text is None:
        return None
    try:
        found = [Terms(**entry) for entry in json.loads(text)["terms"]]
        if not all(isinstance(value, str) for one in found for value in asdict(one).values()):
            raise TypeError("an entry holds something other than text")
        return united(found)
    except (ValueError, KeyError, TypeError, RecursionError, UsageError) as error:
        raise DataError("does not hold terms", source=f"{folder}/{TERMS}", remedy="copy the file again") from error


def write_terms(folder: str | os.PathLike[str], *groups: Iterable[Terms]) -> None:
    """Write ``terms.json``: the terms of all that a folder's content was made from."""
    content = {"terms": [asdict(one) for one in united(*groups)]}
    Folder(folder).write_text(TERMS, json.dumps(content, indent=2) + "\n")


def terms_of_model(folder: str | os.PathLike[str], name: str | None, stated: str | None = None) -> tuple[Terms, ...]:
    """Return the terms of a model that training starts from.

    Args:
        folder: Folder of the model, or a ``.pth`` file.
        name: Name of the model for whoever reads the terms later; ``None``: the folder's.
        stated: Terms that the user states, as `terms_of_text` reads them.

    Returns:
        What its ``terms.json`` says and, of a model without one, what the licence of its card allows; "ask" if it has
        neither. Terms that the user states replace the card's, never those of a ``terms.json``.
    """
    path = Path(folder)
    called = name or path.name
    found = read_terms(path) if path.is_dir() else None
    if found is not None:
        return found
    if stated is not None:
        return (terms_of_text(stated, called),)
    licence = _licence_of_card(path / "README.md")
    if licence is None:
        logger.warning(
            "%s has no terms.json and no card with a licence: its terms count as 'ask'; state them with --model_terms",
            called,
        )
        return (Terms(called, ""),)
    is_open = licence.startswith(_OPEN)
    clause = {"clause": f"licence of its card: {licence}", "read_at": "its model card"}
    commercial = "yes" if is_open else "no" if "-nc" in licence else ""
    return (Terms(called, licence, weights=ATTRIBUTION if is_open else ASK, commercial=commercial, **clause),)


def _licence_of_card(card: Path) -> str | None:
    try:
        _, head, _ = card.read_text(encoding="utf-8").split("---", 2)
        licence = (yaml.safe_load(head) or {}).get("license")
    except (OSError, ValueError, yaml.YAMLError, AttributeError):
        return None
    return str(licence).lower() if licence and licence != "unknown" else None


def refuse(terms: Iterable[Terms] | None, permission: str | None, command: str) -> None:
    """Refuse to publish what comes from a collection that does not allow it.

    A private repository is refused too: it can be opened later, by somebody who does not know.

    Args:
        terms: Terms of all that it was made from; ``None``: not known, which counts as "ask".
        permission: Text that says who permitted it; then nothing is refused.
        command: Command that publishes it all the same, without its ``--permission``.

    Raises:
        UsageError: One of the terms is "ask" or "not allowed", and there is no permission.
    """
    closed = [str(one) for one in terms or () if not one.may_be_published]
    if terms is None:
        closed = ["what it was trained on is not known (no terms.json): publishing derived weights: ask"]
    _refuse(closed, permission, command)


def refuse_images(terms: Iterable[Terms] | None, permission: str | None, command: str) -> None:
    """Refuse to publish images of a collection that does not allow it, prepared or not; see `refuse`.

    That weights may be published says nothing about the images.

    Args:
        terms: Terms of the collections that they are from; ``None``: not known.
        permission: Text that says who permitted it; then nothing is refused.
        command: Command that publishes them all the same, without its ``--permission``.

    Raises:
        UsageError: One of the collections does not allow it, and there is no permission.
    """
    closed = [one for one in terms or () if not one.images_may_be_published]
    said = [f"{one.name}: passing on its images: ask ({one.images or 'no licence is known'})" for one in closed]
    if terms is None:
        said = ["whose images they are is not known (no terms.json): passing on images: ask"]
    _refuse(said, permission, command)


def _refuse(closed: list[str], permission: str | None, command: str) -> None:
    if not closed or (permission or "").strip():
        return
    raise UsageError(
        "; ".join(closed),
        source="terms",
        remedy=f'if you have the permission: {command} --permission "who gave it, when, for what"',
    )
