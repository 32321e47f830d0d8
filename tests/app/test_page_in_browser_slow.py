"""The page in Chromium: an exam dropped, scores, explanations, an error, dark and narrow, by keyboard too."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from small_archive import write_dicom

from mammo_hf import MammoImageProcessor
from mammo_hf.testing import tiny_classifier

pytestmark = pytest.mark.slow
pytest.importorskip("gradio")
sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    folder = tmp_path_factory.mktemp("page")
    tiny_classifier(image_size=(224, 112)).save_pretrained(folder / "swin")
    MammoImageProcessor(size=(224, 112)).save_pretrained(folder / "swin")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mammo_hf", "app", str(folder / "swin"), "--port", str(port)]
    environment = os.environ | {"GRADIO_TEMP_DIR": str(folder / "uploads")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as page:
        try:
            line = page.stdout.readline()
            assert line.startswith(f"http://127.0.0.1:{port}"), line
            yield f"http://127.0.0.1:{port}", folder / "uploads"
        finally:
            page.terminate()


@pytest.fixture(scope="module")
def browser(address):
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def tab(browser, address):
    found = browser.new_page(viewport={"width": 1280, "height": 900})
    found.asked = []
    found.on("request", lambda request: found.asked.append(request.url))
    found.goto(address[0])
    found.wait_for_selector("#example")
    yield found
    found.close()


def picture(tab, name):
    """What stands in a view's place, RGB."""
    return np.asarray(Image.open(BytesIO(tab.locator(f"#{name} img").screenshot())).convert("RGB")).astype(int)


def settled(tab, name, before):
    """The view's picture as soon as it is another."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        now = picture(tab, name)
        if now.shape != before.shape or np.abs(now - before).mean() > 0.5:
            return now
        tab.wait_for_timeout(200)
    raise AssertionError("the picture stays as it was")


def shown_phantom(tab):
    tab.click("#example")
    tab.wait_for_selector("#L-CC img", timeout=60_000)
    tab.wait_for_selector("#scores table")
    tab.wait_for_timeout(1000)


def test_an_exam_is_dropped_scored_and_deleted(tab, address, tmp_path):
    sides = [("L", "CC"), ("R", "MLO")]
    files = [write_dicom(tmp_path / f"{side}{view}.dcm", laterality=side, view=view) for side, view in sides]
    tab.set_input_files("#files input[type=file]", [str(file) for file in files])
    tab.wait_for_selector("#L-CC img", timeout=60_000)
    tab.wait_for_selector("#scores table")
    assert "left breast" in tab.inner_text("#scores")
    assert "300 x 150" in tab.inner_text("#facts")
    assert not list(address[1].rglob("*.dcm"))
    assert all(url.startswith((address[0], "data:", "blob:")) for url in tab.asked)


def test_right_and_left_hang_back_to_back(tab):
    shown_phantom(tab)
    boxes = {name: tab.locator(f"#{name}").bounding_box() for name in ("R-MLO", "L-MLO", "R-CC", "L-CC")}
    assert boxes["R-MLO"]["x"] < boxes["L-MLO"]["x"]
    assert boxes["R-MLO"]["y"] == boxes["L-MLO"]["y"] < boxes["R-CC"]["y"]
    right, left = picture(tab, "R-CC").sum(axis=2), picture(tab, "L-CC").sum(axis=2)
    third = right.shape[1] // 3
    assert right[:, -third:].mean() > right[:, :third].mean()
    assert left[:, :third].mean() > left[:, -third:].mean()


def test_the_explanation_follows_its_controls(tab):
    shown_phantom(tab)
    coloured = picture(tab, "L-CC")
    assert (np.ptp(coloured, axis=2) > 30).mean() > 0.02
    tab.locator("#opacity input[type=range]").focus()
    tab.keyboard.press("Home")
    grey = settled(tab, "L-CC", coloured)
    middle = grey[60:-60, 20:-20]  # apart from the buttons and the name
    assert (np.ptp(middle, axis=2) < 12).all()
    tab.locator("#window input[type=range]").focus()
    tab.keyboard.press("Home")
    hard = settled(tab, "L-CC", grey)
    assert ((hard < 20) | (hard > 235)).mean() > 0.7


def test_a_click_moves_the_enlarged_part(tab):
    shown_phantom(tab)
    whole = picture(tab, "L-CC")
    tab.locator("#zoom input[type=range]").focus()
    tab.keyboard.press("End")
    enlarged = settled(tab, "L-CC", whole)
    box = tab.locator("#L-CC img").bounding_box()
    tab.mouse.click(box["x"] + 0.1 * box["width"], box["y"] + 0.9 * box["height"])
    settled(tab, "L-CC", enlarged)


def test_a_file_that_is_no_image_is_told_of_and_the_page_goes_on(tab, tmp_path):
    (tmp_path / "notes.dcm").write_bytes(b"no image")
    tab.set_input_files("#files input[type=file]", [str(tmp_path / "notes.dcm")])
    tab.wait_for_selector("[role=alert]", timeout=60_000)
    assert "cannot be read" in tab.inner_text("[role=alert]")
    shown_phantom(tab)
    assert tab.locator("[role=alert]").count() == 0


@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (390, "light"), (390, "dark")])
def test_nothing_runs_out_of_the_page(browser, address, width, theme):
    tab = browser.new_page(viewport={"width": width, "height": 800})
    tab.goto(f"{address[0]}?__theme={theme}")
    tab.wait_for_selector("#example")
    shown_phantom(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    corner = np.asarray(Image.open(BytesIO(tab.screenshot())).convert("RGB"))[3, 3]
    assert (corner < 60).all() if theme == "dark" else (corner > 200).all()
    tab.close()
