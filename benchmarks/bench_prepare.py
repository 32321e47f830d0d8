"""Prepared images against DICOM read anew each epoch; two processes against one; bytes and memory.

All in one run, printed as ratios, with the targets where there are any:

python benchmarks/bench_prepare.py                        frames of 4096 x 3328 and phantoms of 1024 x 512
python benchmarks/bench_prepare.py --only processes --rounds 5
python benchmarks/bench_prepare.py --only stores --dataset FOLDER       which store to choose, on own images

Both sides give the tensor that the model takes, at 896 x 448. "cpu" is the processor time that the work itself used,
which others' work does not lengthen; two processes can only be compared by the clock, and only on free cores. Files are
in the page cache on both sides, so decoding is compared and not the disk. What millions cost: scale_plan.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mammo_hf import Collection, MammoImageProcessor, load
from mammo_hf.data.prepare.executors import pool
from mammo_hf.data.prepare.folder import for_training, open_prepared
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.data.prepare.shard import ShardResult
from mammo_hf.data.torch_datasets import LabelledImages
from mammo_hf.dicom.reduced import low_band
from mammo_hf.phantom.writing import write_phantom

SIZE = (896, 448)
PARTS = ("frames", "phantoms", "processes", "memory", "stores")
SIZES = ((896, 448), (448, 224))
FRAMES_TARGET, PROCESSES_TARGET = 20, 1.8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3, help="of either side, in turn")
    parser.add_argument("--dataset", help="collection of DICOM files for the stores; default: the drawn frames")
    parser.add_argument("--work", help="folder to keep the drawn files in; default: a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(args.work or temporary).resolve()
        print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before the start", flush=True)
        if "frames" in args.only:
            frames = drawn(work / "frames", patients=1, size=(4096, 3328))
            against_dicom("4096 x 3328", frames, work / "frames-prepared", args.rounds, FRAMES_TARGET)
        if "stores" in args.only:
            own = load(args.dataset) if args.dataset else drawn(work / "frames", patients=1, size=(4096, 3328))
            stores(own, work, args.rounds)
        if set(args.only) - {"frames", "stores"}:
            phantoms = drawn(work / "phantoms", 10, (1024, 512))
        if "phantoms" in args.only:
            against_dicom("1024 x 512", phantoms, work / "phantoms-prepared", args.rounds)
        if "processes" in args.only:
            two_processes(repeated(phantoms, 10), work, args.rounds)
        if "memory" in args.only:
            flat_memory(work)


def drawn(folder: Path, patients: int, size: tuple[int, int]) -> Collection:
    """Return a phantom collection, drawn unless it is there."""
    if not (folder / "phantom.json").is_file():
        write_phantom(folder, patients=patients, seed=0, size=size, progress=False)
    return load(folder)


def repeated(table: Collection, times: int) -> Collection:
    """Repeat a collection's images, as if they were different ones."""
    rows = [
        {**row, "image_id": f"{int(row['image_id'], 16) ^ number:016x}"} for number in range(times) for row in table
    ]
    return Collection.from_rows(rows, tasks=table.tasks, salt_name=table.salt_name)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor seconds of some work in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def against_dicom(name: str, table: Collection, out: Path, rounds: int, target: float | None = None) -> None:
    """Time an epoch of tensors from DICOM and one from prepared rows, in turn."""
    processor = MammoImageProcessor(size=SIZE)
    sizes = {}
    for form in ("arrow", "parquet"):
        summary = prepare_images(table, processor, f"{out}-{form}", format=form)
        sizes[form] = summary.size / summary.images
    images = LabelledImages(for_training(open_prepared(f"{out}-arrow"), table, table.tasks), processor)
    paths = table.column("path")
    passes = max(1, 40 // len(paths))  # a prepared epoch is too short to time alone

    def from_dicom() -> None:
        for path in paths:
            processor(path)

    def from_prepared() -> None:
        for index in range(len(images)):
            images[index]

    from_dicom(), from_prepared()
    ratios: dict[str, list[float]] = {"wall": [], "cpu": []}
    for _ in range(rounds):
        dicom = timed(from_dicom)
        ready = timed(lambda: [from_prepared() for _ in range(passes)])
        for kind, one, other in zip(ratios, dicom, ready, strict=True):
            ratios[kind].append(one / (other / passes))
    print(
        f"{name}: DICOM {1e3 * dicom[1] / len(paths):.1f} ms, prepared {1e3 * ready[1] / passes / len(paths):.2f} ms "
        f"an image (cpu); prepared gives {np.median(ratios['cpu']):.1f}x the images a second "
        f"({np.median(ratios['wall']):.1f}x by the clock){against(target, np.median(ratios['cpu']))}",
        flush=True,
    )
    file_bytes = np.mean([Path(path).stat().st_size for path in paths])
    print(
        f"{name}: bytes an image: DICOM {file_bytes / 1e6:.2f} MB, arrow {sizes['arrow'] / 1e3:.0f} kB, "
        f"parquet {sizes['parquet'] / 1e3:.0f} kB",
        flush=True,
    )


def stores(table: Collection, work: Path, rounds: int) -> None:
    """Print bytes per image, and images per second and core as tensors of two sizes, by kind of store."""
    files = np.mean([Path(path).stat().st_size for path in table.column("path")])
    print(
        "| store | MB per image | " + " | ".join(f"images/s at {h} x {w}" for h, w in SIZES) + " |\n|---|---|---|---|"
    )
    processors = [MammoImageProcessor(size=size) for size in SIZES]
    seconds = [spent(lambda p=p: [p(path) for path in table.column("path")], rounds) for p in processors]
    print(line("none: the files", files, len(table), seconds), flush=True)
    for form in ("arrow", "parquet"):
        sizes, seconds = [], []
        for processor in processors:
            out = work / f"fixed-{form}-{processor.canvas[0]}"
            sizes.append(prepare_images(table, processor, out, format=form).size / len(table))
            rows = LabelledImages(open_prepared(out), processor)
            seconds.append(spent(lambda rows=rows: [rows[index] for index in range(len(rows))], rounds))
        print(line(f"fixed, {form}: one of each size", sum(sizes), len(table), seconds), flush=True)
    size = prepare_images(table, processors[0], work / "native", store="native").size / len(table)
    for decode in ("exact", "fast"):
        seconds = []
        for processor in (one.with_settings({"decode": decode}) for one in processors):
            rows = LabelledImages(open_prepared(work / "native", processor=processor), processor)
            seconds.append(spent(lambda rows=rows: [rows[index] for index in range(len(rows))], rounds))
        print(line(f"native, {decode}", size, len(table), seconds), flush=True)
    codec(work / "native")


def spent(work: Callable[[], Any], rounds: int) -> float:
    """Processor seconds of some work, the median of several rounds after a first."""
    work()
    return float(np.median([timed(work)[1] for _ in range(rounds)]))


def line(name: str, size: float, images: int, seconds: list[float]) -> str:
    """Return a row of the table of stores."""
    return f"| {name} | {size / 1e6:.2f} | " + " | ".join(f"{images / each:.0f}" for each in seconds) + " |"


def codec(folder: Path) -> None:
    """Print the bytes of native pixels against JPEG-LS, and what reading a fraction takes of reading all."""
    import imagecodecs

    found = []
    for row in open_prepared(folder).with_format(None):
        values = imagecodecs.htj2k_decode(row["pixels"])
        whole = spent(lambda row=row: imagecodecs.htj2k_decode(row["pixels"]), 5)
        given = {"frame": row["pixels"], "codec": "htj2k", "highest": int(values.max()), "reversible": True}
        parts = [spent(lambda n=n, given=given: low_band(level=n, **given), 5) / whole for n in (1, 2)]
        found.append([len(row["pixels"]) / len(imagecodecs.jpegls_encode(values)), *parts])
    size, half, quarter = np.median(found, axis=0)
    print(
        f"native pixels: {size:.3f} of JPEG-LS' bytes (target at most 1.1); of the whole codestream's time 1/2 takes "
        f"{half:.2f} (target at most 0.3), 1/4 {quarter:.2f} (target at most 0.1)",
        flush=True,
    )


def against(target: float | None, reached: float) -> str:
    """Compare a ratio with its target."""
    return "" if target is None else f"; target {target:g}x: {'met' if reached >= target else 'missed'}"


def two_processes(table: Collection, work: Path, rounds: int) -> None:
    """Images a second by one worker and by two, in turn."""
    speeds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, found in speeds.items():
            found.append(speed(table, work, workers))
    one, two = (np.median(found) for found in speeds.values())
    ratio = np.median(np.divide(speeds[2], speeds[1]))
    print(
        f"workers: one {one:.1f}, two {two:.1f} images/s: {ratio:.2f}x by the clock, median of {rounds} pairs"
        f"{against(PROCESSES_TARGET, ratio)}",
        flush=True,
    )


def speed(table: Collection, work: Path, workers: int) -> float:
    """Images a second from each worker's first finished shard on: without their imports."""
    ended: list[tuple[float, int]] = []

    def run(*given: Any) -> Iterator[ShardResult]:
        for result in pool(workers)(*given):
            ended.append((time.perf_counter(), result.rows))
            yield result

    with tempfile.TemporaryDirectory(dir=work) as out:
        prepare_images(table, MammoImageProcessor(size=SIZE), out, shard_size=16, executor=run)
    start = ended[workers - 1][0]
    return sum(rows for _, rows in ended[workers:]) / (ended[-1][0] - start)


PEAK = """
import resource, sys
from bench_prepare import SIZE, repeated
from mammo_hf import MammoImageProcessor, load
from mammo_hf.data.prepare.running import prepare_images
table = repeated(load(sys.argv[1]), int(sys.argv[3]))
prepare_images(table, MammoImageProcessor(size=SIZE), sys.argv[2])
print(len(table), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
"""


def flat_memory(work: Path) -> None:
    """Measure a process's peak memory on a collection and on one that is eight times as large."""
    found, peaks = [], []
    for times in (2, 16):
        with tempfile.TemporaryDirectory(dir=work) as out:
            command = [sys.executable, "-c", PEAK, str(work / "phantoms"), out, str(times)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
        images, peak = done.stdout.split()
        peaks.append(float(peak))
        found.append(f"{float(peak):.0f} MB for {images} images")
    print(
        f"memory: {', '.join(found)} of {SIZE[0]} x {SIZE[1]}: {peaks[1] / peaks[0]:.2f}x for eight times", flush=True
    )


if __name__ == "__main__":
    main()
