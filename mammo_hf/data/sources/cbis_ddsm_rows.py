"""CBIS-DDSM's rows: a film file, the findings of its film with their masks, and the labels that follow from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..findings import finding as make_finding
from ..grouping import gravest
from ..privacy import salted_hash
from ..schema import TASKS as COMMON
from ..schema import Row
from .cbis_ddsm_cases import Abnormality, Film
from .cbis_ddsm_files import Name
from .cbis_ddsm_join import SortedFiles, choose_mask, region_files
from .contents import Contents

NAME = "cbis-ddsm"
TASKS = {
    "pathology": COMMON["pathology"],
    "density": COMMON["density"],
    "abnormality": ("mass", "calcification", "both"),
    "birads": ("1", "2", "0", "3", "4", "5"),
}


def film_rows(
    files: SortedFiles, by_film: Mapping[Film, Sequence[Abnormality]], splits: Mapping[str, str], contents: Contents
) -> tuple[list[Row], Counter[str]]:
    """A row for each film file whose patient has a split and whose header can be read where it was needed.

    Args:
        files: The collection's files.
        by_film: The abnormalities of each film.
        splits: The split of each patient.
        contents: Reads headers, to tell masks from crops.

    Returns:
        The rows in the order of the films' names, and counts of "findings", those with "no mask" and those whose
        only "masks of another size" cannot be laid over the film.
    """
    rows = []
    counts: Counter[str] = Counter()
    for name in sorted(files.films, key=Name.text):
        if name.film.patient not in splits:
            continue
        path = files.films[name]
        findings = by_film.get(name.film, ())
        entries = _findings(path, findings, files, contents, counts)
        labels = film_labels(findings)
        if not by_film:  # no table at all: then the name is what is left to tell the lesion type
            labels["abnormality"] = name.kind
        if path in contents.problems:
            continue
        rows.append(
            {
                "image_id": salted_hash(_official_name(name, findings, files), NAME),
                "path": path,
                "patient": salted_hash(name.film.patient, NAME),
                "exam": salted_hash(f"{name.film.patient} exam", NAME),  # DDSM has one examination a patient
                "laterality": name.film.laterality,
                "view": name.film.view,
                "source": NAME,
                "split": splits[name.film.patient],
                **labels,
                "findings": entries,
            }
        )
    return rows, counts


def film_labels(findings: Iterable[Abnormality]) -> dict[str, str | None]:
    """The labels of a film: malignant if any finding is, the gravest BI-RADS counts, a density only if all agree.

    Args:
        findings: All abnormalities of the film, of both kinds; none for a film that stands in no table.
    """
    findings = list(findings)
    if not findings:
        return dict.fromkeys(TASKS)
    densities = {finding.density for finding in findings} - {None}
    kinds = {finding.kind for finding in findings}
    return {
        "pathology": "malignant" if any(finding.pathology == "malignant" for finding in findings) else "benign",
        "density": densities.pop() if len(densities) == 1 else None,
        "abnormality": kinds.pop() if len(kinds) == 1 else "both",
        "birads": gravest([finding.birads for finding in findings], TASKS["birads"]),
    }


def _findings(
    path: str, findings: Sequence[Abnormality], files: SortedFiles, contents: Contents, counts: Counter[str]
) -> list[dict[str, Any]]:
    entries = []
    for finding in findings:
        candidates = region_files(finding, findings, files.regions.get(finding.film, []))
        mask, is_other_size = choose_mask(path, candidates, contents)
        counts["findings"] += 1
        counts["masks of another size" if is_other_size else "no mask"] += mask is None
        entries.append(make_finding(finding.kind, finding.pathology, mask_path=mask))
    return entries


def _official_name(name: Name, findings: Iterable[Abnormality], files: SortedFiles) -> str:
    """The film's name in the tables also where the file has the short form: one image_id in every release."""
    if name.kind is None:
        others = {(other.kind, other.split) for other in files.films if other.film == name.film}
        free = {(finding.kind, finding.split) for finding in findings} - others
        if len(free) == 1:
            kind, split = free.pop()
            name = name._replace(kind=kind, split=split)
    return name.text()
