"""Where the value of Pixel Data lies: in memory, or at a place in a file from which parts are read when asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

UNDEFINED_LENGTH = 0xFFFFFFFF
_TRAILING = 1 << 16  # of padding after the pixels


@dataclass(frozen=True)
class PixelBytes:
    """The value of Pixel Data (7FE0,0010), not read yet.

    Attributes:
        holder: The bytes that hold it, or the path of the file that does.
        start: Where it begins in the holder.
        length: Bytes that are there; fewer than announced where the file is cut short.
        encapsulated: Whether it is a sequence of fragments (PS3.5 A.4): its length is not defined.
        vr: OB or OW, ``None`` in an implicit syntax.
        little_endian: Byte order of its words.
    """

    holder: bytes | bytearray | str
    start: int
    length: int
    encapsulated: bool
    vr: str | None
    little_endian: bool

    def unpacked(self, nbytes: int) -> PixelBytes:
        """The value without the compression of the whole data set, where it has one.

        Args:
            nbytes: How many bytes the header says that the image has; hardly more are unpacked.

        Raises:
            MammogramError: The compressed data are damaged.
        """
        return self

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The holder as a file, at the first byte of the value."""
        file: BinaryIO = open(self.holder, "rb") if isinstance(self.holder, str) else io.BytesIO(self.holder)  # noqa: SIM115
        with file:
            file.seek(self.start)
            yield file

    def read(self, start: int, length: int) -> bytes:
        """Some bytes of the value; fewer where it ends before."""
        if not isinstance(self.holder, str):
            return bytes(memoryview(self.holder)[self.start + start : self.start + start + length])
        with self.open() as file:
            file.seek(start, os.SEEK_CUR)
            return file.read(length)

    def words(self, start: int, dtype: np.dtype, count: int) -> np.ndarray:
        """``count`` words from the byte ``start`` on, without a copy where they are in memory.

        Raises:
            ValueError: There are fewer.
        """
        if isinstance(self.holder, str):
            found = np.fromfile(self.holder, dtype, count, offset=self.start + start)
            if len(found) < count:
                raise ValueError("the file has become shorter")
            return found
        return np.frombuffer(self.holder, dtype, count, self.start + start)


@dataclass(frozen=True)
class DeflatedPixelBytes(PixelBytes):
    """The value within a deflated data set (PS3.5 A.5), of which only the beginning is unpacked yet.

    Attributes:
        announced: Bytes that the value has by its header.
        unpack: Gives up to so many further bytes of the holder.
    """

    announced: int
    unpack: Callable[[int], bytes]

    def unpacked(self, nbytes: int) -> PixelBytes:
        """See ``PixelBytes``: a small file must not unpack to something enormous."""
        holder = bytearray(self.holder) if not isinstance(self.holder, str) else bytearray()
        missing = min(self.announced, nbytes + _TRAILING) - self.length
        while missing > 0 and (more := self.unpack(min(missing, _TRAILING))):
            holder += more
            missing -= len(more)
        there = min(self.announced, len(holder) - self.start)
        return PixelBytes(holder, self.start, there, self.encapsulated, self.vr, self.little_endian)
