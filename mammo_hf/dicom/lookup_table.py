"""A look-up table of the file: Modality LUT (PS3.3 C.11.1.1) and VOI LUT (PS3.3 C.11.2.1.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from .elements import words
from .errors import MammogramError


@dataclass(frozen=True)
class LookupTable:
    """One item of a Modality or VOI LUT Sequence.

    Attributes:
        first: The input value that the first entry belongs to.
        entries: Output values, float64.
        bits: The output range is 0 to ``2 ** bits - 1``, whichever entries occur.
    """

    first: int
    entries: np.ndarray
    bits: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The outputs, float64, for inputs of any range; what lies outside the table takes its first or last entry.

        An input that is no whole number, after a fractional rescale, takes the entry below, as in pydicom.
        pydicom computes the index in the type of the entries or of the input, where it can wrap around (300 becomes 44
        for 8-bit entries); PS3.3 C.11.2.1.1 asks for the last entry there.
        """
        index = np.clip(values - self.first, 0, len(self.entries) - 1)
        return self.entries[index.astype(np.intp)]


def lookup_table(item: Dataset, kind: str, low: float, high: float) -> LookupTable | None:
    """The table of a sequence item, or ``None`` if the item is empty.

    Args:
        item: The item of ModalityLUTSequence or VOILUTSequence.
        kind: "modality LUT" or "VOI LUT", for messages.
        low: The lowest input that can occur.
        high: The highest input that can occur.

    Raises:
        MammogramError: Its descriptor and its data do not fit together.
    """
    descriptor, data = words(item, "LUTDescriptor"), words(item, "LUTData")
    if not len(descriptor) and not len(data):
        return None
    bits = int(descriptor[2]) if len(descriptor) == 3 else 0
    count = (int(descriptor[0]) or 1 << 16) if len(descriptor) else 0
    # 8-bit entries may be packed two to a word, the first in the low byte (PS3.3 C.11.1.1.1)
    if bits <= 8 and len(data) == (count + 1) // 2 < count:
        data = data.astype("<u2").view(np.uint8)
    if not 1 <= bits <= 16 or len(data) < count:
        raise MammogramError(
            f"the {kind}'s descriptor says {count} entries of {bits} bits, its data hold {len(data)}",
            remedy="mend the sequence or take it out",
        )
    entries = data[:count]
    # entries wider than announced would leave the output range: the range is then what the entries need
    bits = max(bits, int(entries.max()).bit_length())
    return LookupTable(_signed_where_needed(int(descriptor[1]), low, high), entries.astype(np.float64), bits)


def _signed_where_needed(word: int, low: float, high: float) -> int:
    """The first mapped value, as signed or unsigned, whichever lies among the inputs.

    PS3.3 C.11.1.1.1 and C.11.2.1.1 give it the sign of the input; many files give it the wrong type, so the type is not
    asked (pydicom takes the type as written).
    """
    signed = word - 0x10000
    return word if word < 0x8000 or (word <= high and signed < low) else signed
