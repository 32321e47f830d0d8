from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
from made_scores import TASKS, made_scores

from mammo_hf import MammoSwinForImageClassification
from mammo_hf.evaluation.evaluate import evaluate_after_training
from mammo_hf.evaluation.scored import Scored, scored
from mammo_hf.models.configuration_mammo_swin import MammoSwinConfig

SIZE = (56, 56)


def _model() -> MammoSwinForImageClassification:
    config = MammoSwinConfig(embed_dim=8, depths=[2, 2], num_heads=[1, 2], image_size=SIZE, tasks=TASKS)
    return MammoSwinForImageClassification(config)


def _split(patients: int, seed: int) -> Scored:
    images = made_scores(patients, seed)
    count = len(images)
    columns = {
        "image_id": list(images.image_ids),
        "patient": list(images.patients),
        "labels": images.labels.tolist(),
        "view": images.facts["view"],
        "laterality": images.facts["laterality"],
        "lesions": [None] * count,
        "geometry": ["{}"] * count,
        "size": [list(SIZE)] * count,
    }
    return scored(images.logits, datasets.Dataset.from_dict(columns))


def test_the_saved_checkpoint_carries_what_validation_fixed_and_the_model_runs_over_nothing(tmp_path: Path) -> None:
    model = _model()
    model.forward = None  # type: ignore[assignment]
    validation, test = _split(60, 0), _split(30, 1)
    found = evaluate_after_training(
        model, validation=validation, test=test, report=tmp_path / "report", checkpoint="cls", resamples=100
    )
    assert found is not None
    model.config.save_pretrained(tmp_path / "saved")
    stored = MammoSwinConfig.from_pretrained(tmp_path / "saved")
    assert stored.calibration["pathology"]["n_patients"] == 60  # of validation: the test split has 30
    assert stored.operating_points["pathology"].keys() == {"image", "breast", "patient"}
    assert found.figures["pathology"]["calibration"] == stored.calibration["pathology"]
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["tasks"]["pathology"]["n_patients"] == 30
    # what training writes may be pushed: no picture of a patient is among it
    assert "data:image/jpeg" not in (tmp_path / "report" / "report.html").read_text()


def test_an_earlier_trainings_calibration_does_not_stay(tmp_path: Path) -> None:
    model = _model()
    model.config.calibration = {"pathology": {"method": "temperature", "temperature": 9.0}}
    model.config.operating_points = {"pathology": {}}
    found = evaluate_after_training(
        model, validation=None, test=_split(30, 1), report=tmp_path, checkpoint="cls", resamples=100
    )
    assert (model.config.calibration, model.config.operating_points) == (None, None)
    assert found is not None
    assert found.figures["pathology"]["calibration_reason"] == "the checkpoint holds none"


def test_without_a_test_split_the_checkpoint_is_still_calibrated(tmp_path: Path) -> None:
    model = _model()
    found = evaluate_after_training(
        model, validation=_split(60, 0), test=None, report=tmp_path / "report", checkpoint="cls"
    )
    assert found is None
    assert model.config.calibration.keys() == {"pathology", "density"}
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_the_report_answers_what_is_recorded_of_the_training_and_nothing_else(tmp_path: Path) -> None:
    run = {"updates": 12, "images_an_update": 8, "epochs": 1.5, "optimizer": "adamw_torch", "learning_rate": 1e-3}
    run |= {"schedule": "cosine", "weight_decay": 0.05, "precision": "float32", "device": "cpu", "chosen_by": None}
    splits = {"train": {"images": 40, "patients": 10}, "test": {"images": 60, "patients": 30}}
    training = {"run": run, "start": "masked_image_modeling", "collection": {"name": "made up", "splits": splits}}

    def answers(name: str, **known: object) -> dict[str, str | None]:
        evaluate_after_training(
            _model(),
            validation=None,
            test=_split(30, 1),
            report=tmp_path / name,
            checkpoint="cls",
            resamples=100,
            **known,  # type: ignore[arg-type]
        )
        report = json.loads((tmp_path / name / "report.json").read_text())
        return {item["number"]: item["answer"] for item in report["checklists"]["CLAIM 2024"]} | {
            "collection": report["collection"]
        }

    found = answers("told", training=training, processor={"crop_to_breast": True, "crop_margin": 0.05})
    assert found["collection"] == "made up"
    assert str(found["9"]).startswith("The image is cropped to the breast and a margin of 5 %")
    assert str(found["19"]).endswith("Images (patients): train 40 (10), test 60 (30).")
    assert str(found["24"]).startswith("The encoder started from masked image modelling")
    assert str(found["25"]).startswith("12 updates of 8 images (1.5 epochs)")
    assert found["26"] == "The last epoch is kept."
    assert found["31"] is None  # errors without pictures are not explained
    untold = answers("untold")
    assert untold["collection"] == "a private collection"
    assert [untold[number] for number in ("9", "24", "25", "26")] == [None] * 4
    assert "flow" not in str(untold["35"])
