"""The page on data agrees with the sources."""

from __future__ import annotations

from pathlib import Path

from mammo_hf.data.datasets.discovery import describe, find_source, source_names
from mammo_hf.data.datasets.mapping import read_mapping

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
