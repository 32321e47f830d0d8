"""Delimited tables of any origin: with or without a byte order mark, UTF-8 or Latin-1, comma, semicolon or tab."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from pathlib import Path

from ...errors import DataError

_DELIMITERS = ",;\t"


def read_text(path: str | Path) -> str:
    """A file's text: UTF-8, with or without a byte order mark, or else Latin-1.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", source=path, remedy="check its permissions") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def read_columns(path: str | Path) -> list[str]:
    """The names in a table's first line; empty where there is none."""
    text = read_text(path)
    return [name.strip() for name in next(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)), [])]


def read_table(path: str | Path, keep: Collection[str] | None = None) -> list[dict[str, str]]:
    """A table's rows, one dict a row; blanks and line breaks around a value are cut off, empty rows are skipped.

    The delimiter is the one of comma, semicolon and tab that stands most often in the first line.

    Args:
        path: The table.
        keep: The columns that are wanted, those of them that are there; ``None``: all. Some tables have a hundred more
            than anybody asks for, and half a million rows.

    Raises:
        DataError: The file cannot be read, has no columns, two of one name, or a row of another length.
    """
    text = read_text(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    columns = [name.strip() for name in next(reader, [])]
    if not any(columns):
        raise DataError("has no columns", source=path, remedy="give a table whose first line names its columns")
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise DataError(f"has two columns '{twice[0]}'", source=path, remedy="rename one of them")
    kept = [(index, name) for index, name in enumerate(columns) if keep is None or name in keep]
    rows = []
    for number, cells in enumerate(reader, start=1):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            raise DataError(
                f"has {len(cells)} values for {len(columns)} columns",
                source=f"{path}, row {number}",
                remedy="quote values that hold the delimiter",
            )
        rows.append({name: cells[index].strip() for index, name in kept})
    return rows


def _delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return max(_DELIMITERS, key=first.count)
