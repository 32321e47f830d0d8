"""Reports of what the reader found in a file and which rules it used, as plain data and as text."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from enum import Enum
from typing import Any

import numpy as np

from ..notes import codes, counts_text
from .header import MammogramHeader
from .reader import Mammogram, read_header, read_mammogram
from .types import MammogramError

_UNKNOWN = "unknown"
_MOST_VALUES = 1000  # different values of a group that are counted one by one
# free text, and how the words of the file are laid out
_LEFT_OUT = {"series_description", "bits_allocated", "high_bit"}


def mammogram_report(mammogram: Mammogram) -> dict[str, Any]:
    """Return the facts of a mammogram, each a text, a number, a list, or ``None`` if the file does not give it.

    SeriesDescription is left out: it is free text.
    """
    middle = mammogram.frame(len(mammogram.stored) // 2)
    return {
        "file": mammogram.source,
        "refused": None,
        **_header_facts(mammogram.header),
        "transfer_syntax": mammogram.stored.syntax.name,
        "intensity_source": mammogram.intensity_source,
        "stored_range": [int(middle.min()), int(middle.max())],
        "black_fraction": round(float(np.mean(mammogram.intensity(len(mammogram.stored) // 2) == 0)), 4),
    }


def _header_facts(header: MammogramHeader) -> dict[str, Any]:
    names = [field.name for field in fields(header) if field.name not in _LEFT_OUT]
    return {name: _plain(getattr(header, name)) for name in names}


def file_report(path: str | os.PathLike[str], **options: Any) -> tuple[dict[str, Any], Mammogram | None]:
    """Return the report of a file, and the mammogram.

    The report of a refused file holds the reason under "refused", and the facts of its header if that can be read: its
    compression may have no decoder here.

    Args:
        path: Path of the file.
        **options: Options of ``read_mammogram``.
    """
    try:
        mammogram = read_mammogram(path, **options)
        return mammogram_report(mammogram), mammogram
    except MammogramError as error:
        refused = {"file": os.fspath(path), "refused": error.problem, "remedy": error.remedy, "code": error.code}
        if error.code == "not_a_breast" and not options.get("any_anatomy"):
            # what it shows instead is in its facts
            return file_report(path, **{**options, "any_anatomy": True})[0] | refused, None
    with suppress(MammogramError):
        header = read_header(path, use_descriptions=options.get("use_descriptions", True))
        return _header_facts(header) | refused, None
    return refused, None


def report_text(report: Mapping[str, Any]) -> str:
    """Return a report as text, one line per group of facts."""
    lines = {} if report["refused"] is None else {"refused": f"{report['refused']}; {report['remedy']}"}
    if "photometric" in report:
        lines |= _header_lines(report)
    elif report["refused"] is None:
        lines["image"] = f"{report['format']}, {report['rows']} x {report['columns']}"
    if report["refused"] is None:
        lowest, highest = report["stored_range"]
        lines["values"] = f"{lowest} to {highest}, {100 * report['black_fraction']:.1f} % of the pixels black"
    if "intensity_source" in report:
        lines["intensity"] = report["intensity_source"]
    more = [("note", note) for note in report.get("contradictions", ())]
    if "picture" in report:
        more.append(("picture", report["picture"]))
    return "\n".join([report["file"], *(f"  {name:<12}{value}" for name, value in (*lines.items(), *more))])


def _header_lines(report: Mapping[str, Any]) -> dict[str, str]:
    found = {name: _words(value) for name, value in report.items()}
    modifiers = f" ({found['modifiers']})" if report["modifiers"] else ""
    syntax = f", {report['transfer_syntax']}" if "transfer_syntax" in report else ""
    return {
        "view": f"{found['laterality']} {found['view']}{modifiers}, orientation {found['orientation']}",
        "image": f"{found['kind']}, {found['intent']}, {found['vendor']}, implant {found['implant']}",
        "pixels": f"{report['frames']} x {report['rows']} x {report['columns']}, {report['bits_stored']} bits"
        f"{', signed' if report['signed'] else ''}, {found['photometric']}{syntax}",
        "spacing": f"{found['spacing_mm']} mm by {report['spacing_source']}" if report["spacing_mm"] else _UNKNOWN,
        "exposure": f"{found['kvp']} kV, {found['exposure_mas']} mAs, {found['compression_force_n']} N, "
        f"{found['thickness_mm']} mm",
    }


def summary_table(reports: Iterable[Mapping[str, Any]]) -> str:
    """Return a table of how often each vendor, kind, view, refusal and so on was found among many reports.

    Its last lines count notes and refusals by code.
    """
    counts: dict[str, Counter[str]] = {}
    total, notes, refusals = 0, Counter[str](), Counter[str]()
    for report in reports:
        total += 1
        notes.update(codes(report.get("contradictions", ())) if report["refused"] is None else ())
        refusals.update([report["code"]] if report["refused"] is not None else ())
        for group, value in _groups(report):
            of_group = counts.setdefault(group, Counter())
            # texts may hold numbers of the file: a large archive must not fill the memory with them
            of_group[value if value in of_group or len(of_group) < _MOST_VALUES else "others"] += 1
    refused = sum(counts.get("refused", Counter()).values())
    lines = [f"{total} files, {total - refused} read, {refused} refused"]
    for group, values in counts.items():
        for index, (value, count) in enumerate(values.most_common()):
            lines.append(f"{group if not index else '':<12}{count:>7}  {value}")
    return "\n".join(lines) + counts_text(notes, refusals)


def _groups(report: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if report["refused"] is not None:
        yield "refused", report["refused"]
        return
    if "photometric" not in report:
        yield "kind", report["format"]
        return
    yield "vendor", _words(report["vendor"])
    yield "kind", _words(report["kind"])
    yield "view", f"{_words(report['laterality'])} {_words(report['view'])}"
    yield "bits", f"{report['bits_stored']}{' signed' if report['signed'] else ''}, {report['photometric']}"
    yield "syntax", report["transfer_syntax"]
    yield "intensity", report["intensity_source"]
    yield "spacing", report["spacing_source"] or _UNKNOWN


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value or None
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _words(value: Any) -> str:
    if value is None or value == []:
        return _UNKNOWN
    if isinstance(value, list):
        return ", ".join(_words(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
