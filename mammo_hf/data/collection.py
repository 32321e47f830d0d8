"""Collection: a thin, typed view on a `datasets.Dataset` with one row an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset

from ..errors import DataError, UsageError
from .leaks import assert_no_leak
from .schema import COLUMNS, OPTIONAL, SPLITS, Column, Row, describe, features, validate
from .splits import choose_sides, pin_sides, read_split

# Exams and breasts: the images that belong together, and the gravest label among them.


class Group(NamedTuple):
    """Images of one exam, or of one breast in it.

    Attributes:
        patient: The patient's hash.
        exam: The exam's hash; ``None`` for the images of a patient of whom no exam is known, which make one group.
        laterality: "L" or "R" for a breast; ``None`` for an exam, and for images of which nothing says the side.
        rows: Places of the images in the table.
        labels: From each task to the gravest label that any of the images has; ``None`` where none has one.
    """

    patient: str
    exam: str | None
    laterality: str | None
    rows: tuple[int, ...]
    labels: dict[str, str | None]


def gravest(values: Sequence[str | None], labels: Sequence[str]) -> str | None:
    """The label that stands last in the task's order; ``None`` where none is known."""
    known = [value for value in values if value is not None]
    return max(known, key=list(labels).index, default=None)


def groups(table: Collection, *, by_breast: bool) -> list[Group]:
    """The table's exams, or its breasts, in the order of their first image."""
    patients, exams = table.column("patient"), table.column("exam")
    sides = table.column("laterality") if by_breast else [None] * len(table)
    rows: dict[tuple[str, str | None, str | None], list[int]] = {}
    for index, key in enumerate(zip(patients, exams, sides, strict=True)):
        rows.setdefault(key, []).append(index)
    columns = {task["name"]: (table.column(task["name"]), task["labels"]) for task in table.tasks}
    return [
        Group(
            *key,
            tuple(found),
            {name: gravest([values[row] for row in found], labels) for name, (values, labels) in columns.items()},
        )
        for key, found in rows.items()
    ]


class Rejected(NamedTuple):
    """Something that was asked for and is left out: a file, or a row of a label table, and why."""

    source: str
    reason: str


class Moved(NamedTuple):
    """A patient, as a hash, who stands on another side than the collection says, and why."""

    patient: str
    before: str
    after: str
    reason: str


class Collection:
    """The images of a collection, one row each; a table is never changed, its methods give new ones.

    Rows are dicts with ``image_id``, ``patient`` and ``exam`` (salted hashes), ``path``, ``laterality`` ("L", "R"),
    ``view`` ("CC", "MLO", ...), ``age_band``, ``vendor``, ``source``, ``split`` ("train", "validation", "test",
    "unlabelled"), one column a task and ``findings``; `schema` tells what each holds. What is not known is ``None``.

    Args:
        dataset: The rows; further columns are kept.
        tasks: The tasks in the form of a model's ``config.tasks``, in order.
        salt_name: Name of the salt of the hashes: the collection's name, or "private".
        notes: What was moved, left out or not found, for whoever runs this to read.
        rejected: Files and label rows that are left out, with the reason.
        moved: Patients whose side is not the collection's own.

    Raises:
        DataError: A column of the schema is missing.
    """

    root: str | None = None  # folder that it was loaded from

    def __init__(
        self,
        dataset: Dataset,
        *,
        tasks: Sequence[Mapping[str, Any]],
        salt_name: str,
        notes: Iterable[str] = (),
        rejected: Iterable[Rejected] = (),
        moved: Iterable[Moved] = (),
    ) -> None:
        missing = [name for name in features(tasks) if name not in dataset.column_names]
        if missing:
            raise DataError(f"has no column {', '.join(missing)}", source="table", remedy=f"needs {', '.join(COLUMNS)}")
        self.dataset = dataset
        self.salt_name = salt_name
        self.notes = list(notes)
        self.rejected = list(rejected)
        self.moved = list(moved)
        self._tasks = [{"name": task["name"], "labels": list(task["labels"])} for task in tasks]

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Row],
        *,
        tasks: Sequence[Mapping[str, Any]],
        salt_name: str,
        notes: Iterable[str] = (),
        rejected: Iterable[Rejected] = (),
        moved: Iterable[Moved] = (),
    ) -> Collection:
        """A table from row dicts, each checked against the schema; the arguments are those of the class.

        ``age_band`` and ``vendor`` may be left out of a row.

        Raises:
            DataError: Names the first wrong row, its column and the rule.
        """
        rows = list(rows)
        validate(rows, tasks)
        schema = features(tasks)
        columns = {name: [row.get(name) if name in OPTIONAL else row[name] for row in rows] for name in schema}
        dataset = Dataset.from_dict(columns, features=schema)
        return cls(dataset, tasks=tasks, salt_name=salt_name, notes=notes, rejected=rejected, moved=moved)

    @property
    def schema(self) -> dict[str, Column]:
        """What each column holds: its unit or words, what null means, its meaning."""
        return describe(self._tasks)

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """The tasks: ``[{"name": "pathology", "labels": ["benign", "malignant"]}, ...]``."""
        return [{"name": task["name"], "labels": list(task["labels"])} for task in self._tasks]

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.dataset)

    def __getitem__(self, index: int) -> Row:
        return self.dataset[index]

    def __repr__(self) -> str:
        counts = Counter(self.column("split"))
        splits = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
        return f"Collection({len(self)} images: {splits or 'none'})"

    def column(self, name: str) -> list[Any]:
        """All values of one column.

        Raises:
            UsageError: There is no such column.
        """
        if name not in self.dataset.column_names:
            known = ", ".join(self.dataset.column_names)
            raise UsageError(f"the table has no column {name!r}", source="column", remedy=f"its columns: {known}")
        return self.dataset.select_columns([name])[:][name]

    def where(self, predicate: Callable[[Row], bool] | None = None, **equals: object) -> Collection:
        """The rows that satisfy everything that is asked.

        Args:
            predicate: A function of the row.
            **equals: A column and its value, or a list, tuple or set of values:
                ``where(split="train", view=("CC", "MLO"))``.

        Raises:
            UsageError: There is no such column.
        """
        kept: Iterable[int] = range(len(self))
        for name, wanted in equals.items():
            values = self.column(name)
            allowed = wanted if isinstance(wanted, list | tuple | set | frozenset) else (wanted,)
            kept = [index for index in kept if values[index] in allowed]
        if predicate is not None:
            kept = [index for index in kept if predicate(self.dataset[index])]
        return self._with(self.dataset.select(list(kept)))

    def by_exam(self) -> list[Group]:
        """The images of each exam, with the gravest label of each task."""
        return groups(self, by_breast=False)

    def by_breast(self) -> list[Group]:
        """The images of each breast in each exam, with the gravest label of each task."""
        return groups(self, by_breast=True)

    def split(
        self,
        validation_fraction: float = 0.15,
        seed: int = 0,
        task: str | None = None,
        *,
        test_fraction: float = 0.0,
        saved: str | Path | None = None,
    ) -> Collection:
        """Moves whole patients from the training to the validation split, stratified by their gravest label.

        The same table, share and seed give the same patients on any machine. Rows of an official test split stay as
        they are, and so do unlabelled rows, unless there are no others: then they are divided.

        Args:
            validation_fraction: Fraction of the training patients, above 0 and below 1; 0: no validation split is made.
            seed: The seed.
            task: The task to stratify by; ``None`` for the table's first.
            test_fraction: Fraction of the training patients for a test split, where the collection has none of its own;
                0: none is made.
            saved: A file that `save_split` wrote: its patients stand as they stood there, and the rule is for those
                who are new.

        Raises:
            UsageError: A share is out of range, or that split is there already.
            DataError: A patient, exam or image stands on two sides, there are fewer than two training patients, or the
                file does not fit this table.
        """
        assert_no_leak(self)
        splits = self.column("split")
        taken_from = "train" if "train" in splits or "unlabelled" not in splits else "unlabelled"
        shares = {
            side: share for side, share in (("test", test_fraction), ("validation", validation_fraction)) if share
        }
        if not shares and saved is None:
            raise UsageError("are both 0: there is nothing to split", source="validation_fraction and test_fraction")
        sides = choose_sides(self, shares, seed=seed, task=task, taken_from=taken_from)
        notes = []
        if saved is not None:
            sides, note = pin_sides(self, sides, read_split(saved))
            notes.append(note)
        result = self.on_sides(sides)
        words = {"train": "training", "unlabelled": "unlabelled images"}[taken_from]
        for side in shares:
            images, patients = result.column("split").count(side), sum(found == side for found in sides.values())
            how = (
                f"taken from {words}, seed {seed}" if saved is None else "by the saved split, new patients by the rule"
            )
            notes.append(f"{side}: {patients} patients ({images} images) {how}")
        return result.with_notes(*notes)

    def with_notes(self, *notes: str) -> Collection:
        """The same table with further notes."""
        table = self._with(self.dataset)
        table.notes = [*self.notes, *notes]
        return table

    def on_sides(self, sides: Mapping[str, str]) -> Collection:
        """The table with these patients on these sides, and the others where they are."""
        columns = self.dataset.to_dict()
        patients = zip(columns["patient"], columns["split"], strict=True)
        columns["split"] = [sides.get(patient, split) for patient, split in patients]
        return self._with(Dataset.from_dict(columns, features=self.dataset.features))

    def _with(self, dataset: Dataset) -> Collection:
        table = Collection(
            dataset,
            tasks=self._tasks,
            salt_name=self.salt_name,
            notes=self.notes,
            rejected=self.rejected,
            moved=self.moved,
        )
        table.root = self.root
        return table
