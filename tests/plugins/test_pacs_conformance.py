"""The network part of the conformance statement: its tables are what the node offers and accepts.

The page is written by this file: ``MAMMO_HF_WRITE_DOCS=1 python -m pytest tests/plugins/test_pacs_conformance.py``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

for package in ("highdicom", "pynetdicom", "dicomweb_client"):
    pytest.importorskip(package, reason=f"{package} is not installed (plugins/mammo-hf-pacs)")

from mammo_hf_pacs import capture, exchange, receiver, seg, sr
from mammo_hf_pacs.queue import Queue
from pydicom.uid import UID
from pynetdicom.sop_class import ParametricMapStorage, StudyRootQueryRetrieveInformationModelFind, Verification

from mammo_hf.dicom.pixels import READ
from mammo_hf.testing import scored_exam

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def table(*rows):
    heads, *cells = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells))


def services():
    rows = [("service", "UID or transaction", "as client (SCU)", "as server (SCP)")]
    rows.append((UID(Verification).name, f"`{Verification}`", "C-ECHO", "C-ECHO"))
    find = StudyRootQueryRetrieveInformationModelFind
    rows.append((UID(find).name, f"`{find}`", "C-FIND at level IMAGE", "no"))
    rows.append(("Storage", "below", "C-STORE", "C-STORE"))
    rows += [("DICOMweb", name, "yes", "no") for name in ("QIDO-RS", "WADO-RS", "STOW-RS")]
    return table(*rows)


def named(uids):
    return table(("name", "UID"), *((UID(uid).name, f"`{uid}`") for uid in uids))


def sent():
    rows = [
        (UID(one).name, f"`{one}`", ", ".join(syntax.name for syntax in exchange.OFFERED[one])) for one in exchange.SENT
    ]
    return table(("name", "UID", "transfer syntaxes that are proposed"), *rows)


TABLES = {
    "services": services,
    "taken": lambda: named(receiver.CLASSES),
    "taken syntaxes": lambda: named(READ),
    "sent": lambda: sent(),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_statement_says_what_the_code_does(name):
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    text = f"\n{TABLES[name]()}\n\n"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    old, _, after = rest.partition(end)
    if os.environ.get("MAMMO_HF_WRITE_DOCS"):
        PAGE.write_text(before + begin + text + end + after, encoding="utf-8")
        return
    assert old == text, "write it again: MAMMO_HF_WRITE_DOCS=1 python -m pytest tests/plugins/test_pacs_conformance.py"


def test_the_server_offers_these_contexts(tmp_path):
    queue = Queue(tmp_path / "state")
    one = receiver.Receiver(queue, "127.0.0.1", 0, "MAMMOHF")
    offered = {context.abstract_syntax: set(context.transfer_syntax) for context in one._server.contexts}
    one.close()
    queue.close()
    assert set(offered) == {Verification, *receiver.CLASSES}
    assert all(offered[sop_class] == set(READ) for sop_class in receiver.CLASSES)


def test_every_object_is_of_a_class_that_is_sent(tmp_path):
    exam = scored_exam(tmp_path)
    made = [one for output in (sr, seg, capture) for one in output.datasets_of(exam)]
    # parametric maps are made of volumes alone
    assert {one.SOPClassUID for one in made} == set(exchange.SENT) - {ParametricMapStorage}
    assert all(one.file_meta.TransferSyntaxUID in exchange.OFFERED[one.SOPClassUID] for one in made)
