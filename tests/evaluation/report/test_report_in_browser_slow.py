"""The report in Chromium: drawn whole, without a request, at screen and print size."""

from __future__ import annotations

import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_scores import TASKS, made_scores
from PIL import Image

from mammo_hf.evaluation.classifier import evaluate_classifier
from mammo_hf.evaluation.report import environment, write_report
from mammo_hf.evaluation.report.pictures import confident_errors

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    config = SimpleNamespace(tasks=TASKS, calibration=None, operating_points=None)
    found = evaluate_classifier(config, made_scores(seed=1), validation=made_scores(seed=0), resamples=200)
    about = {
        "checkpoint": "model",
        "collection": "made",
        "tasks": TASKS,
        "model": {},
        "environment": environment("cpu"),
    }
    about["errors"] = confident_errors(found)
    return write_report(found, tmp_path_factory.mktemp("browser"), about)[0]


def _chromium(folder: Path, *arguments: str) -> str:
    options = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}",
    )
    done = subprocess.run(
        [str(CHROMIUM), *options, *arguments], capture_output=True, text=True, timeout=180, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_screenshot_shows_plots_and_tables(report: Path, tmp_path: Path) -> None:
    _chromium(tmp_path, "--window-size=1280,3000", "--screenshot=page.png", report.as_uri())
    page = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    assert page.shape == (3000, 1280, 3)
    assert (page[0, 0] == 255).all()  # light
    ink = (page.sum(axis=2) < 600).mean(axis=1)
    # text and plots down the whole height, and nothing that fills a row
    assert (ink.reshape(30, 100).max(axis=1) > 0.005).mean() > 0.9
    blue = (np.abs(page - (0, 114, 178)).sum(axis=2) < 30).sum()
    assert blue > 2000  # the curves, which come from the embedded SVG
    assert (page[:, 1240:].min(axis=2) > 240).all()  # no table runs out of the page


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_nothing_is_wider_than_the_page_and_every_picture_loads(report: Path, width: int, scheme: str) -> None:
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(report.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("[...document.images].map(one => one.complete && one.naturalWidth > 100)") == [True] * 9
        assert all(url.startswith(("file:", "data:")) for url in asked)
        page = np.asarray(Image.open(BytesIO(tab.screenshot(full_page=True))).convert("L")).astype(int)
        dark = (page < 60).mean()
        assert dark > 0.8 if scheme == "dark" else dark < 0.1  # plots too
        browser.close()


def test_it_prints(report: Path, tmp_path: Path) -> None:
    _chromium(tmp_path, "--no-pdf-header-footer", "--print-to-pdf=page.pdf", report.as_uri())
    content = (tmp_path / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert 2 <= content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") + content.count(b"/Type /Page/") <= 14
