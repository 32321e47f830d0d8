"""An own table: what its columns are by their names and values, as a mapping that can be loaded or printed.

Names and words are those of ``synonyms.toml``, in five languages. A column becomes a task only if all its words are
understood; what is not understood is reported with its counts, and ``mammo-hf mapping`` prints the draft to correct.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Collection as AnyCollection
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..schema import TASKS
from .contents import Files, has_picture_suffix
from .mapping import COLUMNS, Field, as_field
from .synonyms import heading, is_unknown, our_word, plain, synonyms, view_word
from .tables import row_number

Rows = Sequence[dict[str, str]]
NAME = "table"
LICENCE = "the collection's own"
_DISTINCT = 20  # words of a column up to which it may be a task
_SAMPLE = 200  # rows whose files are looked for
_ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6"}
_FIRST_ROW = ", first in row "
_OF_ONE_LINE = ("patient", "exam", "laterality", "view", "split")  # roles whose values have no line breaks
_HIDDEN = ("patient", "exam", "birth")  # roles whose values are never shown
_SIDE_WORD = (
    r"left|right|links|rechts|gauche|droite|izquierda|izq|derecha|der|esquerda|esq|direita|dir|sin|dex|li|re|[lrgdie]"
)
_UNSURE = re.compile(r"[?<>≤≥~]|^-\s*\d")  # in words of labels: doubts, bounds, and numbers that are codes for none
_FILE = r"(?:path|file|image|img|dicom|dcm|bild|datei|pfad|chemin|fichier|imagen|ruta|archivo|imagem|caminho|arquivo)"
_FILE_WORD = re.compile(rf"^{_FILE}[\W_]+|[\W_]*{_FILE}$", re.IGNORECASE)
_NUMBERED = re.compile(r"(.+?)[\W_]*(?:\d{1,2}|[a-d])", re.IGNORECASE)  # columns such as "image 1" and "image_2"


# The draft: roles by the columns' names, tasks by their words.


def draft(
    rows: Rows, finds: Callable[[str], object], given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Draft the mapping of a table.

    Args:
        rows: Rows of the table, one or more.
        finds: Function that returns whether a path, as a mapping may state it, leads to a file.
        given: Fields that are known already, by the name of the column or task; nothing is guessed of their columns.

    Returns:
        Content of a mapping, and what is not understood, one sentence each; without such a sentence the table can be
        loaded. Without labels all images are unlabelled, and then the patient may be missing.
    """
    given = given or {}
    views = {} if given else wide_columns(rows, finds)
    rows = [one for row in rows for one in unfolded(row, views)] if views else rows
    taken = {name for field in given.values() for name in _columns_of(field)}
    roles = _roles(rows, (name for name in rows[0] if name not in taken))
    problems: list[str] = []
    content: dict[str, Any] = {"name": NAME, "licence": LICENCE, "private": True, "images": {"table": NAME}}
    if views:
        content["images"]["views"] = views
    else:
        content["images"]["path"] = given.get("path") or _path(rows, roles, finds, problems)
    columns = _columns(rows, roles, views, problems)
    columns |= {name: field for name, field in given.items() if name in COLUMNS}
    tasks, found = _tasks(rows, roles, taken)
    problems += [problem for problem in found if not any(f"column '{name}'" in problem for name in taken)]
    if views:  # the rows are those of images now
        problems = [problem.partition(_FIRST_ROW)[0] for problem in problems]
    problems = _broken_cells(rows) or problems
    for name, field in given.items():
        if name != "path" and name not in COLUMNS:
            tasks[name] = dict(field) if isinstance(field, Mapping) else {"from": field}
    if tasks and "patient" not in columns:
        problems.append("no column names the patient: splits are by patient")
    if not tasks and not found:  # words that are not known become labels in the draft
        columns.setdefault("split", "unlabelled")
    return content | {"columns": columns, "tasks": tasks} | _findings(roles, tasks), problems


def image_files(rows: Rows, table: Path, folder: Path | None = None) -> list[str]:
    """Return the files that the rows of a table name, in order and each row's own; labels and patients do not matter.

    Args:
        rows: Rows of the table.
        table: File of the table, whose folder paths are relative to.
        folder: Folder of the images, if it is another.

    Raises:
        DataError: No column names files, or a path leaves the folders.
    """
    if not rows:
        return []
    folders = [table.parent] if folder is None else [table.parent, folder]
    find = Files(folders, [], is_own=True).find
    views = wide_columns(rows, find)
    problems: list[str] = []
    template = Field("{path}" if views else _path(rows, _roles(rows, rows[0]), find, problems))
    if problems:
        raise DataError("; ".join(problems), source=table, remedy="name the column of the files 'path'")
    found: list[str] = []
    numbered = ((row_number(row, position), row) for position, row in enumerate(rows, start=1))
    of_images = ((number, one) for number, row in numbered for one in (unfolded(row, views) if views else [row]))
    for number, name in ((number, template.text(row)) for number, row in of_images):
        try:
            found += find(name) or ([os.path.normpath(folders[-1] / name)] if name else [])
        except DataError as error:
            raise DataError(error.problem, source=f"{table}, row {number}", remedy=error.remedy) from error
    return found


def _columns_of(field: Any) -> list[str]:
    return as_field(field["from"] if isinstance(field, Mapping) else field, "mapping").columns()


def _roles(rows: Rows, names: Iterable[str]) -> dict[str, list[str]]:
    """Return the columns of each role: the usual name first, as the synonyms have it, and what is empty last."""
    known = synonyms()["columns"]
    order = {name: place for place, name in enumerate(known)}
    roles: dict[str, list[str]] = {}
    for name in sorted((name for name in names if heading(name) in known), key=lambda name: order[heading(name)]):
        roles.setdefault(known[heading(name)], []).append(name)
    for role, columns in roles.items():
        if len(columns) > 1:
            roles[role] = sorted(columns, key=lambda name: all(is_unknown(row[name]) for row in rows))
    return roles


def _path(rows: Rows, roles: Mapping[str, list[str]], finds: Callable[[str], object], problems: list[str]) -> str:
    """Return the template of the path that leads to the most files."""
    sample = rows[:: max(len(rows) // _SAMPLE, 1)]
    named = [*roles.get("path", ()), *roles.get("image_id", ())]
    others = (name for name in rows[0] if name not in named)
    candidates = named + [
        name for name in others if sum(has_picture_suffix(row[name]) for row in sample) * 2 > len(sample)
    ]
    if not candidates:
        problems.append(f"no column names the images' files (it has {', '.join(rows[0])})")
        return "{}"
    best, chosen, most = f"{{{candidates[0]}}}", candidates[0], 0
    folders = ("", *(f"{{{roles[role][0]}}}/" for role in ("folder", "patient", "exam") if role in roles))
    for form in (form % (folder + "{%s}") for folder in folders for form in ("%s", "**/%s", "**/%s.*")):
        for name in candidates:
            template = form % name
            hits = sum(bool(row[name] and _leads(finds, Field(template).text(row))) for row in sample)
            if hits > most:
                best, chosen, most = template, name, hits
        if most == len(sample):
            break
    if chosen not in named and len(candidates) > 1:  # a mask next to a column "image" is no question
        several = ", ".join(f"'{name}'" for name in candidates)
        problems.append(f"columns {several} all name files: call the one of the images 'path'")
    return best


def _leads(finds: Callable[[str], object], path: str) -> bool:
    try:
        return bool(finds(path))
    except DataError:  # it leaves the folder: reading says in which row
        return False


def _columns(
    rows: Rows, roles: Mapping[str, list[str]], views: Mapping[str, str], problems: list[str]
) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    stated = {name for key in views for name, word in zip(("laterality", "view"), projection(key), strict=True) if word}
    for role in ("patient", "age", "vendor"):
        if role in roles:
            columns[role] = f"{{{roles[role][0]}}}"
    if "exam" in roles:
        columns["exam"] = f"{{{roles['exam'][0]}}}"
    elif "exam_date" in roles and "patient" in columns:
        columns["exam"] = f"{columns['patient']} {{{roles['exam_date'][0]}}}"  # a day has exams of many patients
    for role in ("laterality", "view"):
        if role in stated:
            columns[role] = f"{{{role}}}"
        elif role in roles:
            columns[role] = f"{{{roles[role][0]}}}"
    if "view" in roles and "view" not in stated:
        columns |= _sided_views(rows, roles["view"][0], "laterality" in roles)
    known: dict[str, tuple[str, Callable[[str], str | None]]]
    known = {"laterality": ("sides", partial(our_word, "laterality")), "view": ("views", view_word)}
    for role, (kind, translate) in known.items():
        if role in roles and columns[role] == f"{{{roles[role][0]}}}":
            unread = _values(rows, roles[role][0], kind, translate, problems)
            columns[role] = unread if "?" in unread["values"].values() else columns[role]
    if "split" in roles:
        columns["split"] = _values(rows, roles["split"][0], "splits", partial(our_word, "split"), problems)
    return columns


def _sided_views(rows: Rows, name: str, has_side: bool) -> dict[str, Any]:
    """Return the fields of a column such as "LCC" or "right MLO", which says side and view at once."""
    words = counted(rows, name)
    pattern = rf"^\W*({_SIDE_WORD})[\W_]*(\w.*)$"
    matched = [re.match(f"(?i){pattern}", word) for word in words]
    if not words or not all(found and our_word("view", found[2]) for found in matched):
        return {}
    view = {"from": f"{{{name}}}", "match": f"(?i){pattern}", "to": r"\2"}
    return {"view": view} if has_side else {"view": view, "laterality": view | {"to": r"\1"}}


def _values(
    rows: Rows, name: str, kind: str, translate: Callable[[str], str | None], problems: list[str]
) -> dict[str, Any]:
    """Translate the words of a column into a field; a word that is not known becomes "?", to be corrected."""
    words = counted(rows, name)
    values = {word: translate(word) for word in words}
    unread = [word for word, ours in values.items() if ours is None]
    if unread:
        problems.append(f"column '{name}' names {kind} that are not known: {_unread_words(rows, name, words, unread)}")
    return {"from": f"{{{name}}}", "values": {word: ours or "?" for word, ours in values.items()}}


def _broken_cells(rows: Rows) -> list[str]:
    """Return the first cell that holds what was to be the next row, because a quotation mark is in the wrong place."""
    known = synonyms()
    kinds = {name: known["columns"].get(heading(name), "") for name in rows[0]}
    named = [name for name in rows[0] if heading(name) in known["tasks"] or heading(name) in known["label"]]
    names = [*named, *(name for name, kind in kinds.items() if kind in _OF_ONE_LINE)]
    for position, row in enumerate(rows, start=1):
        name = next((name for name in names if "\n" in row[name]), None)
        if name is not None:
            number = row_number(row, position)
            return [f"column '{name}' has a line break in row {number}: a quotation mark may not be closed"]
    return []


def is_lesion(name: str) -> bool:
    """Return whether a column numbers the lesions, which says that the table has a row per lesion."""
    return synonyms()["columns"].get(heading(name)) == "lesion"


def _findings(roles: Mapping[str, list[str]], tasks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the findings if the table has boxes or circles; such a table has a row per lesion."""
    first = {role: f"{{{names[0]}}}" for role, names in roles.items()}
    forms = {
        "box": ("top", "left", "bottom", "right"),
        "box_size": ("left", "top", "width", "height"),
        "circle": ("top", "left", "radius"),
    }
    form = next((form for form, parts in forms.items() if all(part in first for part in parts)), None)
    if form is None:
        return {"rows": "lesion"} if "lesion" in roles else {}
    findings: dict[str, Any] = {form: [first[part] for part in forms[form]]}
    if "pathology" in tasks:
        findings["pathology"] = dict(tasks["pathology"])
    return {"rows": "lesion", "findings": findings}


# Tasks: a column is one if each of its words is understood.


def _tasks(rows: Rows, roles: Mapping[str, list[str]], taken: AnyCollection[str]) -> tuple[dict[str, Any], list[str]]:
    known, labels = synonyms()["tasks"], synonyms()["label"]
    used = {name for names in roles.values() for name in names} | set(taken)
    named = [(name, known[heading(name)]) for name in rows[0] if heading(name) in known and name not in taken]
    named += [(name, "") for name in rows[0] if heading(name) in labels and name not in used]
    tasks: dict[str, Any] = {}
    problems = []
    for name, task in named:
        words = counted(rows, name)
        found, problem = _of_words(rows, name, task, words)
        problems += [problem] if problem else []
        for key, values in found.items():
            if key not in tasks:
                tasks[key] = _task(rows, name, key, values)
                continue
            problems += _disagreement(rows, key, tasks[key], name, values)
    alone = [task for task in tasks.values() if len(set(task["values"].values())) < 2]
    if tasks and len(alone) == len(tasks) and len(rows) > 1 and not problems:
        for task in alone:
            word, count = next(iter(counted(rows, task["from"].strip("{}")).items()))
            problems.append(
                f"column '{task['from'].strip('{}')}' says '{word}' in each of its {count} rows with a label"
            )
    return tasks, problems


def _disagreement(rows: Rows, task: str, field: Mapping[str, Any], name: str, values: Mapping[str, str]) -> list[str]:
    """Return the problem of two columns that give an image two labels of a task."""
    other, known = field["from"].strip("{}"), field["values"]
    for position, row in enumerate(rows, start=1):
        if len({known.get(row[other]), values.get(row[name])} - {None}) > 1:
            where = f"first in row {row_number(row, position)}"
            return [f"columns '{other}' and '{name}' disagree about the {task}, {where}: leave one of them out"]
    return []


def _task(rows: Rows, name: str, task: str, values: dict[str, str]) -> dict[str, Any]:
    everything = Counter(row[name] for row in rows if row[name])
    unknown = [word for word in everything if word not in values]
    field: dict[str, Any] = {"from": f"{{{name}}}", "values": values}
    if unknown:
        field["unknown"] = unknown
    if task not in TASKS:
        field["labels"] = list(dict.fromkeys(values.values()))
    elif len(set(values.values())) < 2:
        field["labels"] = list(TASKS[task])  # the others may come
    return field


def _of_words(rows: Rows, name: str, task: str, words: Counter[str]) -> tuple[dict[str, dict[str, str]], str]:
    """Return the tasks that a column states, each with our label of every word, or why it states none."""
    if not words:
        return {}, ""
    if len(words) > 2 * _DISTINCT:
        return {}, f"column '{name}' has {len(words)} different values: too many for labels"
    guesses = [task] if task else ["pathology", "birads", "density", "abnormality"]
    for guess in guesses:
        found = _translated(guess, words, is_named=bool(task))
        if found:
            return found, ""
    if not task:
        own = _own_task(name, words)
        if own:
            return own, ""
    unread = min((_unread(guess, words, is_named=bool(task)) for guess in guesses), key=len)
    if not task:
        unread = min(unread, [word for word in words if _answer(word) is None], key=len)
    return {}, f"column '{name}' has words that are not known: {_unread_words(rows, name, words, unread)}"


def _translated(task: str, words: Iterable[str], is_named: bool) -> dict[str, dict[str, str]]:
    """Return the labels of all words, empty if one is not understood; "normal" has no pathology: it means no cancer."""
    labels = {word: _label(task, word, is_named) for word in words}
    if task != "pathology":
        return {} if None in labels.values() else {task: {word: label for word, label in labels.items() if label}}
    normal = [word for word in words if plain(word) in synonyms()["normal"]]
    known = {word: label for word, label in labels.items() if label}
    if not known or len(known) + len(normal) < len(labels):
        return {}
    cancer = {word: "yes" if label == "malignant" else "no" for word, label in known.items()}
    cancer |= dict.fromkeys(normal, "no")
    if not normal:
        return {"pathology": known}
    return {"pathology": known, "cancer": cancer} if "benign" in known.values() else {"cancer": cancer}


def _unread(task: str, words: Iterable[str], is_named: bool) -> list[str]:
    normal = synonyms()["normal"] if task == "pathology" else ()
    return [word for word in words if not _label(task, word, is_named) and plain(word) not in normal]


def _label(task: str, word: str, is_named: bool = True) -> str | None:
    """Return the label of a common task for a word.

    Args:
        task: Name of the task.
        word: Value of a column.
        is_named: Whether the column's name is the task's; otherwise a bare number or letter says nothing.
    """
    name, words = plain(_whole(word)), synonyms()
    if _UNSURE.search(word):
        return None
    if task == "pathology":
        return words["pathology"].get(name) if is_named or len(name) > 1 or name in "bm" else None
    if task == "cancer":
        if name in words["normal"] or words["pathology"].get(name) == "benign":
            return "no"
        return words["cancer"].get(name) or ("yes" if words["pathology"].get(name) == "malignant" else None)
    if task == "abnormality":
        return words["abnormality"].get(name) if words["abnormality"].get(name) in TASKS[task] else None
    if task == "density" and name in words["density"]:
        return words["density"][name]
    grade = re.sub(
        r"^(?:birads|acr|density|dichte|densite|densidad|densidade|category|kategorie|typ|type|tipo|r)+", "", name
    )
    if grade == name and not is_named:
        return None
    grade = _ROMAN.get(grade, grade)
    if task == "birads":
        return grade[0] if re.fullmatch(r"[0-6][abc]?", grade) else None
    grade = dict(zip("1234", "abcd", strict=True)).get(grade, grade)
    return grade if grade in TASKS["density"] else None


def _whole(word: str) -> str:
    """Return a whole number that was written as a decimal, such as "1.0" or "1,00", without its fraction."""
    return re.sub(r"^(\d+)[.,]0+$", r"\1", word)


def _own_task(name: str, words: Counter[str]) -> dict[str, dict[str, str]]:
    """Return a task of the column's own name if its words have an order: no and yes, or whole numbers."""
    task = re.sub(r"\W+", "_", name.strip().lower())
    answers = {word: _answer(word) for word in words}
    numbers = {word: _whole(word) for word in words}
    if all(re.fullmatch(r"\d{1,2}", number) for number in numbers.values()):
        return {task: {word: numbers[word] for word in sorted(words, key=lambda word: int(numbers[word]))}}
    if all(answers.values()):
        return {task: {word: str(answers[word]) for word in sorted(words, key=lambda word: str(answers[word]))}}
    return {}


def _answer(word: str) -> str | None:
    """Return "yes" or "no" for a word that means one of them."""
    return None if _UNSURE.search(word) else synonyms()["cancer"].get(plain(_whole(word)))


def counted(rows: Rows, name: str) -> Counter[str]:
    """Count the known words of a column."""
    words = Counter(row[name] for row in rows)
    return Counter({word: count for word, count in words.items() if not is_unknown(word)})


def listed(words: Mapping[str, int], chosen: Iterable[str] | None = None) -> str:
    """Return words with their counts, the most frequent first: "x (12), y (3)"; of many only the first ten."""
    found = sorted(words if chosen is None else chosen, key=lambda word: -words[word])
    text = ", ".join(f"{word[:40]} ({words[word]})" for word in found[:10])
    return f"{text}, and {len(found) - 10} more" if len(found) > 10 else text


def _unread_words(rows: Rows, name: str, words: Mapping[str, int], unread: AnyCollection[str]) -> str:
    """Return the words of a column that are not understood, with their counts and the first row that has one."""
    first = next(row_number(row, position) for position, row in enumerate(rows, start=1) if row[name] in unread)
    return f"{listed(words, unread)}{_FIRST_ROW}{first}"


# Wide tables: one row per exam or breast, with several columns of files.


def wide_columns(rows: Rows, finds: Callable[[str], object]) -> dict[str, str]:
    """Return the template of each file of a row, empty unless there are two or more.

    Args:
        rows: Rows of the table, one or more.
        finds: Function that returns whether a path leads to a file.

    Returns:
        From side and view, such as "L CC", from the view or the side alone, or, of columns such as "image 1", from
        their names.
    """
    sided: dict[str, str] = {}
    others: dict[str, dict[str, str]] = {"view": {}, "side": {}}
    known = synonyms()["columns"]
    for name in rows[0]:
        side, base = side_of(_FILE_WORD.sub("", name))
        view = our_word("view", base)
        of, what = side_of(name)
        numbered = _NUMBERED.fullmatch(name)
        if view and side:
            sided.setdefault(f"{side} {view}", f"{{{name}}}")
        elif view:
            others["view"].setdefault(view, f"{{{name}}}")
        elif of in ("L", "R") and known.get(heading(what)) in ("path", "image_id"):
            others["side"].setdefault(of, f"{{{name}}}")
        elif numbered and known.get(heading(numbered[1])) in ("path", "image_id"):
            others.setdefault(heading(numbered[1]), {})[name] = f"{{{name}}}"
    if len(sided) > 1:
        return sided
    sample = rows[:: max(len(rows) // _SAMPLE, 1)]
    return next((found for found in others.values() if len(found) > 1 and _hold_files(sample, found, finds)), {})


def _hold_files(rows: Rows, columns: Mapping[str, str], finds: Callable[[str], object]) -> bool:
    """Return whether each of some columns leads to files in most rows that have a value."""
    for template in columns.values():
        paths = [path for row in rows if not is_unknown(path := Field(template).text(row))]
        if sum(_leads(finds, path) for path in paths) * 2 <= len(paths):
            return False
    return True


def projection(key: str) -> tuple[str, str]:
    """Return the side and the view that a file of a wide row is of: "L CC", "CC", "L"; empty if it says neither."""
    if key in ("L", "R"):
        return key, ""
    side, _, view = key.rpartition(" ")
    known = (side in ("L", "R") or not side) and our_word("view", view)
    return (side, view) if known else ("", "")


def side_of(name: str) -> tuple[str, str]:
    """Return the side that a column's name begins or ends with, and the rest; ("", name) if it has none."""
    for pattern, side, rest in (
        (rf"(?i)^({_SIDE_WORD})[\W_]+(.+)$", 1, 2),
        (rf"(?i)^(.+?)[\W_]+({_SIDE_WORD})$", 2, 1),
        (r"(?i)^([lr])(cc|mlo|ml|lm)\b(.*)$", 1, 2),
    ):
        found = re.match(pattern, name.strip())
        if found:
            return our_word("laterality", found[side]) or "", found[rest]
    return "", name


def unfolded(row: dict[str, str], views: Mapping[str, str]) -> list[dict[str, str]]:
    """Return a row per image of a wide row.

    Args:
        row: Row of an exam.
        views: From side and view, such as "L CC", from the view or the side alone or from any other name to the
            template of the file.

    Returns:
        For each file the row with ``path`` and what is known of ``laterality`` and ``view``; a column of one side, such
        as "left result", is there as "result" for the images of that side.
    """
    result = []
    for key, template in views.items():
        side, view = projection(key)
        path = Field(template).text(row)
        if is_unknown(path):
            continue
        own = {}
        for name, value in row.items():
            of, base = side_of(name) if side else ("", name)
            if of in ("", side):
                own[base if of else name] = value
        stated = {"path": path, "laterality": side, "view": view}
        result.append(own | {name: value for name, value in stated.items() if value})
    return result


# The text of a draft, with what was seen of each column.


def draft_text(content: Mapping[str, Any], rows: Rows, problems: Sequence[str], table: str) -> str:
    """Return a draft as the text of a mapping file, its columns described in comments.

    Args:
        content: Content that `draft` returned.
        rows: Rows of the table.
        problems: What is not understood.
        table: Name of the table's file.
    """
    lines = [f"# Mapping of {table}: {len(rows)} rows. docs/data.md explains every key."]
    lines += [f"# To do: {problem}" for problem in problems]
    lines += ["#", "# What was seen of each column:"]
    lines += [f"#   {_seen(rows, name)}" for name in rows[0]]
    content = {**content, "images": {**content["images"], "table": table}}
    simple = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    lines += ["", *(f"{key} = {_toml(value)}" for key, value in simple.items())]
    for key, value in content.items():
        if key == "tasks":
            for task, field in value.items():
                lines += ["", *_section(f"tasks.{task}", field)]
        elif isinstance(value, Mapping) and value:
            lines += ["", *_section(key, value)]
    for problem in problems:
        found = re.match(r"column '(.+?)' has words that are not known", problem)
        if found:
            words = list(counted(rows, found[1]))[:_DISTINCT]
            name = re.sub(r"\W+", "_", found[1].lower())
            field = {"from": f"{{{found[1]}}}", "labels": words, "values": {word: word for word in words}}
            lines += ["", "# put the labels in order, the least severe first", *_section(f"tasks.{name}", field)]
    return "\n".join(lines) + "\n"


def _seen(rows: Rows, name: str) -> str:
    """Describe a column: distinct values, missing ones and examples; what may name a person only by its form."""
    words = Counter(row[name] for row in rows)
    missing = sum(count for word, count in words.items() if is_unknown(word))
    known = counted(rows, name)
    role = synonyms()["columns"].get(heading(name), "")
    if role not in _HIDDEN and (len(known) <= _DISTINCT or role in ("path", "image_id")):
        examples = listed(known) if len(known) <= _DISTINCT else ", ".join(list(known)[:2])
    else:
        forms = Counter(re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", word)) for word in known)
        examples = "of the form " + ", ".join(form for form, _ in forms.most_common(2))
    return f"'{name}': {len(known)} distinct, {missing} missing; {examples or 'nothing'}"


def _section(name: str, fields: Mapping[str, Any]) -> list[str]:
    return [f"[{name}]", *(f"{_key(key)} = {_toml(value)}" for key, value in fields.items())]


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False)
