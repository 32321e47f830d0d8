"""The page on data agrees with the sources."""

from __future__ import annotations

import copy
import dataclasses
import re
import tomllib
from pathlib import Path

from mammo_hf.data.datasets.discovery import describe, find_source, source_names
from mammo_hf.data.datasets.mapping import KEYS, Mapping, read_mapping
from mammo_hf.data.terms import Terms

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_the_page_of_collections_is_what_their_files_say(program):
    made = program("scripts/collections_page.py")
    assert set(made.SOURCES) == set(source_names())
    assert made.PAGE.read_text(encoding="utf-8") == made.page(), "run python scripts/collections_page.py"


def test_a_section_says_everything_that_a_file_states():
    text = describe(find_source("embed"))
    source = find_source("embed")
    for stated in (source.NAME, source.LICENCE, source.OFFICIAL_SPLIT, *source.TASKS, *source.QUIRKS, "boxes"):
        assert stated in text
    assert all(words in text for words in source.TERMS.values())


def test_every_key_of_a_mapping_is_on_the_page_with_an_example_that_is_valid():
    rows = re.findall(r"^\| (`\w[^|]+`) \|.*?\| (`.+`) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    parts = {**KEYS, "terms": [field.name for field in dataclasses.fields(Terms)][2:]}
    listed = set()
    for keys, examples in rows:
        names = re.findall(r"`([^`]+)`", keys)
        example = tomllib.loads("\n".join(re.findall(r"`([^`]+)`", examples)))
        part = names[0].rpartition(".")[0]
        assert {f"{part}.{key}".lstrip(".") for key in example.get(part, example)} == set(names)
        assert Mapping({**MAPPED, **example} if part in ("", "terms") else _with(part, example))
        listed |= set(names)
    known = {f"{part}.{key}".lstrip(".") for part, keys in parts.items() for key in keys}
    assert listed == known - {"terms", "images", "columns", "join", "tasks", "findings"}


MAPPED = {
    **{"name": "ours", "licence": "ours alone", "images": {"table": "t.csv", "path": "{file}"}},
    **{"columns": {"patient": "{pid}"}, "join": [{"table": "other.csv", "key": "{pid}", "match": "{pid}"}]},
}
YEARS = {"years_to_cancer": "{to_cancer}", "years_followed": "{followed}"}
DATES = {"exam_date": "{exam}", "cancer_date": "{cancer}", "seen_date": "{visit}", "table": "v.csv", "patient": "{p}"}


def _with(part, example):
    """Return a small mapping with an example in one of its parts."""
    content = copy.deepcopy(MAPPED)
    if part == "images":
        taken = {"headers": ("table", "path"), "views": ("path",)}
        left_out = [name for key in example for name in taken.get(key, ())]
        content["images"] = {key: value for key, value in content["images"].items() if key not in left_out} | example
    elif part == "join":
        content["join"][0] |= example
    elif part == "tasks.cancer_within_years":
        content["tasks"] = {"cancer_within_years": {**(YEARS if set(example) <= set(YEARS) else DATES), **example}}
    elif part in ("tasks.NAME", "FIELD"):
        labels = {"labels": ["benign", "malignant"]} if part == "FIELD" else {"labels": ["none", "some"]}
        content["tasks"] = {"ours": {"from": "{result}", **labels, **example}}
    else:
        content[part] = {**content.get(part, {}), **example}
    return content


def test_the_mapping_on_the_page_is_one(tmp_path):
    blocks = PAGE.read_text(encoding="utf-8").split("```toml\n")[1:]
    (tmp_path / "ours.toml").write_text(blocks[0].split("```")[0], encoding="utf-8")
    mapping = read_mapping(tmp_path / "ours.toml")
    assert mapping.is_private
    assert mapping.follow_up["years_followed"].template == "{followed}"
    ours, dates = (block.split("```")[0] for block in blocks[:2])
    head, _, rest = ours.partition("[tasks.cancer_within_years]")
    (tmp_path / "dates.toml").write_text(
        head + dates + "\n[findings]" + rest.partition("[findings]")[2], encoding="utf-8"
    )
    assert read_mapping(tmp_path / "dates.toml").follow_up["table"] == "visits.csv"
