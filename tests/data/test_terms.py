import itertools
import json
from types import SimpleNamespace

import pytest
from small_archive import write_dicom

from mammo_hf import load
from mammo_hf.data.datasets.discovery import find_source, source_names
from mammo_hf.data.terms import (
    ASK,
    PHANTOMS,
    VERDICTS,
    Terms,
    read_terms,
    refuse,
    terms_of_model,
    terms_of_source,
    terms_of_text,
    united,
    write_terms,
)
from mammo_hf.errors import DataError, UsageError
from mammo_hf.training.trainer import terms_of_training

OPEN = Terms("open", "CC BY 4.0", weights="allowed with attribution", clause="Share Adapted Material", citation="A. B.")
CLOSED = Terms("closed", "own agreement", weights="not allowed", clause="5. no weights", read_at="agreement")


@pytest.mark.parametrize("name", source_names())
def test_each_collection_states_a_verdict_or_counts_as_ask(name):
    source = find_source(name)
    terms = terms_of_source(source.NAME, source.LICENCE, getattr(source, "TERMS", None))
    assert terms.weights in VERDICTS
    assert bool(terms.clause) == (terms.weights != ASK)
    verdicts = {"embed": "not allowed", "cbis-ddsm": "allowed with attribution", "cmmd": "allowed with attribution"}
    assert terms.weights == verdicts.get(name, ASK)
    assert not terms.clause or terms.read_at


def test_a_verdict_needs_a_clause_and_a_known_word():
    for wrong in ({"weights": "allowed"}, {"weights": "perhaps", "clause": "x"}):
        with pytest.raises(UsageError):
            Terms("a", "b", **wrong)
    with pytest.raises(ValueError, match=r"terms\.licence"):
        terms_of_source("a", "b", {"licence": "c"})


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("allowed: ethics vote 12", "allowed"),
        ("Not allowed: contract", "not allowed"),
        ("we are allowed to", ASK),
        ("allowed", ASK),
        ("", ASK),
    ],
)
def test_terms_that_a_user_states(text, weights):
    assert terms_of_text(text, "own images").weights == weights


def test_what_was_written_is_read_and_joined(tmp_path):
    assert read_terms(tmp_path) is None
    write_terms(tmp_path, [OPEN, CLOSED], [OPEN])
    assert read_terms(tmp_path) == (CLOSED, OPEN) == united([OPEN], [CLOSED, OPEN])
    (tmp_path / "terms.json").write_text('{"terms": [{"name": "x", "images": "", "weights": "yes"}]}')
    with pytest.raises(DataError, match="does not hold terms"):
        read_terms(tmp_path)


@pytest.mark.parametrize("terms", [[CLOSED], [OPEN, Terms("unsaid", "")], [PHANTOMS, OPEN, CLOSED], None])
def test_a_publication_is_refused_with_the_line_that_overrides_it(terms):
    with pytest.raises(UsageError) as caught:
        refuse(terms, None, "mammo-hf push out lab/x")
    assert 'mammo-hf push out lab/x --permission "' in str(caught.value)
    assert ("5. no weights" in str(caught.value)) == (terms is not None and CLOSED in terms)
    with pytest.raises(UsageError):
        refuse(terms, "  ", "push")
    refuse(terms, "the institute, 2026-05-01", "push")


def test_what_allows_it_is_not_refused():
    refuse([OPEN, PHANTOMS], None, "push")
    refuse([], None, "push")


@pytest.mark.parametrize(
    ("card", "stated", "weights"),
    [
        ("---\nlicense: apache-2.0\n---\n# x", None, "allowed with attribution"),
        ("---\nlicense: cc-by-nc-4.0\n---\n# x", None, ASK),
        ("---\nlicense: unknown\n---\n# x", None, ASK),
        ("no front matter", None, ASK),
        (None, None, ASK),
        (None, "allowed: letter of the author", "allowed"),
    ],
)
def test_terms_of_a_model_that_training_starts_from(tmp_path, card, stated, weights):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert [one.weights for one in terms_of_model(tmp_path, "lab/start", stated)] == [weights]
    write_terms(tmp_path, [CLOSED])
    assert terms_of_model(tmp_path, "lab/start", stated) == (CLOSED,)  # no text of a user replaces a record


def test_own_images_say_their_own_and_public_ones_do_not_take_others(tmp_path):
    write_dicom(tmp_path / "a.dcm")
    assert [one.weights for one in load(tmp_path).terms] == [ASK]
    stated = load(tmp_path, terms="allowed: vote 3")
    assert [(one.weights, one.clause) for one in stated.terms] == [("allowed", "vote 3")]
    assert stated.with_splits({}).terms == stated.terms
    assert json.dumps([one.name for one in stated.terms]) == '["own images"]'


def test_what_a_grandparent_forbids_reaches_the_last_model_in_every_order(tmp_path):
    options, images = SimpleNamespace(model_terms=None), {}
    for name, terms in (("open", OPEN), ("closed", CLOSED)):
        write_dicom(tmp_path / name / "a.dcm")
        images[name] = load(tmp_path / name)
        images[name].terms = (terms,)
    for order in itertools.product(images, repeat=3):
        start = "nano"
        for stage, name in enumerate(order):
            folder = tmp_path / "-".join(order) / str(stage)
            write_terms(folder, terms_of_training(images[name], options, start))
            start = str(folder)
        assert {one.name for one in read_terms(start)} == set(order)
