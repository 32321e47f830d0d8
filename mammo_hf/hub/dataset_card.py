"""The card of a prepared folder: what was prepared, how, and from what."""

from __future__ import annotations

import json
import os
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from ..data.prepare.layout import PROCESSOR, Folder, read_about
from ..data.prepare.reading import prepared_table
from ..data.training_data import collection_facts
from ..evaluation.report.words import preprocessing_in_words
from ..models.checkpoint import CARD
from .model_card import plain, templates

# the Hub's own words for how many rows there are
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_dataset_card(folder: str | os.PathLike[str]) -> str:
    """Writes ``README.md`` into a prepared folder, on a disk or in an object store.

    Returns:
        The card's path.

    Raises:
        UsageError: The folder is not finished.
    """
    place = Folder(folder)
    place.write_text(CARD, str(dataset_card(place)))
    return place.path(CARD)


def dataset_card(place: Folder) -> DatasetCard:
    """The card of a prepared folder.

    Raises:
        UsageError: The folder is not finished.
    """
    about = read_about(place)
    table = prepared_table(place.url)
    table.root = place.url
    facts = collection_facts(table, about["tasks"])
    metadata = DatasetCardData(
        license="unknown",
        task_categories=["image-classification"],
        size_categories=next((word for most, word in _SIZES if about["images"] < most), "n>1M"),
        pretty_name=f"{plain(facts['name'] or 'A private collection')}, prepared",
        tags=["mammography", "medical-imaging", "mammo_hf"],
    )
    content = (
        templates()
        .get_template("dataset_card.md.j2")
        .render(about=about, collection=facts, steps=preprocessing_in_words(_processor(place)))
    )
    return DatasetCard(f"---\n{metadata.to_yaml()}\n---\n\n{content.strip()}\n")


def _processor(place: Folder) -> dict[str, Any]:
    """What was done to the pixels; the mean and the deviation are applied when they are trained on."""
    found: dict[str, Any] = json.loads(place.read_text(PROCESSOR) or "{}")
    return {key: value for key, value in found.items() if key not in ("image_mean", "image_std")}
