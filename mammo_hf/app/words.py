"""What the page says: scores as tables, header facts, notes, the sentence that this is research software."""

from __future__ import annotations

from html import escape
from typing import Any

from ..explainers.targets import label_names
from ..prediction.scoring import labels_by_task
from .exam import ReadExam, Scores

RESEARCH = (
    "Research software, not a medical device: nothing here may decide about a person. Files are read on the machine "
    "that runs this page and are deleted after."
)
HINT = "The exam's views hang here: oblique above cranio-caudal, right and left back to back."
FIRST = "the model's own choice"


def targets_of(config: Any) -> list[str]:
    """What can be explained: the first task's first label, or any label by name."""
    return [FIRST, *label_names(config)]


def scores_table(exam: ReadExam, config: Any) -> str:
    """Scores of exam, breasts and views, a table a task."""
    calibrated = getattr(config, "calibration", None) or {}
    rows: dict[str, Scores] = {}
    if exam.units:
        rows["exam"] = exam.units["exam"]
        rows |= {f"{side} breast": exam.units[side] for side in ("right", "left") if side in exam.units}
    rows |= {view.name: view.scores for view in exam.views}
    tables = []
    for task, labels in labels_by_task(config).items():
        how = "calibrated probability" if task in calibrated else "score, not calibrated"
        head = "".join(f'<th scope="col">{escape(label)}</th>' for label in labels)
        body = "".join(
            f'<tr><th scope="row">{escape(name)}</th>{"".join(_cell(value) for value in scores[task])}</tr>'
            for name, scores in rows.items()
        )
        tables.append(
            f'<table class="scores"><caption>{escape(task or "scores")} <small>({how})</small></caption>'
            f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"
        )
    return f'<div class="scroll" tabindex="0">{"".join(tables)}</div>'


def _cell(value: float) -> str:
    return f'<td><meter min="0" max="1" value="{value:.3f}" aria-hidden="true"></meter> {100 * value:.0f} %</td>'


def facts_table(exam: ReadExam) -> str:
    """What the headers say, a column a view; a picture has no header."""
    names = list(dict.fromkeys(name for view in exam.views for name in view.facts))
    if not names:
        return "<p>The files have no DICOM header.</p>"
    head = "".join(f'<th scope="col">{escape(view.name)}</th>' for view in exam.views)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(view.facts.get(name, ''))}</td>" for view in exam.views)
        + "</tr>"
        for name in names
    )
    table = f'<table class="facts"><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll" tabindex="0">{table}</div>'


def notes_list(notes: tuple[str, ...]) -> str:
    """Notes as a list; nothing where there is none."""
    return f"<ul class='notes' role='status'>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" * bool(notes)


def problem(text: str) -> str:
    """An error, where a screen reader tells of it at once."""
    return f'<p class="problem" role="alert">error: {escape(text)}</p>'
