"""The page in Chromium: an exam dropped, scores, maps, an error, dark and narrow, by mouse and keyboard."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, generate_uid
from small_archive import write_dicom

from mammo_hf import MammoImageProcessor
from mammo_hf.app.exam import phantom_exam, read_exam
from mammo_hf.dicom import mammogram_dataset
from mammo_hf.explainers import explainers
from mammo_hf.explainers.overlay import method_name
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
    with (
        open(folder / "log", "w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as page,
    ):
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
    """The pixels of a view's canvas, RGB; the name is "L-CC" or the like."""
    url = tab.evaluate(f"document.querySelector('#{name} canvas').toDataURL()")
    return np.asarray(Image.open(BytesIO(b64decode(url.split(",")[1]))).convert("RGB")).astype(int)


def drawn(tab, action):
    """Do something after which the views are drawn again."""
    before = tab.evaluate("document.body.dataset.drawn")
    action()
    tab.wait_for_function(f"document.body.dataset.drawn !== '{before}'", timeout=60_000)


def shown_phantom(tab):
    tab.click("#example")
    tab.wait_for_function("document.body.dataset.maps === '4'", timeout=90_000)


def test_an_exam_is_dropped_scored_and_deleted(tab, address, tmp_path):
    sides = [("L", "CC"), ("R", "MLO")]
    files = [write_dicom(tmp_path / f"{side}{view}.dcm", laterality=side, view=view) for side, view in sides]
    tab.set_input_files("#files input[type=file]", [str(file) for file in files])
    tab.wait_for_selector("#maps [data-view='1']", state="attached", timeout=60_000)
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


def test_the_greys_are_those_of_the_image_and_the_map_can_be_hidden(tab):
    shown_phantom(tab)
    coloured = picture(tab, "L-CC")
    assert (np.ptp(coloured, axis=2) > 5).mean() > 0.02
    tab.locator("#L-CC canvas").focus()
    drawn(tab, lambda: tab.keyboard.press("Space"))
    grey = picture(tab, "L-CC")
    bar = int(0.94 * len(grey))  # the scale bar is below
    assert (np.ptp(grey, axis=2) == 0).all()
    model, processor = tiny_classifier(image_size=(224, 112)), MammoImageProcessor(size=(224, 112))
    *_, exam = read_exam(model, processor, phantom_exam())
    (view,) = [view for view in exam.views if view.name == "L CC"]
    assert np.abs(grey[:bar, :, 0] - 255 * view.intensity[:bar].astype(float)).max() <= 1
    drawn(tab, lambda: tab.keyboard.press("Space"))
    assert (picture(tab, "L-CC") == coloured).all()


def test_window_and_level_follow_the_drag_and_the_presets(tab):
    shown_phantom(tab)
    tab.click("#show-map")
    box = tab.locator("#L-CC canvas").bounding_box()
    tab.mouse.move(box["x"] + 150, box["y"] + 50)
    tab.mouse.down()
    tab.mouse.move(box["x"] - 150, box["y"] + 50, steps=5)
    tab.mouse.up()
    tab.wait_for_timeout(300)
    assert float(tab.input_value("#window")) == pytest.approx(0.05, abs=0.1)
    hard = picture(tab, "L-CC")
    assert ((hard < 20) | (hard > 235)).mean() > 0.7
    drawn(tab, lambda: tab.click("text=dense tissue"))
    assert (tab.input_value("#window"), tab.input_value("#level")) == ("0.5", "0.7")
    drawn(tab, lambda: tab.click("#reset"))
    assert (tab.input_value("#window"), tab.input_value("#level")) == ("1", "0.5")


def test_both_breasts_are_enlarged_at_the_same_distance_from_the_chest_wall(tab):
    shown_phantom(tab)
    tab.locator("#L-CC canvas").focus()
    whole = {name: picture(tab, name) for name in ("L-CC", "R-CC")}
    for key in ("+", "+", "+", "ArrowLeft", "ArrowUp"):
        drawn(tab, lambda key=key: tab.keyboard.press(key))
    zoom = float(tab.input_value("#zoom"))
    assert zoom == pytest.approx(1.25**3, abs=0.25)
    for name in whole:
        assert np.abs(picture(tab, name) - whole[name]).mean() > 2
    enlarged = picture(tab, "L-CC")
    box = tab.locator("#L-CC canvas").bounding_box()
    drawn(tab, lambda: tab.mouse.click(box["x"] + 30, box["y"] + 0.9 * box["height"]))
    assert np.abs(picture(tab, "L-CC") - enlarged).mean() > 2


def test_the_magnifier_shows_what_is_under_the_pointer(tab):
    shown_phantom(tab)
    tab.click("#magnifier")
    box = tab.locator("#L-CC canvas").bounding_box()
    whole = picture(tab, "L-CC")
    height, width = whole.shape[:2]
    # the picture is at the chest wall of a canvas that is wider: tissue, then what is dark beyond the skin
    shown = box["height"] * width / height
    assert shown < box["width"]
    for column, row in ((0.2, 0.5), (0.97, 0.2)):
        tab.mouse.move(box["x"] + column * shown, box["y"] + row * box["height"])
        tab.wait_for_selector("#lens", state="visible")
        lens = tab.evaluate("[...document.getElementById('lens').getContext('2d').getImageData(90, 90, 1, 1).data]")
        at = int(row * height), int(column * width)
        near = whole[at[0] - 9 : at[0] + 10, at[1] - 9 : at[1] + 10].mean(axis=(0, 1))
        assert np.abs(near - lens[:3]).max() < 25
    tab.keyboard.press("Tab")
    tab.mouse.move(5, 5)
    tab.wait_for_selector("#lens", state="hidden")


def test_the_result_is_saved_and_printed_without_names(tab, tmp_path):
    file = write_dicom(tmp_path / "Doe Jane 4711.dcm", laterality="L", view="CC")
    tab.set_input_files("#files input[type=file]", [str(file)])
    tab.wait_for_function("document.body.dataset.maps === '1'", timeout=90_000)
    assert "Jane" not in tab.inner_text("body")
    with tab.expect_download() as download:
        tab.click("#save-picture")
    assert download.value.suggested_filename == "result.png"
    saved = np.asarray(Image.open(download.value.path()).convert("RGB"))
    assert saved.shape[1] >= 900
    assert (saved.max(axis=(1, 2)) > 60).mean() > 0.5
    tab.emulate_media(media="print")
    assert tab.locator("#scores table").first.is_visible()
    assert not tab.locator("#toolbar").is_visible()
    assert not tab.locator("#choices").is_visible()


def test_every_explainer_is_compared_on_one_view(tab):
    shown_phantom(tab)
    tab.click("#compare")
    names = [method_name(name) for name, found in explainers().items() if found.reason is None]
    tab.wait_for_function(f"document.querySelectorAll('.strip figure').length === {len(names)}", timeout=90_000)
    assert tab.locator(".strip figcaption").all_inner_texts() == names
    assert "attends to no tiles" in tab.inner_text(".strip")
    # all of them can be seen, and read on black
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert tab.evaluate("(s => s.scrollWidth <= s.clientWidth)(document.querySelector('.strip'))")
    colours = tab.eval_on_selector_all(
        ".strip figcaption, .strip p", "all => all.map(one => getComputedStyle(one).color)"
    )
    assert set(colours) == {"rgb(255, 255, 255)"}


def test_a_file_that_is_no_image_is_named_here_alone_and_the_page_goes_on(tab, tmp_path):
    (tmp_path / "<b>notes.dcm").write_bytes(b"no image")
    tab.set_input_files("#files input[type=file]", [str(tmp_path / "<b>notes.dcm")])
    tab.wait_for_selector("[role=alert]", timeout=60_000)
    assert "<b>notes.dcm cannot be read" in tab.inner_text("[role=alert]")
    shown_phantom(tab)
    assert tab.locator("[role=alert]").count() == 0


def test_a_folder_dropped_by_mistake_is_refused_and_deleted(tab, address, tmp_path):
    for number in range(60):
        (tmp_path / f"{number}.dcm").write_bytes(b"no image")
    tab.set_input_files("#files input[type=file]", [str(file) for file in sorted(tmp_path.glob("*.dcm"))])
    tab.wait_for_selector("[role=alert]", timeout=60_000)
    assert "60 files were given" in tab.inner_text("[role=alert]")
    tab.wait_for_timeout(500)
    assert not list(address[1].rglob("*.dcm"))


def test_a_browser_that_goes_away_leaves_no_file_and_holds_nobody_up(browser, address, tab, tmp_path):
    noise = np.random.default_rng(0).integers(0, 4096, (1600, 1200)).astype(np.uint16)
    image = mammogram_dataset(noise, bits_stored=12, laterality="L", view="CC")
    image.compress(JPEG2000Lossless)  # which takes long enough to read that the browser is gone before the last one
    files = [tmp_path / f"{number}.dcm" for number in range(30)]
    for file in files:
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.save_as(file, enforce_file_format=True)
    other = browser.new_page()
    other.goto(address[0])
    other.set_input_files("#files input[type=file]", [str(file) for file in files])
    other.wait_for_selector("text=of 30 files are read", timeout=60_000)
    other.close()
    deadline = time.monotonic() + 60
    while list(address[1].rglob("*.dcm")):
        assert time.monotonic() < deadline, "files were left"
        time.sleep(0.2)
    assert "gone away while its 30 files were read" in (address[1].parent / "log").read_text()
    shown_phantom(tab)


@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (390, "light"), (390, "dark")])
def test_nothing_runs_out_of_the_page(browser, address, width, theme):
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.goto(f"{address[0]}?__theme={theme}")
    tab.wait_for_selector("#example")
    shown_phantom(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    # no text covers a breast: it is in the outer half of the black around it, or below
    for name in ("R-CC", "L-CC"):
        view, text = (tab.locator(f"#{name} {part}").bounding_box() for part in ("canvas", "figcaption"))
        breast = min(view["width"], view["height"] / 2)  # a phantom is twice as high as it is wide
        right = text["x"] >= view["x"] + breast
        left = text["x"] + text["width"] <= view["x"] + view["width"] - breast
        assert (right if name == "L-CC" else left) or text["y"] >= view["y"] + view["height"] - 1
    table = tab.locator("#scores table").first.bounding_box()
    assert table["y"] + table["height"] < 844, "scores are seen without scrolling"
    if width == 1280:
        last = tab.locator("#L-CC").bounding_box()
        assert last["y"] + last["height"] <= 900, "all four views are seen without scrolling"
    corner = np.asarray(Image.open(BytesIO(tab.screenshot())).convert("RGB"))[3, 3]
    assert (corner < 60).all() if theme == "dark" else (corner > 200).all()
    tab.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_our_markup(browser, address, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(f"{address[0]}?__theme={theme}")
    tab.wait_for_selector("#example")
    shown_phantom(tab)
    ours = ["#said", "#scores", "#maps", "#views", "#facts", "#toolbar"]
    found = axe.run(tab, context={"include": [[one] for one in ours]}).response["violations"]
    serious = [
        (one["id"], [node["html"][:120] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
    tab.close()
