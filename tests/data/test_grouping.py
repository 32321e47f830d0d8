from __future__ import annotations

from table_rows import make_row, make_table

from mammo_hf.data.collection import most_severe


def table():
    return make_table(
        [
            make_row("a", "p", laterality="L", view="CC", pathology="benign"),
            make_row("b", "p", laterality="L", view="MLO", pathology="malignant", density="b"),
            make_row("c", "p", laterality="R", view="CC"),
            make_row("d", "p", exam=None, laterality=None),
            make_row("e", "q", laterality="L", pathology="benign"),
        ]
    )


def test_breasts_have_the_gravest_label_of_their_views():
    breasts = table().by_breast()
    assert [group.rows for group in breasts] == [(0, 1), (2,), (3,), (4,)]
    assert breasts[0].labels == {"pathology": "malignant", "density": "b"}
    assert breasts[1].labels == {"pathology": None, "density": None}
    assert (breasts[2].laterality, breasts[2].exam) == (None, None)


def test_exams_hold_both_breasts_and_images_without_an_exam_make_their_own():
    assert [group.rows for group in table().by_exam()] == [(0, 1, 2), (3,), (4,)]
    assert table().by_exam()[0].laterality is None


def test_gravest_is_the_last_in_the_tasks_order():
    assert most_severe(["0", None, "2"], ("1", "2", "0", "3")) == "0"
    assert most_severe([None], ("1",)) is None
