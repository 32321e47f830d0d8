"""The cost of preparing one image, measured here, and from it the plan for a collection of millions.

python benchmarks/scale_plan.py                                 EMBED's 3.4 million images; prints the plan
python benchmarks/scale_plan.py --write docs/scale.md           and puts it into the page, between its two marks
python benchmarks/scale_plan.py --images 480323 --vcpu_hour 0.05 --node_cpus 96 --hours 12

The last lines compare, for whole collections, one machine and a cluster on Ray: by pydicom's own chain with PIL, as
most scripts read (`peers.naive`), by `prepare`, and by `prepare` with ``decode="fast"``.

What is measured is rounded first and calculated with afterwards, so that everybody can follow the arithmetic on paper.
Times are processor time of one core, reading the best of three: others at work on the machine hardly lengthen them.
"""

from __future__ import annotations

import argparse
import math
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from peers import naive
from pydicom.uid import JPEG2000Lossless
from results_tables import fill

from mammo_hf import Collection, MammoImageProcessor, load
from mammo_hf.data.prepare.running import SHARD_SIZE, prepare_images
from mammo_hf.phantom.writing import write_phantom

FRAME, CANVAS = (4096, 3328), (896, 448)
COLLECTIONS = {"RSNA": 54_706, "EMBED": 3_400_000}
RAY_NODES = 8


@dataclass(frozen=True)
class Source:
    """What an image of one transfer syntax costs; ``chain_ms`` and ``fast_ms`` are other ways to read it."""

    name: str
    read_ms: int
    write_ms: int
    megabytes: float
    chain_ms: int
    fast_ms: int


@dataclass(frozen=True)
class Assumed:
    """What is not measured."""

    images: int
    vcpu_hour: float
    terabyte_month: float
    node_cpus: int
    hours: float


def plan(machine: str, sources: list[Source], kept_kb: int, assumed: Assumed) -> str:
    """Return the plan as text: what is measured, what is assumed, and the arithmetic."""
    lines = [f"measured: {FRAME[0]} x {FRAME[1]} in 16 bits to {CANVAS[0]} x {CANVAS[1]}, one core of {machine}"]
    lines += [
        f"  {one.name}: {one.read_ms:,} ms to read, {one.write_ms:,} ms to write, {one.megabytes} MB a file; "
        f'{one.chain_ms:,} ms by pydicom\'s chain, {one.fast_ms:,} ms with decode="fast"'
        for one in sources
    ]
    lines += [
        f"  kept: {kept_kb:,} kB an image in parquet",
        f"assumed: {assumed.vcpu_hour:g} a CPU hour, {assumed.terabyte_month:g} a terabyte and month, "
        f"{assumed.node_cpus} CPUs a node, each as fast as this core; "
        f"done in {assumed.hours:g} hours; reading from the store costs nothing",
        f"for {assumed.images:,} images:",
    ]
    for one in sources:
        lines += _of_source(one, assumed)
    terabytes = round(kept_kb * assumed.images / 1e9, 2)
    kept_price = terabytes * assumed.terabyte_month
    shards = math.ceil(assumed.images / SHARD_SIZE)
    lines += [
        "  kept",
        f"    {kept_kb:,} kB x {assumed.images:,} = {terabytes:,.2f} TB, in {shards:,} shards of {SHARD_SIZE}",
        f"    price: {terabytes:,.2f} TB x {assumed.terabyte_month:g} = {kept_price:,.2f} a month",
        f"hours on one machine of {assumed.node_cpus} CPUs; on {RAY_NODES} of them on Ray; each by pydicom's chain / "
        'by prepare / with decode="fast":',
    ]
    for name, images in COLLECTIONS.items():
        lines += [_of_collection(name, images, one, kept_kb, assumed) for one in sources]
    return "\n".join(lines) + "\n"


def _of_collection(name: str, images: int, one: Source, kept_kb: int, assumed: Assumed) -> str:
    ways = [(taken + one.write_ms) * images / 3.6e6 / assumed.node_cpus for taken in _ways(one)]
    hours = (" / ".join(f"{way / nodes:,.2f}" for way in ways) for nodes in (1, RAY_NODES))
    gigabytes = f"{one.megabytes * images / 1e3:,.0f} GB read, {kept_kb * images / 1e6:,.0f} GB kept"
    return f"  {name}, {images:,} images, {one.name}: {'; '.join(hours)}; {gigabytes}"


def _ways(one: Source) -> tuple[int, int, int]:
    return one.chain_ms, one.read_ms, one.fast_ms


def _of_source(one: Source, assumed: Assumed) -> list[str]:
    hours = round((one.read_ms + one.write_ms) * assumed.images / 3.6e6, 1)
    nodes = hours / (assumed.hours * assumed.node_cpus)
    whole = max(1, math.ceil(nodes))
    terabytes = round(one.megabytes * assumed.images / 1e6, 1)
    rate = terabytes * 1e3 / (whole * assumed.hours * 3600)
    return [
        f"  {one.name}",
        f"    ({one.read_ms:,} + {one.write_ms:,}) ms x {assumed.images:,} / 3,600,000 = {hours:,} CPU hours",
        f"    price: {hours:,} h x {assumed.vcpu_hour:g} = {hours * assumed.vcpu_hour:,.2f}",
        f"    nodes: {hours:,} h / ({assumed.hours:g} h x {assumed.node_cpus}) = {nodes:.2f}, so {whole}",
        f"    read: {one.megabytes} MB x {assumed.images:,} = {terabytes:,} TB, "
        f"in {assumed.hours:g} h by {whole} node(s): {rate:.2f} GB/s each",
    ]


def measure(work: Path) -> tuple[list[Source], int]:
    """Measure what an image costs here, for both transfer syntaxes, and the bytes that are kept of it in kB."""
    write_phantom(work / "frames", patients=1, seed=0, size=FRAME, progress=False)
    table = load(work / "frames")
    processor, out = MammoImageProcessor(size=CANVAS), work / "prepared"
    summary = prepare_images(table, processor, out, format="parquet")
    write_ms = round(1e3 * cpu(lambda: rewrite(table, processor, out)) / len(table))
    plain = [Path(path) for path in table.column("path")[:2]]
    packed = [compressed(path, work / f"packed-{number}.dcm") for number, path in enumerate(plain)]
    sources = []
    for name, paths in {"uncompressed": plain, "JPEG 2000 lossless": packed}.items():
        ways = (naive, processor.fit, processor.with_settings({"decode": "fast"}).fit)
        chain, read, fast = (per_image(way, paths) for way in ways)
        size = float(np.mean([path.stat().st_size for path in paths]))
        sources.append(Source(name, read, write_ms, round(size / 1e6, 1), chain, fast))
    return sources, round(summary.size / summary.images / 1e3)


def per_image(way: Callable[[Path], object], paths: list[Path]) -> int:
    """Milliseconds of one core per image, the best of three."""
    return round(1e3 * min(cpu(lambda: [way(path) for path in paths]) for _ in range(3)) / len(paths))


def cpu(work: Callable[[], Any]) -> float:
    """Processor seconds of some work in this process."""
    started = time.process_time()
    work()
    return time.process_time() - started


def rewrite(table: Collection, processor: MammoImageProcessor, out: Path) -> None:
    """Write all shards again, copying their pixels: another column has changed."""
    changed = table.dataset.map(lambda row: {"view": None})
    prepare_images(Collection(changed, tasks=table.tasks, salt_name=table.salt_name), processor, out, format="parquet")


def compressed(path: Path, out: Path) -> Path:
    """Write a copy of a file in JPEG 2000, with a window: without one it is read whole however it is decoded."""
    dataset = pydicom.dcmread(path)
    dataset.WindowCenter, dataset.WindowWidth = 1 << 15, 1 << 16
    dataset.compress(JPEG2000Lossless)
    dataset.save_as(out)
    return out


def machine() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=3_400_000, help="of the collection (default %(default)s)")
    parser.add_argument("--vcpu_hour", type=float, default=0.04, help="price of a CPU for an hour (%(default)s)")
    parser.add_argument(
        "--terabyte_month", type=float, default=23, help="price of a terabyte for a month (%(default)s)"
    )
    parser.add_argument("--node_cpus", type=int, default=64, help="CPUs of a node (%(default)s)")
    parser.add_argument("--hours", type=float, default=6, help="in which it should be done (%(default)s)")
    parser.add_argument("--write", type=Path, help="a page to put the plan into")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        sources, kept = measure(Path(work))
    wanted = {name: getattr(args, name) for name in Assumed.__dataclass_fields__}
    text = plan(machine(), sources, kept, Assumed(**wanted))
    print(text, end="", flush=True)
    if args.write:
        fill(args.write, lambda _: f"```\n{text}```\n")


if __name__ == "__main__":
    main()
