"""Every Python block of the documents runs, a page from top to bottom, in a folder that has what the page names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from document_blocks import PAGES, blocks, page_name
from document_world import given_names, here, make_world, prepare, put_file

WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
READ_ELSEWHERE = ("is", "not run", "file")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = make_world(tmp_path_factory.mktemp("world"))
    prepare(folder)
    return folder


def run_page(page: Path, world: Path) -> dict[str, Any]:
    """Runs the page's Python blocks in the current folder, and gives the names that they have made."""
    names: dict[str, Any] = {"__name__": "document"}
    for block in blocks(page):
        if block.directive == "file":
            put_file(block, world)
    for block in blocks(page, "python"):
        if block.directive in READ_ELSEWHERE:
            continue
        if block.directive == "given":
            given = given_names()
            names |= {name: given[name] for name in block.value.split(", ")}
        exec(compile("\n" * (block.line - 1) + here(block.text, world), page_name(page), "exec"), names)
    return names


LONG = ("docs/evaluation.md", "docs/scale.md")  # they train, draw and score whole collections


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page_name(page) in LONG)) for page in WITH_PYTHON],
    ids=page_name,
)
def test_the_pages_blocks_run(page, world, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.syspath_prepend(world)
    run_page(page, world)


def test_a_block_that_does_not_run_fails(world, tmp_path, monkeypatch):
    monkeypatch.setattr("test_document_python.page_name", lambda page: page.name)
    monkeypatch.setattr("document_blocks.page_name", lambda page: page.name)
    page = tmp_path / "page.md"
    page.write_text("Words.\n\n```python\nimport mammo_hf\n\nmammo_hf.no_such_name\n```\n")
    with pytest.raises(AttributeError, match="no_such_name"):
        run_page(page, world)
