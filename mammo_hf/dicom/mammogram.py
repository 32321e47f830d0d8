"""One mammogram: stored values, the intensity of each of them, and the header."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import MammogramError
from .header import MammogramHeader

# values looked up at a time: the index that numpy makes of them then stays in the processor's cache
_BLOCK = 1 << 17
_ALL = slice(None)


@dataclass(frozen=True, eq=False)
class Mammogram:
    """A mammogram as read by ``read_mammogram``.

    Attributes:
        pixels: Stored integers, ``(frames, rows, columns)``, native byte order, read-only; the sign is that of
            PixelRepresentation, bits beyond BitsStored are removed.
        intensity_table: float32 in [0, 1], ``(2 ** bits_stored,)``: what each stored value is displayed as.
        first_stored_value: The stored value of entry 0: 0, or ``-2 ** (bits_stored - 1)`` for signed pixels.
        intensity_source: Which VOI rule the table follows, such as "window 'NORMAL' (SIGMOID)", "VOI LUT" or
            "full range (no window)".
        header: What the header says.
        source: What the mammogram was read from, for messages.
    """

    pixels: np.ndarray
    intensity_table: np.ndarray
    first_stored_value: int
    intensity_source: str
    header: MammogramHeader
    source: str

    def __repr__(self) -> str:
        frames, rows, columns = self.pixels.shape
        header = self.header
        name = f"{header.laterality.value}{header.view.value}" or "unknown view"
        return f"<Mammogram {name}, {frames} x {rows} x {columns}, {header.bits_stored} bits, {self.intensity_source}>"

    def intensity(self, frame: int | None = None, rows: slice = _ALL, columns: slice = _ALL) -> np.ndarray:
        """The displayed intensity, looked up for the asked part alone.

        Args:
            frame: One frame, counted from 0 (or from the end if negative); all of them by default.
            rows: Part of the rows.
            columns: Part of the columns.

        Returns:
            A new float32 array in [0, 1]: ``(frames, rows, columns)``, or ``(rows, columns)`` for one frame.

        Raises:
            MammogramError: There is no such frame.
        """
        frames = len(self.pixels)
        if frame is not None and not -frames <= frame < frames:
            raise MammogramError(f"there is no frame {frame} among {frames}", source=self.source)
        chosen = self.pixels if frame is None else self.pixels[frame][np.newaxis]
        stored = chosen[:, rows, columns]
        result = np.empty(stored.shape, np.float32)
        for one, out in zip(stored, result, strict=True):
            self._look_up(one, out)
        return result if frame is None else result[0]

    def _look_up(self, stored: np.ndarray, result: np.ndarray) -> None:
        """Fill ``result`` ``(rows, columns)`` with the intensity of ``stored``."""
        step = max(1, _BLOCK // max(1, stored.shape[1]))
        for top in range(0, len(stored), step):
            index = stored[top : top + step].astype(np.intp)
            if self.first_stored_value:
                index -= self.first_stored_value
            # every value has an entry, so no index is ever clipped: it only spares numpy a copy of the result
            np.take(self.intensity_table, index, out=result[top : top + step], mode="clip")
