import csv
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from mammo_hf import MammoImageProcessor
from mammo_hf.data.privacy import private_salt, salted_hash
from mammo_hf.errors import UsageError
from mammo_hf.inference import predict as running
from mammo_hf.inference.journal import Journal
from mammo_hf.inference.predict import predict, score_files
from mammo_hf.inference.scoring import load_classifier
from mammo_hf.notes import NOTES


def run(checkpoint, archive, output, **options):
    return predict(checkpoint, archive, output, **{"batch_size": 2, "num_workers": 0, **options})


def test_every_file_has_a_row_in_order_or_a_reason(checkpoint, archive, tmp_path):
    finished = run(checkpoint, archive, tmp_path / "scores.csv")
    assert (finished.images, finished.rejected, finished.resumed) == (9, 1, 0)
    text = f"9 images in {tmp_path / 'scores.csv'}; 1 files rejected, see {tmp_path / 'scores.rejected.csv'}"
    assert str(finished).startswith(text)
    assert str(finished).endswith("refusals: 1 damaged")
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [row["file"] for row in rows] == [str(archive / f"{number}.dcm") for number in range(9)]
    assert [(row["laterality"], row["view"]) for row in rows[:3]] == [("L", "CC"), ("R", "CC"), ("L", "MLO")]
    for row in rows:
        assert float(row["pathology:benign"]) + float(row["pathology:malignant"]) == pytest.approx(1, abs=1e-5)
    (rejected,) = csv.DictReader((tmp_path / "scores.rejected.csv").open())
    assert rejected["file"] == str(archive / "4-cut.dcm")
    assert (bool(rejected["reason"]), rejected["code"]) == (True, "damaged")
    codes = [code for row in rows for code in row["notes"].split(";") if code]
    assert finished.notes == Counter(codes)
    assert set(codes) <= set(NOTES)
    assert not (tmp_path / "scores.csv.part").exists()


def test_the_scores_are_the_pipeline_s(checkpoint, archive, tmp_path):
    from transformers import pipeline

    run(checkpoint, archive, tmp_path / "scores.csv")
    read = pipeline("mammogram-classification", model=str(checkpoint))
    for row in csv.DictReader((tmp_path / "scores.csv").open()):
        for one in read(row["file"]):
            assert float(row[f"{one['task']}:{one['label']}"]) == pytest.approx(one["score"], rel=1e-4)


def test_the_number_of_cores_does_not_show_in_the_table(checkpoint, archive, tmp_path):
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            run(checkpoint, archive, tmp_path / f"{threads}.csv")
    finally:
        torch.set_num_threads(before)
    one, three = ((tmp_path / f"{threads}.csv").read_text() for threads in (1, 3))
    assert one == three


def test_a_run_that_was_ended_goes_on_and_gives_the_same(checkpoint, archive, tmp_path, interrupted):
    run(checkpoint, archive, tmp_path / "whole.csv")
    interrupted(3, run, checkpoint, archive, tmp_path / "scores.csv")
    assert not (tmp_path / "scores.csv").exists()
    finished = run(checkpoint, archive, tmp_path / "scores.csv")
    assert (finished.images, finished.rejected, finished.resumed) == (9, 1, 4)
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_an_unfinished_run_is_not_gone_on_with_by_another(checkpoint, archive, tmp_path, monkeypatch):
    def ends(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_rows", ends)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, archive, tmp_path / "scores.csv")
    with pytest.raises(UsageError, match="unfinished run with another tta, batch_size"):
        run(checkpoint, archive, tmp_path / "scores.csv", batch_size=3, tta=True)


def test_a_disk_that_fills_loses_nothing(checkpoint, archive, tmp_path, monkeypatch):
    run(checkpoint, archive, tmp_path / "whole.csv")
    write = Journal.write

    def full(journal, rows):
        if rows[0][0] == 4:
            raise OSError(28, "No space left on device")
        write(journal, rows)

    monkeypatch.setattr(Journal, "write", full)
    with pytest.raises(OSError, match="No space"):
        run(checkpoint, archive, tmp_path / "scores.csv")
    monkeypatch.setattr(Journal, "write", write)
    assert run(checkpoint, archive, tmp_path / "scores.csv").resumed == 4
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_file_that_stands_twice_is_read_once(checkpoint, archive, tmp_path):
    files = [str(archive / name) for name in ("1.dcm", "0.dcm", "../archive/1.dcm", "2.dcm")]
    finished = predict(checkpoint, files, tmp_path / "scores.csv", batch_size=3, num_workers=0)
    assert (finished.images, finished.rejected) == (3, 1)
    (rejected,) = csv.DictReader((tmp_path / "scores.rejected.csv").open())
    assert rejected == {"file": files[2], "reason": "is listed twice, first as number 1", "code": "left_out"}
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [row["file"] for row in rows] == [files[0], files[1], files[3]]


def test_where_the_model_looked_is_drawn(checkpoint, archive, tmp_path):
    run(checkpoint, archive, tmp_path / "scores.csv", explainer="grad_cam")
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert rows[0]["explanation"] == "0000001-pathology.png;0000001-density.png"
    drawn = {path.name for path in (tmp_path / "scores.explanations").iterdir()}
    assert drawn == {name for row in rows for name in row["explanation"].split(";")}


def test_scores_that_are_no_numbers_are_rejected(checkpoint, archive, tmp_path):
    model, processor = load_classifier(checkpoint)
    model.classifier.weight.data[:] = float("nan")
    files = sorted(str(path) for path in archive.iterdir())
    finished = score_files(model, processor, files, tmp_path / "scores.csv", num_workers=0)
    assert (finished.images, finished.rejected) == (0, 10)
    assert "not finite" in (tmp_path / "scores.rejected.csv").read_text()


@pytest.mark.parametrize("name", ["scores.txt", "scores"])
def test_an_output_that_is_no_table_is_refused(checkpoint, archive, tmp_path, name):
    with pytest.raises(UsageError, match="not a table"):
        run(checkpoint, archive, tmp_path / name)


def test_an_output_that_is_there_is_left_alone(checkpoint, archive, tmp_path):
    (tmp_path / "scores.csv").write_text("precious")
    with pytest.raises(UsageError, match="already exists"):
        run(checkpoint, archive, tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text() == "precious"


@pytest.mark.parametrize(
    ("size", "device", "images"),
    [
        ((448, 224), "cpu", 2),
        ((224, 112), "cpu", 8),
        ((896, 448), "cpu", 1),
        ((3000, 2000), "cpu", 1),
        ((896, 448), "cuda", 32),
    ],
)
def test_large_images_are_scored_one_by_one_on_a_cpu(size, device, images):
    assert running.default_batch(MammoImageProcessor(size=size), device) == images


def test_a_second_run_at_the_same_output_is_told_at_its_start(checkpoint, archive, tmp_path):
    with running._alone(tmp_path / "scores.csv"), pytest.raises(UsageError, match="another run is writing to it"):
        run(checkpoint, archive, tmp_path / "scores.csv")
    assert run(checkpoint, archive, tmp_path / "scores.csv").images == 9
    assert not list(tmp_path.glob(".*lock"))


def test_an_overrides_file_changes_side_and_view_skips_and_belongs_to_the_run(
    checkpoint, archive, tmp_path, monkeypatch
):
    fixes = tmp_path / "fixes.csv"
    fixes.write_text("path,laterality,view,skip\narchive/0.dcm,R,MLO,\n8.dcm,,,yes\n")
    finished = run(checkpoint, archive, tmp_path / "scores.csv", overrides=fixes)
    rows = {row["file"][-5:]: row for row in csv.DictReader((tmp_path / "scores.csv").open())}
    assert (rows["0.dcm"]["laterality"], rows["0.dcm"]["view"]) == ("R", "MLO")
    assert [name for name, row in rows.items() if "overridden" in row["notes"].split(";")] == ["0.dcm"]
    assert "8.dcm" not in rows
    rejected = {row["file"][-5:]: row["code"] for row in csv.DictReader((tmp_path / "scores.rejected.csv").open())}
    assert rejected["8.dcm"] == "skipped"
    assert (finished.notes["overridden"], finished.refusals["skipped"]) == (1, 1)
    # A run that was interrupted is resumed with the same overrides alone
    monkeypatch.setattr(running, "write_tables", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, archive, tmp_path / "again.csv", overrides=fixes)
    fixes.write_text("path,laterality,view,skip\narchive/0.dcm,R,CC,\n")
    with pytest.raises(UsageError, match="another overrides file"):
        run(checkpoint, archive, tmp_path / "again.csv", overrides=fixes)


def test_pictures_are_scored_by_the_exams_of_an_overrides_file(checkpoint, tmp_path):
    films, names = tmp_path / "films", ("lcc", "rcc", "lmlo", "other")
    films.mkdir()
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (300, 150), np.uint8)
        Image.fromarray(pixels).save(films / f"{name}.png")
    fixes = tmp_path / "exams.csv"
    fixes.write_text("file,exam,side,view\nlcc.png,17,L,CC\nrcc.png,17,R,CC\nlmlo.png,17,L,MLO\n")
    run(checkpoint, films, tmp_path / "scores.csv", overrides=fixes, level="exam", aggregate="max", plain_exams=True)
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    exams = [row for row in rows if row["level"] == "exam"]
    assert [(row["exam"], row["images"]) for row in exams] == [("17", "3"), ("", "1")]
    of_17 = [float(row["pathology:malignant"]) for row in rows if row["level"] == "image" and row["exam"] == "17"]
    assert float(exams[0]["pathology:malignant"]) == pytest.approx(max(of_17), rel=1e-5)
    assert "views_missing" in exams[0]["notes"]
    run(checkpoint, films, tmp_path / "hashed.csv", overrides=fixes, level="exam")
    hashed = {row["exam"] for row in csv.DictReader((tmp_path / "hashed.csv").open())}
    assert hashed == {"", salted_hash("17", private_salt())}


def test_another_way_of_decoding_than_in_training_warns_and_is_in_the_table(checkpoint, archive, tmp_path, caplog):
    run(checkpoint, archive, tmp_path / "fast.csv", decode="fast")
    (warning,) = [record.getMessage() for record in caplog.records if "decode" in record.getMessage()]
    assert "trained with decode='exact'" in warning
    rows = list(csv.DictReader((tmp_path / "fast.csv").open()))
    assert {row["decoded"] for row in rows} == {"exact"}  # small and not compressed
    run(checkpoint, archive, tmp_path / "exact.csv")
    exact = list(csv.DictReader((tmp_path / "exact.csv").open()))
    assert exact == [{name: value for name, value in row.items() if name != "decoded"} for row in rows]
