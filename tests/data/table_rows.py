"""Rows and tables without files, for tests of what happens after a collection was read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mammo_hf.data.collection import Collection
from mammo_hf.data.privacy import salted_hash
from mammo_hf.data.schema import task_list

TASKS = task_list(["pathology", "density"])


def make_row(image: str, patient: str | None = None, **values: Any) -> dict[str, Any]:
    """A valid training row; `image` and `patient` are any texts."""
    patient = image if patient is None else patient
    row: dict[str, Any] = {
        "image_id": salted_hash(image, "image"),
        "path": f"/films/{image}.dcm",
        "patient": salted_hash(patient, "patient"),
        "exam": salted_hash(patient, "exam"),
        "laterality": "L",
        "view": "CC",
        "age_band": None,
        "vendor": None,
        "stratum": None,
        "source": "made up",
        "split": "train",
        "pathology": None,
        "density": None,
        "findings": [],
    }
    return row | values


def make_table(rows: Iterable[dict[str, Any]]) -> Collection:
    return Collection.from_rows(rows, tasks=TASKS, salt_name="made up")


def cohort(benign: int = 40, malignant: int = 20, unknown: int = 10, test: int = 10) -> Collection:
    """Two images a patient; a malignant patient's second image is benign."""
    rows = []
    for label, count in (("benign", benign), ("malignant", malignant), (None, unknown)):
        for number in range(count):
            name = f"{label} {number}"
            rows.append(make_row(f"{name} a", name, pathology=label))
            rows.append(make_row(f"{name} b", name, pathology=label and "benign", view="MLO"))
    for number in range(test):
        rows.append(make_row(f"test {number}", split="test", pathology=("benign", "malignant")[number % 2]))
    return make_table(rows)


def patients(table: Collection, **equals: Any) -> set[str]:
    return set(table.where(**equals).column("patient"))
