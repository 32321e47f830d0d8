from __future__ import annotations

import numpy as np
import pytest
from table_rows import cohort, make_row, make_table

from mammo_hf.data.leaks import assert_no_leak
from mammo_hf.data.privacy import salted_hash
from mammo_hf.errors import DataError


def test_a_split_by_patient_has_no_leak():
    assert_no_leak(cohort().split(validation_fraction=0.2))


def test_an_image_level_split_is_refused():
    # a fault of published scripts: the images of a patient dealt out one by one
    rows = list(cohort(test=0))
    for number, row in enumerate(rows):
        row["split"] = ("train", "validation")[number % 2]
    with pytest.raises(DataError, match="70 of patient in two splits") as caught:
        assert_no_leak(make_table(rows))
    assert rows[0]["patient"] in str(caught.value)
    assert "and 60 more" in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "leaks"),
    [
        ("train", "validation", True),
        ("train", "test", True),
        ("validation", "test", True),
        ("unlabelled", "test", True),
        ("unlabelled", "validation", True),
        ("train", "unlabelled", False),
    ],
)
def test_sides(one, other, leaks):
    table = make_table([make_row("a", "p", split=one), make_row("b", "p", split=other)])
    if leaks:
        with pytest.raises(DataError, match=salted_hash("p", "patient")):
            assert_no_leak(table)
    else:
        assert_no_leak(table)


def test_an_exam_under_two_patients():
    exam = salted_hash("one", "exam")
    with pytest.raises(DataError, match=f"1 of exam in two splits: {exam}"):
        assert_no_leak(make_table([make_row("a", exam=exam), make_row("b", exam=exam, split="test")]))


def test_missing_exams_are_no_common_exam():
    assert_no_leak(make_table([make_row("a", exam=None), make_row("b", exam=None, split="test")]))


def test_one_file_under_two_names_is_found_and_its_path_is_not_shown(tmp_path):
    (tmp_path / "film.dcm").write_bytes(b"pixels")
    (tmp_path / "link.dcm").symlink_to(tmp_path / "film.dcm")
    rows = [
        make_row("a", path=str(tmp_path / "film.dcm")),
        make_row("b", path=str(tmp_path / "link.dcm"), split="test"),
    ]
    with pytest.raises(DataError, match="2 of file in two splits") as caught:
        assert_no_leak(make_table(rows))
    assert rows[1]["image_id"] in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def copies(tmp_path, one=b"x" * 70000, other=b"x" * 70000, splits=("train", "test")):
    (tmp_path / "a.dcm").write_bytes(one)
    (tmp_path / "b.dcm").write_bytes(other)
    return make_table(
        [
            make_row(name, path=str(tmp_path / f"{name}.dcm"), split=split)
            for name, split in zip("ab", splits, strict=True)
        ]
    )


def test_a_copied_file_is_found_by_its_content(tmp_path):
    with pytest.raises(DataError, match="2 of file in two splits"):
        assert_no_leak(copies(tmp_path))
    assert_no_leak(copies(tmp_path, splits=("train", "unlabelled")))


def test_files_of_one_size_and_one_start_are_compared_to_the_end(tmp_path):
    assert_no_leak(copies(tmp_path, other=b"x" * 69999 + b"y"))


def test_files_alone_of_their_size_are_not_opened(tmp_path, monkeypatch):
    table = copies(tmp_path, other=b"x" * 69999)
    monkeypatch.setattr("builtins.open", lambda *args, **kwargs: pytest.fail("opened"))
    assert_no_leak(table)


def test_images_of_another_stage_must_not_stand_in_the_test_split():
    tuned = cohort()
    seen = make_table([make_row("elsewhere"), make_row("test 3", split="unlabelled")])
    with pytest.raises(DataError, match="1 of patient in two splits"):
        assert_no_leak(tuned, pretraining=seen)
    assert_no_leak(tuned, pretraining=make_table([make_row("elsewhere"), make_row("test 3", split="test")]))
    # a validation image may have been seen before: only the test split must be new
    assert_no_leak(tuned.split(validation_fraction=0.2), pretraining=tuned.where(split="train"))


def test_near_duplicates_are_looked_for_where_prepared_images_are_given():
    image = np.random.default_rng(0).integers(0, 65536, (64, 32), dtype=np.uint16)
    table = make_table([make_row("one"), make_row("two", split="test")])
    one, two = table.column("image_id")
    pixels = {one: image.tobytes(), two: (image // 2).tobytes()}
    rows = [{"image_id": name, "size": [64, 32], "pixels": content} for name, content in pixels.items()]
    with pytest.raises(DataError, match=rf"1 of near duplicate in two splits: {two} like {one} \(test and training\)"):
        assert_no_leak(table, prepared=rows)
    assert_no_leak(table, prepared=rows[:1])
    assert_no_leak(make_table([make_row("one"), make_row("two", split="unlabelled")]), prepared=rows)
