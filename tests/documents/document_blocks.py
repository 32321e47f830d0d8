"""The blocks of the documents, and what stands above them for the tests.

A comment before a block says what a reader need not see:

    <!-- given: model, image -->     names that the block finds, made by ``given_names``
    <!-- file: data/ours.toml -->    the block is this file's content, below the world's folder
    <!-- is: plugins/a/b.py -->      the block is this file of the project, to the letter
    <!-- not run: REASON -->         it cannot be run here; all of these are listed in test_document_blocks.py
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = ("bash", "python", "toml", "csv", "text", "")

_BLOCK = re.compile(
    r"(?:^<!-- (?P<directive>given|file|is|not run): (?P<value>.*?) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_SPAN = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page; ``value`` is what its comment says."""

    page: str
    line: int
    language: str
    text: str
    directive: str
    value: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def page_name(page: Path) -> str:
    """The page's path from the project's folder."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[Block]:
    """The page's blocks, of these languages if any are named."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(
            page_name(page),
            text[: match.start("text")].count("\n") + 1,
            match["language"],
            match["text"],
            match["directive"] or "",
            match["value"] or "",
        )
        for match in _BLOCK.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def shell_lines(text: str) -> list[list[str]]:
    """The commands of a block, each as its words: lines joined where they go on, comments left out."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def spans(page: Path) -> list[str]:
    """What the page's sentences set as code, on one line each."""
    return [" ".join(span.split()) for span in _SPAN.findall(prose(page))]
