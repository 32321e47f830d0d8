"""The lines of the page on features run as printed: from exams of four views to a head that a Hub gives back."""

from __future__ import annotations

import csv
import functools
import json
import subprocess
import sys

import huggingface_hub
import pytest
from document_blocks import ROOT, blocks, shell_lines
from hub_fixtures import hub
from small_archive import write_dicom

import mammo_hf
from mammo_hf import MammoImageProcessor
from mammo_hf.cli import main
from mammo_hf.data.terms import Terms, write_terms
from mammo_hf.hub.model_card import write_card
from mammo_hf.testing import tiny_classifier

__all__ = ["hub"]
pytestmark = pytest.mark.slow
PAGE = ROOT / "docs/embed.md"
SHORT = {"max_steps": 2, "use_cpu": True, "report_to": "none", "disable_tqdm": True}


@pytest.fixture
def exams(tmp_path, monkeypatch, hub):
    """A folder with an encoder, eight exams and their table, in which everything runs."""
    rows = []
    for patient in range(8):
        for number, (side, view) in enumerate([("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO")]):
            name, study = f"{patient}/{side}{view}.dcm", f"1.2.3.{patient}"
            facts = {"StudyInstanceUID": study, "PatientID": f"p{patient}"}
            path = tmp_path / "data/exams" / name
            write_dicom(path, 10 * patient + number, laterality=side, view=view, **facts)
            rows.append([name, f"p{patient}", study, side, view, ("benign", "malignant")[patient % 2]])
    with (tmp_path / "data/exams/labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "patient_id", "exam_id", "laterality", "view", "pathology"], *rows])
    tiny_classifier().save_pretrained(tmp_path / "out/cls")
    MammoImageProcessor(size=(112, 56)).save_pretrained(tmp_path / "out/cls")
    write_terms(tmp_path / "out/cls", [Terms("drawn images", "allowed", weights="allowed", clause="section 1")])
    write_card(tmp_path / "out/cls")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path


def scores(path):
    return [row for row in csv.DictReader(path.open()) if row["level"] == "exam"]


def test_the_lines_of_python(exams, monkeypatch, hub, capsys):
    (block,) = (block for block in blocks(PAGE, "python") if "mammo_hf.push" in block.text)
    assert len([line for line in block.text.splitlines() if line.strip()]) <= 10
    monkeypatch.setattr(mammo_hf, "finetune", functools.partial(mammo_hf.finetune, **SHORT))
    push = functools.partial(mammo_hf.push, permission="The board, for research")
    monkeypatch.setattr(mammo_hf, "push", push)
    exec(compile("\n" * (block.line - 1) + block.text, "docs/embed.md", "exec"), {})
    assert "AUC" in capsys.readouterr().out
    assert len(scores(exams / "exams.csv")) == 8
    assert len(list((exams / "out/exam-maps").glob("*.png"))) == 32
    assert (exams / "out/exam-report/report.html").is_file()
    assert {"config.json", "model.safetensors", "README.md"} <= set(hub.files("lab/exam-head"))


def test_the_lines_as_commands_end_with_the_same_scores_from_the_hub(exams, hub):
    (block,) = (block for block in blocks(PAGE, "bash") if "mammo-hf push" in block.text)
    for words in shell_lines(block.text):
        more = ["--max_steps", "2", "--use_cpu", "true", "--report_to", "none"] if words[1] == "finetune" else []
        more += ["--permission", "The board, for research"] if words[1] == "push" else []
        assert main([*words[1:], *more]) == 0, words
    assert (exams / "exams.csv").read_bytes() == (exams / "from-the-hub.csv").read_bytes()
    folder = next((exams / "cache").rglob("model.safetensors")).parent
    code = (
        "import json, sys; from transformers import pipeline; import mammo_hf; "
        "read = pipeline('mammogram-classification', model=sys.argv[1]); "
        "print(json.dumps(read('data/exams', exams=True)[0]['exam']))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    found = {f"{one['task']}:{one['label']}": one["score"] for one in json.loads(done.stdout.splitlines()[-1])}
    expected = scores(exams / "exams.csv")[0]
    assert found == pytest.approx({name: float(expected[name]) for name in found}, rel=1e-4)
