import dataclasses
import json

import numpy as np
import pytest
import torch

from mammo_hf.errors import DataError, UsageError
from mammo_hf.evaluation.study_tables import explanation_table, plot_study, sanity_table
from mammo_hf.studies.explanations import Case, evaluate_explainers, summary
from mammo_hf.testing import tiny_classifier


def cases(count=4):
    made = []
    for place in range(count):
        pixels = torch.randn(1, 112, 56, generator=torch.Generator().manual_seed(place))
        lesion = np.zeros((112, 56), bool)
        lesion[40:56, 16:32] = True
        breast = np.zeros((112, 56), bool)
        breast[:, :44] = True
        image = pixels[0].sigmoid().numpy()
        made.append(Case(image, pixels, lesion, breast, patient=f"p{place // 2}", label=place % 2, mm_per_pixel=0.5))
    return made


@pytest.fixture(scope="module")
def figures():
    names = ["grad_cam", "attention", "lesion_head"]
    return evaluate_explainers(
        tiny_classifier(), cases(), names, faithfulness_images=2, sanity_images=2, random_labels=tiny_classifier(seed=3)
    )


def test_every_explainer_and_baseline_has_its_figures(figures):
    # of two labels maps show the positive one
    assert (figures["images"], figures["patients"], figures["target"]) == (4, 2, "pathology:malignant")
    baselines = ["brightest tissue", "brightest region", "centre of the breast", "random", "untrained model"]
    assert list(figures["explainers"]) == ["grad_cam", "attention", *baselines]
    for name, row in figures["explainers"].items():
        assert row["baseline"] == (name in baselines)
        for measure in ("pointing_game", "energy_over_chance", "pixel_auroc", "best_iou", "within_10_mm"):
            low, high = row[measure]["interval"]
            assert low <= row[measure]["value"] <= high, (name, measure)
            assert row[measure]["images"] == 4
        assert [row[measure]["images"] for measure in ("deletion", "insertion", "sensitivity_n")] == [2, 2, 2]
    over = figures["explainers"]["grad_cam"]["pointing_game_over"]
    rows = figures["explainers"]
    for name in baselines:
        expected = rows["grad_cam"]["pointing_game"]["value"] - rows[name]["pointing_game"]["value"]
        assert over[name]["value"] == pytest.approx(expected)
    assert rows["centre of the breast"]["pointing_game"]["value"] == 1  # (56, 22) lies in the lesion
    assert figures["chance_of_pointing"]["value"] == pytest.approx(256 / (112 * 44))
    json.dumps(figures, allow_nan=False)


def test_one_that_fails_on_this_model_is_left_out_with_its_reason(figures):
    assert list(figures["failed"]) == ["lesion_head"]
    assert "has no lesion head" in figures["failed"]["lesion_head"]


def test_the_sanity_check_walks_down_the_model(figures):
    sanity = figures["sanity"]
    assert sanity["parts"] == ["classifier", "stage 2", "stage 1", "patches"]
    # attention does not hear the classifier: with that drawn anew it stays what it was
    assert sanity["rank_correlation"]["attention"]["classifier"]["value"] == pytest.approx(1)
    assert abs(sanity["rank_correlation"]["grad_cam"]["patches"]["value"]) < 0.9
    assert set(sanity["random_labels"]) == {"grad_cam", "attention"}


def test_the_same_call_gives_the_same_figures(figures):
    again = evaluate_explainers(tiny_classifier(), cases(), ["grad_cam"], faithfulness_images=2, sanity_images=0)
    assert again["explainers"]["grad_cam"] == figures["explainers"]["grad_cam"]
    assert again["explainers"]["random"]["pointing_game"] == figures["explainers"]["random"]["pointing_game"]
    assert again["sanity"] is None


def test_what_is_not_known_is_null(figures):
    without = [dataclasses.replace(case, mm_per_pixel=None, patient="one") for case in cases(2)]
    found = evaluate_explainers(tiny_classifier(), without, ["grad_cam"], faithfulness_images=0, sanity_images=0)
    row = found["explainers"]["grad_cam"]
    assert row["within_10_mm"] == {"value": None, "interval": None, "images": 0}
    assert row["deletion"]["value"] is None
    assert row["pixel_auroc"]["interval"] is None  # one patient
    table = explanation_table(found)
    assert "within 10 mm" not in table
    assert "deletion" not in table


def test_targets():
    model = tiny_classifier()
    for target, named in (("label", "label"), ("predicted", "predicted"), ("malignant", "pathology:malignant")):
        found = evaluate_explainers(
            model, cases(2), ["grad_cam"], target=target, faithfulness_images=0, sanity_images=0
        )
        assert found["target"] == named
    unknown = [dataclasses.replace(case, label=-100) for case in cases(2)]
    with pytest.raises(UsageError, match="use predicted"):
        evaluate_explainers(model, unknown, ["grad_cam"], target="label")
    with pytest.raises(UsageError, match="is not a label"):
        evaluate_explainers(model, cases(1), ["grad_cam"], target="maligant")
    with pytest.raises(UsageError, match="did you mean grad_cam"):
        evaluate_explainers(model, cases(1), ["grad_cm"])
    with pytest.raises(DataError, match="no image of the label pathology:malignant with the location of a lesion"):
        evaluate_explainers(model, [], ["grad_cam"])


def test_the_interval_is_by_patient():
    # six images of two patients, each patient all alike: images as such would give a narrow interval
    found = summary(np.array([0, 0, 0, 1, 1, 1.0]), ["a"] * 3 + ["b"] * 3)
    assert (found["value"], found["interval"]) == (0.5, [0.0, 1.0])
    assert summary(np.array([np.nan, 1.0]), ["a", "b"])["images"] == 1


def test_table_and_plot(figures, tmp_path):
    table = explanation_table(figures).splitlines()
    assert table[0].startswith("| | pointing game | energy over chance | pixel AUC | best IoU | within 10 mm |")
    assert [line.split(" | ")[0] for line in table[2:]][-1] == "| untrained model (baseline)"
    assert len({line.count("|") for line in table}) == 1
    assert "trained on random labels" in sanity_table(figures)
    assert plot_study(figures, tmp_path / "a.png").stat().st_size < 200_000
    assert plot_study({**figures, "sanity": None}, tmp_path / "b.png").is_file()
