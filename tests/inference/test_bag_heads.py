"""A head over features is one model to hold: predict, pipeline and explain take it like any other."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
import torch
from bag_heads import write_exams, write_head
from small_archive import write_dicom
from transformers import pipeline

import mammo_hf
from mammo_hf import MammoImageProcessor
from mammo_hf.app.exam import read_exam
from mammo_hf.encoders.bags import collate_bags
from mammo_hf.encoders.classifier import load_bag_classifier
from mammo_hf.encoders.views import Picture, drawn
from mammo_hf.errors import UsageError
from mammo_hf.inference.scoring import calibrated_scores, load_classifier
from mammo_hf.models.training_statistics import TrainingStatistics, pooled_features


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    return write_head(tmp_path_factory.mktemp("bag") / "head")


@pytest.fixture(scope="module")
def exams(tmp_path_factory):
    return write_exams(tmp_path_factory.mktemp("archive") / "exams")


def table(path):
    return list(csv.DictReader(path.open()))


def run(model, source, output, **options):
    return mammo_hf.predict(model, source, output, **{"num_workers": 0, "device": "cpu", **options})


def expected(head, files):
    """By another way: the scores of the bag of some files, put together here."""
    model, processor = load_bag_classifier(head), MammoImageProcessor.from_pretrained(head)
    images = []
    for file in files:
        source = processor.open(file)
        seen = drawn(Picture.of_image(source, processor), model.views, model.encoder.tile)
        images.append(model.bag(seen, source.laterality, source.projection)[1])
    with torch.no_grad():
        logits = model.head(**collate_bags([{"images": images}])).logits
    return np.concatenate([one[0] for one in calibrated_scores(model.config, logits.numpy()).values()])


def scores(row):
    return np.array([float(value) for name, value in row.items() if ":" in name])


def test_an_exam_is_scored_as_one_bag_of_the_images_that_count(head, exams, tmp_path):
    finished = run(head, exams, tmp_path / "scores.csv")
    assert (finished.images, finished.rejected) == (9, 0)
    rows = table(tmp_path / "scores.csv")
    assert [row["level"] for row in rows] == ["exam", *["image"] * 5, "exam", *["image"] * 4]
    assert [row["images"] for row in rows if row["level"] == "exam"] == ["4", "4"]
    assert len({row["exam"] for row in rows[:6]}) == 1
    assert len({row["exam"] for row in rows}) == 2
    # the later of the two left CC counts
    noted = [row["file"] for row in rows if row["notes"] == "another_image_counts" or "another_image" in row["notes"]]
    assert noted == [str(exams / "0-0.dcm")]
    files = [exams / name for name in ("1-0.dcm", "2-0.dcm", "3-0.dcm", "9-again.dcm")]
    np.testing.assert_allclose(scores(rows[0]), expected(head, files), rtol=1e-4)
    for row in rows[1:6]:
        np.testing.assert_allclose(scores(row), expected(head, [row["file"]]), rtol=1e-4)


def test_an_older_second_image_does_not_count_wherever_it_stands(head, tmp_path):
    exams = write_exams(tmp_path / "exams")
    (exams / "9-again.dcm").unlink()
    older = {"StudyInstanceUID": "1.2.3.1", "AcquisitionDate": "20200101", "AcquisitionTime": "09"}
    write_dicom(exams / "8-older.dcm", 78, laterality="R", view="MLO", **older)
    run(head, exams, tmp_path / "scores.csv")
    rows = table(tmp_path / "scores.csv")
    assert [row["images"] for row in rows if row["level"] == "exam"] == ["4", "4"]
    assert [row["file"] for row in rows if "another_image" in row["notes"]] == [str(exams / "8-older.dcm")]


def test_breasts_have_rows_with_their_side(head, exams, tmp_path):
    run(head, exams, tmp_path / "scores.parquet", level="breast")
    import pandas

    rows = pandas.read_parquet(tmp_path / "scores.parquet")
    breasts = rows[rows.level == "breast"]
    assert breasts.laterality.tolist() == ["R", "L", "L", "R"]
    assert breasts.images.tolist() == [2, 2, 2, 2]
    files = [exams / name for name in ("1-0.dcm", "3-0.dcm")]
    right = breasts.iloc[0][["pathology:benign", "pathology:malignant"]].to_numpy(float)
    np.testing.assert_allclose(right, expected(head, files)[:2], rtol=1e-4)


@pytest.mark.slow
def test_a_run_that_was_ended_within_an_exam_is_resumed_to_the_same_bytes(head, exams, tmp_path, interrupted):
    run(head, exams, tmp_path / "whole.csv", num_workers=2)
    interrupted(2, run, head, exams, tmp_path / "scores.csv")
    part = next((tmp_path / "scores.csv.part").glob("0000-*.csv"))
    lines = part.read_text().splitlines(keepends=True)
    part.write_text("".join(lines[:-1]) + lines[-1][:20])  # killed while the last image of the exam was written
    finished = run(head, exams, tmp_path / "scores.csv")
    assert finished.resumed == 0
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_swin_s_exams_are_its_images_combined(checkpoint, exams, tmp_path):
    run(checkpoint, exams, tmp_path / "scores.csv", level="exam", aggregate="max")
    rows = table(tmp_path / "scores.csv")
    malignant = [float(row["pathology:malignant"]) for row in rows[1:6] if "another" not in row["notes"]]
    assert len(malignant) == 4
    assert float(rows[0]["pathology:malignant"]) == pytest.approx(max(malignant), rel=1e-5)


def test_an_encoder_that_was_moved_is_named_and_one_with_other_weights_is_refused(exams, tmp_path):
    from families import save_family

    head = write_head(tmp_path / "head")
    shutil.move(tmp_path / "vit", tmp_path / "moved")
    with pytest.raises(UsageError, match=r"the encoder .*vit, which is not there any more; say where it is now: `enc"):
        run(head, exams, tmp_path / "scores.csv")
    run(head, [exams / "0-0.dcm"], tmp_path / "scores.csv", encoder=tmp_path / "moved")
    other = save_family("dinov2", tmp_path / "other")
    with pytest.raises(UsageError, match="has other weights than the encoder"):
        run(head, exams, tmp_path / "again.csv", encoder=other)


def by_label(results):
    return {f"{one['task']}:{one['label']}": one["score"] for one in results}


def test_the_pipeline_gives_the_scores_of_images_breasts_and_exam(head, exams, tmp_path):
    run(head, exams, tmp_path / "exam.csv")
    run(head, exams, tmp_path / "breast.csv", level="breast")
    read = pipeline("mammogram-classification", model=str(head))
    first, second = read(str(exams), exams=True)
    assert [len(first["files"]), len(second["files"])] == [5, 4]
    rows, breasts = table(tmp_path / "exam.csv"), table(tmp_path / "breast.csv")
    same = lambda results, row: all(  # noqa: E731
        float(row[name]) == pytest.approx(score, rel=1e-4) for name, score in by_label(results).items()
    )
    assert same(first["exam"], rows[0])
    assert len(first["others"]["LCC"]) == 1
    assert same(first["views"]["RMLO"], next(row for row in rows if row["file"].endswith("3-0.dcm")))
    of_breasts = [row for row in breasts if row["level"] == "breast"]
    assert same(second["breasts"]["right"], of_breasts[3])
    exam = {name: exams / f"{number}-1.dcm" for number, name in enumerate(["LCC", "RCC", "LMLO", "RMLO"])}
    named = read(exam)
    assert by_label(named["exam"]) == pytest.approx(by_label(second["exam"]))
    assert not any("notes" in one for one in named["exam"])
    del exam["RCC"]
    assert {tuple(one["notes"]) for one in read(exam)["exam"]} == {("views_missing",)}
    single = read([str(exams / "1-0.dcm"), str(exams / "3-0.dcm")], batch_size=2)
    assert same(single[1], next(row for row in rows if row["file"].endswith("3-0.dcm")))


def test_images_unlike_those_of_training_are_noted_at_every_door(head, exams, tmp_path):
    own = shutil.copytree(head, tmp_path / "head")
    model, processor = load_classifier(own)
    files, features = [exams / name for name in ("0-0.dcm", "1-0.dcm", "2-0.dcm")], []
    for file in files:
        source = processor.open(file)
        seen = drawn(Picture.of_image(source, processor), model.views, model.encoder.tile)
        with pooled_features(model.head) as given:
            model.unit_logits([model.bag(seen, source.laterality, source.projection)[1]])
        features.append(given[0][0].numpy())
    run(own, files, tmp_path / "before.csv")
    identity = np.eye(len(features[0]), dtype=np.float32)
    away = np.linalg.norm(np.array(features) - features[1], axis=1)
    TrainingStatistics(features[1], identity, float(np.sort(away)[1:].mean())).save(own)
    expected = [bool(one) for one in away > np.sort(away)[1:].mean()]
    assert sorted(expected) == [False, False, True]
    run(own, files, tmp_path / "after.csv")
    before, after = table(tmp_path / "before.csv"), table(tmp_path / "after.csv")
    assert ["unlike_training_images" in row["notes"] for row in after] == [False, *expected]  # an exam's row is first
    assert [{**row, "notes": ""} for row in after] == [{**row, "notes": ""} for row in before]
    of_pipeline = pipeline("mammogram-classification", model=str(own))([str(file) for file in files])
    assert ["unlike_training_images" in one[0].get("notes", ()) for one in of_pipeline] == expected
    *_, exam = read_exam(*load_classifier(own), files)
    assert sum(view.unlike_training for view in exam.views) == 1


@pytest.mark.slow
def test_a_new_process_reads_the_folder_as_plain_transformers_do(head, exams):
    import subprocess
    import sys

    code = (
        "import mammo_hf\nfrom transformers import AutoModelForImageClassification, pipeline\n"
        f"print(type(AutoModelForImageClassification.from_pretrained({str(head)!r})).__name__)\n"
        f"print(len(pipeline('mammogram-classification', {str(head)!r})({str(exams / '1-0.dcm')!r})))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["MammoBagForClassification", "6"], done.stderr


@pytest.mark.slow
def test_explain_draws_files_with_the_attention_of_the_head(head, exams, tmp_path):
    from mammo_hf.explainers.bags import bag_attention
    from mammo_hf.inference.scoring import explain_bag, load_classifier

    model, processor = load_classifier(head)
    source = processor.open(exams / "1-0.dcm")
    seen = drawn(Picture.of_image(source, processor), model.views, model.encoder.tile)
    found = explain_bag(model, seen, bag_attention, target="density:c")
    assert [one.target for one in found.values()] == [("density:c",)]
    done = mammo_hf.explain(head, [exams / "1-0.dcm", exams / "2-0.dcm"], tmp_path / "maps", explainer="grad_cam")
    assert done.images == 2
    assert [row["picture"] for row in table(tmp_path / "maps" / "index.csv")] == ["001.png", "002.png"]
    run(head, [exams / "1-0.dcm"], tmp_path / "scores.csv", explainer="hires_cam")
    assert len(list((tmp_path / "scores.explanations").glob("*.png"))) == 2
