"""Splits and label subsets: patients chosen by strata of their most severe label, reproducibly on any machine."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UsageError
from ..files import read_record, write_record
from ..notes import Note
from . import TEST_FRACTION, VALIDATION_FRACTION
from .privacy import is_salted_hash
from .schema import SPLITS

if TYPE_CHECKING:
    from .collection import Collection

SPLIT_FILE = "split.json"  # next to a checkpoint: the next stage reads it before it tests on anybody


def complete_split(
    collection: Collection,
    *,
    validation_fraction: float = VALIDATION_FRACTION,
    test_fraction: float = TEST_FRACTION,
    seed: int = 0,
    task: str | None = None,
    saved: str | Path | None = None,
) -> Collection:
    """Give a collection the validation and the test split that it lacks.

    An official split is never changed. A collection of unlabelled images only gets no test split: there is nothing to
    test on, and pre-training may use all of them.

    Args:
        collection: Collection as its source returned it.
        validation_fraction: Fraction of the training patients for a validation split if there is none; 0: none is
            made.
        test_fraction: Fraction of the training patients for a test split if there is none; 0: none is made.
        seed: Random seed of the choice.
        task: Name of the task to stratify by; ``None`` for the first task of the collection.
        saved: File that `save_split` wrote. Its patients get the split that they have there.

    Returns:
        The collection with its splits; its notes say where each split is from.

    Raises:
        UsageError: A fraction is out of range.
        DataError: See `Collection.split`.
    """
    splits = collection.column("split")
    own = [split for split in ("test", "validation") if split in splits]
    training = collection.where(split="train")
    labelled = any(label is not None for one in collection.tasks for label in training.column(one["name"]))
    validation = 0.0 if "validation" in own else validation_fraction
    test = test_fraction if labelled and "test" not in own else 0.0
    notes = []
    for split in own:
        rows = collection.where(split=split)
        patients = len(set(rows.column("patient")))
        notes.append(Note("split_own", split=split, patients=patients, images=len(rows)))
    if "test" not in own and saved is None:
        if not labelled:
            notes.append(Note("split_none"))
        elif not test_fraction:
            notes.append(Note("split_not_wanted"))
        else:
            notes.append(Note("split_taken", fraction=f"{test_fraction:.0%}"))
    collection = collection.with_notes(*notes)
    if saved is None and not validation and not test:
        return collection
    return collection.split(validation, seed, task, test_fraction=test, saved=saved)


# The rule: within each stratum patients are sorted by a hash, and the first ones are taken.


def draw_splits(
    collection: Collection, fractions: Mapping[str, float], *, seed: int, task: str | None, origin: str
) -> dict[str, str]:
    """Choose which patients of a split go to the validation and the test split.

    Within each stratum (most severe label, or no known label) patients are sorted by a hash and the first ones are
    taken. A stratum of two patients or more gives at least one and keeps at least one, so that a label that occurs is
    in both splits if that is possible. If the collection has a column ``stratum`` (scanner, site), its values are
    interleaved in proportion, so that each is in every split as far as numbers allow. A patient who joins the
    collection moves none but those at the cut.

    Args:
        collection: Collection to split.
        fractions: From the split ("test", "validation") to its fraction of the patients, above 0 and below 1; the
            first is taken first, the next from the remaining patients.
        seed: Random seed of the choice.
        task: Name of the task to stratify by; ``None`` for the first task of the collection.
        origin: Split from which the patients are taken.

    Returns:
        From each chosen patient to the new split.

    Raises:
        UsageError: A fraction is out of range, or that split has rows already.
        DataError: There are too few patients.
    """
    _check_fractions(collection, fractions)
    of_patient = _stratum_of_patients(collection)
    left = list(strata(collection, task, origin).values())
    total = [len(group) for group in left]
    chosen: dict[str, str] = {}
    for split, fraction in fractions.items():
        count = sum(len(group) for group in left)
        if count < 2:
            what = "training" if origin == "train" else origin
            raise DataError(f"{count} {what} patient(s) cannot be split in two", source=split, remedy="add patients")
        picked: list[str] = []
        for group, whole in zip(left, total, strict=True):
            wanted = min(max(nearest(whole * fraction), 1), len(group) - 1)
            picked += _balanced(group, of_patient, purpose=split, seed=seed)[: max(wanted, 0)]
        if not picked:  # every stratum holds a single patient
            everyone = (patient for group in left for patient in group)
            picked = in_hash_order(everyone, purpose=split, seed=seed)[:1]
        chosen |= dict.fromkeys(picked, split)
        left = [[patient for patient in group if patient not in chosen] for group in left]
    return chosen


def _check_fractions(collection: Collection, fractions: Mapping[str, float]) -> None:
    present = {split for (split,) in collection.distinct("split")}
    for split, fraction in fractions.items():
        if not 0 < fraction < 1:
            raise UsageError(f"must be above 0 and below 1, not {fraction}", source=f"{split}_fraction")
        if split in present:
            raise UsageError(f"the collection has a {split} split already", source=split, remedy="use that one")
    if sum(fractions.values()) >= 1:
        raise UsageError(
            "the fractions leave nothing to train on", source=" + ".join(f"{split}_fraction" for split in fractions)
        )


def strata(collection: Collection, task: str | None, split: str = "train") -> dict[str | None, list[str]]:
    """Group the patients of a split by their most severe known label (the last in the task's own order).

    Args:
        collection: Collection of the patients.
        task: Name of the task; ``None`` for the first task of the collection.
        split: Split that is grouped.

    Returns:
        From each label that occurs to its patients; under ``None`` patients without a known label.
    """
    if task is None and not collection.tasks:
        patients = collection.where(split=split).column("patient")
        return {None: list(dict.fromkeys(patients))} if patients else {}
    groups: dict[str | None, list[str]] = {}
    for (patient, found), label in label_of_patients(collection, find_task(collection, task)).items():
        if found == split:
            groups.setdefault(label, []).append(patient)
    return groups


def label_of_patients(collection: Collection, task: Mapping[str, Any]) -> dict[tuple[str, str], str | None]:
    """Map each patient and split to the most severe known label of the task."""
    rank = {label: position for position, label in enumerate(task["labels"])}
    labels: dict[tuple[str, str], str | None] = {}
    for patient, split, label in collection.distinct("patient", "split", task["name"]):
        before = labels.setdefault((patient, split), label)
        if label is not None and (before is None or rank[label] > rank[before]):
            labels[patient, split] = label
    return labels


def find_task(collection: Collection, task: str | None) -> dict[str, Any]:
    """Return the task of that name; the first of the collection for ``None``.

    Raises:
        UsageError: The collection has no such task.
    """
    for known in collection.tasks:
        if task in (None, known["name"]):
            return known
    names = ", ".join(known["name"] for known in collection.tasks) or "none"
    raise UsageError(f"the collection has no task {task!r}", source="task", remedy=f"its tasks: {names}")


def in_hash_order(patients: Iterable[str], *, purpose: str, seed: int) -> list[str]:
    """Return patients in a random order that depends on the purpose, the seed and each patient only.

    The order of a random generator would change with every patient who joins or leaves, and with the version of the
    library; the order of SHA-256 digests does not. The purpose keeps choices of the same seed independent.
    """
    return sorted(patients, key=lambda patient: hashlib.sha256(f"{purpose}|{seed}|{patient}".encode()).digest())


def _stratum_of_patients(collection: Collection) -> dict[str, str | None]:
    """Return the first known value of the column ``stratum`` of each patient; empty if none is known."""
    known: dict[str, str | None] = {}
    if collection.distinct("stratum") == [(None,)]:
        return known
    for patient, stratum in collection.distinct("patient", "stratum"):
        if known.get(patient) is None:
            known[patient] = stratum
    return known


def _balanced(patients: Iterable[str], stratum_of: Mapping[str, str | None], *, purpose: str, seed: int) -> list[str]:
    """Return patients in an order that keeps each stratum in proportion from the start, at random within each."""
    ordered: dict[str | None, list[str]] = {}
    for patient in in_hash_order(patients, purpose=purpose, seed=seed):
        ordered.setdefault(stratum_of.get(patient), []).append(patient)
    if len(ordered) == 1:
        return next(iter(ordered.values()))
    places = [
        ((rank + 0.5) / len(group), len(group), patient)
        for group in ordered.values()
        for rank, patient in enumerate(group)
    ]
    return [patient for *_, patient in sorted(places, key=lambda place: (place[0], -place[1]))]


def nearest(number: float) -> int:
    """Return the nearest whole number, halves upward on every platform."""
    return math.floor(number + 0.5)


# Saved splits: the split of each patient in a file, so that others, and later versions of the data, split alike.


def save_split(collection: Collection, path: str | Path, **about: str | float | list[str] | None) -> None:
    """Write the split of each patient to a JSON file.

    Args:
        collection: Collection with its splits.
        path: File to write; it appears complete or not at all.
        **about: Further facts to record: seed, fractions, task.

    Raises:
        DataError: A patient is in two splits, or the file cannot be written.
    """
    pairs = sorted(set(zip(collection.column("patient"), collection.column("split"), strict=True)))
    splits = dict(pairs)
    if len(splits) < len(pairs):
        raise DataError("has patients in two splits", source="table", remedy="assert_no_leak lists them")
    write_record({"salt_name": collection.salt_name, **about, "splits": splits}, path)


def read_split(path: str | Path) -> dict[str, str]:
    """Read the split of each patient from a file that `save_split` wrote.

    Raises:
        DataError: The file cannot be read or is not a saved split.
    """
    splits = read_record(path).get("splits")
    entries = splits.items() if isinstance(splits, dict) else ()
    if not entries or not all(is_salted_hash(patient) and split in SPLITS for patient, split in entries):
        raise DataError(
            'is not a saved split: it needs {"splits": {patient: split}} with salted hashes',
            source=path,
            remedy="give a split.json that a training or `mammo-hf load --output_dir` wrote",
        )
    return dict(entries)


def apply_saved_split(
    collection: Collection, by_rule: Mapping[str, str], saved: Mapping[str, str]
) -> tuple[dict[str, str], Note]:
    """Return the splits that a saved split gives to its patients, and the rule to patients who are new.

    Args:
        collection: Collection before the split.
        by_rule: Result of `draw_splits`; the other patients stay where they are.
        saved: Result of `read_split`.

    Returns:
        From each patient to the split, and a note with counts.

    Raises:
        DataError: The file has no patient of the collection, or moves a patient out of the test split.
    """
    current = dict(zip(collection.column("patient"), collection.column("split"), strict=True))
    known = {patient: saved[patient] for patient in current if patient in saved}
    if not known:
        raise DataError(
            "holds no patient of the collection",
            source="saved split",
            remedy="hashes depend on the salt: use the same salt",
        )
    torn = [patient for patient, split in known.items() if current[patient] == "test" and split != "test"]
    if torn:
        raise DataError(
            f"moves {len(torn)} test patients into another split, the first {torn[0]}",
            source="saved split",
            remedy="save it again, from the official split of this collection",
        )
    new = [patient for patient in current if patient not in known]
    splits = {**{patient: by_rule[patient] for patient in new if patient in by_rule}, **known}
    moved = sum(by_rule.get(patient, current[patient]) != split for patient, split in known.items())
    counts = Counter(splits.get(patient, current[patient]) for patient in new)
    by_split = ", ".join(f"{split} {counts[split]}" for split in counts)
    added = f"; {len(new)} new patients by the rule: {by_split}" if new else ""
    return splits, Note("split_saved", patients=len(known), moved=moved, new=added)


def save_training_split(
    collection: Collection, checkpoint: str | Path, *, before: frozenset[str] = frozenset(), **about: float
) -> None:
    """Write the split of a training next to its checkpoint, in the form that `Collection.split` takes as ``saved``.

    Args:
        collection: Collection as it was trained on.
        checkpoint: Folder of the checkpoint.
        before: Patients that the start of this training was trained on; those without a row in the collection are
            recorded too.
        **about: Seed and fractions.

    Raises:
        DataError: The file cannot be written.
    """
    earlier = sorted(before - set(collection.column("patient")))
    save_split(collection, Path(checkpoint) / SPLIT_FILE, **about, **({"seen_before": earlier} if earlier else {}))


def read_seen(checkpoint: str | Path) -> frozenset[str] | None:
    """Return the patients that a checkpoint was trained on, with the validation patients, who chose its best epoch.

    Returns:
        Hashes of the patients; ``None`` if the checkpoint does not say, like those of other programs.

    Raises:
        DataError: The file next to the checkpoint is not a saved split.
    """
    path = Path(checkpoint) / SPLIT_FILE
    if not path.is_file():
        return None
    earlier = read_record(path).get("seen_before", [])
    if not isinstance(earlier, list) or not all(isinstance(patient, str) for patient in earlier):
        raise DataError("its seen_before is no list of salted hashes", source=path, remedy="copy the file again")
    return frozenset(patient for patient, split in read_split(path).items() if split != "test") | frozenset(earlier)


# Label subsets: the patients who keep their labels when only a percentage of the labels may be used.


def label_subset(collection: Collection, *, percentage: float, seed: int, task: str | None = None) -> tuple[str, ...]:
    """Choose the training patients with labels that are used, as salted hashes.

    The choice is by patient, stratified by the most severe label of the patient, and nested: the patients of 10 % are
    among those of 25 % with the same seed. Each label that occurs keeps at least one patient. Patients of the
    validation and test splits are never chosen; patients who are not chosen stay in the collection, for pre-training.

    Args:
        collection: Collection with its splits.
        percentage: Percentage of the labelled training patients, above 0 and up to 100.
        seed: Random seed of the choice.
        task: Name of the task whose labels count; ``None`` for the first task of the collection.

    Returns:
        Hashes of the patients, sorted.

    Raises:
        UsageError: The percentage is out of range, or the collection has no such task.
        DataError: No training patient has a label for the task.
    """
    if not 0 < percentage <= 100:
        raise UsageError(f"must be above 0 and at most 100, not {percentage}", source="percentage")
    groups = strata(collection, task)
    groups.pop(None, None)
    if not groups:
        raise DataError("no training patient has a label", source=task or "table", remedy="check the label tables")
    chosen: list[str] = []
    for patients in groups.values():
        count = max(1, nearest(len(patients) * (percentage / 100)))
        chosen += in_hash_order(patients, purpose="labels", seed=seed)[:count]
    return tuple(sorted(chosen))


def save_subset(patients: Iterable[str], path: str | Path, **about: str | float | None) -> None:
    """Write the chosen patients to a JSON file, so that others can train on the same ones.

    Args:
        patients: Patients that `label_subset` returned.
        path: File to write; it appears complete or not at all.
        **about: Further facts to record: percentage, seed, task, salt_name.

    Raises:
        DataError: The file cannot be written.
    """
    write_record({**about, "patients": sorted(patients)}, path)


def read_subset(path: str | Path) -> tuple[str, ...]:
    """Read the patients of a file that `save_subset` wrote.

    Raises:
        DataError: The file cannot be read or is not a list of patients.
    """
    patients = read_record(path).get("patients")
    if not isinstance(patients, list) or not patients or not all(is_salted_hash(patient) for patient in patients):
        raise DataError(
            'is not a label subset: it needs {"patients": [...]} with salted hashes',
            source=path,
            remedy="give a label_subset.json that a training wrote",
        )
    return tuple(sorted(patients))
