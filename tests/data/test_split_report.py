from __future__ import annotations

import json

from table_rows import TASKS, cohort, make_row

from mammo_hf.data.collection import Collection, Moved
from mammo_hf.data.privacy import salted_hash
from mammo_hf.data.splits import split_report


def test_counts_add_up():
    table = cohort().split(validation_fraction=0.2)
    report = split_report(table)
    assert report["splits"]["train"] == {"patients": 56, "exams": 56, "breasts": 56, "images": 112}
    assert sum(side["images"] for side in report["splits"].values()) == len(table)
    by_label = report["tasks"]["pathology"]["images"]
    assert list(by_label) == ["benign", "malignant", "not known"]
    assert sum(by_label["malignant"].values()) == table.column("pathology").count("malignant")
    # a malignant patient's second image is benign: patients count by their gravest label
    assert report["tasks"]["pathology"]["patients"]["malignant"] == {"train": 16, "validation": 4, "test": 5}
    assert set(report["facts"]["view"]) == {"CC", "MLO"}
    assert "vendor" not in report["facts"]


def test_who_was_moved_and_why_is_in_the_report_and_it_is_json():
    moved = Moved(salted_hash("a", "patient"), "test", "train", "stands on both sides")
    rows = [make_row("a"), make_row("b", age_band="80+"), make_row("c", age_band="<40")]
    report = split_report(Collection.from_rows(rows, tasks=TASKS, salt_name="s", moved=[moved], notes=["one moved"]))
    assert json.loads(json.dumps(report)) == report
    assert report["moved"] == [moved._asdict()]
    assert report["notes"] == ["one moved"]
    assert list(report["facts"]["age_band"]) == ["<40", "80+", "not known"]
