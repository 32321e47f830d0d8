"""Fetching public collections from the NCI Imaging Data Commons: what would come, how much, under which licence.

The selection is made on the index that the package ``idc-index-data`` carries, so that nothing is asked of the network
before the files themselves; ``idc-index`` then fetches them with s5cmd.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ...errors import DataError, UsageError
from .cbis_ddsm import TABLES, parse_name

COLLECTIONS = {
    "cbis-ddsm": "cbis_ddsm",
    "cmmd": "cmmd",
    "breast-cancer-screening-dbt": "breast_cancer_screening_dbt",
    "victre": "victre",
}


"""From our names to the Imaging Data Commons'."""


LAYOUT = "%collection_id/%PatientID/%SeriesInstanceUID"
_ROUNDING = 1e-4
RESERVE = 0.02  # share of the size kept free for what the file system itself takes
_COLUMNS = [
    *("PatientID", "SeriesInstanceUID", "SeriesDescription", "instanceCount", "series_size_MB"),
    *("license_short_name", "source_DOI"),
]
_LABELS = {
    "cbis-ddsm": (
        "csv",
        tuple(TABLES),
        "https://www.cancerimagingarchive.net/collection/cbis-ddsm/",
    ),
    "cmmd": (
        "",
        ("CMMD_clinicaldata_revision.csv",),
        "https://www.cancerimagingarchive.net/collection/cmmd/ (save the spreadsheet as CSV)",
    ),
}


@dataclass(frozen=True)
class Series:
    """One series of the index; `megabytes` are of 10**6 bytes."""

    patient_id: str
    uid: str
    description: str
    instances: int
    megabytes: float


@dataclass(frozen=True)
class Selection:
    """What a download consists of."""

    name: str
    series: tuple[Series, ...]
    licence: str
    doi: str

    @property
    def gigabytes(self) -> float:
        """Size of all files in 10**9 bytes."""
        return sum(series.megabytes for series in self.series) / 1000

    @property
    def patients(self) -> int:
        """How many persons; in CBIS-DDSM many a PatientID stands for one."""
        return len({_person(series.patient_id) for series in self.series})


def select(name: str, subset: str = "all") -> Selection:
    """The series of a collection.

    Args:
        name: One of ``COLLECTIONS``.
        subset: "all"; a number of patients (the first by name); for CBIS-DDSM also "full" (whole films alone), "mass"
            or "calc" (films, crops and masks of one lesion type; series of the short form do not tell theirs and
            come with both).

    Raises:
        UsageError: An unknown collection or subset, or ``idc-index`` is not installed.
    """
    if name not in COLLECTIONS:
        raise UsageError("is no collection that can be fetched", source=name, remedy=f"known: {', '.join(COLLECTIONS)}")
    rows = _index(_package("idc_index_data").IDC_INDEX_PARQUET_FILEPATH)[COLLECTIONS[name]]
    series = [
        Series(
            row["PatientID"],
            row["SeriesInstanceUID"],
            row["SeriesDescription"] or "",
            row["instanceCount"],
            row["series_size_MB"],
        )
        for row in rows
    ]
    licences = " and ".join(sorted({row["license_short_name"] for row in rows}))
    doi = ", ".join(sorted({f"https://doi.org/{row['source_DOI']}" for row in rows}))
    kept = tuple(sorted(_subset(name, series, subset), key=lambda one: (one.patient_id, one.uid)))
    return Selection(name, kept, licences, doi)


@cache
def _index(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of our collections, read in one pass: the index has a million others."""
    wanted = list(COLLECTIONS.values())
    table = pq.read_table(path, columns=["collection_id", *_COLUMNS], filters=[("collection_id", "in", wanted)])
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    for row in table.to_pylist():
        found[row["collection_id"]].append(row)
    return found


def _subset(name: str, series: list[Series], subset: str) -> Iterable[Series]:
    if subset == "all":
        return series
    if subset.isdecimal() and int(subset) > 0:
        persons = sorted({_person(one.patient_id) for one in series})[: int(subset)]
        return [one for one in series if _person(one.patient_id) in set(persons)]
    if name != "cbis-ddsm" or subset not in ("full", "mass", "calc"):
        words = "all, full, mass, calc" if name == "cbis-ddsm" else "all"
        raise UsageError("is no subset", source=subset, remedy=f"choose from {words}, or a number of patients")
    if subset == "full":
        return [one for one in series if is_film(one)]
    wanted = {"mass": "mass", "calc": "calcification"}[subset]
    return [one for one in series if (found := parse_name(one.patient_id)) is None or found.kind in (None, wanted)]


def is_film(series: Series) -> bool:
    """Whether a series of CBIS-DDSM is a whole film: by its description, or by its name where that is empty."""
    if series.description:
        return series.description == "full mammogram images"
    name = parse_name(series.patient_id)
    return name is not None and name.number is None


def _person(patient_id: str) -> str:
    name = parse_name(patient_id)
    return patient_id if name is None else name.film.patient


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            "downloads need the package idc-index", source=name, remedy='pip install "mammo-hf[download]"'
        ) from error


def check_space(selection: Selection, dest: Path) -> None:
    """Checks that what is still to come fits on the disk.

    Raises:
        DataError: It does not; says how much is needed and free.
    """
    folder = next(parent for parent in (dest, *dest.resolve().parents) if parent.exists())
    needed = sum(series.megabytes for series in incomplete(selection, dest)) / 1000 * (1 + RESERVE)
    free = shutil.disk_usage(folder).free / 1e9
    if needed > free:
        raise DataError(
            f"{needed:.1f} GB are still to come, {free:.1f} GB are free",
            source=dest,
            remedy="choose another disk, or a smaller --subset",
        )


def incomplete(selection: Selection, dest: Path) -> list[Series]:
    """The series that are not there with all their files and bytes."""
    return [series for series in selection.series if not _is_whole(series, series_folder(selection, series, dest))]


def _is_whole(series: Series, folder: Path) -> bool:
    if not folder.is_dir():
        return False
    sizes = [path.stat().st_size for path in folder.iterdir() if path.suffix == ".dcm"]
    # the index rounds the size of a series
    return len(sizes) >= series.instances and sum(sizes) >= series.megabytes * 1e6 * (1 - _ROUNDING)


def series_folder(selection: Selection, series: Series, dest: Path) -> Path:
    """Where a series' files lie below a download's folder."""
    return dest / COLLECTIONS[selection.name] / series.patient_id / series.uid


def fetch(selection: Selection, dest: Path) -> None:
    """Downloads a selection; what is there whole is not fetched again, so an interrupted download goes on.

    The licence is written beside the data first.

    Raises:
        UsageError: ``idc-index`` is not installed.
        DataError: The disk is too small, or files are still missing at the end: run it again.
    """
    check_space(selection, dest)
    dest.mkdir(parents=True, exist_ok=True)
    (dest / "LICENCE.txt").write_text(licence_text(selection), encoding="utf-8")
    pending = incomplete(selection, dest)
    if pending:
        client = _package("idc_index").IDCClient()
        client.download_from_selection(
            downloadDir=str(dest),
            seriesInstanceUID=[series.uid for series in pending],
            dirTemplate=LAYOUT,
            use_s5cmd_sync=True,
            quiet=True,
        )
    missing = incomplete(selection, dest)
    if missing:
        raise DataError(
            f"{len(missing)} of {len(selection.series)} series did not arrive whole",
            source=dest,
            remedy="run the same command again: it fetches what is missing",
        )


def licence_text(selection: Selection) -> str:
    """What is written beside the data."""
    return f"{selection.name}: {selection.licence}\nCite: {selection.doi}\nFetched from the NCI Imaging Data Commons.\n"


def wanted_labels(name: str, dest: Path) -> str | None:
    """What must be put where before a collection has labels; ``None`` where all is there or nothing is known."""
    if name not in _LABELS:
        return None
    folder, names, where = _LABELS[name]
    missing = [label for label in names if not (dest / folder / label).is_file() and not (dest / label).is_file()]
    if not missing:
        return None
    return f"labels: put {', '.join(missing)} into {dest / folder}; they are at {where}"
