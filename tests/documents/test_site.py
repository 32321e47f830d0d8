"""The site is built strictly: no dead link, no docstring that does not fit its function, nothing from the network."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from document_blocks import ROOT

from mammo_hf.errors import INSTALLED_FROM

needs_mkdocs = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None,
    reason="mkdocs-material and mkdocstrings are not installed (the extra docs)",
)


def build(folder, site):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=folder,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_no_page_installs_a_name_that_is_not_registered():
    named = re.compile(r"pip install [^`\n]*mammo[-_]hf(?![-_/\w])")
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "plugins").rglob("*.md")]
    found = [page.name for page in pages if named.search(page.read_text(encoding="utf-8"))]
    assert INSTALLED_FROM != "." or not found


class Loaded(HTMLParser):
    """What a page would fetch when it is opened."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag in ("script", "img", "iframe", "source"):
            self.addresses.append(given.get("src") or "")
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.addresses.append(given.get("href") or "")


@pytest.mark.slow
@needs_mkdocs
def test_the_site_is_built_and_fetches_nothing_from_elsewhere(tmp_path):
    done = build(ROOT, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert not [address for address in loaded.addresses if "//" in address], page


@pytest.mark.slow
@needs_mkdocs
def test_the_reference_holds_every_public_name_of_the_package(tmp_path):
    import mammo_hf

    assert build(ROOT, tmp_path / "site").returncode == 0
    pages = [page.read_text(encoding="utf-8") for page in (tmp_path / "site" / "api").rglob("*.html")]
    named = {match.rsplit(".", 1)[-1] for page in pages for match in re.findall(r'id="(mammo_hf\.[\w.]+)"', page)}
    assert set(mammo_hf.__all__) <= named


@pytest.mark.slow
@needs_mkdocs
def test_a_dead_link_fails(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A page\n\n[nowhere](nowhere.md)\n")
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(config.partition("nav:\n  - index.md")[0] + "nav:\n  - index.md\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr


def test_every_page_stands_in_the_navigation():
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert re.search(rf"(: |- ){re.escape(name)}$", config, re.MULTILINE), f"{name} is not in mkdocs.yml"
