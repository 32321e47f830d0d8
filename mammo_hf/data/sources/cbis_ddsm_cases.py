"""CBIS-DDSM's cases: films, the abnormalities that they show, and on which official side a patient stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Film(NamedTuple):
    """What one film shows: the breast of a patient in one view."""

    patient: str
    laterality: str
    view: str


class Abnormality(NamedTuple):
    """One row of a table; `place` names it in messages by its table and number, without the patient."""

    kind: str
    split: str
    film: Film
    number: int
    pathology: str
    density: str | None
    place: str
    birads: str


@dataclass(frozen=True)
class CaseDescriptions:
    """The abnormalities of all tables that are there, and the names of the tables that are not."""

    abnormalities: tuple[Abnormality, ...]
    missing: tuple[str, ...]

    def official_splits(self) -> dict[str, set[str]]:
        """From each patient to the official splits that they stand in: usually one, for 31 patients two."""
        splits: dict[str, set[str]] = {}
        for row in self.abnormalities:
            splits.setdefault(row.film.patient, set()).add(row.split)
        return splits

    def by_film(self) -> dict[Film, list[Abnormality]]:
        """The abnormalities that each film shows, of masses and calcifications together."""
        films: dict[Film, list[Abnormality]] = {}
        for row in self.abnormalities:
            films.setdefault(row.film, []).append(row)
        return films


def patient_name(number: int) -> str:
    """The patient's name as the tables write it: ``P_`` and five digits."""
    return f"P_{number:05d}"
