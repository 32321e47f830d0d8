"""How long a collection of many rows takes for `where` and `split`, as a multiple of pandas' group-by of its patients.

python benchmarks/bench_collection.py --rows 100000
python benchmarks/bench_collection.py --rows 1000000 --table    # an own table and its files, which are empty, once
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
from datasets import Dataset

from mammo_hf.data.collection import Collection
from mammo_hf.data.loading import load
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


def write_table(folder: Path, rows: int) -> Path:
    """Write a table of rows, four images per patient, and an empty file for each."""
    lines = ["path,patient,side,view,label"]
    for number in range(rows):
        place = f"films/{number // 1000}"
        if number % 1000 == 0:
            (folder / place).mkdir(parents=True)
        (folder / place / f"{number}.dcm").touch()
        facts = ("LR"[number % 2], ("CC", "MLO")[number // 2 % 2], ("benign", "malignant")[number // 4 % 2])
        lines.append(f"{place}/{number}.dcm,P{number // 4:07d},{','.join(facts)}")
    (folder / "labels.csv").write_text("\n".join([*lines, ""]))
    return folder / "labels.csv"


def of_table(rows: int) -> None:
    """Print how long `load` takes for an own table, in CPU time, which other programs disturb less."""
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(Path(folder), rows)
        start = time.process_time()
        pandas.read_csv(table).groupby("patient")["label"].max()
        unit = time.process_time() - start
        start = time.process_time()
        found = len(load(table))
        taken = time.process_time() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{found} rows; pandas reads and groups the table in {unit:.2f} s")
        print(
            f"load {taken:.1f} s, {1e6 * taken / rows:.0f} us per row, {taken / unit:.0f} times pandas; {memory:.2f} GB"
        )


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
    parser.add_argument("--table", action="store_true", help="read an own table with its files instead")
    args = parser.parse_args()
    if args.table:
        of_table(args.rows)
        return
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
