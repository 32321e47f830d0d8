"""One mammogram: stored values, the intensity of each of them, and the header."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..slabs import Slab
from .errors import MammogramError
from .header import MammogramHeader
from .intensity import IntensityTable
from .pixel_data import StoredFrames

# values looked up at a time: the index that numpy needs of them then stays in the processor's cache
_BLOCK = 1 << 16
_ALL = slice(None)


@dataclass(frozen=True, eq=False)
class Mammogram:
    """A mammogram as read by ``read_mammogram``.

    The frames of a tomosynthesis volume are read when they are asked for, and only the last one is kept: a slice, a
    range of slices or a slab costs the memory of one frame and of the result.

    Attributes:
        stored: The frames, a sequence of read-only integer arrays ``(rows, columns)``.
        tables: The displayed intensity of each stored value: one table for all frames, or one for each.
        header: What the header says.
        source: What the mammogram was read from, for messages.
    """

    stored: StoredFrames
    tables: tuple[IntensityTable, ...]
    header: MammogramHeader
    source: str

    def __repr__(self) -> str:
        header = self.header
        name = f"{header.laterality.value}{header.view.value}" or "unknown view"
        size = f"{header.frames} x {header.rows} x {header.columns}"
        return f"<Mammogram {name}, {size}, {header.bits_stored} bits, {self.intensity_source}>"

    @property
    def pixels(self) -> np.ndarray:
        """All stored integers, ``(frames, rows, columns)``, native byte order, read-only.

        The sign is that of PixelRepresentation, bits beyond BitsStored are removed. Of a volume every frame is read
        anew, all at once.

        Raises:
            MammogramError: A frame is damaged.
        """
        if len(self.stored) == 1:
            return self.frame(0)[np.newaxis]
        volume = np.empty((len(self.stored), self.header.rows, self.header.columns), self.stored.image.dtype)
        for frame, stored in zip(volume, self.iterate(), strict=True):
            frame[:] = stored
        volume.flags.writeable = False
        return volume

    @property
    def intensity_table(self) -> np.ndarray:
        """float32 in [0, 1], ``(2 ** bits_stored,)``: what each stored value of the first frame is displayed as."""
        return self.tables[0].values

    @property
    def first_stored_value(self) -> int:
        """The stored value of entry 0: 0, or ``-2 ** (bits_stored - 1)`` for signed pixels."""
        return self.tables[0].first_stored_value

    @property
    def intensity_source(self) -> str:
        """Which rule the table follows: "window 'NORMAL' (SIGMOID)", "VOI LUT", "full range (no window)", ..."""
        return self.tables[0].source

    def frame(self, index: int) -> np.ndarray:
        """The stored integers of one frame, ``(rows, columns)``, read-only; read and decoded now.

        Raises:
            MammogramError: There is no such frame, or it is damaged.
        """
        frames = len(self.stored)
        if not -frames <= index < frames:
            raise MammogramError(f"there is no frame {index} among {frames}", source=self.source)
        try:
            return self.stored[index % frames]
        except MammogramError as error:
            raise MammogramError(error.problem, source=self.source, remedy=error.remedy) from None
        except (OSError, ValueError):
            raise MammogramError(
                f"frame {index} cannot be read any more", source=self.source, remedy="was the file moved or changed?"
            ) from None

    def iterate(self, frames: slice | range = _ALL) -> Iterator[np.ndarray]:
        """The stored integers of some frames, one after the other, each read when it is its turn."""
        for index in self._indices(frames):
            yield self.frame(index)

    def intensity(
        self, frame: int | slice | range | None = None, rows: slice = _ALL, columns: slice = _ALL
    ) -> np.ndarray:
        """The displayed intensity, looked up for the asked part alone.

        Args:
            frame: One frame, counted from 0 (or from the end if negative), or several; all of them by default.
            rows: Part of the rows.
            columns: Part of the columns.

        Returns:
            A new float32 array in [0, 1]: ``(frames, rows, columns)``, or ``(rows, columns)`` for one frame.

        Raises:
            MammogramError: There is no such frame, or it is damaged.
        """
        if isinstance(frame, int):
            return self._intensity_of(frame, rows, columns)
        indices = self._indices(_ALL if frame is None else frame)
        height = len(range(self.header.rows)[rows])
        width = len(range(self.header.columns)[columns])
        result = np.empty((len(indices), height, width), np.float32)
        for out, index in zip(result, indices, strict=True):
            self._look_up(index, self.frame(index)[rows, columns], out)
        return result

    def slab(self, slab: Slab, rows: slice = _ALL, columns: slice = _ALL) -> np.ndarray:
        """One picture of a volume: the intensity of a slice, or the maximum or mean of several slices' intensity.

        Args:
            slab: Which slices, and how they become one.
            rows: Part of the rows.
            columns: Part of the columns.

        Returns:
            A new float32 array in [0, 1], ``(rows, columns)``. One slice is in memory at a time.

        Raises:
            MammogramError: There are no such slices, or one is damaged.
        """
        try:
            first, *others = slab.indices(len(self.stored))
        except DataError as error:
            raise MammogramError(error.problem, source=self.source, remedy=error.remedy) from None
        result = self._intensity_of(first, rows, columns)
        one = np.empty_like(result) if others else result
        for index in others:
            self._look_up(index, self.frame(index)[rows, columns], one)
            if slab.projection == "maximum":
                np.maximum(result, one, out=result)
            else:
                result += one
        if others and slab.projection == "mean":
            result /= 1 + len(others)
            np.minimum(result, 1, out=result)  # rounding of a sum
        return result

    def _indices(self, frames: slice | range) -> range:
        every = range(len(self.stored))
        return every[frames] if isinstance(frames, slice) else frames

    def _intensity_of(self, index: int, rows: slice, columns: slice) -> np.ndarray:
        stored = self.frame(index)[rows, columns]
        result = np.empty(stored.shape, np.float32)
        self._look_up(index, stored, result)
        return result

    def _look_up(self, frame: int, stored: np.ndarray, result: np.ndarray) -> None:
        """Fill ``result`` ``(rows, columns)`` with the intensity of ``stored``."""
        table = self.tables[frame if len(self.tables) > 1 else 0]
        step = max(1, _BLOCK // max(1, stored.shape[1]))
        indices = np.empty((min(step, len(stored)), stored.shape[1]), np.intp)
        for top in range(0, len(stored), step):
            index = indices[: len(stored) - top]
            index[:] = stored[top : top + step]
            if table.first_stored_value:
                index -= table.first_stored_value
            # every value has an entry, so no index ever wraps around: it only spares numpy a copy of the result
            np.take(table.values, index, out=result[top : top + step], mode="wrap")
