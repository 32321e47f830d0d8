"""The page on data agrees with the sources."""

from __future__ import annotations

from pathlib import Path

from mammo_hf.data.datasets.discovery import find_source, source_names
from mammo_hf.data.datasets.mapping import read_mapping

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def rows():
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return {
        cells[1].strip(" `"): [cell.strip() for cell in cells[2:-1]] for cells in (line.split("|") for line in lines)
    }


def test_every_source_has_its_row_with_its_tasks():
    assert set(rows()) == set(source_names())
    for name, (_, labels, _, _) in rows().items():
        tasks = list(find_source(name).TASKS)
        if name not in ("folder", "csv"):
            assert labels.split(", ") == tasks, name


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
