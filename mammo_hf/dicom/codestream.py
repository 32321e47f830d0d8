"""The codestream of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame: its kind, its header, and whether all of it is there.

Only bytes are looked at; nothing is decoded, but for a JPEG whose end is in doubt.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from pydicom import uid
from pydicom.uid import UID

_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; JPEG-LS SOF55
_SEGMENT_MARKERS = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, *range(0xE0, 0xF0), 0xF8, 0xFE})
_SCAN = 0xDA
_MOST_TILES = 65535  # ITU-T T.800 A.4.2: a tile's number has 16 bits, the last one is reserved
_END_OF_IMAGE = b"\xff\xd9"  # EOI of ITU-T T.81 and T.87, EOC of T.800


def codestream_header(frame: bytes) -> tuple[int, int, int, int]:
    """Read the header of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame.

    Returns:
        Rows, columns, bits of a sample, and samples per pixel: ITU-T T.81 B.2, T.87 C.2 (marker segments up to the
        scan) and T.800 A.5.1 (SIZ marker).

    Raises:
        ValueError: The frame has no such header, or is damaged before the first scan.
    """
    start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)  # after the boxes of a JP2 file, if there are any
    if start >= 0:
        return _jpeg_2000_header(frame[start + 4 : start + 45])
    if frame[:2] == b"\xff\xd8":
        return _jpeg_header(frame)
    raise ValueError("no codestream")


def codestream_syntax(start: bytes) -> UID | None:
    """Return a transfer syntax of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame, ``None`` for anything else.

    Args:
        start: First bytes of the frame.
    """
    siz = start.find(b"\xff\x4f\xff\x51") if start[:4] in (b"\xff\x4f\xff\x51", b"\0\0\0\x0c") else -1
    if siz >= 0:
        # bit 14 of Rsiz: high throughput (ITU-T T.814 A.2)
        return uid.HTJ2K if start[siz + 6 : siz + 7] and start[siz + 6] & 0x40 else uid.JPEG2000
    if start[:3] != b"\xff\xd8\xff":
        return None
    position = 2
    while position + 4 <= len(start) and start[position] == 0xFF:
        marker, length = start[position + 1], struct.unpack(">H", start[position + 2 : position + 4])[0]
        if marker in _FRAME_MARKERS:
            return {0xF7: uid.JPEGLSNearLossless, 0xC0: uid.JPEGBaseline8Bit, 0xC3: uid.JPEGLossless}.get(
                marker, uid.JPEGExtended12Bit
            )
        position += 1 if marker == 0xFF else 2 + length
    return uid.JPEGExtended12Bit


def _jpeg_2000_header(segment: bytes) -> tuple[int, int, int, int]:
    if len(segment) < 41:
        raise ValueError("no SIZ marker")
    # Lsiz, Rsiz, then the image's extent and offset, the tiles' size and offset, the number of samples, and the first
    # one's depth and steps
    right, bottom, left, top, *tiles = struct.unpack(">8I", segment[4:36])
    samples, depth, *steps = struct.unpack(">HBBB", segment[36:41])
    # T.800 Table A.9 and B.3: the first tile begins at or before the image and ends behind its beginning. Decoders rely
    # on it: with a tile below the image one never returns, and with one of no width another divides by zero.
    width, height, tile_left, tile_top = tiles
    if not (tile_left <= left < tile_left + width and tile_top <= top < tile_top + height):
        raise ValueError("the first tile does not hold the image's first pixel")
    many = math.ceil((right - tile_left) / width) * math.ceil((bottom - tile_top) / height)
    if not (left < right and top < bottom and many <= _MOST_TILES and all(steps)):
        raise ValueError("the image has no size, or more tiles than can be numbered")
    return bottom - top, right - left, (depth & 0x7F) + 1, samples


def _jpeg_header(frame: bytes) -> tuple[int, int, int, int]:
    found: tuple[int, int, int, int] | None = None
    position = 2
    while position + 4 <= len(frame):
        fill, marker, length = struct.unpack(">BBH", frame[position : position + 4])
        if fill == 0xFF and marker == 0xFF:  # T.81 B.1.1.2: any number of fill bytes may precede a marker
            position += 1
            continue
        if fill == 0xFF and marker == _SCAN and found is not None:
            return found
        if fill != 0xFF or length < 2 or position + 2 + length > len(frame):
            break
        if marker in _FRAME_MARKERS and found is None and length >= 8:
            precision, rows, columns, samples = struct.unpack(">BHHB", frame[position + 4 : position + 10])
            found = rows, columns, precision, samples
        elif marker not in _SEGMENT_MARKERS:
            break
        position += 2 + length
    raise ValueError("marker segments are damaged")


def has_end(frame: bytes) -> bool:
    """Return whether a codestream is there up to its end marker; padding and further boxes may follow.

    A decoder fills what is missing with zeros or with what was in memory, and reports success.
    """
    start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0:
        # coded data never hold a marker (T.81 F.1.2.3, T.87 A.1), but a preview in the header has an end of its own
        return frame[-64:].rstrip(b"\0").endswith(_END_OF_IMAGE) or (
            frame.rfind(_END_OF_IMAGE) > frame.rfind(bytes((0xFF, _SCAN)))
        )
    end = 0
    for position, _, length, _ in _tile_parts(frame):
        if length < 12:
            return frame.find(_END_OF_IMAGE, position) >= 0
        end = position + length
    return 0 < end <= len(frame) - 2 and (
        frame[end : end + 2] == _END_OF_IMAGE or frame[-64:].rstrip(b"\0").endswith(_END_OF_IMAGE)
    )


def _tile_parts(frame: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield the tile parts of a JPEG 2000 codestream (T.800 A.4.2).

    Yields:
        Where one begins, its tile, its length (0: the last one, up to the end marker), and how many its tile has
        (0: not said).
    """
    position = frame.find(b"\xff\x90", frame.find(b"\xff\x4f\xff\x51", 0, 4096))
    while position >= 0 and frame[position : position + 2] == b"\xff\x90":
        tile, length, _, parts = struct.unpack(">HIBB", frame[position + 4 : position + 12].ljust(8, b"\0"))
        yield position, tile, length, parts
        if length < 12:
            return
        position += length


def lacks_tile_parts(frame: bytes) -> bool:
    """Return whether tiles, or announced parts of them, are not in a JPEG 2000 codestream; a decoder fills them up."""
    start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
    right, bottom, _, _, width, height, left, top = struct.unpack(">8I", frame[start + 8 : start + 40])
    found = Counter(tile for _, tile, _, _ in _tile_parts(frame))
    tiles = math.ceil((right - left) / width) * math.ceil((bottom - top) / height)
    return len(found) < tiles or any(found[tile] < parts for _, tile, _, parts in _tile_parts(frame))


def with_last_length(frame: bytes) -> bytes:
    """Write the length of the last tile part into a JPEG 2000 codestream; without it, a decoder misses its end."""
    for position, _, length, _ in _tile_parts(frame):
        if length == 0:
            end = frame.find(_END_OF_IMAGE, position)
            length = (end if end >= 0 else len(frame)) - position
            return frame[: position + 6] + length.to_bytes(4, "big") + frame[position + 10 :]
    return frame


# Coded data of a JPEG that end before its image does, though an end marker follows: the decoder fills the rest with one
# value, and warns where nobody hears it.


def ends_early(frame: bytes, words: np.ndarray, decode: Callable[[bytes], np.ndarray]) -> bool:
    """Return whether a JPEG's coded data end before its image.

    Args:
        frame: The frame, with its end marker or without.
        words: What it was decoded to (rows, columns).
        decode: Function that has decoded it.
    """
    if (words[-1, -8:] != words[-1, -1]).any():
        return False  # what is filled in is flat
    end = frame.rfind(_END_OF_IMAGE)
    coded = frame[:end] if end > 0 else frame.rstrip(b"\0")
    try:
        if _ends_flat(coded, words):
            return False
        # The decoder of a sound frame never comes to read what follows the last pixel
        noise = np.random.default_rng(0).integers(1, 255, 1 << 12, np.uint8).tobytes()
        return not np.array_equal(decode(coded + noise + _END_OF_IMAGE), words)
    except Exception:  # of a decoder, or of tables that are not where they should be
        return True


def _ends_flat(coded: bytes, words: np.ndarray) -> bool:
    """Return whether coded data end with as many codes for "no change" as there are flat rows at the image's end.

    The code is that of the difference 0, followed in a DCT's blocks by the end of a block (ITU-T T.81 F.1.2, H.1.2).
    """
    flat = (words == words[-1, -1]).all(axis=1)
    rows, columns = words.shape
    count = rows if flat.all() else int(np.argmin(flat[::-1]))
    lossless, code = _code_of_no_change(coded)
    if lossless:
        repeated = (count - 1) * columns - 1  # the first of these rows may be predicted from the one above
    else:
        repeated = (count - (rows - 1) % 8 - 1 + 8) // 8 * math.ceil(columns / 8) - 1
    if repeated < 1 or not code:
        return False
    # a zero byte follows each byte of ones (B.1.1.5)
    length = repeated * len(code) // 8 + 2
    tail = coded[-2 * length :].replace(b"\xff\0", b"\xff")[-length:]
    bits = np.unpackbits(np.frombuffer(tail, np.uint8))
    wanted = np.resize(np.array(code, np.uint8), repeated * len(code))
    for end in range(len(bits), len(bits) - 8, -1):  # the last byte is filled up with ones
        if bits[end:].all() and np.array_equal(bits[max(0, end - len(wanted)) : end], wanted):
            return True
    return False


def _code_of_no_change(frame: bytes) -> tuple[bool, list[int]]:
    """Return whether a JPEG is lossless, and its bits of an unchanged pixel or block; none if its tables have no such.

    Raises:
        ValueError: There is no table of them before the scan.
    """
    tables: dict[int, list[int]] = {}
    position, lossless = 2, False
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        marker, length = frame[position + 1], int.from_bytes(frame[position + 2 : position + 4])
        segment = frame[position + 4 : position + 2 + length]
        lossless |= marker == 0xC3
        if marker == 0xC4:
            _read_codes(segment, tables)
        if marker == _SCAN:
            selector = segment[2]
            codes = [tables.get(selector >> 4), [] if lossless else tables.get(0x10 | selector & 15)]
            return lossless, [bit for code in codes for bit in code or ()] if None not in codes else []
        position += 2 + length
    raise ValueError("no scan")


def _read_codes(segment: bytes, tables: dict[int, list[int]]) -> None:
    """Add the code of the symbol 0 from each Huffman table of a segment (ITU-T T.81 B.2.4.2, C.2)."""
    while len(segment) > 17:
        counts, code, symbol = segment[1:17], 0, 17
        for length, count in enumerate(counts, 1):
            for value in segment[symbol : symbol + count]:
                if value == 0:
                    tables[segment[0]] = [code >> bit & 1 for bit in reversed(range(length))]
                code += 1
            symbol, code = symbol + count, code << 1
        segment = segment[symbol:]
