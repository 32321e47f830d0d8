"""A card says what its folder holds, in a pattern, and where it holds nothing that it is not measured."""

import json
import re

import numpy as np
import pytest
import yaml
from hub_fixtures import change_json
from huggingface_hub import ModelCard
from PIL import Image
from transformers.image_utils import load_image

from mammo_hf.errors import UsageError
from mammo_hf.hub.model_card import escaped, model_card, write_card
from mammo_hf.models.checkpoint import read_checkpoint

INTERVAL = r"0\.\d{3} \(0\.\d{3} to [01]\.\d{3}\)"
PATTERN = re.compile(
    r"# your-name/your-model\n+"
    r"A classifier of mammograms: a Swin transformer of 2 stages, width 8, [\d,]+ parameters, for images of 112 x 56 "
    r"pixels \(height x width\) in 1 channel\. It scores pathology \(benign, malignant\), density \(a, b, c\)\..*"
    r"\n## Intended use and limits\n+For research .*not a medical device.*"
    r"\n## Data and split\n+cbis-ddsm, split by patient.*"
    r"\| split \| images \| patients \| pathology \| density \|\n\|---\|---\|---\|---\|---\|\n"
    r"\| train \| 80 \| 40 \| benign: 40, malignant: 38 \| a: not shown, b: 50, c: not shown \|\n\| validation \|.*"
    r"\n\| test \| 60 \| 30 .*"
    r"Labels of 80 images of 40 training patients were used.*pathology 0\.98, 1\.03\."
    r"\n+## Terms\n+- phantoms: .*allowed.*"
    r"\n+## Preprocessing\n+1\. Stored values .*chest wall.*112 x 56.*0\.25 is subtracted.*"
    r"\n## Training\n+12 updates of 8 images .*seed 7\. The epoch was chosen by eval\\_pathology\\_auroc.*"
    r"\n## Results\n+### pathology\n+60 test images of 30 patients .*"
    r"\n\| \| by image \| by breast \| by patient \|\n\|---\|---\|---\|---\|\n\| AUROC \| "
    + rf"{INTERVAL} \| [\d. ()to]+ \| [\d. ()to]+"
    + r" \|\n.*"
    + rf"\| subgroup \| images \| patients \| AUROC \|\n.*\| view: CC \| 30 \| 30 \| {INTERVAL} \|\n.*"
    r"\n### density\n.*"
    r"!\[ROC curve on the test images\]\(card/roc\.png\)\n.*"
    r"\n## Label efficiency\n+Not measured\.\n+## Explanations\n+Not measured\.\n"
    rf"\n## Calibration\n+- pathology: Platt scaling, fitted on 120 validation images of 60 patients.*"
    rf"Brier score .*: 0\.\d{{3}} without, {INTERVAL} as stored.*- density: temperature scaling.*"
    r"\n## How to load\n.*AutoModelForImageClassification\.from_pretrained\(.*\.softmax\(-1\).*import mammo_hf\n.*",
    re.DOTALL,
)


def card_of(folder):
    return (folder / "README.md").read_text()


def test_a_classifiers_card_follows_the_pattern(trained):
    text = card_of(trained)
    assert PATTERN.fullmatch(text.split("\n---\n", 1)[1].strip() + "\n")
    assert "mim_reconstruction" not in text
    assert not (trained / "card" / "mim_reconstruction.png").exists()  # shows a patient
    assert not re.search(r"\bnan\b|None|Undefined|\{\{|\n\n\n\n", text)


FIELDS = (  # of the applied model card of the Coalition for Health AI, v0.2
    *("Model name", "Developer", "contact", "Release stage", "Release date", "Release version", "global availability"),
    *("Regulatory approval", "Summary", "Keywords", "Intended use and workflow", "Primary intended users"),
    *("How to use", "Targeted patient population", "Cautioned out-of-scope settings", "Known risks and limitations"),
    *("Known biases or ethical considerations", "Clinical risk level", "Outcomes and outputs", "Model type"),
    *("Foundation models", "Input data source", "Output and input data types", "Development data characterization"),
    *("Bias mitigation approaches", "Ongoing maintenance", "Security", "Transparency", "Funding source"),
    *("third parties", "stakeholders consulted", "Usefulness, usability and efficacy", "Fairness and equity"),
    *("Safety and reliability", "Evaluation references", "clinical trial", "peer-reviewed publications"),
    *("Reimbursement status", "Patient consent or disclosure"),
)


def test_the_applied_model_card_says_what_the_run_knows_and_leaves_the_rest_to_the_authors(trained):
    table = card_of(trained).split("\n## Applied model card\n")[1]
    rows = dict(re.findall(r"^\| ([A-Z][^|]+) \| (.+) \|$", table, re.MULTILINE))
    for field in FIELDS:
        assert any(field in name for name in rows), field
    assert "pathology (benign, malignant)" in rows["Outcomes and outputs"]
    assert "cbis-ddsm" in rows["Input data source"].lower()
    assert rows["Clinical risk level"] == "For the authors to write."
    assert not any(text.strip() == "" for text in rows.values())


def test_its_metadata_is_what_the_hub_reads(trained):
    data = ModelCard.load(trained / "README.md").data
    told = (data.license, data.library_name, data.pipeline_tag, data.datasets, data.base_model)
    assert told == ("unknown", "mammo_hf", None, ["cbis-ddsm"], None)
    results = {(r.task_name, r.metric_type, r.metric_name.split(" by ")[1].split(",")[0]): r for r in data.eval_results}
    figures = json.loads((trained / "metrics.json").read_text())["classifier"]["test"]["pathology"]
    area = results["pathology", "roc_auc", "image"]
    assert area.metric_value == round(figures["auroc"], 4)
    low, high = figures["auroc_interval"]
    assert area.metric_name.endswith(f"95 % interval by patient {low:.3f} to {high:.3f}")
    assert area.dataset_split == "test"
    assert ("pathology", "roc_auc", "patient") in results
    assert set(data.metrics) == {result.metric_type for result in data.eval_results}


def test_what_the_hub_would_suggest_for_a_tag_still_turns_sixteen_bits_white(tmp_path):
    Image.fromarray(np.array([[0, 4000, 40000, 65535]], np.uint16)).save(tmp_path / "film.png")
    read = np.asarray(load_image(str(tmp_path / "film.png")))[0, :, 0]
    assert read.tolist() == [0, 255, 255, 255], "give the card a pipeline_tag where its scores are ours now"


def test_the_hubs_own_check_takes_it(trained, hub):
    ModelCard.load(trained / "README.md").validate()
    assert hub.count("validate-yaml") == 1
    broken = ModelCard(card_of(trained).replace("license: unknown", "license: our own!"))
    with pytest.raises(ValueError, match="license"):
        broken.validate()


def test_what_is_not_there_is_not_measured(checkpoint):
    for name in ("metrics.json", "preprocessor_config.json"):
        (checkpoint / name).unlink()
    text = str(model_card(read_checkpoint(checkpoint)))
    assert text.count("Not measured.") == 5  # data, results, labels, explanations, calibration
    assert "Not recorded." in text
    assert "Not known: the folder has no `preprocessor_config.json`" in text
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert not {"model-index", "datasets", "metrics", "base_model", "model_name"} & set(metadata)


def test_a_private_collection_is_not_named(checkpoint):
    metrics = json.loads((checkpoint / "metrics.json").read_text())
    metrics["classifier"]["collection"]["name"] = None
    (checkpoint / "metrics.json").write_text(json.dumps(metrics))
    write_card(checkpoint)
    assert "A private collection, split by patient" in card_of(checkpoint)
    assert ModelCard.load(checkpoint / "README.md").data.datasets is None


EVIL = [
    "a|b",
    "x\n## Heading",
    "---",
    "<script>",
    "](http://x)",
    "`",
    ": {",
    "\u202e",
    "é ü 乳",
    "'\"",
    "{{ 1 }}",
    "\x00",
]


@pytest.mark.parametrize("name", EVIL)
def test_names_with_any_characters(checkpoint, name):
    config = json.loads((checkpoint / "config.json").read_text())
    labels = {"name": f"t{name}", "labels": ["no", f"yes{name}"]}
    of_other_tasks = dict.fromkeys(("id2label", "label2id", "calibration", "operating_points", "confidences"))
    change_json(checkpoint / "config.json", tasks=[labels, config["tasks"][1]], **of_other_tasks)
    metrics = json.loads((checkpoint / "metrics.json").read_text())["classifier"]
    metrics["test"] = {f"t{name}": metrics["test"]["pathology"]}
    metrics["collection"]["name"] = f"c{name}"
    change_json(checkpoint / "metrics.json", classifier=metrics)
    before = card_of(checkpoint)
    write_card(checkpoint)
    text = card_of(checkpoint)
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [line for line in before.splitlines() if line.startswith("## ")]
    data = ModelCard.load(checkpoint / "README.md").data
    assert re.fullmatch(r"[\w.-]+", data.datasets[0], re.ASCII)
    assert "<script>" not in text.split("\n---\n", 1)[1]
    for line in text.splitlines():
        if line.startswith("| train"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 6


def test_escaped_names_stay_on_their_line():
    assert escaped("a|b\n*c*") == r"a\|b \*c\*"


def test_label_efficiency_and_explanations_where_they_were_measured(checkpoint):
    rows = [
        {
            "arm": arm,
            "tune": "head",
            "baseline": arm != "ours",
            "percentage": 10.0,
            "auroc": 0.7,
            "interval": [0.6, 0.8],
        }
        for arm in ("ours", "statistics")
    ]
    nothing = {"value": None, "interval": None, "images": 0}
    measures = (
        "energy_over_chance",
        "pixel_auroc",
        "best_iou",
        "within_10_mm",
        "deletion",
        "insertion",
        "sensitivity_n",
    )
    pointing = {
        "pointing_game": {"value": 0.5, "interval": [0.4, 0.6], "images": 9},
        **dict.fromkeys(measures, nothing),
    }
    one = {"grad_cam": {"supervised": False, "baseline": False, **pointing}}
    change_json(
        checkpoint / "metrics.json",
        label_efficiency=rows,
        explanations={"images": 9, "patients": 5, "target": "pathology:malignant", "explainers": one},
    )
    write_card(checkpoint)
    text = card_of(checkpoint)
    assert "| ours | 0.700 (0.600 to 0.800) |" in text
    assert "| *statistics* |" in text
    assert "Measured on 9 images of 5 patients" in text
    assert re.search(r"\| grad.?cam \| 0\.50 \(0\.40 to 0\.60\) \|", text)
    assert text.count("Not measured.") == 0


def test_a_stage_1_card_is_of_an_encoder(checkpoint):
    of_tasks = dict.fromkeys(("tasks", "calibration", "operating_points", "confidences"))
    change_json(checkpoint / "config.json", architectures=["MammoSwinForMaskedImageModeling"], **of_tasks)
    mim = {"train_images": 5, "validation_images": 3, "validation_loss": 0.25}
    mim["hidden_inside_the_breast"] = {"psnr": 20.123, "ssim": 0.5, "images": 3}
    (checkpoint / "metrics.json").write_text(json.dumps({"mim": mim, "card": {"license": "mit", "base_model": "a/b"}}))
    write_card(checkpoint)
    text, data = card_of(checkpoint), ModelCard.load(checkpoint / "README.md").data
    assert (data.pipeline_tag, data.license, data.base_model) == (None, "mit", "a/b")
    assert "3 validation images: loss 0.2500; of hidden pixels inside the breast, PSNR 20.12 dB and SSIM 0.500" in text
    assert "AutoModel.from_pretrained" in text


def test_scores_of_the_lesion_head_are_said_not_to_be_stocks(checkpoint):
    change_json(checkpoint / "config.json", score_from="lesion", lesion_task="pathology")
    assert "is not the score that is measured above" in str(model_card(read_checkpoint(checkpoint)))


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(UsageError, match="there is no model here"):
        write_card(tmp_path)
