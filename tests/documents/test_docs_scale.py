"""The plan on the page is what the command makes of the figures that stand above it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scale_plan(program):
    return program("benchmarks/scale_plan.py")


def number(text):
    return float(text.replace(",", ""))


def test_every_line_follows_from_the_measured_and_the_assumed_figures(program, scale_plan, tmp_path):
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    tables = program("benchmarks/results_tables.py")
    block = tables.filled(ROOT / "docs" / "scale.md")["scale_plan"]
    text = block.removeprefix("```\n").removesuffix("```\n")
    sources = [
        scale_plan.Source(
            name, int(number(read)), int(number(write)), float(size), *(int(number(one)) for one in others)
        )
        for name, read, write, size, *others in re.findall(
            r"^  (.+): ([\d,]+) ms to read, ([\d,]+) ms to write, ([\d.]+) MB a file; "
            r"([\d,]+) ms by pydicom's chain, ([\d,]+) ms with",
            text,
            re.MULTILINE,
        )
    ]
    assert [source.name for source in sources] == ["uncompressed", "JPEG 2000 lossless"]
    kept = int(number(re.search(r"kept: ([\d,]+) kB", text)[1]))
    told = re.search(r"assumed: ([\d.]+) a CPU hour, ([\d.]+) a terabyte and month, (\d+) CPUs", text)
    hours = float(re.search(r"done in ([\d.]+) hours", text)[1])
    images = int(number(re.search(r"for ([\d,]+) images", text)[1]))
    assumed = scale_plan.Assumed(images, float(told[1]), float(told[2]), int(told[3]), hours)
    assert images == 3_400_000
    machine = re.search(r"one core of (.*)", text)[1]
    assert scale_plan.plan(machine, sources, kept, assumed) == text
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    tables.fill(tmp_path / "page.md", lambda _: block)
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page


def test_the_arithmetic(scale_plan):
    assumed = scale_plan.Assumed(images=1_000_000, vcpu_hour=0.5, terabyte_month=20, node_cpus=10, hours=5)
    text = scale_plan.plan("a core", [scale_plan.Source("plain", 3590, 10, 20.0, 7190, 1790)], 1000, assumed)
    for line in (
        "(3,590 + 10) ms x 1,000,000 / 3,600,000 = 1,000.0 CPU hours",
        "price: 1,000.0 h x 0.5 = 500.00",
        "nodes: 1,000.0 h / (5 h x 10) = 20.00, so 20",
        "read: 20.0 MB x 1,000,000 = 20.0 TB, in 5 h by 20 node(s): 0.06 GB/s each",
        "1,000 kB x 1,000,000 = 1.00 TB, in 7,813 shards of 128",
        "price: 1.00 TB x 20 = 20.00 a month",
    ):
        assert f"    {line}\n" in text
    hours = [7200 * 54.706 / 3600 / 10, 3600 * 54.706 / 3600 / 10, 1800 * 54.706 / 3600 / 10]
    one, ray = (" / ".join(f"{hour / nodes:,.2f}" for hour in hours) for nodes in (1, scale_plan.RAY_NODES))
    assert f"  RSNA, 54,706 images, plain: {one}; {ray}; 1,094 GB read, 55 GB kept\n" in text
