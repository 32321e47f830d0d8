"""Collection: a thin, typed view on a `datasets.Dataset` with one row per image."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetInfo, Features, concatenate_datasets
from datasets.fingerprint import generate_random_fingerprint

from ..errors import DataError, UsageError, did_you_mean
from ..notes import Note
from .leaks import assert_no_leak, distinct_rows
from .privacy import PRIVATE
from .schema import AGE_BANDS, COLUMNS, OPTIONAL, SPLITS, Row, describe, features, validate
from .splits import apply_saved_split, draw_splits, read_split
from .terms import OWN_IMAGES, Terms

if TYPE_CHECKING:
    import pandas as pd

    from .summary import Summary


_BATCH = 10_000  # rows that are made at once
_WORDS = 20  # values of a free column that a message names


class Rejected(NamedTuple):
    """File, or row of a label table, that is left out, with the reason and its code in `mammo_hf.notes.REFUSALS`."""

    source: str
    reason: str
    code: str = "left_out"


class Moved(NamedTuple):
    """Patient, as a hash, who is in another split than in the collection's own tables, with the reason."""

    patient: str
    before: str
    after: str
    reason: str


class Group(NamedTuple):
    """Images of one exam, or of one breast in it.

    Attributes:
        patient: Hash of the patient.
        exam: Hash of the exam; ``None`` for the images of a patient without a known exam, which make one group.
        laterality: Breast, "L" or "R"; ``None`` for an exam, and for images of an unknown side.
        rows: Row numbers of the images in the collection.
        labels: From each task to the most severe label that any of the images has; ``None`` if none has one.
    """

    patient: str
    exam: str | None
    laterality: str | None
    rows: tuple[int, ...]
    labels: dict[str, str | None]


class Collection:
    """Images of a collection, one row each; a collection is never changed, its methods return new ones.

    Rows are dicts with ``image_id``, ``patient`` and ``exam`` (salted hashes), ``path``, ``laterality`` ("L", "R"),
    ``view`` ("CC", "MLO", ...), ``age_band``, ``vendor``, ``source``, ``split`` ("train", "validation", "test",
    "unlabelled"), one column per task and ``findings``; `schema` says what each holds. ``None`` means not known.

    Args:
        dataset: Rows of the collection; further columns are kept.
        tasks: Tasks in the form of a model's ``config.tasks``, in order.
        salt_name: Name of the salt of the hashes: the name of the collection, or "private".
        notes: Notes on what was moved, left out or not found.
        rejected: Files and label rows that are left out, with the reason.
        moved: Patients who are in another split than in the collection's own tables.

    Raises:
        DataError: A column of the schema is missing.
    """

    root: str | None = None  # folder that the collection was loaded from
    _terms: tuple[Terms, ...] = ()

    def __init__(
        self,
        dataset: Dataset,
        *,
        tasks: Sequence[Mapping[str, Any]],
        salt_name: str,
        notes: Iterable[Note] = (),
        rejected: Iterable[Rejected] = (),
        moved: Iterable[Moved] = (),
    ) -> None:
        wanted = set(features(tasks)) - set(OPTIONAL)
        missing = [name for name in features(tasks) if name in wanted and name not in dataset.column_names]
        if missing:
            raise DataError(f"has no column {', '.join(missing)}", source="table", remedy=f"needs {', '.join(COLUMNS)}")
        self.dataset = dataset
        self.salt_name = salt_name
        self.notes = list(notes)
        self.rejected = list(rejected)
        self.moved = list(moved)
        self._tasks = [{**task, "labels": list(task["labels"])} for task in tasks]

    @classmethod
    def from_rows(
        cls, rows: Iterable[Row], *, tasks: Sequence[Mapping[str, Any]], salt_name: str, **about: Any
    ) -> Collection:
        """Return a collection of row dicts, each checked against the schema.

        Args:
            rows: Rows of the collection; ``age_band`` and ``vendor`` may be left out of a row.
            tasks: Tasks of the collection, as for the class.
            salt_name: Name of the salt, as for the class.
            **about: Further arguments of the class.

        Raises:
            DataError: Names the first wrong row, its column and the rule.
        """
        rows = list(rows)
        validate(rows, tasks)
        schema = features(tasks)
        columns = {name: [row.get(name) if name in OPTIONAL else row[name] for row in rows] for name in schema}
        return cls(_dataset(columns, schema), tasks=tasks, salt_name=salt_name, **about)

    @property
    def terms(self) -> tuple[Terms, ...]:
        """Terms of the images, and of what is derived from them, as their sources state them; "ask" if none does."""
        unstated = Terms(OWN_IMAGES if self.salt_name == PRIVATE else self.salt_name, "")
        return self._terms or (unstated,)

    @terms.setter
    def terms(self, terms: tuple[Terms, ...]) -> None:
        self._terms = terms

    @property
    def schema(self) -> dict[str, str]:
        """What each column holds: its meaning, its unit or values, and what null means."""
        return describe(self._tasks)

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """Tasks of the collection: ``[{"name": "pathology", "labels": ["benign", "malignant"]}, ...]``."""
        return [{**task, "labels": list(task["labels"])} for task in self._tasks]

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Row]:
        # column by column: a dataset makes each row of its own, which takes ten times as long
        for start in range(0, len(self), _BATCH):
            batch = self.dataset.with_format("arrow")[start : start + _BATCH]
            names, columns = batch.column_names, [column.to_pylist() for column in batch.columns]
            yield from (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))

    def __getitem__(self, index: int) -> Row:
        return self.dataset[index]

    def __repr__(self) -> str:
        counts = Counter(self.column("split"))
        splits = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
        return f"Collection({len(self)} images: {splits or 'none'})"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self.summary()))}</pre>"

    def summary(self) -> Summary:
        """Count patients, images and labels by split; ``str()`` of the result is the text of ``mammo-hf load``."""
        from .summary import Summary

        return Summary(self)

    def column(self, name: str) -> list[Any]:
        """Return all values of one column.

        Raises:
            UsageError: There is no such column.
        """
        values: list[Any] = self.to_arrow(name)[name].to_pylist()
        return values

    def distinct(self, *names: str) -> list[tuple[Any, ...]]:
        """Return the different combinations of values that some columns have, in the order of their first rows.

        Raises:
            UsageError: There is no such column.
        """
        words = [_words(column) for column in distinct_rows(self.to_arrow(*names)).columns]
        return list(zip(*words, strict=True))

    def to_arrow(self, *names: str) -> pa.Table:
        """Return some columns as an Arrow table, which is not a copy.

        Raises:
            UsageError: There is no such column.
        """
        own = [name for name in names if name in self.dataset.column_names]
        for name in names:
            if name not in own and name not in OPTIONAL:
                known = self.dataset.column_names
                remedy = f"{did_you_mean(name, known)}its columns: {', '.join(known)}"
                raise UsageError(f"the collection has no column {name!r}", source="column", remedy=remedy)
        table = self.dataset.with_format("arrow", columns=own)[:] if own else None
        absent = pa.nulls(len(self), pa.string())  # optional, and this collection was made without it
        return pa.table({name: table[name] if table is not None and name in own else absent for name in names})

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a DataFrame, one per image; findings are lists of dicts."""
        frame: pd.DataFrame = self.dataset.to_pandas()
        return frame

    def where(self, predicate: Callable[[Row], bool] | None = None, **equals: object) -> Collection:
        """Return the rows that satisfy all conditions.

        Args:
            predicate: Function that returns whether a row is kept.
            **equals: Columns, each with the value, or a list, tuple or set of values, that it must have:
                ``where(split="train", view=("CC", "MLO"))``.

        Raises:
            UsageError: There is no such column, or no row can have such a value: a misspelled split is an error, and
                not an empty collection.
        """
        kept: Sequence[int] = range(len(self))
        for name, wanted in equals.items():
            values = self.column(name)
            allowed = wanted if isinstance(wanted, list | tuple | set | frozenset) else (wanted,)
            self._check_values(name, allowed, values)
            kept = [index for index in kept if values[index] in allowed]
        result = self if len(kept) == len(self) else self._taken(kept)
        if predicate is None:
            return result._with(result.dataset)
        return result._taken([index for index, row in enumerate(result) if predicate(row)])

    def _taken(self, rows: Sequence[int]) -> Collection:
        table = self.dataset.with_format("arrow")[:]
        return self._made_of(table.take(pa.array(rows, pa.int64())))

    def _check_values(self, name: str, wanted: Iterable[object], values: Sequence[object]) -> None:
        """Refuse values that a column of few words cannot have; of a free column, those that resemble one it has."""
        known = self._vocabulary(name)
        present = set(values) if name not in ("findings",) else set()
        for value in wanted:
            if value is None or value in present or value in (known or ()):
                continue
            near = did_you_mean(str(value), map(str, known or sorted(map(str, present - {None}))[:_WORDS]))
            if known is not None or near:
                words = ", ".join(known or sorted(map(str, present - {None}))[:_WORDS])
                raise UsageError(f"no image can have {value!r} there", source=name, remedy=f"{near}use {words}")

    def _vocabulary(self, name: str) -> tuple[str, ...] | None:
        """Return the words that a column may hold; ``None``: any."""
        labels = {task["name"]: tuple(task["labels"]) for task in self._tasks}
        fixed = {"split": SPLITS, "laterality": ("L", "R"), "age_band": AGE_BANDS}
        return (fixed | labels).get(name)

    def by_exam(self) -> list[Group]:
        """Group the images of each exam, with the most severe label of each task."""
        return self._grouped([None] * len(self))

    def by_breast(self) -> list[Group]:
        """Group the images of each breast in each exam, with the most severe label of each task."""
        return self._grouped(self.column("laterality"))

    def _grouped(self, lateralities: list[str | None]) -> list[Group]:
        """Group images by patient, exam and laterality, in the order of their first image."""
        rows: dict[tuple[str, str | None, str | None], list[int]] = {}
        for index, key in enumerate(zip(self.column("patient"), self.column("exam"), lateralities, strict=True)):
            rows.setdefault(key, []).append(index)
        columns = {task["name"]: (self.column(task["name"]), task["labels"]) for task in self._tasks}
        return [
            Group(
                *key,
                tuple(found),
                {
                    name: most_severe([values[row] for row in found], labels)
                    for name, (values, labels) in columns.items()
                },
            )
            for key, found in rows.items()
        ]

    def split(
        self,
        validation_fraction: float = 0.15,
        seed: int = 0,
        task: str | None = None,
        *,
        test_fraction: float = 0.0,
        saved: str | Path | None = None,
    ) -> Collection:
        """Move whole patients from the training to the validation split, stratified by their most severe label.

        The same collection, fraction and seed give the same patients on any machine. An official test split stays as
        it is, and so do unlabelled rows, unless there are no others: then they are divided.

        Args:
            validation_fraction: Fraction of the training patients for the validation split, above 0 and below 1; 0: no
                validation split is made.
            seed: Random seed of the choice.
            task: Name of the task to stratify by; ``None`` for the first task of the collection.
            test_fraction: Fraction of the training patients for a test split, if the collection has none of its own;
                0: none is made.
            saved: File that `save_split` wrote. Its patients get the split that they have there, and the rule applies
                to patients who are new.

        Raises:
            UsageError: A fraction is out of range, or that split exists already.
            DataError: A patient, exam or image is in two splits, there are fewer than two training patients, or the
                file does not fit this collection.
        """
        assert_no_leak(self, files=False)  # which takes as long as all the rest, and is done before every training
        splits = {split for (split,) in self.distinct("split")}
        origin = "train" if "train" in splits or "unlabelled" not in splits else "unlabelled"
        given = {"test": test_fraction, "validation": validation_fraction}
        fractions = {split: fraction for split, fraction in given.items() if fraction}
        if not fractions and saved is None:
            raise UsageError("are both 0: there is nothing to split", source="validation_fraction and test_fraction")
        assigned = draw_splits(self, fractions, seed=seed, task=task, origin=origin)
        how = f"taken from {'training' if origin == 'train' else 'unlabelled images'}, seed {seed}"
        notes = []
        if saved is not None:
            assigned, note = apply_saved_split(self, assigned, read_split(saved))
            how = "by the saved split, new patients by the rule"
            notes.append(note)
        result = self.with_splits(assigned)
        patients, images = Counter(assigned.values()), Counter(_words(result.to_arrow("split")["split"]))
        for split in fractions:
            notes.append(Note("split_drawn", split=split, patients=patients[split], images=images[split], how=how))
        return result.with_notes(*notes)

    def with_notes(self, *notes: Note) -> Collection:
        """Return the same collection with further notes."""
        result = self._with(self.dataset)
        result.notes += notes
        return result

    def with_rows(self, rows: Sequence[Row], rejected: Iterable[Rejected] = ()) -> Collection:
        """Return the collection with further rows, each checked against the schema, and further rejected files."""
        validate(rows, self._tasks)
        schema = self.dataset.features
        columns = {name: [row.get(name) for row in rows] for name in schema}
        more = _dataset(columns, schema)
        result = self._with(concatenate_datasets([self.dataset, more]) if rows else self.dataset)
        result.rejected = [*self.rejected, *rejected]
        return result

    def with_stratum(self, name: str) -> Collection:
        """Return the collection with the values of another column, such as "vendor", as its stratum.

        Raises:
            UsageError: There is no such column.
        """
        try:
            values = self.column(name)
        except UsageError as error:
            raise UsageError(error.problem, source="stratum", remedy=error.remedy) from error
        return self.with_columns(stratum=[None if value is None else str(value) for value in values])

    def with_splits(self, splits: Mapping[str, str]) -> Collection:
        """Return the collection with these patients in these splits, and the others where they are."""
        encoded = self.to_arrow("patient")["patient"].combine_chunks().dictionary_encode()
        of_patient = pa.array([splits.get(patient) for patient in encoded.dictionary.to_pylist()], pa.string())
        values = pc.coalesce(of_patient.take(encoded.indices), self.to_arrow("split")["split"])
        table = self.dataset.with_format("arrow")[:]
        return self._made_of(table.set_column(table.column_names.index("split"), "split", values))

    def _made_of(self, table: pa.Table) -> Collection:
        # a fingerprint of the content would take longer than anything else here
        return self._with(Dataset(table, info=self.dataset.info.copy(), fingerprint=generate_random_fingerprint()))

    def with_columns(self, **columns: Sequence[str | None]) -> Collection:
        """Return the collection with these columns of text, in place of those of their names or in addition."""
        table = self.dataset.with_format("arrow")[:]
        info = self.dataset.info.copy() if set(columns) <= set(table.column_names) else None
        for name, values in columns.items():
            column = pa.array(values, pa.string())
            if name in table.column_names:
                table = table.set_column(table.column_names.index(name), name, column)
            else:
                table = table.append_column(name, column)
        return self._with(Dataset(table, info=info, fingerprint=generate_random_fingerprint()))

    def with_task(self, name: str, labels: Sequence[str], values: Sequence[str | None]) -> Collection:
        """Return the collection with a further task: its labels in order, and the label of each row or ``None``."""
        result = self.with_columns(**{name: values})
        result._tasks = [*self.tasks, {"name": name, "labels": list(labels)}]
        return result

    def _with(self, dataset: Dataset) -> Collection:
        about = {name: getattr(self, name) for name in ("salt_name", "notes", "rejected", "moved")}
        result = Collection(dataset, tasks=self._tasks, **about)
        result.root, result._terms = self.root, self._terms
        return result


def _dataset(columns: Mapping[str, list[Any]], schema: Features) -> Dataset:
    """Return a dataset of checked values, several times as fast as `Dataset.from_dict`, which encodes one by one."""
    table = pa.Table.from_pydict(dict(columns), schema=schema.arrow_schema)
    return Dataset(table, info=DatasetInfo(features=schema), fingerprint=generate_random_fingerprint())


def _words(column: pa.ChunkedArray) -> list[Any]:
    """Return a column of texts as a list; each different text is made once, which is quick if they are few."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    words: list[Any] = np.array([*encoded.dictionary.to_pylist(), None], object)[encoded.indices.to_numpy()].tolist()
    return words


def most_severe(values: Sequence[str | None], labels: Sequence[str]) -> str | None:
    """Return the value that is last among a task's labels; ``None`` if none is known."""
    known = [value for value in values if value is not None]
    return max(known, key=list(labels).index, default=None)
