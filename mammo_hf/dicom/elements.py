"""Values of a dataset as files from the field hold them, read without pydicom's validation.

Conversion of a malformed value by pydicom warns or raises with the value in its text, which may be a person's; and the
type that a file gives to a value (US or SS, OW or US) is often wrong. So text, numbers and words are read here from the
bytes. An error names the attribute and never its value.
"""

from __future__ import annotations

from collections.abc import MutableSequence

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from .errors import MammogramError

# None: implicit VR; UN and OB: what some archives turn attributes into that they do not know
_WORD_VRS = ("US", "SS", "OW", "OB", "UN", "US or SS", "US or OW", "US or SS or OW", None)


def _value(dataset: Dataset, keyword: str) -> object:
    tag = tag_for_keyword(keyword)
    element = None if tag is None else dataset.get_item(tag)
    return None if element is None else element.value


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a text attribute without surrounding blanks; empty where it is missing or empty."""
    value = _value(dataset, keyword)
    if value is None:
        return ()
    if isinstance(value, bytes):
        try:
            parts = value.decode("utf-8").split("\\")
        except UnicodeDecodeError:
            parts = value.decode("latin-1").split("\\")
    elif isinstance(value, MutableSequence):  # pydicom's MultiValue
        parts = [str(part) for part in value]
    else:
        parts = str(value).split("\\")
    parts = [part.strip(" \0\t\r\n") for part in parts]
    return tuple(parts) if any(parts) else ()


def text(dataset: Dataset, keyword: str) -> str:
    """The first value of a text attribute, ``""`` where it is missing or empty."""
    return next(iter(texts(dataset, keyword)), "")


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """The values of a decimal attribute; empty where it is missing or empty.

    Raises:
        MammogramError: A value is no finite number.
    """
    try:
        values = tuple(float(part) for part in texts(dataset, keyword))
    except ValueError:
        values = (float("nan"),)
    if not all(np.isfinite(values)):
        raise MammogramError(f"{keyword} is no finite number", remedy="mend the attribute or take it out")
    return values


def words(dataset: Dataset, keyword: str) -> np.ndarray:
    """The 16-bit words of a US, SS or OW attribute as uint16; empty where it is missing or empty.

    The sign is left to the caller, who knows what PixelRepresentation asks for.

    Raises:
        MammogramError: The attribute holds something else.
    """
    tag = tag_for_keyword(keyword)
    element = None if tag is None else dataset.get_item(tag)
    if element is None or element.value is None or element.value == b"" or element.value == "":
        return np.empty(0, np.uint16)
    value = element.value
    if isinstance(value, bytes) and (len(value) % 2 or element.VR not in _WORD_VRS):
        raise MammogramError(f"{keyword} does not hold 16-bit numbers", remedy="mend the attribute")
    if isinstance(value, bytes):
        if isinstance(element, RawDataElement):
            little = element.is_little_endian
        else:
            little = dataset.original_encoding[1] is not False
        return np.frombuffer(value, "<u2" if little else ">u2").astype(np.uint16)
    try:
        return (np.atleast_1d(np.asarray(value, dtype=np.int64)) & 0xFFFF).astype(np.uint16)
    except (TypeError, ValueError, OverflowError):
        raise MammogramError(f"{keyword} does not hold whole numbers", remedy="mend the attribute") from None


def word(dataset: Dataset, keyword: str) -> int | None:
    """The one 16-bit word of an attribute, unsigned; ``None`` where it is missing or empty.

    Raises:
        MammogramError: There are several values, or the attribute holds something else.
    """
    found = words(dataset, keyword)
    if len(found) > 1:
        raise MammogramError(f"{keyword} has {len(found)} values, not one", remedy="mend the attribute")
    return int(found[0]) if len(found) else None


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence; empty where it is missing or empty."""
    value = dataset.get(keyword)
    return tuple(value) if isinstance(value, Sequence) else ()


def group_items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The items of a functional group macro (PS3.3 C.7.6.16): the shared one, else one a frame; empty without any."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        found = [item for group in items(dataset, groups) for item in items(group, keyword)[:1]]
        if found:
            return tuple(found)
    return ()


def group_of_frame(dataset: Dataset, keyword: str, frame: int) -> tuple[Dataset, ...]:
    """One frame's item of a functional group macro, shared or its own, in a tuple; empty without any."""
    shared = [item for group in items(dataset, "SharedFunctionalGroupsSequence") for item in items(group, keyword)]
    if shared:
        return (shared[0],)
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    return items(groups[min(frame, len(groups) - 1)], keyword)[:1] if groups else ()


def differs_by_frame(dataset: Dataset, *keywords: str) -> bool:
    """Whether any of the functional group macros stands in the frames' own groups."""
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    return any(keyword in group for group in groups for keyword in keywords)
