"""Prepared images against DICOM read anew each epoch; two processes against one; bytes and memory; the plan for more.

python benchmarks/bench_prepare.py                        frames of 4096 x 3328 and phantoms of 1024 x 512
python benchmarks/bench_prepare.py --only plan --images 3400000 --vcpu_hour 0.04 --terabyte_month 23

Both sides give the tensor that the model takes, at 896 x 448. "cpu" is the processor time that the work itself used,
"wall" what the clock says: on a machine that is busy with other things the first is the fairer. Files are in the page
cache on both sides, so decoding is compared and not the disk. The price of the plan is what is given, not measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import JPEG2000Lossless

from mammo_hf import MammoImageProcessor, MammoTable, load
from mammo_hf.data.phantom import write_phantom
from mammo_hf.data.prepare import for_training, open_prepared, prepare
from mammo_hf.data.prepare.processes import pool
from mammo_hf.data.prepare.shard import Done
from mammo_hf.training.datasets import LabelledImages

SIZE = (896, 448)
PARTS = ("frames", "phantoms", "processes", "memory", "plan")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3, help="epochs of either kind, in turn")
    parser.add_argument("--images", type=int, default=3_400_000, help="of the collection to plan for")
    parser.add_argument("--vcpu_hour", type=float, default=0.04, help="price of a CPU for an hour")
    parser.add_argument("--terabyte_month", type=float, default=23, help="price of a terabyte for a month")
    parser.add_argument("--node_cpus", type=int, default=64, help="CPUs of a node")
    parser.add_argument("--hours", type=float, default=6, help="in which it should be done")
    parser.add_argument("--work", help="folder to keep the drawn files in; default: a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(args.work or temporary).resolve()
        if "frames" in args.only or "plan" in args.only:
            frames = drawn(work / "frames", patients=1, size=(4096, 3328))
        if "frames" in args.only:
            against_dicom("4096 x 3328", frames, work / "frames-prepared", args.rounds)
        if "phantoms" in args.only:
            against_dicom("1024 x 512", drawn(work / "phantoms", 10, (1024, 512)), work / "phantoms-prepared", 3)
        if "processes" in args.only:
            two_processes(repeated(drawn(work / "phantoms", 10, (1024, 512)), 10), work)
        if "memory" in args.only:
            drawn(work / "phantoms", 10, (1024, 512))
            flat_memory(work)
        if "plan" in args.only:
            plan(frames, work, args)


def drawn(folder: Path, patients: int, size: tuple[int, int]) -> MammoTable:
    """A phantom collection, drawn unless it is there."""
    if not (folder / "phantom.json").is_file():
        write_phantom(folder, patients=patients, seed=0, size=size, progress=False)
    return load(folder)


def repeated(table: MammoTable, times: int) -> MammoTable:
    """A table whose images come several times, as if they were different ones."""
    rows = [
        {**row, "image_id": f"{int(row['image_id'], 16) ^ number:016x}"} for number in range(times) for row in table
    ]
    return MammoTable.from_rows(rows, tasks=table.tasks, salt_name=table.salt_name)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor seconds of some work in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def against_dicom(name: str, table: MammoTable, out: Path, rounds: int) -> None:
    """An epoch of tensors from DICOM and one from prepared rows, in turn."""
    processor = MammoImageProcessor(size=SIZE)
    sizes = {}
    for form in ("arrow", "parquet"):
        summary = prepare(table, processor, f"{out}-{form}", format=form)
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
        f"({np.median(ratios['wall']):.1f}x by the clock)",
        flush=True,
    )
    file_bytes = np.mean([Path(path).stat().st_size for path in paths])
    print(
        f"{name}: bytes an image: DICOM {file_bytes / 1e6:.2f} MB, arrow {sizes['arrow'] / 1e3:.0f} kB, "
        f"parquet {sizes['parquet'] / 1e3:.0f} kB",
        flush=True,
    )


def two_processes(table: MammoTable, work: Path) -> None:
    """Images a second by one worker and by two, from each worker's first finished shard on: without their imports."""
    speeds = {}
    for workers in (1, 2):
        with tempfile.TemporaryDirectory(dir=work) as out:
            ended: list[tuple[float, int]] = []

            def run(*given: Any, workers: int = workers, ended: list[Any] = ended) -> Iterator[Done]:
                for done in pool(workers)(*given):
                    ended.append((time.perf_counter(), done.rows))
                    yield done

            prepare(table, MammoImageProcessor(size=SIZE), out, shard_size=4, executor=run)
        start = ended[workers - 1][0]
        speeds[workers] = sum(rows for _, rows in ended[workers:]) / (ended[-1][0] - start)
    print(
        f"workers: one {speeds[1]:.1f}, two {speeds[2]:.1f} images/s: {speeds[2] / speeds[1]:.2f}x (by the clock)",
        flush=True,
    )


PEAK = """
import resource, sys
from bench_prepare import SIZE, repeated
from mammo_hf import MammoImageProcessor, load
from mammo_hf.data.prepare import prepare
table = repeated(load(sys.argv[1]), int(sys.argv[3]))
prepare(table, MammoImageProcessor(size=SIZE), sys.argv[2])
print(len(table), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
"""


def flat_memory(work: Path) -> None:
    """The peak of a process's memory on a collection and on one that is eight times as large."""
    found = []
    for times in (2, 16):
        with tempfile.TemporaryDirectory(dir=work) as out:
            command = [sys.executable, "-c", PEAK, str(work / "phantoms"), out, str(times)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
        images, peak = done.stdout.split()
        found.append(f"{float(peak):.0f} MB for {images} images")
    print(f"memory: {', '.join(found)} of {SIZE[0]} x {SIZE[1]}", flush=True)


def plan(table: MammoTable, work: Path, args: argparse.Namespace) -> None:
    """What a collection of full-size frames costs, from the cost of one here."""
    plain = table.column("path")[:2]
    packed = [compressed(path, work / f"packed-{number}.dcm") for number, path in enumerate(plain)]
    processor = MammoImageProcessor(size=SIZE)
    with tempfile.TemporaryDirectory(dir=work) as out:
        summary = prepare(table, processor, out, format="parquet")
        writing = timed(lambda: rewrite(table, processor, out))[1] / len(table)
    kept = summary.size / summary.images
    images = args.images
    print(f"plan for {images:,} frames of 4096 x 3328 at {SIZE[0]} x {SIZE[1]}:")
    for name, paths in {"uncompressed": plain, "JPEG 2000 lossless": packed}.items():
        size = float(np.mean([Path(path).stat().st_size for path in paths]))
        reading = min(timed(lambda paths=paths: [processor.fit(path) for path in paths])[1] for _ in range(3)) / 2
        hours = images * (reading + writing) / 3600
        nodes = int(np.ceil(hours / args.hours / args.node_cpus))
        print(
            f"  {name}: ({reading:.3f} s to read + {writing:.3f} s to write)"
            f" x {images:,} / 3600 = {hours:,.0f} CPU hours"
            f"\n    {hours:,.0f} x {args.vcpu_hour} = {hours * args.vcpu_hour:,.0f}"
            f"\n    {hours:,.0f} / ({args.hours:g} h x {args.node_cpus} CPUs) = {nodes} node(s)"
            f"\n    source: {size / 1e6:.1f} MB x {images:,} = {images * size / 1e12:.1f} TB, "
            f"{images * size / args.hours / 3600 / nodes / 1e9:.2f} GB/s a node"
        )
    terabytes = images * kept / 1e12
    print(
        f"  kept: {kept / 1e3:.0f} kB in parquet x {images:,} = {terabytes:.2f} TB in {images / 128:,.0f} shards of 128"
        f"\n    {terabytes:.2f} x {args.terabyte_month:g} = {terabytes * args.terabyte_month:,.0f} a month",
        flush=True,
    )


def rewrite(table: MammoTable, processor: MammoImageProcessor, out: str) -> None:
    """Writes all shards again, copying their pixels: another column has changed."""
    split = table.dataset.map(lambda row: {"view": None})
    prepare(MammoTable(split, tasks=table.tasks, salt_name=table.salt_name), processor, out, format="parquet")


def compressed(path: str, out: Path) -> Path:
    """A copy of a file in JPEG 2000."""
    dataset = pydicom.dcmread(path)
    dataset.compress(JPEG2000Lossless)
    dataset.save_as(out)
    return out


if __name__ == "__main__":
    main()
