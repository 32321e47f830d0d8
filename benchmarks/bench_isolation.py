"""What isolation costs: images read by reader processes against the same images read by this one.

python benchmarks/bench_isolation.py
python benchmarks/bench_isolation.py --rounds 20 --only htj2k

Phantoms of 4096 x 3328 with the noise of a detector, as the model takes them at 896 x 448, by kind of compression.
"files" are read whole in a reader, as the workers of `predict` and `prepare` do, against the same reading in a worker
process of the standard library, which isolates nothing: from both a picture crosses. "frames" are read here and only
their decoder runs in a reader, as in commands without workers, against this process alone. Both sides take turns on one
file; processor time is that of all processes, without their start. Files are in the page cache. The target is for
"files".
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
import psutil
import pydicom
from bench_preprocessing import verdict
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless, JPEGLosslessSV1

from mammo_hf import MammoImageProcessor
from mammo_hf.inference.reading import ReadImage, read_image
from mammo_hf.isolation import Readers, read_apart
from mammo_hf.phantom.writing import write_phantom

TARGET = 1.03
CODECS: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "htj2k": (HTJ2KLossless, imagecodecs.htj2k_encode),
    "jpeg2000": (JPEG2000Lossless, partial(imagecodecs.jpeg2k_encode, level=0, codecformat="j2k")),
    "jpeg_lossless": (
        JPEGLosslessSV1,
        lambda pixels: imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=16),
    ),
}
KINDS = (*CODECS, "uncompressed")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=12, help="of an image on either side, in turn")
    args = parser.parse_args()
    processor = MammoImageProcessor(size=(896, 448))
    with tempfile.TemporaryDirectory() as folder:
        # elsewhere: this process's memory stays as fresh as a worker's
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            written = pool.submit(drawn, Path(folder), args.only).result()
        for kind, files in written.items():
            compare(kind, processor, files, args.rounds)


def drawn(folder: Path, kinds: list[str]) -> dict[str, list[str]]:
    """Draw three frames, and write each in some kinds of compression."""
    write_phantom(folder / "phantom", patients=1, seed=0, size=(4096, 3328), progress=False)
    frames = sorted(folder.rglob("*.dcm"), key=lambda path: path.stat().st_size)[-3:]
    return {
        kind: [str(encoded(frame, kind, folder / f"{kind}-{number}.dcm")) for number, frame in enumerate(frames)]
        for kind in kinds
    }


def encoded(frame: Path, kind: str, path: Path) -> Path:
    """Write a frame in a kind of compression."""
    dataset = pydicom.dcmread(frame)
    if kind in CODECS:
        pixels = dataset.pixel_array
        dataset.file_meta.TransferSyntaxUID, encode = CODECS[kind]
        dataset.PixelData = encapsulate([encode(pixels)])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path, enforce_file_format=True)
    return path


def compare(kind: str, processor: MammoImageProcessor, files: list[str], rounds: int) -> None:
    """Print the time of an image, and the ratios of both ways of isolation to the same reading without it."""
    for way in ("frames", "files"):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as workers, Readers(1) as readers:

            def plain(file: str, way: str = way, workers: ProcessPoolExecutor = workers) -> ReadImage:
                if way == "frames":
                    return read_image(processor, 0, file)
                return workers.submit(read_image, processor, 0, file).result()

            def apart(file: str, way: str = way, readers: Readers = readers) -> ReadImage:
                given = (read_image,) if way == "frames" else (read_apart, read_image)
                return readers.submit(*given, processor, 0, file).result()

            for read in (plain, apart):
                read(files[0])  # starts the processes
            pids = [os.getpid(), *(child.pid for child in psutil.Process().children())]
            times = [
                [timed(read, files[number % len(files)], pids) for read in (plain, apart)] for number in range(rounds)
            ]
        # the lower quartile: what else runs on this machine can only add
        (wall, cpu), (wall_apart, cpu_apart) = np.percentile(times, 25, axis=0)
        target = f"   at most {TARGET:g}: {verdict(cpu_apart / cpu <= TARGET)}" if way == "files" else ""
        print(
            f"{kind}, {way}: {1e3 * cpu:.0f} ms an image (cpu) not isolated, isolated {cpu_apart / cpu:.3f} of the "
            f"processor time and {wall_apart / wall:.3f} by the clock{target}",
            flush=True,
        )


def timed(read: Callable[[str], ReadImage], file: str, pids: list[int]) -> tuple[float, float]:
    """Return the seconds of reading one file by the clock, and of the processors for this process and its readers."""
    wall, cpu = time.perf_counter(), processor_seconds(pids)
    assert read(file).reason is None
    return time.perf_counter() - wall, processor_seconds(pids) - cpu


def processor_seconds(pids: list[int]) -> float:
    """Return the processor time of some processes."""
    # the clock of another process, as clock_getcpuclockid(3) names it on Linux
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


if __name__ == "__main__":
    main()
