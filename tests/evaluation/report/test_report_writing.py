from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_scores import TASKS, made_scores

from mammo_hf.errors import UsageError
from mammo_hf.evaluation.classifier import Evaluation, evaluate_classifier
from mammo_hf.evaluation.report import command_line, environment, metrics_table, write_report
from mammo_hf.evaluation.report.pictures import confident_errors

NOTED = {"laterality_contradicted": 3}


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    config = SimpleNamespace(tasks=TASKS, calibration=None, operating_points=None)
    return evaluate_classifier(config, made_scores(seed=1), validation=made_scores(seed=0), resamples=100)


def _about(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "checkpoint": "a <b>model</b>",
        "collection": "made",
        "tasks": TASKS,
        "model": {"image_size": [112, 56], "parameters": 1234, "size": "Swin"},
        "resamples": 100,
        "flow": [
            {"step": "listed", "images": 130, "patients": 60, "left_out": {"the file is cut short": 10}, "notes": NOTED}
        ],
        "environment": environment("cpu"),
        "command": command_line(["mammo-hf", "evaluate", "/home/somebody/model", "--dataset", "/data/hospital"]),
    }
    return given | changes


@pytest.fixture(scope="module")
def written(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    rows = [
        {"arm": "scratch", "baseline": False, "percentage": share, "auroc": share / 200 + 0.4, "interval": [0.4, 0.9]}
        for share in (10, 100)
    ]
    about = _about(errors=confident_errors(evaluation), label_efficiency=rows)
    html, as_json = write_report(evaluation, tmp_path_factory.mktemp("report"), about)
    return html.read_text(encoding="utf-8"), json.loads(as_json.read_text(encoding="utf-8"))


def test_the_page_is_one_file_that_asks_no_network(written: tuple[str, dict[str, Any]]) -> None:
    html, _ = written
    assert not re.search(r"<(script|link|iframe)|@import|url\(", html)
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]{1,20})', html))


def test_the_table_of_contents_leads_to_each_part(written: tuple[str, dict[str, Any]]) -> None:
    html, _ = written
    targets = re.findall(r'href="#([^"]+)"', html)
    assert targets == re.findall(r' id="([^"]+)"', html)
    assert "task-2" in targets
    assert len(targets) == len(re.findall("<h2", html))


def test_the_page_shows_plots_of_each_task(written: tuple[str, dict[str, Any]]) -> None:
    html, _ = written
    # ROC, precision, calibration, errors, scores; ROC, calibration, errors, confusion; label efficiency
    assert html.count('src="data:image/svg+xml') == 10
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert style is not None
    assert 500 < len(style[1]) < 5000
    assert "@media print" in style[1]


def test_the_page_shows_the_figures_of_the_json(written: tuple[str, dict[str, Any]]) -> None:
    html, content = written
    found = content["tasks"]["pathology"]
    assert f"{found['auroc']:.2f} <small>{found['auroc_interval'][0]:.2f}" in html
    threshold = found["chosen_operating_points"]["image"]["sensitivity_90"]["threshold"]
    assert f"<td>{threshold:.3f}</td>" in html
    assert "left out: the file is cut short" in html
    assert "noted: laterality_contradicted</th><td>not shown</td>" in html
    assert content["cohort"][0] == {"of": "pathology", "value": "benign", "images": 60, "patients": 30}
    assert content["confident_errors"]["pathology"][0]["probability"] > 0.5


def test_nothing_names_a_person_or_a_place(written: tuple[str, dict[str, Any]]) -> None:
    for text in (written[0], json.dumps(written[1])):
        for secret in ("patient0", "exam0", "somebody", "/home", "/data"):
            assert secret not in text
    assert "mammo-hf evaluate model --dataset hospital" in written[0]


def test_a_name_is_text_and_never_markup(written: tuple[str, dict[str, Any]]) -> None:
    assert "a &lt;b&gt;model&lt;/b&gt;" in written[0]
    assert "<b>model</b>" not in written[0]


def test_few_patients_are_warned_of(written: tuple[str, dict[str, Any]]) -> None:
    assert "density: 40 patients. Below 50 an interval may be too narrow." in written[0]


@pytest.mark.parametrize("change", ["no label", "one class", "equal", "one patient", "nan"])
def test_whatever_cannot_be_had_is_a_dash_with_its_reason(change: str, tmp_path: Path) -> None:
    images = made_scores(patients=1 if change == "one patient" else 20)
    if change == "no label":
        images.labels[:] = -100
    elif change == "one class":
        images.labels[:, 0] = 0
    elif change == "equal":
        images.logits[:] = 1
    elif change == "nan":
        images.logits[:] = np.nan
    config = SimpleNamespace(tasks=TASKS[:1], calibration=None, operating_points=None)
    images = dataclasses.replace(images, logits=images.logits[:, :2], labels=images.labels[:, :1])
    found = evaluate_classifier(config, images, resamples=100)
    html, _ = write_report(found, tmp_path, _about(errors=confident_errors(found), tasks=TASKS[:1]))
    text = html.read_text(encoding="utf-8")
    reason = {
        "no label": "no images with a known label",
        "one class": "no image is labelled malignant",
        "equal": "all scores are equal",
        "one patient": "labelled",
        "nan": "of 40 images have NaN probabilities",
    }[change]
    assert reason in text
    assert not re.search(r"\b(nan|inf)\b|None(?!:)", re.sub(r'data:image[^"]*', "", text))


def test_the_table_of_metrics_has_a_column_for_each_unit_and_rule(evaluation: Evaluation) -> None:
    figures = evaluation.figures["pathology"]
    table = metrics_table(figures)
    assert table["columns"][0] == ("by image", "")
    assert ("by patient", "noisy-or") in table["columns"]
    cells = dict(table["rows"])["AUROC"]
    assert len(table["columns"]) == len(cells) == 7
    assert cells[3] == (
        figures["units"]["breast"]["noisy_or"]["auroc"],
        figures["units"]["breast"]["noisy_or"]["auroc_interval"],
    )


def test_confident_errors_are_wrong_and_sorted(evaluation: Evaluation) -> None:
    errors = confident_errors(evaluation, count=4)["pathology"]
    assert len(errors) == 4
    assert [error["probability"] for error in errors] == sorted((e["probability"] for e in errors), reverse=True)
    images = evaluation.images
    for error in errors:
        assert error["true"] != error["predicted"]
        assert error["image_id"] == images.image_ids[error["image"] - 1]
        assert TASKS[0]["labels"][images.labels[error["image"] - 1, 0]] == error["true"]


def test_a_folder_that_cannot_be_written(evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        write_report(evaluation, tmp_path / "file", _about())
