from __future__ import annotations

from types import SimpleNamespace

import pytest
from made_scores import TASKS, made_scores

from mammo_hf.evaluation.classifier import evaluate_classifier
from mammo_hf.evaluation.report import DEFAULTS
from mammo_hf.evaluation.report.facts import checklist_facts, filled, needed_facts


def _facts(**changes: object) -> dict[str, str]:
    config = SimpleNamespace(tasks=TASKS, calibration=None, operating_points=None)
    evaluation = evaluate_classifier(config, made_scores(), resamples=100)
    given = {"checkpoint": "m", "collection": "made", "tasks": TASKS, "model": {}}
    return checklist_facts(evaluation, DEFAULTS | given | changes)


def test_every_item_is_there_once_and_in_order() -> None:
    items = filled({})
    assert [item["number"] for item in items["CLAIM 2024"]] == [str(number) for number in range(1, 45)]
    numbers = [item["number"] for item in items["TRIPOD+AI"]]
    assert sorted({int(number.rstrip("abcdefg")) for number in numbers}) == list(range(1, 28))
    assert len(numbers) == len(set(numbers)) == 52


def test_answers_ask_for_facts_that_a_run_has() -> None:
    assert needed_facts() <= _facts().keys()


@pytest.mark.slow
def test_an_answer_without_its_fact_is_the_authors() -> None:
    def item(facts: dict[str, str], number: str) -> object:
        return next(item for item in filled(facts)["CLAIM 2024"] if item["number"] == number)["answer"]

    assert item({}, "33") is None
    assert item(_facts(), "33") is None  # not said whether the collection is another one
    assert item(_facts(trained_here=False), "33") == "This report: the model was not trained on this collection."
    assert item(_facts(trained_here=False), "32") is None
    assert item(_facts(trained_here=True), "33") is None
    assert item(_facts(), "38") is None  # no operating point was fixed beforehand


def test_what_only_authors_know_is_never_answered() -> None:
    items = filled(dict.fromkeys(needed_facts(), "x"))
    for number in ("3", "4", "16", "34", "40", "44"):
        found = next(item for item in items["CLAIM 2024"] if item["number"] == number)
        assert (found["answer"], found["complete"]) == (None, False)
    partly = next(item for item in items["CLAIM 2024"] if item["number"] == "7")
    assert partly["answer"] is not None
    assert "For the authors to add" in partly["answer"]
    assert not partly["complete"]
