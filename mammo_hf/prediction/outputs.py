"""The files that a finished run leaves: scores in the list's order, and what could not be read with its reason."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .journal import Journal, Row

FACTS = ("file", "laterality", "view")
REASON = "reason"
_GROUP = 4096  # rows that are held at a time


def columns_of(labels: list[str], explained: bool) -> list[str]:
    """The columns of the scores: facts, a column a label as "pathology:malignant", and the picture's name if wanted."""
    return [*FACTS, *labels, *(["explanation"] if explained else [])]


def rejects_path(output: Path) -> Path:
    """Where the rejects of an output go."""
    return output.with_name(f"{output.stem}.rejected.csv")


def write_outputs(journal: Journal, output: Path, labels: list[str], explained: bool) -> tuple[int, int]:
    """Writes the scores, as CSV or, by the output's suffix, as parquet, and the rejects, each whole or not at all.

    Returns:
        How many images have scores, and how many were rejected.
    """
    columns = columns_of(labels, explained)
    rejects, counts = rejects_path(output), [0, 0]
    parts = [path.with_name(f".{path.name}.{os.getpid()}") for path in (output, rejects)]

    def scored() -> Iterator[Row]:
        with parts[1].open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", REASON])
            for _, row in journal.rows():
                *cells, reason = row
                counts[bool(reason)] += 1
                if reason:
                    writer.writerow([cells[0], reason])
                else:
                    yield cells

    try:
        writer = _write_parquet if output.suffix == ".parquet" else _write_csv
        writer(parts[0], columns, labels, scored())
        if counts[1]:
            parts[1].replace(rejects)
        else:
            rejects.unlink(missing_ok=True)  # of an earlier run under this name
        parts[0].replace(output)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return counts[0], counts[1]


def _write_csv(path: Path, columns: list[str], labels: list[str], rows: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _write_parquet(path: Path, columns: list[str], labels: list[str], rows: Iterator[Row]) -> None:
    schema = pa.schema([(name, pa.float64() if name in labels else pa.string()) for name in columns])
    with pq.ParquetWriter(path, schema) as writer:
        group: list[Row] = []
        for row in rows:
            group.append(row)
            if len(group) == _GROUP:
                writer.write_table(_table(group, schema))
                group = []
        writer.write_table(_table(group, schema))


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    def column(place: int, kind: Any) -> list[Any]:
        return [float(row[place]) if kind == pa.float64() else row[place] for row in rows]

    arrays = [pa.array(column(place, field.type), field.type) for place, field in enumerate(schema)]
    return pa.Table.from_arrays(arrays, schema=schema)
