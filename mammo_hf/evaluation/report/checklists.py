"""The reporting checklists CLAIM 2024 and TRIPOD+AI, filled as far as a run can say; the rest is the authors' to write.

CLAIM: Tejani et al., Radiology: Artificial Intelligence 2024, doi 10.1148/ryai.240300. TRIPOD+AI: Collins et al., BMJ
2024, doi 10.1136/bmj-2023-078378. The items are told here in short, in our words; the papers have them whole.
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent
CHECKLISTS = {"CLAIM 2024": "claim_2024.toml", "TRIPOD+AI": "tripod_ai.toml"}


class Item(NamedTuple):
    """An item of a checklist.

    Attributes:
        number: As the checklist has it.
        section: Of a paper.
        text: What is to be reported, in short.
        answer: What the run says of it; ``None``: the authors must write it.
        complete: Whether the answer is all that the item asks for.
    """

    number: str
    section: str
    text: str
    answer: str | None
    complete: bool


def filled(facts: Mapping[str, str | None]) -> dict[str, list[Item]]:
    """The checklists with what the run knows.

    Args:
        facts: The values that answers are made of; an answer that needs one that is ``None`` or not there is left to
            the authors.
    """
    known = {name: value for name, value in facts.items() if value}
    return {name: [_item(entry, known) for entry in _read(file)] for name, file in CHECKLISTS.items()}


def needed_facts() -> set[str]:
    """The names of all facts that any answer uses."""
    answers = [entry["answer"] for file in CHECKLISTS.values() for entry in _read(file) if "answer" in entry]
    return {name for answer in answers for name in _fields(answer)}


def _item(entry: Mapping[str, str], known: Mapping[str, str]) -> Item:
    answer = entry.get("answer")
    if answer is not None:
        answer = answer.format_map(known) if _fields(answer) <= known.keys() else None
    complete = answer is not None and entry.get("rest") is None
    if answer is not None and not complete:
        answer = f"{answer} The authors' to add: {entry['rest']}"
    return Item(entry["number"], entry["section"], entry["text"], answer, complete)


def _fields(answer: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(answer) if name}


def _read(file: str) -> list[dict[str, str]]:
    with open(_FOLDER / file, "rb") as opened:
        items: list[dict[str, str]] = tomllib.load(opened)["items"]
    return items
