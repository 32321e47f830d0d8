"""Other aims than pathology, by a mapping and arguments alone: from files to a saved model that reads one more."""

from __future__ import annotations

import json

import numpy as np
import pytest
from transformers import pipeline

from mammo_hf import MammoImageProcessor, MammoSwinForImageClassification
from mammo_hf.cli import main
from mammo_hf.data.loading import load
from mammo_hf.dicom.writer import mammogram_dataset

pytestmark = pytest.mark.slow

MAPPING = """
name = "ours"
licence = "ours alone"
quirks = []
[images]
table = "exams.csv"
path = "{file}"
[columns]
patient = "{patient}"
"""
# what the mapping says of the task, and the words that its column holds, patient by patient
AIMS = {
    "density": ('from = "{told}"', ("a", "b", "c", "d")),
    "birads": ('from = "{told}"', ("1", "2", "4", "5")),
    "presence": ('from = "{told}"\nlabels = ["no", "yes"]\nvalues = { 0 = "no", 1 = "yes" }', ("0", "1")),
    # years from the image to a cancer, and years followed: the last one is censored
    "cancer_within_years": (
        "years_to_cancer = { from = \"{told}\", match = '^(\\d+) ' }\n"
        "years_followed = { from = \"{told}\", match = '(\\d+)$' }",
        ("1 9", "3 9", "x 9", "x 2"),
    ),
}
STAGE = ["--model", "nano", "--use_cpu", "true", "--num_workers", "0", "--report_to", "none"]
STAGE += ["--max_steps", "2", "--per_device_train_batch_size", "4", "--disable_tqdm", "true", "--save_strategy", "no"]
STAGE += ["--eval_strategy", "no", "--load_best_model_at_end", "false"]


def breast(seed: int) -> np.ndarray:
    film = np.zeros((150, 90), np.uint16)
    film[10:140, :60] = np.random.default_rng(seed).integers(1200, 3000, (130, 60))
    return film


def collection(root, task, says, told, *, slices=1):
    """24 patients with a film each, or a volume of which only the last slice shows anything."""
    (root / "ours.toml").write_text(MAPPING + f"[tasks.{task}]\n{says}\n")
    lines = ["file,patient,told"]
    for number in range(24):
        film = breast(number)
        pixels = film if slices == 1 else np.stack([*np.zeros((slices - 1, *film.shape), np.uint16), film])
        mammogram_dataset(pixels, bits_stored=12).save_as(root / f"{number}.dcm", enforce_file_format=True)
        lines.append(f"{number}.dcm,p{number},{told[number % len(told)]}")
    (root / "exams.csv").write_text("\n".join(lines))
    return root / "ours.toml"


def trained(dataset, out, task, *more):
    arguments = ["--dataset", str(dataset), "--tasks", task, "--output_dir", str(out), *STAGE, *map(str, more)]
    assert main(["finetune", *arguments]) == 0
    return json.loads((out / "metrics.json").read_text())["classifier"]


@pytest.mark.parametrize("task", AIMS)
def test_another_task_is_learnt_and_told(task, tmp_path):
    says, told = AIMS[task]
    dataset = collection(tmp_path, task, says, told)
    ordinal = ["--ordinal_tasks", task] if task in ("density", "birads") else []
    figures = trained(dataset, tmp_path / "out", task, "--image_size", "112", *ordinal)
    table = load(dataset)
    labels = table.column(task)
    # what is not known is neither learnt nor tested
    assert labels.count(None) == (6 if task == "cancer_within_years" else 0)
    known = sum(label is not None for label in labels)
    assert 0 < figures["train_images"] < known
    model = MammoSwinForImageClassification.from_pretrained(tmp_path / "out")
    assert [own["name"] for own in model.config.tasks] == [task]
    assert set(model.config.tasks[0]["labels"]) >= {label for label in labels if label is not None}
    assert (model.config.ordinal_tasks or []) == ([task] if ordinal else [])
    scores = pipeline("mammogram-classification", model=str(tmp_path / "out"), device="cpu")(str(tmp_path / "3.dcm"))
    assert {score["task"] for score in scores} == {task}
    assert sum(score["score"] for score in scores) == pytest.approx(1, abs=1e-5)


def test_volumes_are_read_as_the_named_processor_says_in_training_and_ever_after(tmp_path):
    dataset = collection(tmp_path, "pathology", 'from = "{told}"', ("benign", "malignant"), slices=5)
    slab = {"slices": "all", "projection": "maximum"}
    MammoImageProcessor(size=(112, 112), tomosynthesis=slab).save_pretrained(tmp_path / "slab")
    assert (
        main(
            ["prepare", str(dataset), "--output_dir", str(tmp_path / "prepared"), "--processor", str(tmp_path / "slab")]
        )
        == 0
    )
    mim = ["--model", "nano", "--eval_strategy", "no", *STAGE[2:]]
    arguments = ["--dataset", str(tmp_path / "prepared"), "--output_dir", str(tmp_path / "mim"), *mim]
    assert main(["pretrain", *arguments]) == 0
    # stage 2 reads the files themselves, and is told nothing of slices or size
    start = ["--model", tmp_path / "mim"]
    trained(dataset, tmp_path / "out", "pathology", *start)
    for folder in ("mim", "out"):
        processor = MammoImageProcessor.from_pretrained(tmp_path / folder)
        assert processor.tomosynthesis == slab
        assert processor.size == {"height": 112, "width": 112}
    read = pipeline("mammogram-classification", model=str(tmp_path / "out"), device="cpu")
    flat = mammogram_dataset(breast(5), bits_stored=12)
    flat.save_as(tmp_path / "flat.dcm", enforce_file_format=True)
    volume, film = (read(str(tmp_path / name)) for name in ("5.dcm", "flat.dcm"))
    assert [row["score"] for row in volume] == pytest.approx([row["score"] for row in film], abs=1e-6)
