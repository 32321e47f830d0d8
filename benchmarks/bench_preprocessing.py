"""How fast a mammogram becomes a tensor, against the naive chain, bare decoding and other loaders.

All in one run, printed as ratios:

python benchmarks/bench_preprocessing.py
python benchmarks/bench_preprocessing.py --repeats 15 --dicom ../shared/dicom

Every comparison alternates the two sides and takes medians, so that a busy machine is busy for both; "cpu" is the time
of the process, which others' work does not lengthen.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import statistics
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import torch
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import JPEG2000Lossless

from mammo_hf import MammoImageProcessor
from mammo_hf.breast import LONGEST_SIDE, find_breast
from mammo_hf.dicom import mammogram_dataset, read_mammogram

ROWS, COLUMNS = 4096, 3328
SIZE = (896, 448)


def frame() -> np.ndarray:
    """A 12-bit left breast with texture and a label on a noisy background, uint16."""
    rows, columns = np.mgrid[:ROWS, :COLUMNS].astype(np.float32)
    rng = np.random.default_rng(0)
    inside = ((rows - 2000) / 1700) ** 2 + (columns / 2000) ** 2 < 1
    pixels = rng.integers(0, 60, (ROWS, COLUMNS)) + inside * (1200 + 500 * np.sin(rows / 90) * np.cos(columns / 70))
    pixels[200:500, 2800:3200] = 4000
    return np.clip(pixels, 0, 4095).astype(np.uint16)


def variants(pixels: np.ndarray) -> dict[str, Dataset]:
    """One dataset for each way of saying how the values are shown."""
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 12]
    item.LUTData = (4095 * (np.arange(4096) / 4095) ** 1.5).astype("<u2").tobytes()
    window = {"WindowCenter": "1500", "WindowWidth": "2400"}
    return {
        "LINEAR": mammogram_dataset(pixels, bits_stored=12, VOILUTFunction="LINEAR", **window),
        "SIGMOID": mammogram_dataset(pixels, bits_stored=12, VOILUTFunction="SIGMOID", **window),
        "VOI LUT": mammogram_dataset(pixels, bits_stored=12, VOILUTSequence=[item]),
    }


def saved(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def naive(content: bytes) -> torch.Tensor:
    """What most training scripts do, to the same size."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float32)
    values = (values - values.min()) / max(float(np.ptp(values)), 1e-6)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = 1 - values
    resized = Image.fromarray(values).resize(SIZE[::-1], Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(resized).copy())[None, None]


def torch_style(content: bytes) -> torch.Tensor:
    """As torchvision transforms do it: to a float tensor, then interpolate with antialiasing; no intensity rules."""
    pixels = pydicom.dcmread(io.BytesIO(content)).pixel_array
    tensor = torch.from_numpy(pixels.astype(np.float32) / 4095)[None, None]
    return torch.nn.functional.interpolate(tensor, SIZE, mode="bilinear", antialias=True, align_corners=False)


def bare(content: bytes) -> np.ndarray:
    return pydicom.dcmread(io.BytesIO(content)).pixel_array


def monai_style(path: str) -> Callable[[bytes], object] | None:
    """MONAI's reader and resize, if it is installed; it reads from files."""
    if importlib.util.find_spec("monai") is None:
        return None
    from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Resize, ScaleIntensity

    chain = Compose([LoadImage(image_only=True), EnsureChannelFirst(), ScaleIntensity(), Resize(SIZE, mode="area")])
    return lambda content: chain(path)


def alternating(ours: Callable[[], object], peer: Callable[[], object], repeats: int) -> tuple[float, ...]:
    """Median seconds (wall ours, wall peer, cpu ours, cpu peer) of alternating pairs."""
    times: list[list[float]] = [[], [], [], []]
    ours(), peer()
    for _ in range(repeats):
        for side, call in enumerate((ours, peer)):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            times[side].append(time.perf_counter() - wall)
            times[side + 2].append(time.process_time() - cpu)
    return tuple(statistics.median(values) for values in times)


def line(name: str, times: tuple[float, ...], *, faster: bool) -> None:
    ours, peer, cpu_ours, cpu_peer = times
    ratio, cpu = (peer / ours, cpu_peer / cpu_ours) if faster else (ours / peer, cpu_ours / cpu_peer)
    what = "faster" if faster else "of its time"
    print(f"{name:<46}{ours * 1e3:8.1f} ms {peer * 1e3:8.1f} ms   {ratio:5.2f}x {what} (cpu {cpu:.2f}x)", flush=True)


def peak_frames(call: Callable[[], object], frame_bytes: int) -> float:
    """The most memory that a call holds beyond what was there, in stored frames; decoders in C are not seen."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / frame_bytes


def two_workers(call: Callable[[], object], count: int) -> float:
    """How many times faster two threads get through ``count`` calls than one, the median of three."""
    gains = []
    for _ in range(3):
        seconds = []
        for workers in (1, 2):
            with ThreadPoolExecutor(workers) as pool:
                start = time.perf_counter()
                list(pool.map(lambda _: call(), range(count)))
                seconds.append(time.perf_counter() - start)
        gains.append(seconds[0] / seconds[1])
    return statistics.median(gains)


def real_files(folder: Path, processor: MammoImageProcessor, repeats: int) -> None:
    """The same comparison over the files of a folder that we and the naive chain both read."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.stat().st_size < 4e6:
            continue
        content = path.read_bytes()
        try:
            if min(read_mammogram(content).pixels.shape[1:]) < 1000:
                continue
            naive(content)
        except Exception:  # what one side cannot read is not compared; pydicom raises almost anything
            continue
        ours = lambda content=content: processor(content, return_tensors="pt")  # noqa: E731
        times = alternating(ours, lambda content=content: naive(content), repeats)
        line(f"{path.name[:28]} against naive", times, faster=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--dicom", type=Path, help="a folder of real files, to be compared as well")
    args = parser.parse_args()
    torch.set_num_threads(1)
    processor = MammoImageProcessor(size=SIZE)
    pixels = frame()
    datasets = variants(pixels)
    print(f"{ROWS} x {COLUMNS}, 12 bits, to {SIZE[0]} x {SIZE[1]}; one thread; {args.repeats} pairs")
    print(f"{'':<46}{'ours':>11}{'peer':>12}")
    for name, dataset in datasets.items():
        content = saved(dataset)
        ours = lambda content=content: processor(content, return_tensors="pt")  # noqa: E731
        line(f"raw {name} against naive", alternating(ours, lambda c=content: naive(c), args.repeats), faster=True)
        line(f"raw {name} beside bare", alternating(ours, lambda c=content: bare(c), args.repeats), faster=False)
    line("raw against torch-style", alternating(ours, lambda: torch_style(content), args.repeats), faster=True)
    if importlib.util.find_spec("monai") is None:
        print("MONAI is not installed: not compared")
    else:
        path = Path("bench_preprocessing.dcm").resolve()
        path.write_bytes(content)
        peer = monai_style(str(path))
        assert peer is not None
        line("raw against MONAI", alternating(ours, lambda: peer(content), args.repeats), faster=True)
        path.unlink()

    stride = max(ROWS, COLUMNS) // LONGEST_SIDE
    mammogram = read_mammogram(content)

    def find() -> object:
        view = mammogram.intensity(frame=0, rows=slice(None, None, stride), columns=slice(None, None, stride))
        return find_breast(view, stride=stride, size=(ROWS, COLUMNS))

    wall, _, cpu, _ = alternating(find, lambda: None, max(15, args.repeats))
    print(f"finding the breast: {wall * 1e3:.1f} ms (cpu {cpu * 1e3:.1f} ms)")
    print(f"peak memory, raw: {peak_frames(ours, pixels.nbytes):.2f} stored frames")
    whole = MammoImageProcessor(size=SIZE, crop_to_breast=False)
    print(f"peak memory, raw, uncropped: {peak_frames(lambda: whole(content), pixels.nbytes):.2f} stored frames")
    print(f"two threads: {two_workers(ours, 12):.2f}x one")

    compressed = datasets["SIGMOID"]
    compressed.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    content = saved(compressed)
    ours = lambda: processor(content, return_tensors="pt")  # noqa: E731
    few = max(3, args.repeats // 2)
    line("JPEG 2000 against naive", alternating(ours, lambda: naive(content), few), faster=True)
    line("JPEG 2000 beside bare", alternating(ours, lambda: bare(content), few), faster=False)
    if args.dicom is not None:
        real_files(args.dicom, processor, few)


if __name__ == "__main__":
    main()
