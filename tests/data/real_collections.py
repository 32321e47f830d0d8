"""Real mammograms as CBIS-DDSM lays its own out: mini-MIAS and CDD-CESM, turned into DICOM at test time.

The images stay where they are; what is written goes below a test's own folder.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cbis_miniature import Finding, film_path, region_paths, write_dicom, write_tables
from PIL import Image, ImageDraw

MIAS_SIDE = 1024  # pixels of every film of mini-MIAS
_MIAS_DENSITY = {"F": "1", "G": "2", "D": "3"}  # fatty, glandular, dense: three classes where CBIS-DDSM has four
_MIAS_PATHOLOGY = {"B": "BENIGN", "M": "MALIGNANT"}
_CESM_DENSITY = {"A": "1", "B": "2", "C": "3", "D": "4", "_": "0"}


class Film(NamedTuple):
    """A real film: its picture, its findings with their masks, or a normal film's name where it has none."""

    picture: Path
    name: str
    findings: list[tuple[Finding, np.ndarray | None]]


def circle_mask(column: float, row: float, radius: float, size: tuple[int, int]) -> np.ndarray:
    """bool (rows, columns)."""
    y, x = np.ogrid[: size[0], : size[1]]
    mask: np.ndarray = (x - column) ** 2 + (y - row) ** 2 <= radius**2
    return mask


def mini_mias(folder: Path) -> Iterator[Film]:
    """The films of mini-MIAS that are there; each fourth patient is in the test split.

    In ``Info.txt`` y counts from the bottom of the film. Odd films show the right breast. Rows without coordinates
    become findings without a mask.
    """
    for path in sorted(folder.glob("mdb*.png")):
        number = int(path.stem.removeprefix("mdb"))
        patient = (number + 1) // 2
        base = Finding(
            patient, "RIGHT" if number % 2 else "LEFT", "MLO", split="train" if patient % 4 else "test", density="0"
        )
        findings = []
        for tissue, kind, *rest in _mias_rows(folder)[path.stem]:
            if not rest:
                continue
            row = base._replace(
                kind="calcification" if kind == "CALC" else "mass",
                number=len(findings) + 1,
                pathology=_MIAS_PATHOLOGY[rest[0]],
                density=_MIAS_DENSITY[tissue],
            )
            place = rest[1:]
            known = len(place) == 3 and all(value.isdigit() for value in place)
            x, y, radius = (int(value) for value in place) if known else (0, 0, 0)
            size = (MIAS_SIDE, MIAS_SIDE)
            findings.append((row, circle_mask(x, MIAS_SIDE - y, radius, size) if known else None))
        yield Film(path, base.film, findings)


def _mias_rows(folder: Path) -> dict[str, list[list[str]]]:
    rows: dict[str, list[list[str]]] = {}
    for line in (folder / "Info.txt").read_text(encoding="latin-1").splitlines():
        if line.startswith("mdb"):
            name, *cells = line.split()
            rows.setdefault(name, []).append(cells)
    return rows


def cdd_cesm(folder: Path) -> Iterator[Film]:
    """The low-energy views of CDD-CESM; each third patient is in the test split.

    Every outline of an image becomes a finding with the image's pathology; images called normal have none.
    """
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        for cells in csv.DictReader(file):
            patient = int(cells["patient_id"])
            base = Finding(
                patient,
                {"L": "LEFT", "R": "RIGHT"}[cells["side"]],
                cells["view"],
                split="train" if patient % 3 else "test",
                density=_CESM_DENSITY[cells["density_acr"]],
            )
            size = int(cells["height"]), int(cells["width"])
            regions = json.loads(cells["regions_json"]) if cells["pathology"] != "Normal" else []
            findings = [
                (base._replace(number=number, pathology=cells["pathology"].upper()), region_mask(region, size))
                for number, region in enumerate(regions, start=1)
            ]
            yield Film(folder / cells["path"], base.film, findings)


def region_mask(region: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """One outline of CDD-CESM's annotations, filled; bool (rows, columns)."""
    if region["name"] == "circle":
        return circle_mask(region["cx"], region["cy"], region["r"], size)
    picture = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(picture)
    if region["name"] == "ellipse":
        x, y, rx, ry = (region[key] for key in ("cx", "cy", "rx", "ry"))
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=1)
    else:
        draw.polygon(list(zip(region["all_points_x"], region["all_points_y"], strict=True)), fill=1)
    return np.asarray(picture)


def write_real_collection(root: Path, films: Iterable[Film]) -> Path:
    """Writes films, crops, masks and the four tables; a normal film lies beside the others and stands in no table."""
    rows = []
    for film in films:
        with Image.open(film.picture) as picture:
            pixels = np.asarray(picture.convert("L"))
        # CBIS-DDSM names a film by the table it stands in: a film with both kinds of finding is there twice
        for name in sorted({row.film for row, _ in film.findings} or {film.name}):
            write_dicom(root / film_path("by_kind", name), pixels, name, "full mammogram images")
        for row, mask in film.findings:
            rows.append(row)
            if mask is not None and mask.any():
                crop_path, mask_path = region_paths("by_kind", row.region)
                write_dicom(root / crop_path, pixels[_box(mask)], row.region, "cropped images")
                write_dicom(root / mask_path, mask.astype(np.uint8) * 255, row.region, "ROI mask images")
    write_tables(root, rows)
    return root


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
