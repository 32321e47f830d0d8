"""Tables of any origin: delimited text as people and Excel write it, and workbooks (.xlsx)."""

from __future__ import annotations

import csv
import datetime
import io
import itertools
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from ...errors import DataError, UsageError, install
from ...files import plain_cell
from .synonyms import names_a_column, our_word

SUFFIXES = (".csv", ".tsv", ".xlsx", ".xlsm", ".xls", ".ods")  # of files that are taken for a table, read or refused
_DELIMITERS = ",;\t|"
_LARGEST_FIELD = 1 << 24  # characters; outlines in one cell are longer than the csv module's limit
_END = "\0"  # line that is read after the last one, where no text has it
_ZIP, _OLD_EXCEL = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_ENCODINGS = ("utf-8", "cp1252", "mac_roman", "cp850")  # the last three: Excel's CSV on Windows, for Macintosh, MS-DOS
_LETTERS = re.compile("[äöüßÄÖÜéèêëàâáçîïíñóôõãúûùÉÁÇ]")  # of the five languages
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad]")  # what is copied from web pages and documents
_IMAGE = re.compile(r"\.(png|jpe?g|pgm|tiff?|dcm|dicom)$", re.IGNORECASE)  # ends the name of an image's file
_POINTER = "version https://git-lfs"  # begins what Git leaves in place of a large file
_BOMS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))


def read_text(path: str | Path) -> str:
    """Read a text file: UTF-8 or UTF-16, with or without a byte order mark, or else as Excel writes it without Unicode.

    Of Windows-1252, Macintosh and MS-DOS it is the encoding that gives most accented letters of the five languages.

    Raises:
        DataError: The file cannot be read, or is not a text.
    """
    return _decode(_content(path), path)


def read_columns(path: str | Path) -> list[str]:
    """Read the names in the first line of a table; empty if there is none."""
    return _names(next(_lines(path), []))


def read_table(path: str | Path, keep: Collection[str] | None = None) -> list[dict[str, str]]:
    """Read the rows of a table as dicts; spaces and line breaks around a value are removed, empty rows are skipped.

    The delimiter is the one that a first line ``sep=;`` states, or else the one of comma, semicolon, tab and bar that
    is most frequent in the header.

    Args:
        path: Table to read, a text or a workbook, whose first sheet with a cell is taken.
        keep: Names of the wanted columns, as far as they exist; ``None``: all. Some tables have a hundred more than
            anybody needs, and half a million rows.

    Raises:
        DataError: The file cannot be read, is not a table, has no columns, two of one name, or a row of another length.
    """
    lines = _lines(path)
    columns = _names(next(lines, []))
    values = [cell for cell in columns if _IMAGE.search(cell)]
    if values:
        problem = f"has values in its first line ({values[0][:40]}), where the names of columns are to be"
        raise DataError(problem, source=path, remedy="put them above it, such as path, patient, label")
    second = next(lines, None)
    if second is not None:
        _refuse_second_header(columns, second, path)
        lines = itertools.chain([second], lines)
    if not any(columns):
        raise DataError("has no columns", source=path, remedy="give a table whose first line names its columns")
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise DataError(f"has two columns '{twice[0]}'", source=path, remedy="rename one of them")
    kept = [(index, name) for index, name in enumerate(columns) if name and (keep is None or name in keep)]
    rows: list[dict[str, str]] = []
    number = 0
    for cells in lines:
        number += 1
        if len(cells) != len(columns):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) < len(columns) or any(cell.strip() for cell in cells[len(columns) :]):
                raise _ragged(cells, columns, f"{path}, row {number}")
        row = {name: cells[index].strip() for index, name in kept}
        if any(row.values()) or any(cell.strip() for cell in cells):
            rows.append(row if number == len(rows) + 1 else _Numbered(row, number))
    return rows


class _Numbered(dict[str, str]):
    """Row below a row that is empty, with its number in the table."""

    def __init__(self, row: dict[str, str], number: int) -> None:
        super().__init__(row)
        self.number = number


def row_number(row: dict[str, str], position: int) -> int:
    """Return the number of a row in its table, empty rows counted, from its position among the others."""
    return getattr(row, "number", position)


def _is_header(columns: list[str], cells: list[str]) -> bool:
    """Return whether cells below a header are names of columns, two or more, or all of the nameless columns."""
    names = columns + [""] * (len(cells) - len(columns))
    below = [cell for index, cell in enumerate(cells) if cell.strip() and not names[index] and any(names[:index])]
    is_merged = bool(below) and all(names_a_column(cell) or our_word("view", cell) for cell in below)
    return is_merged or sum(map(names_a_column, cells)) > 1


def _refuse_second_header(columns: list[str], cells: list[str], path: str | Path) -> None:
    """Refuse a second line of column names, as below a title or below merged cells of a spreadsheet."""
    if _is_header(columns, cells):
        again = ", ".join(cell.strip() for cell in cells if cell.strip())
        problem = f"names columns again ({again}) below a line with {', '.join(filter(None, columns))}"
        remedy = "the header must be one line that gives every column its own name, without a title or merged cells"
        raise DataError(problem, source=f"{path}, row 1", remedy=remedy)


def _unclosed(column: str, place: str) -> DataError:
    problem = f"column '{column}' has a quotation mark that is not closed"
    return DataError(problem, source=place, remedy="remove it, or close it at the end of its cell")


def _ragged(cells: list[str], columns: list[str], place: str) -> DataError:
    remedy = "quote values that hold the delimiter"
    broken = next((index for index, cell in enumerate(cells) if "\n" in cell), None)
    if broken is not None:  # the cell holds what was to be the next row
        return _unclosed(columns[min(broken, len(columns) - 1)], place)
    if len(cells) == len(columns) + 1:
        remedy += ", or name the first column too: R leaves it out"
    if len(columns) == 1:
        remedy = "the first line must name the columns: remove what is above them"
    return DataError(f"has {len(cells)} values for {len(columns)} columns", source=place, remedy=remedy)


def _names(cells: Iterable[str]) -> list[str]:
    names = [name.strip() for name in cells]
    while names and not names[-1]:  # Excel writes delimiters for cells that were once used
        names.pop()
    return names


def _lines(path: str | Path) -> Iterator[list[str]]:
    content = _content(path)
    if content.startswith(_ZIP):
        return _sheet(content, path)
    if content.startswith(_OLD_EXCEL):
        problem = "is an old Excel workbook (.xls)"
        raise DataError(problem, source=path, remedy="open it and save it as .xlsx or as CSV")
    text = _decode(content, path)
    if "office:spreadsheet" in text[:1000]:
        raise DataError("is a spreadsheet in XML", source=path, remedy="open it and save it as .xlsx or as CSV")
    if re.match(r"\s*<[!?a-z]", text[:1000], re.IGNORECASE):
        problem = "is a web page, not a table"
        raise DataError(problem, source=path, remedy="download the table itself: a login may have come in its place")
    if text.startswith(_POINTER):
        problem = "is what Git leaves in place of a large file"
        raise DataError(problem, source=path, remedy="fetch the table itself: git lfs pull")
    if text[:1000].lstrip().startswith(("{", "[{", "[[")):
        raise DataError("is JSON, not a table", source=path, remedy="save it as CSV, or give `load` a DataFrame")
    return _delimited(text, path)


def _delimited(text: str, path: str | Path) -> Iterator[list[str]]:
    text = text.lstrip("\r\n")  # rows above the header that a program left empty
    first, *_ = re.split(r"[\r\n]", text[:_LARGEST_FIELD], maxsplit=1)
    if first.strip().lower().startswith("sep=") and len(first) <= len("sep=") + 1:
        delimiter, text = first[len("sep=") :] or ",", text[len(first) :].lstrip("\r\n")
    else:
        unquoted = re.sub('"[^"]*"', "", first)
        delimiter = max(_DELIMITERS, key=unquoted.count)
    csv.field_size_limit(_LARGEST_FIELD)
    # values may hold line breaks inside quotes: only a csv reader may cut the rows
    end = "" if text.endswith("\n") else "\n"
    reader = csv.reader(itertools.chain(io.StringIO(text + end, newline=""), [_END]), delimiter=delimiter)
    columns: list[str] = []
    number = 0
    try:
        for row in reader:
            if row[-1:] != [_END] and row and row[-1].endswith(_END):  # it went on to the end
                raise _unclosed((columns or row)[min(len(row), len(columns or row)) - 1][:40], f"{path}, row {number}")
            if row != [_END]:
                columns = columns or row
                yield [plain_cell(cell) for cell in row]
                number += 1
    except csv.Error as error:
        problem = f"has a cell that cannot be read ({error})"
        remedy = "a quotation mark may not be closed; or save it as CSV again"
        raise DataError(problem, source=f"{path}, row {number}", remedy=remedy) from error


def _content(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise DataError("there is no such file", source=path, remedy="check the path") from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", source=path, remedy="check its permissions") from error


def _decode(content: bytes, path: str | Path) -> str:
    encoding = next((name for mark, name in _BOMS if content.startswith(mark)), None)
    if encoding is None and content[1:200:2].count(0) > len(content[1:200:2]) // 2:
        encoding = "utf-16-le"  # as Windows writes it, the mark lost
    texts = []
    for name in (encoding,) if encoding else _ENCODINGS:
        try:
            texts.append(content.decode(name))
        except UnicodeDecodeError:
            continue
        if name not in _ENCODINGS[1:]:
            break
    found = max(texts, key=lambda text: len(_LETTERS.findall(text[:_LARGEST_FIELD])), default="\0")
    if "\0" in found[:_LARGEST_FIELD]:
        raise DataError("is not a text", source=path, remedy="give a table as CSV or .xlsx")
    return _INVISIBLE.sub("", found)


def _sheet(content: bytes, path: str | Path) -> Iterator[list[str]]:
    """Read the first sheet of a workbook with known columns in its header, or else the first with a cell.

    What is to the right of its header is left out.
    """
    try:
        import openpyxl  # an extra: most tables are text
    except ImportError as error:
        remedy = f"{install('excel')}, or save it as CSV"
        raise UsageError("is an Excel workbook, which needs openpyxl", source=path, remedy=remedy) from error
    try:
        sheets = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True).worksheets
        found = [(first, rows) for first, rows in map(_begun, sheets) if first is not None]
        first, rows = max(found, key=lambda one: sum(map(names_a_column, one[0])) > 1, default=([], iter(())))
        columns = _names(first)
        width = len(columns)
        yield columns
        for number, row in enumerate(rows):
            is_whole = number == 0 and _is_header(columns, row)  # a title is shorter than the header below it
            yield row if is_whole else row[:width] + [""] * (width - len(row))
    except Exception as error:  # whatever a damaged or other kind of zip file makes openpyxl raise
        raise DataError("is not a readable workbook", source=path, remedy="save it again as .xlsx or CSV") from error


def _begun(sheet: Any) -> tuple[list[str] | None, Iterator[list[str]]]:
    """Return the first row of a sheet that has a cell, and the rows below it."""
    rows = ([cell_text(cell) for cell in row] for row in sheet.iter_rows(values_only=True))
    return next((row for row in rows if any(row)), None), rows


def cell_text(value: Any) -> str:
    """Return a value of a workbook or of a DataFrame as a table in a text file would hold it."""
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, str):
        return _INVISIBLE.sub("", value)
    if isinstance(value, float) and value.is_integer():  # whole numbers with a gap become floats in pandas
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)
