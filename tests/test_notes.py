"""Notes: their codes are those of the table, and they travel with their code."""

from __future__ import annotations

import ast
import copy
import json
import pickle
from pathlib import Path

import mammo_hf
from mammo_hf.notes import NOTES, REFUSALS, Note, codes, counts_text


def _literals(function: str, keyword: str | None = None) -> set[str]:
    """Return the texts that calls in the package give as their first argument, or as a keyword."""
    found = set()
    for path in Path(mammo_hf.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", "")
            given = node.args[:1] if keyword is None else [one.value for one in node.keywords if one.arg == keyword]
            if name == function or (keyword and name.endswith("Error")):
                found |= {one.value for one in given if isinstance(one, ast.Constant)}
    return found


def test_every_code_of_the_table_is_used_and_every_used_code_is_in_the_table() -> None:
    named = {
        node.value
        for path in Path(mammo_hf.__file__).parent.rglob("*.py")
        if path.name != "notes.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert _literals("Note") <= set(NOTES)
    assert set(NOTES) <= named
    assert _literals("", "code") <= set(REFUSALS)


def test_a_note_is_its_text_and_keeps_its_code() -> None:
    note = Note("attribute_alone", attribute="WindowCenter", other="WindowWidth")
    assert note == "WindowCenter and WindowWidth do not come together; neither is used"
    for other in (note, pickle.loads(pickle.dumps(note)), copy.deepcopy(note)):
        assert (other, other.code) == (note, "attribute_alone")
    assert json.loads(json.dumps([note])) == [note]


def test_codes_are_listed_once_and_counted_with_the_most_frequent_first() -> None:
    notes = [Note("negative"), Note("bright_edges"), Note("negative")]
    assert codes(notes) == ["negative", "bright_edges"]
    assert counts_text({"negative": 1, "bright_edges": 3, "breast_not_found": 1}, {"damaged": 2}) == (
        "\nnotes: 3 bright_edges, 1 breast_not_found, 1 negative\nrefusals: 2 damaged"
    )
    assert counts_text({}, {}) == ""
