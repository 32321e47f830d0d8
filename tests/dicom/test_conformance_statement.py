"""The DICOM conformance statement, ``docs/conformance.md``: its tables are what the reader's code says and does.

The page is written by this file: ``MAMMO_HF_WRITE_DOCS=1 python -m pytest tests/dicom/test_conformance_statement.py``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydicom import uid
from pydicom.datadict import dictionary_description, dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID

from mammo_hf.dicom import header, parsing, pixels, reader
from mammo_hf.dicom.types import MammogramError

pytest.importorskip("imagecodecs", reason="imagecodecs is not installed (the extra codecs)")

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
MULTIFRAME = (uid.BreastTomosynthesisImageStorage,)
CLASSES = (
    *map(UID, header._INTENT_OF_CLASS),
    *header._PROJECTIONS,
    *MULTIFRAME,
    uid.SecondaryCaptureImageStorage,
)


def table(*rows):
    heads, *cells = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *cells))


def sop_classes():
    rows = [("SOP class", "UID", "taken for")]
    for sop_class in CLASSES:
        dataset = Dataset()
        dataset.SOPClassUID = sop_class
        kind = header.find_kind(dataset, 2 if sop_class in MULTIFRAME else 1, [])
        rows.append((sop_class.name, f"`{sop_class}`", kind.value.replace("_", " ")))
    return table(*rows)


def transfer_syntaxes():
    known = [UID(one) for one, (_, kind, *_) in uid.UID_dictionary.items() if kind == "Transfer Syntax"]
    rows = [("transfer syntax", "UID", "pixel data")]
    for syntax in known:
        if not syntax.is_encapsulated or syntax == pixels._ENCAPSULATED_RAW:
            how = "not compressed"
        elif syntax == uid.RLELossless:
            how = "by mammo_hf"
        else:
            try:
                plugin = pixels.find_decoder(syntax).__module__
            except MammogramError:
                continue
            how = "by imagecodecs" if plugin == pixels.__name__ else f"by {plugin.split('.')[0]}"
        rows.append((syntax.name, f"`{syntax}`", how))
    return table(*rows)


def attributes():
    rows = [("attribute", "tag", "VR")]
    for tag in sorted(tag_for_keyword(keyword) for keyword in parsing._KEYWORDS.split()):
        written = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        rows.append((dictionary_description(tag), written, dictionary_VR(tag)))
    return table(*rows)


def other_modalities():
    return ", ".join(f"{modality}" for modality in sorted(reader._OTHER_MODALITIES)) + "."


TABLES = {
    "SOP classes": sop_classes,
    "transfer syntaxes": transfer_syntaxes,
    "attributes": attributes,
    "modalities": other_modalities,
}
# PS3.2, Annex A: the order of a statement's sections
SECTIONS = (
    "1 Conformance statement overview",
    "2 Table of contents",
    "3 Introduction",
    "4 Networking",
    "5 Media interchange",
    "6 Transformation of DICOM to CDA",
    "7 Support of character sets",
    "8 Security",
    "9 Annexes",
)


@pytest.mark.parametrize("name", TABLES)
def test_the_statement_says_what_the_code_does(name):
    begin, end = f"<!-- {name}: begin -->\n\n", f"\n\n<!-- {name}: end -->"
    text = TABLES[name]()
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    old, _, after = rest.partition(end)
    if os.environ.get("MAMMO_HF_WRITE_DOCS"):
        PAGE.write_text(before + begin + text + end + after, encoding="utf-8")
        return
    assert old == text, (
        "write it again: MAMMO_HF_WRITE_DOCS=1 python -m pytest tests/dicom/test_conformance_statement.py"
    )


def test_the_sections_are_those_of_the_standard_in_its_order():
    found = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert tuple(found) == SECTIONS


def test_a_receiver_takes_all_that_is_read():
    assert set(re.findall(r"`([\d.]+)`", transfer_syntaxes())) == set(pixels.READ)
