"""How long a collection of many rows takes for `where` and `split`, as a multiple of pandas' group-by of its patients.

python benchmarks/bench_collection.py --rows 100000
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from datasets import Dataset

from mammo_hf.data.collection import Collection
from mammo_hf.data.schema import features, task_list


def collection(rows: int) -> Collection:
    """Make up rows, four images per patient, a fifth of the patients in the test split."""
    tasks = task_list(["pathology", "density"])
    image, patient = np.arange(rows), np.arange(rows) // 4
    labels = np.array(["benign", "malignant", "none"], object)[np.random.default_rng(0).integers(0, 3, rows)]
    columns = dict.fromkeys(features(tasks), [None] * rows) | {
        "image_id": [f"a{number:015x}" for number in image],
        "patient": [f"b{number:015x}" for number in patient],
        "exam": [f"c{number:015x}" for number in patient],
        "path": [f"/films/{number}.png" for number in image],
        "laterality": ["LR"[number % 2] for number in image],
        "view": [("CC", "MLO")[number // 2 % 2] for number in image],
        "source": ["made up"] * rows,
        "split": ["train" if number % 5 else "test" for number in patient],
        "pathology": [None if label == "none" else label for label in labels],
        "findings": [[]] * rows,
    }
    return Collection(Dataset.from_dict(columns, features=features(tasks)), tasks=tasks, salt_name="made up")


def seconds(action: Callable[[], object], repeats: int) -> float:
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        found.append(time.perf_counter() - start)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    table = collection(args.rows)
    frame = table.dataset.to_pandas()
    actions: dict[str, Callable[[], object]] = {
        "where(split=..., view=...)": lambda: table.where(split="train", view="CC"),
        "where(predicate)": lambda: table.where(lambda row: row["pathology"] == "malignant"),
        "split": lambda: table.split(seed=0),
    }
    unit = seconds(lambda: frame.groupby("patient")["pathology"].max(), args.repeats)
    print(f"{args.rows} rows; group-by of the patients {unit:.3f} s")
    for name, action in actions.items():
        taken = seconds(action, args.repeats)
        print(f"{name:<28} {taken:7.2f} s {taken / unit:7.1f} group-bys")


if __name__ == "__main__":
    main()
