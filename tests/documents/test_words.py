"""The project's language: plain technical English in docstrings, options, messages, templates and pages."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from document_blocks import ROOT

PACKAGE = ROOT / "mammo_hf"
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
]

# what functions do is said by a verb, what classes and modules are by a noun
QUESTIONS = ("What", "How", "Whether", "Which", "Where", "Who", "Whose", "Whom", "Why", "When", "As", "Of")
ARTICLES = ("The", "A", "An", "One", "Each", "Every")
VERBS = (
    *("Adds", "Applies", "Asks", "Builds", "Calls", "Checks", "Computes", "Counts", "Describes"),
    *("Draws", "Explains", "Finds", "Gets", "Gives", "Holds", "Keeps", "Knows", "Leaves"),
    *("Lists", "Loads", "Makes", "Measures", "Opens", "Prepares", "Prints", "Puts", "Reads"),
    *("Records", "Refuses", "Returns", "Runs", "Says", "Scores", "Shows", "Takes", "Tells"),
    *("Trains", "Turns", "Writes"),
)
UNIT = "(line|image|patient|exam|file|cell|step|second|core|row|task)"
# each with what to write instead
WORDS = {
    r"\b(stands?|stood) (in|on|for|beside|there|where|as|twice)\b": "is in, is listed",
    r"\b(lies|lie) (in|on|at|within|between|outside|inside|above|below)\b": "is in, is between",
    r"(?<!there )\bis no(?! (longer|more|fewer|less|larger|smaller|\w+ (to|that|in|of|at|for))\b) [a-z]+\b": "is not a",
    r"\banew\b": "again",
    r"\bgravest\b": "most severe",
    r"\bbesides?\b": "next to, in addition to",
    r"\blearnt\b|\blearns? from\b": "trained on",
    r"\b(told|tells?) (apart|of|the user)\b|\bis told\b": "distinguishes, reports, described",
    r"\bmends?\b": "fix",
    r"\bwhom\b": "a sentence of its own",
    r"\b(goes|gone|go) on\b": "resumes",
    rf"\b(one|an?|each) {UNIT} an? {UNIT}\b": "per",
    rf"\b(images?|patients?|lines?|rows?|files?|updates|processes) an? {UNIT}\b": "per",
    r"\bshares? of (the )?(labels|patients|training patients|images)\b": "fraction, percentage",
    r"\blesions?'? places\b|\bplaces of lesions\b": "lesion annotations, locations",
}  # fmt: skip
# entries of Args, Attributes, Returns and Raises that cannot be read alone
FRAGMENT = re.compile(r"(Of|As|Where|How|Whose|Who|On how|In whose|By which|With which|From which|Theirs|Its own)\b")
SECTIONS = ("Args:", "Attributes:", "Returns:", "Raises:", "Yields:")


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def documented(path: Path) -> Iterator[tuple[ast.AST, str]]:
    """List the nodes of a module that have a docstring, the module included."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield node, text


def entries(docstring: str) -> Iterator[str]:
    """List the texts of the entries in a docstring's sections."""
    section, found = "", ""
    for line in [*docstring.splitlines(), "end"]:
        entry = re.match(r"    (\*{0,2}\w+): (.*)", line) if section in SECTIONS and section != "Returns:" else None
        if entry or (line and not line.startswith(" ")):
            if found:
                yield found
            found = entry[2] if entry else ""
            section = line.strip() if not entry else section
        elif section == "Returns:" and not found:
            found = line.strip()
        elif found and line.strip():
            found += f" {line.strip()}"


def faults(text: str) -> Iterator[str]:
    plain = re.sub(r"`+[^`\n]*`+", "``", text)  # names in code keep their own words
    for pattern, instead in WORDS.items():
        for match in re.finditer(pattern, plain, re.IGNORECASE):
            yield f"{match[0]!r}: write {instead}"


@pytest.mark.parametrize("path", sources(), ids=named)
def test_classes_and_modules_are_noun_phrases(path: Path) -> None:
    found = []
    for node, text in documented(path):
        first = re.split(r"\W", text, maxsplit=1)[0]
        # a command's module docstring is its description, which is a verb
        noun = isinstance(node, ast.ClassDef) or (isinstance(node, ast.Module) and path.parent.name != "cli")
        if noun and first in (*QUESTIONS, *VERBS):
            found.append(f"{getattr(node, 'name', path.stem)}: {first}")
    assert not found


def test_functions_begin_with_a_verb() -> None:
    rules = [sys.executable, "-m", "ruff", "check", "--select", "D401", "--output-format", "concise", "--quiet"]
    done = subprocess.run([*rules, *map(str, sources())], capture_output=True, text=True, cwd=ROOT)
    assert not done.stdout, done.stdout
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sources(), ids=named)
def test_no_function_begins_with_an_article_or_a_question(path: Path) -> None:
    found = []
    for node, text in documented(path):
        if isinstance(node, (ast.Module, ast.ClassDef)) or any(
            "property" in ast.unparse(d) for d in node.decorator_list
        ):
            continue
        first = re.split(r"\W", text, maxsplit=1)[0]
        if first in (*QUESTIONS, *ARTICLES):
            found.append(f"{node.name}: {first}")
    assert not found


@pytest.mark.parametrize("path", sources(), ids=named)
def test_every_entry_can_be_read_alone(path: Path) -> None:
    found = []
    for node, text in documented(path):
        for entry in entries(text):
            if FRAGMENT.match(entry) or len(entry.split()) < 2:
                found.append(f"{getattr(node, 'name', path.stem)}: {entry[:60]}")
    assert not found


@pytest.mark.parametrize("path", sources(), ids=named)
def test_the_words_of_docstrings_options_and_messages(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    strings = {
        node.value: node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not [f"line {line}: {fault}" for text, line in strings.items() for fault in faults(text)]


@pytest.mark.parametrize("path", [*PAGES, *sorted(PACKAGE.rglob("*.j2"))], ids=named)
def test_the_words_of_pages_and_templates(path: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert not list(faults(re.sub(r"{%.*?%}|{#.*?#}", "", prose, flags=re.DOTALL)))


def test_the_rules_find_what_they_are_for() -> None:
    found = "\n\n".join(
        [*faults("It stands in the table, is no folder, and goes on."), *faults("An image a patient, beside others.")]
    )
    assert [found.count("write"), "is not a" in found, "per" in found] == [6, True, True], found
    assert not list(faults("There is no folder. It is no longer used. One image per patient, next to the others."))
    assert list(entries("Do it.\n\nArgs:\n    seed: Of the bootstrap.\n    rng: Random\n        numbers.\n")) == [
        "Of the bootstrap.",
        "Random numbers.",
    ]
