"""mini-MIAS: 322 digitised MLO films of 161 women, 8 bit, 1024 x 1024 pixels of 200 micrometres.

Suckling et al., "The Mammographic Image Analysis Society digital mammogram database", Excerpta Medica International
Congress Series 1069, 375-378 (1994).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ...errors import DataError
from ..collection import Collection, Rejected, most_severe
from ..findings import Finding, finding
from ..privacy import salted_hash
from ..schema import TASKS as COMMON
from ..schema import Row, task_list
from .contents import files_below, find_tables, missing_files
from .tables import read_text

NAME = "mini-mias"
LOOKS_FOR = "Info.txt with lines such as 'mdb001 G CIRC B 535 425 197', in the folder or at most two folders below"
LICENCE = "research only, see Licence.txt; cite Suckling et al. 1994"
TERMS = {
    "read_at": "Licence.txt of the collection, which does not speak of derived weights",
    "commercial": "no",
    "citation": "Suckling et al. 1994, The Mammographic Image Analysis Society Digital Mammogram Database",
}
TASKS = {
    "pathology": COMMON["pathology"],
    "cancer": COMMON["cancer"],
    "abnormality": ("normal", "asymmetry", "distortion", "mass", "calcification"),
    "tissue": COMMON["tissue"],
}
LOCATIONS = "circles"
OFFICIAL_SPLIT = "none"
QUIRKS = (
    "The y of a centre counts from the bottom: row = 1024 - y.",
    "One film has no coordinates and three have a note instead: findings without a location.",
    "The centre that is given for mdb212 is in the background of the film.",
    "A line without a severity that can be read is listed as rejected; whether its film shows cancer is not known.",
    "Seven films have more than one line, one of them a benign and a malignant lesion.",
    "Odd numbers are right breasts, even numbers left; the films are stored mirrored.",
    "Published as PGM; PNG is read too, and preferred if both exist.",
)
_SIZE = 1024
_LINE = re.compile(r"mdb(\d{3})\s+([FGD])\s+(CALC|CIRC|SPIC|MISC|ARCH|ASYM|NORM)\b\s*([A-Za-z]?)(?!\S)\s*(.*)")
_FILM = re.compile(r"mdb\d{3}\.(pgm|png)")
_TISSUE = {"F": "fatty", "G": "glandular", "D": "dense"}
_KIND = {"CALC": "calcification", "ARCH": "distortion", "ASYM": "asymmetry", "NORM": "normal"}
_PATHOLOGY = {"B": "benign", "M": "malignant"}


def recognises(root: Path) -> bool:
    """Return whether a folder holds the collection's Info.txt."""
    found = find_tables(root, ["info.txt"])
    return any(_LINE.match(line) for line in read_text(found["info.txt"]).splitlines()) if found else False


def load(root: Path, max_missing: float = 0.5) -> Collection:
    """Read the collection.

    Args:
        root: Folder that holds Info.txt, with the films next to or below it.
        max_missing: Fraction of the films that may be missing.

    Raises:
        DataError: There is no Info.txt, a line contradicts another, or too many films are missing.
    """
    found = find_tables(root, ["info.txt"])
    if not found:
        raise DataError("has no Info.txt", source=root, remedy=f"{NAME} needs {LOOKS_FOR}")
    rejected: list[Rejected] = []
    lines = _lines(read_text(found["info.txt"]), rejected)
    films = _films(Path(root), rejected)
    rejected += [
        Rejected(films[number], "no line of Info.txt describes it") for number in sorted(set(films) - set(lines))
    ]
    missing = [f"mdb{number:03d}" for number in sorted(set(lines) - set(films))]
    rejected += [Rejected(f"Info.txt, {name}", "there is no such film", "missing") for name in missing]
    notes = missing_files(missing, len(lines), max_missing, root)
    rows = [_row(number, films[number], lines[number]) for number in sorted(lines) if number in films]
    return Collection.from_rows(rows, tasks=task_list(TASKS), salt_name=NAME, notes=notes, rejected=rejected)


def _lines(text: str, rejected: list[Rejected]) -> dict[int, list[re.Match[str]]]:
    """Return the lines of each film; a line that is not understood, in whole or in part, is listed as rejected."""
    lines: dict[int, list[re.Match[str]]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        place = f"Info.txt, line {number}"
        matched = _LINE.match(line)
        if matched is None:
            if re.match(r"mdb\d", line):
                rejected.append(Rejected(place, "is not understood"))
            continue
        lines.setdefault(int(matched[1]), []).append(matched)
        if matched[3] != "NORM" and matched[4] not in _PATHOLOGY:
            rejected.append(Rejected(place, "has no severity that can be read"))
        if matched[5].strip() and _centre(matched) is None and "NOTE" not in matched[5]:
            rejected.append(Rejected(place, "has no centre and radius that can be read"))
    return lines


def _films(root: Path, rejected: list[Rejected]) -> dict[int, str]:
    """Find the films by number; a PNG is preferred to a PGM."""
    paths = files_below(root, rejected, lambda entry: _FILM.fullmatch(entry.name.lower()) is not None)
    films: dict[int, str] = {}
    for path in sorted(paths, key=lambda path: path.lower().endswith(".png")):
        films[int(os.path.basename(path)[3:6])] = path
    return films


def _row(number: int, path: str, lines: list[re.Match[str]]) -> Row:
    if len({line[2] for line in lines}) > 1:
        raise DataError("gives one film two tissues", source=f"Info.txt, mdb{number:03d}", remedy="restore the file")
    patient = salted_hash(f"patient {(number + 1) // 2}", NAME)
    pathology = most_severe([_PATHOLOGY.get(line[4]) for line in lines], TASKS["pathology"])
    unread = any(line[3] != "NORM" and line[4] not in _PATHOLOGY for line in lines)
    kinds = [_KIND.get(line[3], "mass") for line in lines]
    return {
        "image_id": salted_hash(f"mdb{number:03d}", NAME),
        "path": path,
        "patient": patient,
        "exam": patient,
        "laterality": "R" if number % 2 else "L",
        "view": "MLO",
        "source": NAME,
        "split": "train",
        "pathology": pathology,
        "cancer": "yes" if pathology == "malignant" else None if unread else "no",
        "abnormality": most_severe(kinds, TASKS["abnormality"]),
        "tissue": _TISSUE[lines[0][2]],
        "findings": [_finding(line) for line in lines if line[3] != "NORM"],
    }


def _finding(line: re.Match[str]) -> Finding:
    return finding(_KIND.get(line[3], "mass"), _PATHOLOGY.get(line[4]), circle=_centre(line))


def _centre(line: re.Match[str]) -> tuple[int, int, int] | None:
    """Return (row, column, radius) in pixels; ``None`` if the line does not say them."""
    found = re.fullmatch(r"(\d+)\s+(\d+)\s+(\d+)", line[5].strip())
    return None if found is None or int(found[3]) == 0 else (_SIZE - int(found[2]), int(found[1]), int(found[3]))
