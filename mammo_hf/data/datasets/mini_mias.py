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
TASKS = {
    "pathology": COMMON["pathology"],
    "cancer": COMMON["cancer"],
    "abnormality": ("normal", "asymmetry", "distortion", "mass", "calcification"),
    "tissue": COMMON["tissue"],
}
OFFICIAL_SPLIT = "none"
QUIRKS = (
    "The y of a centre counts from the bottom: row = 1024 - y.",
    "One film has no coordinates and three have a note instead: findings without a location.",
    "Seven films have more than one line, one of them a benign and a malignant lesion.",
    "Odd numbers are right breasts, even numbers left; the films are stored mirrored.",
    "Published as PGM; PNG is read too, and preferred if both exist.",
)
_SIZE = 1024
_LINE = re.compile(r"mdb(\d{3})\s+([FGD])\s+(CALC|CIRC|SPIC|MISC|ARCH|ASYM|NORM)\b\s*([BM]?)\s*(.*)")
_FILM = re.compile(r"mdb\d{3}\.(pgm|png)")
_TISSUE = {"F": "fatty", "G": "glandular", "D": "dense"}
_KIND = {"CALC": "calcification", "ARCH": "distortion", "ASYM": "asymmetry", "NORM": "normal"}
_PATHOLOGY = {"B": "benign", "M": "malignant", "": None}


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
    lines: dict[int, list[re.Match[str]]] = {}
    for line in read_text(found["info.txt"]).splitlines():
        matched = _LINE.match(line)
        if matched:
            lines.setdefault(int(matched[1]), []).append(matched)
    rejected: list[Rejected] = []
    films = _films(Path(root), rejected)
    missing = [f"mdb{number:03d}" for number in sorted(set(lines) - set(films))]
    rejected += [Rejected(f"Info.txt, {name}", "there is no such film", "missing") for name in missing]
    notes = missing_files(missing, len(lines), max_missing, root)
    rows = [_row(number, films[number], lines[number]) for number in sorted(lines) if number in films]
    return Collection.from_rows(rows, tasks=task_list(TASKS), salt_name=NAME, notes=notes, rejected=rejected)


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
    pathology = most_severe([_PATHOLOGY[line[4]] for line in lines], TASKS["pathology"])
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
        "cancer": "yes" if pathology == "malignant" else "no",
        "abnormality": most_severe(kinds, TASKS["abnormality"]),
        "tissue": _TISSUE[lines[0][2]],
        "findings": [_finding(line) for line in lines if line[3] != "NORM"],
    }


def _finding(line: re.Match[str]) -> Finding:
    location = re.fullmatch(r"(\d+)\s+(\d+)\s+(\d+)", line[5].strip())
    circle = None if location is None else (_SIZE - int(location[2]), int(location[1]), int(location[3]))
    return finding(_KIND.get(line[3], "mass"), _PATHOLOGY[line[4]], circle=circle)
