"""``mammo-hf evaluate-explanations`` on a tiny classifier and a few phantoms."""

from __future__ import annotations

import json

import pytest
from bag_heads import write_head
from PIL import Image

import mammo_hf
from mammo_hf import MammoImageProcessor, MammoSwinForImageClassification
from mammo_hf.cli import main
from mammo_hf.data.findings import has_location
from mammo_hf.models.configuration_mammo_swin import SIZES, MammoSwinConfig
from mammo_hf.models.own_figures import map_tests
from mammo_hf.phantom.writing import write_phantom

TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=6, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    config = MammoSwinConfig(**SIZES["nano"] | {"embed_dim": 8, "depths": [1, 1]}, image_size=(112, 56), tasks=TASKS)
    config.num_heads = [1, 2]
    MammoSwinForImageClassification(config).save_pretrained(folder)
    MammoImageProcessor(size=(112, 56)).save_pretrained(folder)
    return folder


@pytest.fixture
def call(collection, classifier, tmp_path):
    def run(*changes, model=classifier):
        arguments = ["--dataset", str(collection), "--output_dir", str(tmp_path / "out")]
        return main(["evaluate-explanations", str(model), *arguments, "--num_workers", "0", *map(str, changes)])

    return run


def test_writes_figures_table_and_plot(call, collection, tmp_path, capsys):
    few = ["--faithfulness_images", 1, "--sanity_images", 1, "--explainer", "grad_cam", "attention", "lesion_head"]
    named = ["--dataset", f"cbis-ddsm:{collection}"]
    assert call("--split", "all", "--count", 4, "--spacing_mm", 0.5, *few, *named) == 0
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())["explanations"]
    assert figures["images"] == 4
    assert figures["explainers"]["grad_cam"]["within_10_mm"]["value"] is not None
    assert list(figures["failed"]) == ["lesion_head"]
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / "explanations.md").read_text() in printed
    assert "| grad_cam |" in printed
    assert "Left out: lesion_head: model: has no lesion head" in printed
    with Image.open(tmp_path / "out" / "explanations.png") as picture:
        assert picture.width > 1000


@pytest.mark.slow
def test_maps_of_a_head_over_features_are_measured_alike(call, tmp_path, capsys):
    head = write_head(tmp_path / "head", tiles="both", level="image")
    few = ["--faithfulness_images", 1, "--sanity_images", 2, "--spacing_mm", 0.5]
    assert call("--split", "all", "--count", 4, *few, model=head) == 0
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())["explanations"]
    assert figures["images"] == 4
    assert not figures["failed"]
    assert list(figures["explainers"])[:4] == ["bag_attention", "grad_cam", "hires_cam", "layer_cam"]
    for name, row in figures["explainers"].items():
        assert all(row[measure]["value"] is not None for measure in ("pixel_auroc", "deletion", "within_10_mm")), name
    sanity = figures["sanity"]
    assert sanity["parts"] == ["classifier", "attention", "projection", "encoder"]
    # attention does not depend on the classifier, and changes with its own weights
    of_attention = sanity["rank_correlation"]["bag_attention"]
    assert of_attention["classifier"]["value"] == pytest.approx(1)
    assert of_attention["attention"]["value"] < 0.99
    assert "bag_attention" in json.loads((head / "map_tests.json").read_text())["explainers"]
    assert call("--random_labels", "nano", "--split", "all", model=head) == 2
    assert "random_labels" in capsys.readouterr().err


def test_settings_of_how_images_are_read_take_the_place_of_the_models(call, tmp_path):
    few = ["--faithfulness_images", 0, "--sanity_images", 0, "--explainer", "grad_cam", "--split", "all"]
    assert call(*few, "--spacing_mm", 0.5, "--on_missing_window", "robust", "--count", 1) == 0
    prepared = MammoImageProcessor.from_pretrained(tmp_path / "out" / "prepared")
    assert prepared.display.on_missing_window == "robust"


def test_maps_are_tested_for_the_label_that_they_show_on_images_of_it(call, collection, classifier, tmp_path):
    few = ["--faithfulness_images", 0, "--sanity_images", 0, "--explainer", "grad_cam", "--split", "all"]
    rows = [row for row in mammo_hf.load(collection) if any(map(has_location, row["findings"] or []))]
    expected = {"pathology:malignant": sum(row["pathology"] == "malignant" for row in rows), "predicted": len(rows)}
    assert 0 < expected["pathology:malignant"] < len(rows)
    for options, (label, images) in zip(([], ["--target", "predicted"]), expected.items(), strict=True):
        assert call(*few, *options) == 0
        figures = json.loads((tmp_path / "out" / "metrics.json").read_text())["explanations"]
        assert (figures["target"], figures["images"]) == (label, images)
        assert map_tests(classifier)["grad_cam"].target == label


def test_a_model_is_trained_on_permuted_labels_and_compared(call, classifier, tmp_path):
    few = ["--faithfulness_images", 0, "--sanity_images", 2, "--explainer", "grad_cam"]
    trained = ["--random_labels", classifier, "--random_label_updates", 2]
    assert call("--split", "test", *few, *trained) == 0
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())["explanations"]
    assert list(figures["sanity"]["random_labels"]) == ["grad_cam"]
    assert "trained on random labels" in (tmp_path / "out" / "explanations.md").read_text()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["--explainer", "gradcam"], "did you mean grad_cam"),
        (["--target", "maligant"], "is not a label of this model"),
        (["--count", "0"], "--count: is 0"),
        (["--spacing_mm", "0"], "--spacing_mm: is 0"),
        (["--spacing_mm", "-1"], "--spacing_mm: is -1"),
        (["--faithfulness_images", "-1"], "--faithfulness_images: is -1"),
        (["--sanity_images", "-1"], "--sanity_images: is -1"),
        (["--seed", "-1"], "--seed: is -1"),
        (["--num_workers", "-1"], "--num_workers: is -1"),
        (["--random_labels", "./nowhere"], "nowhere: there is no such folder"),
        (["--random_label_updates", "0"], "--random_label_updates: is 0"),
        (["--dataset", "nowhere"], "nowhere: is not a folder"),
        (["--split", "training"], "invalid choice"),
    ],
)
def test_wrong_arguments_are_one_line(call, capsys, changes, says):
    try:
        status = call(*changes)
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_collection_without_places_or_images_of_the_split_is_told(call, tmp_path, capsys):
    folder = tmp_path / "films"
    folder.mkdir()
    assert call("--dataset", folder) != 0
    assert "Traceback" not in capsys.readouterr().err
    assert call("--split", "validation") == 1
    assert "there is no image of the split 'validation'; use --split all" in capsys.readouterr().err
