"""How fast a mammogram's file becomes a tensor, and in how much memory, against other ways of reading it.

One command prints every figure next to what it should be:

python benchmarks/bench_preprocessing.py
python benchmarks/bench_preprocessing.py --repeats 21 --dicom ../shared/dicom
python benchmarks/bench_preprocessing.py --inspect 10000    # `inspect` on so many files and on ten times as many
python benchmarks/bench_preprocessing.py --lossless a.dcm   # decoders of lossless JPEG and JPEG-LS, on these images too

Each comparison alternates the two sides and takes the median of the pairs' ratios, so that a busy machine is busy for
both; "cpu" is the time of the process, which others' work does not lengthen. Files are read from the page cache, as any
but the first epoch reads them.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from peers import READERS, bare, naive
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import JPEG2000Lossless

from mammo_hf import MammoImageProcessor
from mammo_hf.dicom import mammogram_dataset, read_mammogram
from mammo_hf.processing.breast import LONGEST_SIDE, find_breast

ROWS, COLUMNS = 4096, 3328
SIZE = (896, 448)
LEAST_NAIVE, MOST_BARE, MOST_BARE_J2K, MOST_FRAMES, LEAST_WORKERS, MOST_FINDER = 5.0, 3.0, 1.1, 3.0, 1.8, 15.0

MOST_GROWTH = 1.05

processor = MammoImageProcessor(size=SIZE)


def ours(path: Path) -> torch.Tensor:
    return processor(path, return_tensors="pt").pixel_values


CALLS: dict[str, Callable[[Path], object]] = {
    "ours": ours,
    "uncropped": MammoImageProcessor(size=SIZE, crop_to_breast=False),
    "frame": lambda path: read_mammogram(path).frame(0),
    "bare": bare,
    "naive": naive,
}


def frame() -> np.ndarray:
    """Draw a 12-bit left breast with texture and a label on a noisy background, uint16."""
    rows, columns = np.mgrid[:ROWS, :COLUMNS].astype(np.float32)
    rng = np.random.default_rng(0)
    inside = ((rows - 2000) / 1700) ** 2 + (columns / 2000) ** 2 < 1
    pixels = rng.integers(0, 60, (ROWS, COLUMNS)) + inside * (1200 + 500 * np.sin(rows / 90) * np.cos(columns / 70))
    pixels[200:500, 2800:3200] = 4000
    return np.clip(pixels, 0, 4095).astype(np.uint16)


def variants(pixels: np.ndarray) -> dict[str, Dataset]:
    """One dataset for each way of saying how the values are shown, and the SIGMOID one compressed."""
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 12]
    item.LUTData = (4095 * (np.arange(4096) / 4095) ** 1.5).astype("<u2").tobytes()
    window = {"WindowCenter": "1500", "WindowWidth": "2400"}
    compressed = mammogram_dataset(pixels, bits_stored=12, VOILUTFunction="SIGMOID", **window)
    compressed.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    return {
        "LINEAR": mammogram_dataset(pixels, bits_stored=12, VOILUTFunction="LINEAR", **window),
        "SIGMOID": mammogram_dataset(pixels, bits_stored=12, VOILUTFunction="SIGMOID", **window),
        "VOI LUT": mammogram_dataset(pixels, bits_stored=12, VOILUTSequence=[item]),
        "JPEG 2000": compressed,
    }


class Pairs(NamedTuple):
    """Medians over alternating calls: of the seconds of either side, and of how often ours fits into the peer's."""

    ours: float
    peer: float
    cpu_ours: float
    cpu_peer: float
    ratio: float
    cpu_ratio: float


def alternating(first: Callable[[], object], peer: Callable[[], object], repeats: int) -> Pairs:
    first(), peer()
    times = np.empty((repeats, 2, 2))
    for pair in times:
        for side, call in enumerate((first, peer)):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            pair[side] = time.perf_counter() - wall, time.process_time() - cpu
    ratios = np.median(times[:, 1] / times[:, 0], axis=0)
    return Pairs(*np.median(times, axis=0).T.ravel()[[0, 1, 2, 3]], *ratios)


def verdict(holds: bool) -> str:
    return "yes" if holds else "NO"


def faster(name: str, pairs: Pairs, least: float | None = None) -> None:
    """Print how many times faster ours is; if there is a target, whether the better one of both clocks reaches it."""
    aim = "" if least is None else f"   at least {least:g}x: {verdict(max(pairs.ratio, pairs.cpu_ratio) >= least)}"
    print(f"{name:<34}{_times(pairs)}   {pairs.ratio:6.2f}x faster (cpu {pairs.cpu_ratio:.2f}x){aim}", flush=True)


def beside(name: str, pairs: Pairs, most: float) -> None:
    ratio, cpu = 1 / pairs.ratio, 1 / pairs.cpu_ratio
    aim = f"   at most {most:g}x: {verdict(min(ratio, cpu) <= most)}"
    print(f"{name:<34}{_times(pairs)}   {ratio:6.2f}x its time (cpu {cpu:.2f}x){aim}", flush=True)


def _times(pairs: Pairs) -> str:
    return f"{pairs.ours * 1e3:8.1f} ms {pairs.peer * 1e3:8.1f} ms"


def against_both(name: str, path: Path, repeats: int) -> None:
    faster(f"{name} against naive", alternating(lambda: ours(path), lambda: naive(path), repeats), LEAST_NAIVE)
    beside(f"{name} beside bare", alternating(lambda: ours(path), lambda: bare(path), repeats), MOST_BARE)


def compare_raw(files: dict[str, Path], repeats: int) -> None:
    for name in ("LINEAR", "SIGMOID", "VOI LUT"):
        against_both(f"raw {name}", files[name], repeats)
    path = files["SIGMOID"]
    for peer, read in READERS.items():
        if importlib.util.find_spec(read.needs) is None:
            print(f"raw SIGMOID against {peer}: {read.needs} is not installed")
        else:
            pairs = alternating(lambda: ours(path), lambda read=read: read(path), repeats)
            faster(f"raw SIGMOID against {peer}", pairs, 1)


def compare_jpeg_2000(path: Path, repeats: int) -> None:
    """Print how much of the time decoding takes here, nearly all of it, and what is left of both sides without it."""
    against = alternating(lambda: ours(path), lambda: naive(path), repeats)
    faster("JPEG 2000 against naive", against)
    beside("JPEG 2000 beside bare", alternating(lambda: ours(path), lambda: bare(path), repeats), MOST_BARE_J2K)
    decoding = alternating(lambda: read_mammogram(path).frame(0), lambda: bare(path), repeats)
    plugin = get_decoder(JPEG2000Lossless).available_plugins[0]
    codec = "imagecodecs" if importlib.util.find_spec("imagecodecs") else plugin
    share = decoding.cpu_ours / against.cpu_ours
    rest = (against.cpu_peer - decoding.cpu_peer) / max(against.cpu_ours - decoding.cpu_ours, 1e-9)
    print(f"  decoding is {share:.0%} of ours (by {codec}; bare decodes by {plugin}): no chain could be more than "
          f"{against.cpu_peer / decoding.cpu_ours:.1f}x faster than the naive one")  # fmt: skip
    print(f"  without decoding: {rest:.1f}x faster (cpu)   at least {LEAST_NAIVE:g}x: {verdict(rest >= LEAST_NAIVE)}")


def lossless_decoders() -> dict[str, tuple[Callable[..., bytes], dict[str, Callable[[bytes], np.ndarray]]]]:
    """For each codec the encoder, and the free decoders that are installed by name, the one that is used here first."""
    import imagecodecs

    lossless = {"libjpeg-turbo": imagecodecs.jpeg8_decode, "liblj92": imagecodecs.ljpeg_decode}
    lossless["jpegsof3"] = imagecodecs.jpegsof3_decode
    near = {"CharLS by imagecodecs": imagecodecs.jpegls_decode}
    if importlib.util.find_spec("jpeg_ls"):
        import jpeg_ls

        near["CharLS by pyjpegls"] = lambda data: jpeg_ls.decode(np.frombuffer(data, np.uint8))
    encode = partial(imagecodecs.jpeg8_encode, lossless=True, bitspersample=16)
    return {"JPEG lossless": (encode, lossless), "JPEG-LS": (imagecodecs.jpegls_encode, near)}


def compare_lossless(images: dict[str, np.ndarray], repeats: int) -> None:
    """Print the time of each decoder of lossless JPEG and JPEG-LS, times that of the one that is used here."""
    for codec, (encode, decoders) in lossless_decoders().items():
        for image, pixels in images.items():
            data = encode(pixels)
            first, *others = decoders
            print(f"{codec}, {image}, {' x '.join(map(str, pixels.shape))}: {first} is used")
            for name in others:
                exact = np.array_equal(decoders[name](data), pixels)
                pairs = alternating(partial(decoders[first], data), partial(decoders[name], data), repeats)
                print(f"  {name}: {pairs.cpu_ratio:.2f} times its CPU time, {'exact' if exact else 'NOT EXACT'}")


def time_finder(path: Path, repeats: int) -> None:
    mammogram = read_mammogram(path)
    stride = max(ROWS, COLUMNS) // LONGEST_SIDE

    def find() -> object:
        view = mammogram.intensity(frame=0, rows=slice(None, None, stride), columns=slice(None, None, stride))
        return find_breast(view, stride=stride, size=(ROWS, COLUMNS))

    pairs = alternating(find, lambda: None, repeats)
    milliseconds = pairs.cpu_ours * 1e3
    print(f"finding the breast: {pairs.ours * 1e3:.1f} ms (cpu {milliseconds:.1f} ms)   "
          f"under {MOST_FINDER:g} ms: {verdict(milliseconds < MOST_FINDER)}")  # fmt: skip


def peak_megabytes(path: Path, how: str) -> float:
    """How much a call adds to the process at its largest, measured by the kernel in a process of its own."""
    command = [sys.executable, __file__, "--peak", how, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout.split()[-1])


def print_peaks(files: dict[str, Path]) -> None:
    if not Path("/proc/self/clear_refs").exists():
        print("peak memory: measured on Linux alone")
        return
    stored = ROWS * COLUMNS * 2 / 2**20
    for name in ("SIGMOID", "JPEG 2000"):
        frames = {how: peak_megabytes(files[name], how) / stored for how in CALLS}
        print(f"peak memory, {name}: {frames['ours']:.2f} stored frames (uncropped {frames['uncropped']:.2f}, "
              f"the frame read alone {frames['frame']:.2f}, bare {frames['bare']:.2f}, naive {frames['naive']:.2f})   "
              f"at most {MOST_FRAMES:g}: {verdict(frames['ours'] <= MOST_FRAMES)}")  # fmt: skip


def measure_peak(how: str, path: Path) -> None:
    # what is imported or allocated once at the first image is not this image's
    CALLS[how](_small(path.with_name(f"small-{how}.dcm")))
    Path("/proc/self/clear_refs").write_text("5")  # the mark of the largest size is set back to the present one
    before = _status("VmRSS")
    CALLS[how](path)
    print((_status("VmHWM") - before) / 1024)


def _small(path: Path) -> Path:
    mammogram_dataset(frame()[::64, ::64].copy(), bits_stored=12).save_as(path, enforce_file_format=True)
    return path


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


INSPECT = (
    "import re, sys; from mammo_hf.cli import main; main(['inspect', sys.argv[1]]); "
    "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
)


def inspect_many(folder: Path, count: int) -> None:
    """Print how many small files a second `inspect` reports, and how its peak memory grows with ten times as many."""
    peaks = []
    for number in (count, 10 * count):
        place = folder / f"{number}"
        for index in range(number):
            if index % 1000 == 0:
                # a file has a limited number of links
                sub = place / f"{index // 1000}"
                sub.mkdir(parents=True)
                path = _small(sub / "first.dcm")
            else:
                (sub / f"{index}.dcm").hardlink_to(path)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", INSPECT, place], capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
        peaks.append(int(done.stdout.split()[-1]) / 1024)
        print(
            f"inspect, {number} files: {number / seconds:.0f} a second, peak memory {peaks[-1]:.0f} MB",
            flush=True,
        )
    ratio = peaks[1] / peaks[0]
    print(f"peak memory of ten times as many: {ratio:.3f}   at most {MOST_GROWTH:g}: {verdict(ratio <= MOST_GROWTH)}")


def repeatedly(path: Path, count: int) -> None:
    for _ in range(count):
        ours(path)


def throughput(pool: Executor, workers: int, path: Path, count: int) -> float:
    """Files a second that become tensors, which stay with the worker that made them."""
    start = time.perf_counter()
    list(pool.map(repeatedly, [path] * workers, [count] * workers))
    return workers * count / (time.perf_counter() - start)


def compare_workers(path: Path, rounds: int, count: int = 16) -> None:
    """Two workers against one: processes, as data loading and preparing use them, and threads, which share one lock.

    What is done between two calls of NumPy is Python's, and no two threads do it at once: the breast finder is hundreds
    of operations on small arrays.
    """
    processes = partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("fork"))
    for name, pool_of in (("processes", processes), ("threads", ThreadPoolExecutor)):
        with pool_of(1) as one, pool_of(2) as two:
            pools = ((one, 1), (two, 2))
            for pool, workers in pools:
                throughput(pool, workers, path, 4)
            rates = np.array([[throughput(*pool, path, count) for pool in pools] for _ in range(rounds)])
        ratio = float(np.median(rates[:, 1] / rates[:, 0]))
        print(
            f"two {name}: {ratio:.2f}x one   at least {LEAST_WORKERS:g}x: {verdict(ratio >= LEAST_WORKERS)}", flush=True
        )


def real_files(folder: Path, repeats: int) -> None:
    """Compare over the files of a folder that we and the naive chain both read."""
    for path in large_files(folder):
        try:
            naive(path)
        except Exception:  # what one side cannot read is not compared; pydicom raises almost anything
            continue
        against_both(path.name[:20], path, repeats)


def large_files(folder: Path) -> Iterator[Path]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1e6):
        try:
            header = read_mammogram(path).header
        except Exception:
            continue
        if header.frames == 1 and min(header.rows, header.columns) >= 1000:
            yield path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=11, help="pairs of each comparison (default %(default)s)")
    parser.add_argument("--dicom", type=Path, help="a folder of real files, to be compared as well")
    parser.add_argument("--inspect", type=int, metavar="FILES", help="measure `inspect` on so many files alone")
    parser.add_argument("--lossless", type=Path, nargs="*", metavar="FILE", help="compare lossless decoders alone")
    parser.add_argument("--peak", nargs=2, metavar=("HOW", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if args.peak:
        return measure_peak(args.peak[0], Path(args.peak[1]))
    if args.inspect:
        with tempfile.TemporaryDirectory() as folder:
            return inspect_many(Path(folder), args.inspect)
    if args.lossless is not None:
        images = {path.name: read_mammogram(path).frame(0) for path in args.lossless}
        return compare_lossless({"drawn": frame()} | images, args.repeats)
    print(f"{ROWS} x {COLUMNS}, 12 bits, to {SIZE[0]} x {SIZE[1]}; one thread; {args.repeats} pairs, medians")
    print(f"{'':<34}{'ours':>11}{'peer':>12}")
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name, dataset in variants(frame()).items():
            files[name] = Path(folder) / f"{name}.dcm"
            dataset.save_as(files[name], enforce_file_format=True)
        few = max(3, args.repeats // 3)
        compare_workers(files["SIGMOID"], args.repeats)
        compare_raw(files, args.repeats)
        time_finder(files["SIGMOID"], max(21, args.repeats))
        print_peaks(files)
        compare_jpeg_2000(files["JPEG 2000"], few)
        if args.dicom is not None:
            real_files(args.dicom, few)


if __name__ == "__main__":
    main()
