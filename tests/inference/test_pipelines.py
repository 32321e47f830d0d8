import subprocess
import sys

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from small_archive import write_dicom
from transformers import AutoModelForImageClassification, ViTImageProcessor, pipeline

from mammo_hf import (
    Explanation,
    MammogramImage,
    MammoImageProcessor,
    MammoSwinConfig,
    MammoSwinForMaskedImageModeling,
)
from mammo_hf.dicom import read_mammogram
from mammo_hf.errors import DataError, MammoError, UsageError
from mammo_hf.testing import TASKS, tiny_classifier


@pytest.fixture
def checkpoint(tmp_path):
    tiny_classifier().save_pretrained(tmp_path / "model")
    MammoImageProcessor(size=(112, 56)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def read(checkpoint):
    return pipeline("mammogram-classification", model=str(checkpoint))


@pytest.fixture
def file(tmp_path):
    return write_dicom(tmp_path / "a.dcm")


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 65536, (300, 150)).astype(np.uint16)


def scores_of(results):
    return {(one["task"], one["label"]): one["score"] for one in results}


def test_a_file_becomes_scores_and_explanations(read, file):
    results = read(str(file), explainer="grad_cam")
    assert [(r["task"]) for r in results] == ["pathology"] * 2 + ["density"] * 3
    for task in TASKS:
        scores = [r["score"] for r in results if r["task"] == task["name"]]
        assert sum(scores) == pytest.approx(1, abs=1e-5)
        assert scores == sorted(scores, reverse=True)
        assert {r["label"] for r in results if r["task"] == task["name"]} == set(task["labels"])
    explained = [r for r in results if "explanation" in r]
    assert len(explained) == 2
    assert isinstance(explained[0]["explanation"], Explanation)
    assert explained[0]["explanation"].target == ("pathology:malignant",)
    assert explained[0]["explanation"].in_source().shape == (300, 150)
    assert len(read(str(file), top_k=1)) == 2


def test_an_image_may_come_in_many_forms(read, file, pixels):
    import pydicom

    expected = scores_of(read(str(file)))
    for form in (file, file.read_bytes(), pydicom.dcmread(file), read_mammogram(file)):
        assert scores_of(read(form)) == expected
    assert scores_of(read(pixels)) == scores_of(read(Image.fromarray(pixels)))
    # a column of files of `datasets`, decoded or not
    films = datasets.Dataset.from_dict({"film": [str(file)] * 2})
    for feature in (MammogramImage(), MammogramImage(decode=False)):
        column = films.cast_column("film", feature)["film"]
        for found in ([read(column[0])], read(list(column)), list(read(one for one in column))):
            assert {str(scores_of(one)) for one in found} == {str(expected)}
    assert scores_of(read({"bytes": file.read_bytes(), "path": None})) == expected
    with pytest.raises(UsageError, match="'image' is not a view of a breast"):
        read({"image": str(file)})


def test_notes_on_an_image_are_with_its_scores(read, tmp_path):
    empty = Image.fromarray(np.zeros((300, 150), np.uint8))
    film = np.zeros((300, 150), np.uint8)
    film[60:240, :80] = 180
    for results in (*read([empty, Image.fromarray(film)], batch_size=2), read(empty)):
        assert len({str(one.get("notes")) for one in results}) == 1
    assert read(empty)[0]["notes"] == ["breast_not_found", "display_useless"]
    assert "breast_not_found" not in read(Image.fromarray(film))[0].get("notes", [])


def test_a_batch_gives_what_its_images_give(read, tmp_path):
    files = [str(write_dicom(tmp_path / f"{seed}.dcm", seed)) for seed in range(5)]
    alone = [read(file, explainer="grad_cam") for file in files]
    for together in (
        read(files, explainer="grad_cam", batch_size=2),
        list(read((file for file in files), explainer="grad_cam", batch_size=3)),
        list(read(iter(files), explainer="grad_cam")),
        read(tuple(files), explainer="grad_cam"),
    ):
        for one, other in zip(together, alone, strict=True):
            assert scores_of(one) == pytest.approx(scores_of(other), abs=1e-5)
            maps = [[r["explanation"].map for r in results if "explanation" in r] for results in (one, other)]
            assert all(np.allclose(a, b, atol=1e-3) for a, b in zip(*maps, strict=True))
    assert read([]) == []


def test_a_folder_gives_a_list_with_each_file_s_name(read, tmp_path):
    folder = tmp_path / "exam"
    for name, seed in (("b.dcm", 1), ("deep/a.dcm", 2)):
        write_dicom(folder / name, seed)
    results = read(folder, tasks="pathology")
    assert [{one["file"] for one in of_file} for of_file in results] == [{"b.dcm"}, {"deep/a.dcm"}]
    assert scores_of(results[0]) == scores_of(read(folder / "b.dcm", tasks="pathology"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no DICOM file"):
        read(tmp_path / "empty")


def test_an_exam_gives_views_breasts_and_the_exam(read, tmp_path):
    exam = {
        f"{side}{view}": write_dicom(tmp_path / f"{side}{view}.dcm", seed, laterality=side, view=view)
        for seed, (side, view) in enumerate([("L", "CC"), ("L", "MLO"), ("R", "CC")])
    }
    result = read(exam, explainer="grad_cam")
    assert list(result["views"]) == list(exam)
    assert scores_of(result["views"]["LMLO"]) == scores_of(read(exam["LMLO"]))
    assert sum("explanation" in one for one in result["views"]["RCC"]) == 2
    # of two labels the positive one, and of more the one that the whole exam predicts, of every view
    predicted = next(one["label"] for one in result["exam"] if one["task"] == "density")
    for view in result["views"].values():
        shown = {one["task"]: one["label"] for one in view if "explanation" in one}
        assert shown == {"pathology": "malignant", "density": predicted}
    of_views = [scores_of(result["views"][key])["pathology", "malignant"] for key in exam]
    assert scores_of(result["breasts"]["left"])["pathology", "malignant"] == pytest.approx(np.mean(of_views[:2]))
    assert scores_of(result["breasts"]["right"])["pathology", "malignant"] == pytest.approx(of_views[2])
    assert scores_of(result["exam"])["pathology", "malignant"] == pytest.approx(np.mean(of_views))
    highest = read(exam, aggregate="max", top_k=1, tasks=["density"])
    assert [one["task"] for one in highest["exam"]] == ["density"]
    assert len(highest["views"]["LCC"]) == 1
    assert list(read(iter([exam, exam])))[1] == read([exam])[0]


def test_of_two_exposures_of_a_view_the_later_one_counts(read, tmp_path):
    files = [
        write_dicom(tmp_path / f"{hour}.dcm", hour, laterality="L", view="CC", AcquisitionDate="20260101",
                    AcquisitionTime=f"{hour:02}0000")
        for hour in (9, 11, 10)
    ]  # fmt: skip
    result = read({"LCC": files})
    assert scores_of(result["views"]["LCC"]) == scores_of(read(files[1])) == scores_of(result["exam"])
    assert [scores_of(other) for other in result["others"]["LCC"]] == [scores_of(read(files[at])) for at in (0, 2)]
    noted = [{"another_image_counts" in one.get("notes", ()) for one in other} for other in result["others"]["LCC"]]
    assert noted == [{True}, {True}]
    assert all("another_image_counts" not in one.get("notes", ()) for one in result["views"]["LCC"])
    assert "others" not in read({"LCC": files[:1]})


def test_an_exam_whose_header_says_otherwise_is_refused(read, tmp_path):
    left = write_dicom(tmp_path / "a.dcm", laterality="L", view="CC")
    with pytest.raises(DataError, match="RCC: its header says laterality L"):
        read({"LCC": left, "RCC": left})
    with pytest.raises(UsageError, match="same view"):
        read({"LCC": left, "L-CC": left})


def test_tasks_and_targets_are_chosen(read, file):
    results = read(file, tasks=["density"], explainer="grad_cam", target="density:c", top_k=1)
    assert {one["task"] for one in results} == {"density"}
    (explained,) = [one for one in results if "explanation" in one]
    assert explained["label"] == "c"
    for wrong in ({"tasks": "birads"}, {"tasks": []}, {"target": "malignant"}, {"top_k": 0}):
        with pytest.raises(UsageError):
            read(file, **wrong)
    with pytest.raises(UsageError, match="not a label"):
        read(file, explainer="grad_cam", target="melanoma")
    with pytest.raises(TypeError, match="unknown arguments: explain"):
        read(file, explain="grad_cam")


def test_views_at_test_time_change_a_score_a_little(read, file):
    plain, averaged = scores_of(read(file)), scores_of(read(file, tta=True))
    assert plain != averaged
    assert averaged == pytest.approx(plain, abs=0.3)
    assert scores_of(read(file, tta=True, explainer="grad_cam")) == pytest.approx(averaged)


def test_half_precision_gives_about_the_same(checkpoint, read, file):
    half = pipeline("mammogram-classification", model=str(checkpoint), dtype=torch.bfloat16, device_map="cpu")
    assert half.model.dtype is torch.bfloat16
    assert scores_of(half(file)) == pytest.approx(scores_of(read(file)), abs=0.05)
    assert any("explanation" in one for one in half(file, explainer="grad_cam"))


def test_processes_may_read(read, tmp_path):
    files = [str(write_dicom(tmp_path / f"{seed}.dcm", seed)) for seed in range(3)]
    assert [scores_of(one) for one in read(files, num_workers=1)] == [scores_of(one) for one in read(files)]


def test_a_broken_file_says_which(read, tmp_path, file):
    (tmp_path / "cut.dcm").write_bytes(file.read_bytes()[:5000])
    with pytest.raises(MammoError, match=r"cut\.dcm"):
        read([str(file), str(tmp_path / "cut.dcm")])


def test_another_model_s_processor_is_refused(checkpoint):
    with pytest.raises(UsageError, match="does not read mammograms"):
        pipeline("mammogram-classification", model=str(checkpoint), image_processor=ViTImageProcessor())


def test_what_a_pipeline_saves_and_a_stock_model_give_the_same(checkpoint, read, pixels, tmp_path):
    expected = {one["label"]: one["score"] for one in read(pixels)}
    read.save_pretrained(tmp_path / "saved")
    stock = AutoModelForImageClassification.from_pretrained(checkpoint)
    for given in ({"model": str(tmp_path / "saved")}, {"model": stock, "image_processor": str(checkpoint)}):
        found = pipeline("mammogram-classification", **given)(pixels)
        assert {one["label"]: one["score"] for one in found} == pytest.approx(expected, abs=1e-6)


def test_a_checkpoint_of_stage_1_and_a_processor_of_another_size_are_refused(checkpoint, tmp_path):
    size = {"embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "image_size": (112, 56)}
    MammoSwinForMaskedImageModeling(MammoSwinConfig(**size)).save_pretrained(tmp_path / "masked")
    MammoImageProcessor(size=(112, 56)).save_pretrained(tmp_path / "masked")
    with pytest.raises(MammoError, match="pre-trained encoder, which has no classifier"):
        pipeline("mammogram-classification", model=str(tmp_path / "masked"))
    MammoImageProcessor(size=(224, 112)).save_pretrained(checkpoint)
    with pytest.raises(MammoError, match="224"):
        pipeline("mammogram-classification", model=str(checkpoint))


def test_scores_are_calibrated_as_the_configuration_says(checkpoint, read, pixels):
    before = {r["label"]: r["score"] for r in read(pixels)}
    model = tiny_classifier()
    model.config.calibration = {
        "pathology": {"method": "platt", "slope": 0.5, "intercept": 1.0},
        "density": {"method": "temperature", "temperature": 4.0},
    }
    model.save_pretrained(checkpoint)
    after = {r["label"]: r["score"] for r in pipeline("mammogram-classification", model=str(checkpoint))(pixels)}
    log_odds = np.log(before["malignant"] / before["benign"])
    assert after["malignant"] == pytest.approx(1 / (1 + np.exp(-0.5 * log_odds - 1)), rel=1e-4)
    softened = np.array([before[label] for label in "abc"]) ** 0.25
    assert [after[label] for label in "abc"] == pytest.approx(list(softened / softened.sum()), rel=1e-4)


@pytest.mark.parametrize(
    "first",
    ["import mammo_hf.inference.pipeline", "from mammo_hf import MammogramClassificationPipeline", "import mammo_hf"],
)
@pytest.mark.slow
def test_the_task_is_registered_whatever_is_imported_first(first):
    # our module loads transformers' registry, and the registry's loading loads our module: either may come first
    then = "from transformers.pipelines import PIPELINE_REGISTRY as r; r.check_task('mammogram-classification')"
    done = subprocess.run([sys.executable, "-c", f"{first}\n{then}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
