"""Where the images of a training come from: what its records, card and report say of the collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets

from ..data import MammoTable
from ..evaluation.report.cohort import unreadable
from ..publish.collection_facts import collection_facts


@dataclass(frozen=True)
class Origin:
    """A collection that was prepared and is trained on.

    Attributes:
        table: As it was split.
        facts: What `collection_facts` says of it.
        unreadable: Why images of its test split could not be prepared, a reason each.
    """

    table: MammoTable
    facts: Mapping[str, Any] = field(default_factory=dict)
    unreadable: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        table: MammoTable,
        prepared: datasets.Dataset,
        *,
        tasks: Sequence[Mapping[str, Any]],
        dataset: str | Path,
        folder: str | Path,
    ) -> Origin:
        """The origin of prepared images.

        Args:
            table: Of all splits.
            prepared: Its images.
            tasks: Whose labels are counted.
            dataset: The collection's folder.
            folder: Where they were prepared, with the reasons of those that are missing.
        """
        missing = unreadable(table.where(split="test"), prepared, folder)
        return cls(table, collection_facts(table, tasks, dataset), missing)
