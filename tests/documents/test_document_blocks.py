"""Every line of a shell block is taken by the command that it names; what is not run is listed here."""

from __future__ import annotations

import re
import shlex

import pytest
from document_blocks import LANGUAGES, PAGES, ROOT, blocks, page_name, prose, shell_lines, spans
from document_commands import OF_PLUGINS, SCRIPTS, check_line, check_options, options_of, parser_of

from mammo_hf.cli import COMMANDS

NOT_RUN = {
    ("README.md", "tests/documents/test_ten_lines.py runs it"),
    ("docs/embed.md", "tests/documents/test_exam_lines.py runs it"),
    ("docs/writing_an_explainer.md", "captum is not among the packages of the tests"),
    ("docs/pacs.md", "installs Debian packages and starts servers"),
    ("docs/pacs.md", "there is no PACS"),
}
PROGRAMS = ("mammo-hf", "python", "accelerate", "make", "pip")
# Trainer's and accelerate's, pip's and pytest's own, which the sentences name
OTHERS = {"--help", "--extra-index-url", "--num_processes"}

LINES = [
    pytest.param(words, id=f"{block}-{number}")
    for page in PAGES
    for block in blocks(page, "bash")
    for number, words in enumerate(shell_lines(block.text))
]
SPANS = [
    pytest.param(shlex.split(span), id=f"{page_name(page)}-{span[:50]}")
    for page in PAGES
    for span in sorted(set(spans(page)))
    if span.split()[0] in PROGRAMS and " " in span
]


@pytest.mark.parametrize("words", LINES)
def test_each_line_of_a_shell_block_is_taken(words):
    check_line(words)


@pytest.mark.parametrize("words", SPANS)
def test_each_command_in_a_sentence_is_one(words):
    check_options(words)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_each_option_in_a_sentence_is_one_of_a_command(page):
    known = {option for command in (*COMMANDS, *OF_PLUGINS) for option in options_of(parser_of(command))} | OTHERS
    scripts = [path for folder in ("benchmarks", "scripts") for path in sorted((ROOT / folder).glob("*.py"))]
    sources = [path.read_text(encoding="utf-8") for path in scripts]
    for span in spans(page):
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", span):
            assert option in known or any(f'"{option}"' in source for source in sources), f"{option} in `{span}`"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_code_stands_in_fences_of_known_languages(page):
    assert {block.language for block in blocks(page)} <= set(LANGUAGES)
    assert page.read_text(encoding="utf-8").count("\n```") % 2 == 0
    assert not re.search(r"\n\n {4}\S", prose(page)), "an indented block is not found by these tests: fence it"


def test_what_is_not_run_is_listed_with_its_reason():
    marked = {(block.page, block.value) for page in PAGES for block in blocks(page) if block.directive == "not run"}
    print(*sorted(marked), sep="\n")
    for page, reason in marked:
        assert any(page == known and reason.startswith(start) for known, start in NOT_RUN), f"{page}: {reason}"
    assert len(marked) == len(NOT_RUN)


def test_a_block_that_is_a_file_is_that_file():
    for page in PAGES:
        for block in blocks(page):
            if block.directive == "is":
                assert block.text == (ROOT / block.value).read_text(encoding="utf-8"), f"{block}: {block.value}"


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(page)):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page_name(page)} links to {target}"
        for target in spans(page):
            # docs/img holds what commands write, and not all of it is kept
            if re.fullmatch(r"(docs/(?!img)|scripts/|tests/|benchmarks/|plugins/|mammo_hf/)[\w./-]+", target):
                assert (ROOT / target).exists(), f"{page_name(page)} names {target}"


def test_every_script_of_a_command_is_known_to_these_tests():
    assert {path.stem for path in (ROOT / "scripts").glob("*.py")} >= set(SCRIPTS)


@pytest.mark.parametrize(
    "line",
    [
        "mammo-hf mim --dataset a --output_dir b --no_such_option 1",
        "mammo-hf mim --dataset a --output_di b",
        "mammo-hf explain a",
        "mammo-hf no-such-command",
        "python scripts/run_mim.py --dataset a --output_dir b --mask_size 3",
        "python scripts/no_such_script.py",
        "python benchmarks/scale_plan.py --no_such_option",
        "accelerate launch --config_file nowhere.yaml scripts/run_mim.py --dataset a --output_dir b",
        "accelerate launch scripts/run_mim.py --dataset a --no_such_option",
        "make no-such-target",
        "pip install mammo-hf[nothing]",
        "curl somewhere",
    ],
)
def test_a_line_that_is_wrong_fails(line):
    with pytest.raises(AssertionError):
        check_line(line.split())
