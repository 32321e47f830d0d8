from __future__ import annotations

import json

from table_rows import TASKS, cohort, make_row

from mammo_hf.data.collection import Collection, Moved
from mammo_hf.data.privacy import salted_hash
from mammo_hf.data.summary import Summary, draw_summary
from mammo_hf.data.terms import Terms


def test_counts_add_up():
    table = cohort().split(validation_fraction=0.2)
    report = table.summary()
    assert report["splits"]["train"] == {"patients": 56, "exams": 56, "breasts": 56, "images": 112}
    assert sum(side["images"] for side in report["splits"].values()) == len(table)
    by_label = report["tasks"]["pathology"]["images"]
    assert list(by_label) == ["benign", "malignant", "not known"]
    assert sum(by_label["malignant"].values()) == table.column("pathology").count("malignant")
    # a malignant patient's second image is benign: patients count by their most severe label
    assert report["tasks"]["pathology"]["patients"]["malignant"] == {"train": 16, "validation": 4, "test": 5}
    assert set(report["facts"]["view"]) == {"CC", "MLO"}
    assert "vendor" not in report["facts"]


def test_who_was_moved_and_why_is_in_the_report_and_it_is_json():
    moved = Moved(salted_hash("a", "patient"), "test", "train", "stands on both sides")
    rows = [make_row("a"), make_row("b", age_band="80+"), make_row("c", age_band="<40")]
    report = Summary(Collection.from_rows(rows, tasks=TASKS, salt_name="s", moved=[moved], notes=["one moved"]))
    assert json.loads(json.dumps(report)) == report
    assert report["moved"] == [moved._asdict()]
    assert report["notes"] == ["one moved"]
    assert list(report["facts"]["age_band"]) == ["<40", "80+", "not known"]


def test_the_text_says_what_the_collection_holds_and_its_terms():
    table = cohort()
    table.terms = (Terms("clinic", "CC BY 9.9"),)
    text = str(table.with_notes("two films were moved").summary()).splitlines()
    assert text[0] == "made up: 150 images of 80 patients"
    assert ["train", "70", "70", "70", "140"] in [line.split() for line in text]
    assert ["malignant", "20", "5"] in [line.split() for line in text]
    assert "images by density" not in "".join(text)  # no image has one
    assert text[-5:] == ["notes:", "  two films were moved", "", "left out: 0 files and table rows", "terms: CC BY 9.9"]
    assert "CC BY 9.9" in table.where(split="test")._repr_html_()


def test_what_nothing_is_known_of_is_not_counted():
    rows = [make_row("a", laterality=None), make_row("b", laterality=None)]
    summary = Collection.from_rows(rows, tasks=TASKS, salt_name="s").summary()
    assert "breasts" not in str(summary)
    assert list(summary.to_pandas()["column"][:3]) == ["patients", "exams", "images"]


def test_an_empty_collection_has_a_text_too():
    assert str(cohort().where(split="validation").summary()).startswith("empty collection: 0 images of 0 patients")


def test_many_values_are_drawn_together(tmp_path):
    counts = {f"scanner {number}": {"train": number + 1} for number in range(20)}
    summary = {
        "name": "made up",
        "splits": {"train": {"patients": 20, "images": 210}},
        "tasks": {},
        "facts": {"vendor": counts},
        "moved": [{"patient": "x"}],
    }
    assert draw_summary(summary, tmp_path / "summary.png").stat().st_size < 200_000
