"""Download of public collections from the NCI Imaging Data Commons: what is fetched, how much, under which licence.

The selection is made on the index in the package ``idc-index-data``, so that the network is used for the files only;
``idc-index`` then fetches them with s5cmd.
"""

from __future__ import annotations

import importlib
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from ...errors import DataError, UsageError, install
from ...files import size_text
from .cbis_ddsm import TABLES, parse_name

COLLECTIONS = {  # from our names to those of the Imaging Data Commons
    "cbis-ddsm": "cbis_ddsm",
    "cmmd": "cmmd",
    "breast-cancer-screening-dbt": "breast_cancer_screening_dbt",
    "victre": "victre",
}
LAYOUT = "%collection_id/%PatientID/%SeriesInstanceUID"
RESERVE = 0.02  # fraction of the size that is kept free for the file system itself
_ROUNDING = 1e-4  # the index rounds the size of a series
_COLUMNS = {  # from the columns of the index to ours
    "collection_id": "collection",
    "PatientID": "patient_id",
    "SeriesInstanceUID": "uid",
    "SeriesDescription": "description",
    "instanceCount": "instances",
    "series_size_MB": "megabytes",
    "license_short_name": "licence",
    "source_DOI": "doi",
}
_LABELS = {  # folder of the tables, their names, and where they are published
    "cbis-ddsm": ("csv", tuple(TABLES), "https://www.cancerimagingarchive.net/collection/cbis-ddsm/"),
    "cmmd": (
        "",
        ("CMMD_clinicaldata_revision.csv",),
        "https://www.cancerimagingarchive.net/collection/cmmd/ (save the spreadsheet as CSV)",
    ),
}


@dataclass(frozen=True)
class Selection:
    """Series of a download.

    Attributes:
        name: Name of the collection.
        series: Table with a row per series: patient_id, uid, description, instances (files), megabytes (of 10**6
            bytes), licence, doi.
    """

    name: str
    series: pd.DataFrame

    @property
    def gigabytes(self) -> float:
        """Size of all files in 10**9 bytes."""
        return float(self.series["megabytes"].sum()) / 1000

    @property
    def patients(self) -> int:
        """Number of persons; in CBIS-DDSM several PatientIDs belong to one."""
        return int(self.series["patient_id"].map(_person).nunique())

    @property
    def licence(self) -> str:
        """Licence of the images."""
        return " and ".join(sorted(self.series["licence"].unique()))

    @property
    def doi(self) -> str:
        """Address to cite."""
        return ", ".join(f"https://doi.org/{doi}" for doi in sorted(self.series["doi"].unique()))


def select(name: str, subset: str = "all") -> Selection:
    """Select the series of a collection.

    Args:
        name: Name of the collection, one of ``COLLECTIONS``.
        subset: "all"; a number of patients (the first by name); for CBIS-DDSM also "full" (whole films only), "mass"
            or "calc" (films, crops and masks of one lesion type; series of the short form do not state theirs and
            are in both).

    Raises:
        UsageError: An unknown collection or subset, or ``idc-index`` is not installed.
    """
    if name not in COLLECTIONS:
        known = ", ".join(COLLECTIONS)
        raise UsageError("is not a collection that can be downloaded", source=name, remedy=f"known: {known}")
    index = _index(_package("idc_index_data").IDC_INDEX_PARQUET_FILEPATH)
    series = index[index["collection"] == COLLECTIONS[name]]
    return Selection(name, series[_chosen(name, series, subset)].sort_values(["patient_id", "uid"]))


@cache
def _index(path: Path) -> pd.DataFrame:
    """Read the rows of our collections in one pass: the index has a million others."""
    wanted = [("collection_id", "in", list(COLLECTIONS.values()))]
    index = pd.read_parquet(path, columns=list(_COLUMNS), filters=wanted).rename(columns=_COLUMNS)
    return index.assign(description=index["description"].fillna(""))


def _chosen(name: str, series: pd.DataFrame, subset: str) -> pd.Series:
    """Return which series belong to a subset."""
    if subset == "all":
        return series["patient_id"].notna()
    if subset.isdecimal() and int(subset) > 0:
        persons = series["patient_id"].map(_person)
        return persons.isin(sorted(persons.unique())[: int(subset)])
    if name != "cbis-ddsm" or subset not in ("full", "mass", "calc"):
        words = "all, full, mass, calc" if name == "cbis-ddsm" else "all"
        raise UsageError("is not a subset", source=subset, remedy=f"choose from {words}, or a number of patients")
    names = series["patient_id"].map(parse_name)
    if subset == "full":
        # whole films are known by their description, or by their name if that is empty
        unnumbered = names.map(lambda name: name is not None and name.number is None)
        return (series["description"] == "full mammogram images") | ((series["description"] == "") & unnumbered)
    kind = {"mass": "mass", "calc": "calcification"}[subset]
    return names.map(lambda name: name is None or name.kind in (None, kind))


def _person(patient_id: str) -> str:
    name = parse_name(patient_id)
    return patient_id if name is None else name.film[0]


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError("downloads need the package idc-index", source=name, remedy=install("download")) from error


def fetch(selection: Selection, dest: Path) -> None:
    """Download a selection; complete series are not fetched again, so an interrupted download is resumed.

    The licence is written next to the data first.

    Args:
        selection: Series to download.
        dest: Folder for the files.

    Raises:
        UsageError: ``idc-index`` is not installed.
        DataError: The disk is too small, or files are still missing at the end: run it again.
    """
    check_space(selection, dest)
    dest.mkdir(parents=True, exist_ok=True)
    licence = f"{selection.name}: {selection.licence}\nCite: {selection.doi}\n"
    (dest / "LICENCE.txt").write_text(f"{licence}Fetched from the NCI Imaging Data Commons.\n", encoding="utf-8")
    pending = incomplete(selection, dest)
    if len(pending):
        _package("idc_index").IDCClient().download_from_selection(
            downloadDir=str(dest),
            seriesInstanceUID=list(pending["uid"]),
            dirTemplate=LAYOUT,
            use_s5cmd_sync=True,
            quiet=True,
        )
    missing = len(incomplete(selection, dest))
    if missing:
        raise DataError(
            f"{missing} of {len(selection.series)} series did not arrive complete",
            source=dest,
            remedy="run the same command again: it fetches what is missing",
        )


def check_space(selection: Selection, dest: Path) -> None:
    """Check that the missing files fit on the disk.

    Args:
        selection: Series to download.
        dest: Folder for the files.

    Raises:
        DataError: They do not fit; says how much is needed and free.
    """
    folder = next(parent for parent in (dest, *dest.resolve().parents) if parent.exists())
    needed = float(incomplete(selection, dest)["megabytes"].sum()) * 1e6 * (1 + RESERVE)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{size_text(needed)} are still missing, {size_text(free)} are free",
            source=dest,
            remedy="choose another disk, or a smaller `subset`",
        )


def incomplete(selection: Selection, dest: Path) -> pd.DataFrame:
    """Return the series whose files or bytes are not all in the folder of a download."""
    complete = [
        _is_complete(series, series_folder(selection, series, dest)) for series in selection.series.itertuples()
    ]
    return selection.series[[not one for one in complete]]


def _is_complete(series: Any, folder: Path) -> bool:
    if not folder.is_dir():
        return False
    sizes = [path.stat().st_size for path in folder.iterdir() if path.suffix == ".dcm"]
    return len(sizes) >= series.instances and sum(sizes) >= series.megabytes * 1e6 * (1 - _ROUNDING)


def series_folder(selection: Selection, series: Any, dest: Path) -> Path:
    """Return the folder of a series, a row of the selection, below that of the download."""
    return dest / COLLECTIONS[selection.name] / series.patient_id / series.uid


def wanted_labels(name: str, dest: Path) -> str | None:
    """Return which tables must be put where to give a collection labels; ``None`` if all exist or none are known."""
    if name not in _LABELS:
        return None
    folder, names, address = _LABELS[name]
    missing = [label for label in names if not (dest / folder / label).is_file() and not (dest / label).is_file()]
    if not missing:
        return None
    return f"labels: put {', '.join(missing)} into {dest / folder}; they are at {address}"
