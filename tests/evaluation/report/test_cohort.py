from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from made_scores import TASKS, made_scores

from mammo_hf import Collection
from mammo_hf.data.collection import Rejected
from mammo_hf.evaluation.classifier import published, shown_count, without_few
from mammo_hf.evaluation.report.facts import cohort_table, flow, read_rejected, unreadable

LABELS = [{"name": "pathology", "labels": ["benign", "malignant"]}]


def test_the_cohort_counts_images_and_patients_and_hides_small_cells() -> None:
    rows = cohort_table(made_scores(), TASKS)
    by_name = {(row["of"], row["value"]): (row["images"], row["patients"]) for row in rows}
    assert by_name["pathology", "malignant"] == (60, 30)
    assert by_name["density", "not known"] == (40, 20)
    assert by_name["vendor", "not known"] == (None, None)  # three patients
    assert [of_value for (of, _), of_value in by_name.items() if of == "vendor"].count((None, None)) >= 2
    assert [row["value"] for row in rows if row["of"] == "view"] == ["CC", "MLO"]
    small = cohort_table(made_scores(patients=8), TASKS)
    assert {row["images"] for row in small} == {None}


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 40), max_size=6))
def test_a_count_below_ten_cannot_be_told_from_the_sum(counts: dict[str, int]) -> None:
    shown = without_few(counts)
    assert all(shown[value] in (None, count) for value, count in counts.items())
    hidden = [count for value, count in counts.items() if shown[value] is None]
    assert all(shown[value] is None for value, count in counts.items() if 0 < count < 10)
    if any(count < 10 for count in hidden) and sum(count > 0 for count in counts.values()) > 1:
        assert len(hidden) > 1
    assert hidden == [] or min(hidden) < 10


def test_figures_are_published_without_small_counts() -> None:
    figures = {
        "pathology": {
            "class_counts": {"benign": 7, "malignant": 30},
            "n_unknown": 3,
            "n_images": 37,
            "confusion": [[5, 2], [0, 30]],
            "subgroups": {"view": {"cells": {"CC": {"class_counts": {"benign": 12, "malignant": 15}, "auroc": 0.5}}}},
        }
    }
    shown = published(figures)["pathology"]
    assert shown["class_counts"] == {"benign": None, "malignant": None}
    assert (shown["n_unknown"], shown["n_images"]) == (None, 37)
    assert shown["confusion"] == [[None, None], [0, 30]]
    assert shown["subgroups"] == figures["pathology"]["subgroups"]
    assert shown_count(None) == "not shown"


def test_a_subgroup_that_is_left_out_cannot_be_told_from_the_others() -> None:
    cells: dict[str, Any] = {
        name: {
            "n_images": 2 * size,
            "n_patients": size,
            "class_counts": {"malignant": size},
            "auroc": 0.5,
        }
        for name, size in (("ge", 57), ("hologic", 30))
    }
    for not_shown, hidden in ((0, []), (1, ["hologic"]), (2, [])):
        shown = published({"subgroups": {"vendor": {"cells": cells, "not_shown": not_shown}}})["subgroups"]["vendor"]
        for name, cell in shown["cells"].items():
            assert (cell["n_patients"] is None) == (cell["n_images"] is None) == (name in hidden)
            assert (cell["class_counts"]["malignant"] is None) == (name in hidden)
            assert cell["auroc"] == 0.5


@given(st.lists(st.integers(0, 60), min_size=4, max_size=4))
def test_no_fraction_that_is_published_gives_a_small_count_away(counts: list[int]) -> None:
    table = np.array(counts).reshape(2, 2)
    right, sums = np.diag(table), (table.sum(1), table.sum(0))
    with np.errstate(invalid="ignore"):
        values = [*(right / sums[0])[::-1], *(right / sums[1])[::-1], right.sum() / table.sum()]
    names = ["sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value", "accuracy"]
    figures = {name: None if np.isnan(value) else float(value) for name, value in zip(names, values, strict=True)}
    shown = published({"confusion": table.tolist(), **figures})
    totals = dict(zip(names, [*sums[0][::-1], *sums[1][::-1], table.sum()], strict=True))
    for name, value in figures.items():
        within = shown.get(f"{name}_within")
        assert (shown[name] is None) == (value is None or within is not None)
        if within is not None:
            assert within[0] - 1e-9 <= value <= within[1] + 1e-9
            fitting = np.arange(totals[name] + 1) / totals[name]
            assert ((fitting >= within[0] - 1e-9) & (fitting <= within[1] + 1e-9)).sum() >= min(10, totals[name])
        elif value is not None and name in ("sensitivity", "specificity"):
            row = table[1 if name == "sensitivity" else 0]
            assert not ((row > 0) & (row < 10)).any()


def _table() -> Collection:
    rows = [
        {
            **{"image_id": f"{number:016x}", "patient": f"{number // 2:016x}", "exam": None, "path": f"/x/{number}"},
            **{"laterality": "L", "view": "CC", "source": "made", "split": "test" if number < 8 else "train"},
            **{"pathology": "benign", "findings": []},
        }
        for number in range(12)
    ]
    rejected = [Rejected("/secret/a", "holds no image"), Rejected("/secret/b", "holds no image")]
    return Collection.from_rows(rows, tasks=LABELS, salt_name="made", rejected=rejected)


def test_the_flow_goes_from_the_collection_to_what_was_evaluated() -> None:
    evaluated = datasets.Dataset.from_dict(
        {"patient": ["p", "p", "q"], "notes": ["negative", "bright_edges;negative", ""]}
    )
    steps = flow(_table(), evaluated, "test", ["is cut short"])
    assert [(step["images"], step["patients"]) for step in steps] == [(12, 6), (8, 4), (7, None), (3, 2)]
    assert steps[0]["left_out"] == {"holds no image": 2}
    assert steps[2]["left_out"] == {"is cut short": 1}
    assert steps[3]["notes"] == {"negative": 2, "bright_edges": 1}
    assert "secret" not in str(steps)
    assert flow(_table(), evaluated, "all")[1]["step"] == "of all splits"


def test_many_reasons_are_put_together() -> None:
    evaluated = datasets.Dataset.from_dict({"patient": ["p"], "notes": [None]})
    rejected = [f"reason {number}" for number in range(12)]
    left_out = flow(_table(), evaluated, "test", rejected)[2]["left_out"]
    assert left_out["other reasons"] == 4
    assert sum(left_out.values()) == 12


def test_rejected_files_of_a_prepared_folder(tmp_path: Path) -> None:
    assert read_rejected(tmp_path) == []
    (tmp_path / "rejected.csv").write_text("source,reason,code\n/x/a.dcm,is cut short,damaged\n")
    assert read_rejected(tmp_path) == [("/x/a.dcm", "is cut short", "damaged")]


def test_why_images_are_missing_is_told_and_of_no_other_row(tmp_path: Path) -> None:
    tried = _table().where(split="test")
    ids = tried.column("image_id")
    lines = ["source,reason,code", "/x/0,is cut short,damaged", "/x/1,its mask cannot be read,missing"]
    lines += ["/x/11,of another split,damaged"]
    (tmp_path / "rejected.csv").write_text("\n".join(lines) + "\n")
    prepared = datasets.Dataset.from_dict({"image_id": ids[1:-1]})  # the image of a lost mask is there
    assert [one.reason for one in unreadable(tried, prepared, tmp_path)] == ["is cut short", "cannot be read"]
    assert unreadable(tried, datasets.Dataset.from_dict({"image_id": ids}), tmp_path) == []
