"""JPEG 2000 and HTJ2K at a fraction of their size (``decode="fast"``) against their full decode, in one run.

python benchmarks/bench_fast.py                                    a drawn mammogram of 4096 x 3328
python benchmarks/bench_fast.py --dicom ../shared/dicom            real mammograms too, if they are there

Ratios of processor time, the least of the repeats; "decode" against imagecodecs' full decode of the same frame, "read"
from file to tensor against ``decode="exact"``. The picture's difference is that of the canvas in [0, 1].
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless

from mammo_hf import MammoImageProcessor
from mammo_hf.dicom import mammogram_dataset, read_mammogram
from mammo_hf.phantom.exam import draw_exam

SIZES = ((896, 448), (448, 224))
TARGETS = {1: 0.5, 2: 0.2}  # of the full decode's time, by level
READ_TARGETS = dict(zip(SIZES, (0.55, 0.25), strict=True))
MOST_FRAMES = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dicom", type=Path, help="folder of real files")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        return peak(args.memory)
    print(f"Pillow {PIL.__version__}, imagecodecs {imagecodecs.__version__}", flush=True)
    for name, pixels, keep in images(args.dicom):
        for codec, syntax in (("JPEG 2000", JPEG2000Lossless), ("HTJ2K", HTJ2KLossless)):
            compare(f"{name}, {codec}", pixels, syntax, keep, args.repeats)
    return None


def images(folder: Path | None) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    drawn = (draw_exam(1, size=(4096, 3328)).images["LEFT", "MLO"] >> 4).astype(np.uint16)
    yield "drawn 4096 x 3328", drawn, {"WindowCenter": 2048, "WindowWidth": 4096}
    for name in ("fo-dicom/GH133.dcm", "nema/MG1_J2KI") if folder else ():
        read = read_mammogram(Path(folder or ".") / name, any_anatomy=True)
        wanted = ("WindowCenter", "WindowWidth", "VOILUTFunction")
        yield name, read.frame(0), {key: read.dataset[key].value for key in wanted if key in read.dataset}


def compare(name: str, pixels: np.ndarray, syntax: str, keep: dict[str, Any], repeats: int) -> None:
    ours = syntax == JPEG2000Lossless
    frame = (
        imagecodecs.jpeg2k_encode(pixels, reversible=True, level=0, codecformat="j2k", bitspersample=12)
        if ours
        else imagecodecs.htj2k_encode(pixels, reversible=True)
    )
    content = file_of(frame, pixels, syntax, keep)
    full = cpu(
        (lambda: imagecodecs.jpeg2k_decode(frame)) if ours else (lambda: imagecodecs.htj2k_decode(frame)), repeats
    )
    stored = read_mammogram(content, decode="fast").stored
    parts = []
    for level, target in TARGETS.items():

        def decode(level: int = level) -> None:
            stored._last.clear()
            stored.at_level(level)

        parts.append(f"decode at 1/{1 << level} {cpu(decode, repeats) / full:.2f} (at most {target})")
    print(f"{name}: full decode {1e3 * full:.0f} ms; {'; '.join(parts)}", flush=True)
    for size in SIZES:
        exact, fast = (MammoImageProcessor(size=size, decode=decode) for decode in ("exact", "fast"))
        ratio = cpu(lambda: fast.fit(content), repeats) / cpu(lambda: exact.fit(content), repeats)  # noqa: B023
        picture, geometry, breast = exact.fit_breast(content)
        source = fast.open(content)
        fast.find_breast(source)
        rms = np.sqrt(np.mean((fast.draw(source, breast, geometry) - picture) ** 2))
        target = f"at most {READ_TARGETS[size]}"
        print(f"  read to {size[0]} x {size[1]} at {source.decoded}: {ratio:.2f} ({target}); picture rms {rms:.5f}")
    frames = [memory(content, decode) / (2 * pixels.size) for decode in ("exact", "fast")]
    print(f"  peak memory {frames[0]:.1f} frames exact, {frames[1]:.1f} fast (at most {MOST_FRAMES})", flush=True)


def file_of(frame: bytes, pixels: np.ndarray, syntax: str, keep: dict[str, Any]) -> bytes:
    dataset = mammogram_dataset(np.zeros((2, 2), np.uint16), laterality="L", view="MLO")
    dataset.Rows, dataset.Columns = pixels.shape
    for key, value in keep.items():
        setattr(dataset, key, value)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def cpu(work: Callable[[], object], repeats: int) -> float:
    """Processor seconds of the fastest of some repeats."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def memory(content: bytes, decode: str) -> int:
    """Bytes that a process of its own needs to read a file, beyond those before it."""
    command = [sys.executable, __file__, "--memory", decode]
    done = subprocess.run(command, input=content, capture_output=True, check=True)
    return int(done.stdout)


def peak(decode: str) -> None:
    content = sys.stdin.buffer.read()
    small = np.zeros((256, 128), np.uint16)
    processor = MammoImageProcessor(size=SIZES[0], decode=decode)
    processor.fit(small)  # what is imported and prepared once
    imagecodecs.jpeg2k_decode(imagecodecs.jpeg2k_encode(small))
    # the kernel's own peak is inherited from the parent process: it is set back before the file is read
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    processor.fit(content)
    print(resident("VmHWM") - before)


def resident(name: str) -> int:
    """Bytes of this process's memory by their name in proc(5)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
