"""From DICOM files to scores: how near to the bound, and next to a stock pipeline that is given ready-made PNGs.

python benchmarks/bench_predict.py
python benchmarks/bench_predict.py --model small --size 896 448 --images 48

The bound is 1 / (t_model + t_decode / cores): the model as it is run on all cores, reading on one, and nothing in
between. A run's speed is that of the middle half of its passes through the model: the processes' start is not in it,
and meanwhile as many images are read as are scored. The peer is a stock Swin of the same size under transformers' own
image-classification pipeline, one PNG after the other. Also ONNX next to eager torch, and OpenVINO next to ONNX, one
batch in turn. Weights are random: they cost what trained ones do.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_preprocessing import verdict
from PIL import Image
from torch.nn.modules.module import register_module_forward_hook
from transformers import SwinConfig, SwinForImageClassification, ViTImageProcessor, pipeline

from mammo_hf import MammoImageProcessor, MammoSwinConfig, MammoSwinForImageClassification
from mammo_hf.inference.exported import export_classifier, load_exported
from mammo_hf.inference.predict import ScoringOptions, default_batch, score_files
from mammo_hf.inference.reading import SideBySide, read_image, replicas
from mammo_hf.models.configuration_mammo_swin import SIZES
from mammo_hf.phantom.writing import write_phantom

TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}]
BOUND_TARGET = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", choices=list(SIZES), default="tiny")
    parser.add_argument("--size", type=int, nargs=2, default=[448, 224])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch_sizes", type=int, nargs="+", help="tries others than the default, too")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cores = len(os.sched_getaffinity(0))
    sizes = SIZES[args.model] | {"image_size": tuple(args.size)}
    model = MammoSwinForImageClassification(MammoSwinConfig(**sizes, tasks=TASKS)).eval().to(device)
    processor = MammoImageProcessor(size=tuple(args.size))
    print(f"instructions: {', '.join(sorted(instructions())) or 'not known'}")
    print(f"Swin-{args.model} at {args.size[0]} x {args.size[1]} on {device}, {cores} cores, frames of 4096 x 3328")
    with tempfile.TemporaryDirectory() as folder:
        files = drawn(Path(folder), args.images)
        for size in args.batch_sizes or [default_batch(processor, device)]:
            against_bound(model, processor, files, Path(folder), size, args.rounds, cores)
        pictures = ready_made(processor, files, Path(folder))
        peer = stock_pipeline(sizes, args.size, device)
        against_stock("", model, processor, files, Path(folder), peer, pictures, args.rounds)
        flat_memory(model, processor, files, Path(folder))
        if importlib.util.find_spec("onnxruntime") is None:
            print("onnxruntime is not installed")
            return
        difference = export_classifier(model.cpu(), processor, Path(folder) / "onnx")
        exported, _ = load_exported(Path(folder) / "onnx")
        against_other(model, exported, ("ONNX", "eager torch"), difference, processor, args.rounds)
        if importlib.util.find_spec("openvino") is None:
            print("openvino is not installed")
        else:
            difference = export_classifier(model, processor, Path(folder) / "openvino", format="openvino")
            other, _ = load_exported(Path(folder) / "openvino")
            against_other(exported, other, ("OpenVINO", "ONNX"), difference, processor, args.rounds)
        against_stock(", exported as ONNX,", exported, processor, files, Path(folder), peer, pictures, args.rounds)


def instructions() -> set[str]:
    """Return which of AVX2, AVX-512, its VNNI and AMX the processor has: OpenVINO and INT8 gain by the last three."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return set()
    return flags & {"avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"}


def drawn(folder: Path, images: int, size: tuple[int, int] = (4096, 3328)) -> list[str]:
    """Frames by several names each: what is in the page cache is read, and the disk is not compared."""
    write_phantom(folder / "phantom", patients=2, seed=0, size=size, progress=False)
    frames = sorted((folder / "phantom").rglob("*.dcm"), key=lambda path: path.stat().st_size)[-8:]
    files = []
    for number in range(images):
        files.append(folder / f"{number:04d}.dcm")
        files[-1].symlink_to(frames[number % len(frames)])
    return [str(file) for file in files]


def seconds(call: Callable[[], Any]) -> float:
    """By the clock."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def run_speed(read: Callable[[], Any]) -> float:
    """Images a second of a run's passes through its model, those of the second and third quarter of the images."""
    ended: list[tuple[float, int]] = []

    def note(_: Any, __: Any, output: Any) -> None:
        if hasattr(output, "logits"):
            ended.append((time.perf_counter(), len(output.logits)))

    hook = register_module_forward_hook(note)
    try:
        read()
    finally:
        hook.remove()
    seen = np.cumsum([images for _, images in ended])
    first, last = np.searchsorted(seen, [seen[-1] / 4, 3 * seen[-1] / 4])
    return float(seen[last] - seen[first]) / (ended[last][0] - ended[first][0])


def model_alone(model: torch.nn.Module, batch: int) -> float:
    """Seconds an image that the model takes as `predict` runs it, with nothing to read."""
    pixels = torch.randn(batch, 1, *model.config.image_size, device=model.device)
    own = replicas(model, torch.get_num_threads() if model.device.type == "cpu" else 1)
    scoring = SideBySide(_pass, own)
    with scoring.started():
        for turns in (1, 8):  # the first warms up
            start = time.perf_counter()
            for _ in range(turns * len(own)):
                list(scoring.put(pixels))
            list(scoring.rest())
            taken = time.perf_counter() - start
    return taken / (turns * len(own) * batch)


@torch.inference_mode()
def _pass(model: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    return model(pixels).logits.cpu()


def predict_speed(model: Any, processor: Any, files: list[str], folder: Path, batch: int | None = None) -> float:
    options = ScoringOptions(batch_size=batch)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        return run_speed(lambda: score_files(model, processor, files, Path(out) / "scores.csv", options))


def against_bound(
    model: Any, processor: Any, files: list[str], folder: Path, batch: int, rounds: int, cores: int
) -> None:
    shares, parts = [], []
    for _ in range(rounds):
        t_decode = statistics.median(seconds(lambda f=file: read_image(processor, 0, f)) for file in files[:8])
        t_model = model_alone(model, batch)
        bound = 1 / (t_model + t_decode / cores)
        speed = predict_speed(model, processor, files, folder, batch)
        shares.append(speed / bound)
        parts.append((t_model, t_decode, bound, speed))
    t_model, t_decode, bound, speed = np.median(parts, axis=0)
    share = statistics.median(shares)
    print(
        f"batch {batch}: {speed:.2f} images/s; model {1e3 * t_model:.1f} ms, reading {1e3 * t_decode:.1f} ms an image, "
        f"bound {bound:.2f} images/s: {share:.1%} of it   at least {BOUND_TARGET:.0%}: "
        f"{verdict(share >= BOUND_TARGET)}",
        flush=True,
    )


def flat_memory(model: Any, processor: Any, files: list[str], folder: Path) -> None:
    """Of a short run and a long one, each by itself: what a process has once held it does not give back."""
    model.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    held = []
    for number, some in enumerate((files[: len(files) // 4], files)):
        (folder / f"{number}.txt").write_text("\n".join(some))
        output = folder / f"memory-{number}.csv"
        command = [sys.executable, "-c", _PREDICT, str(folder / "model"), str(folder / f"{number}.txt"), str(output)]
        held.append([float(one) for one in subprocess.check_output(command, text=True).split()[-2:]])
    (few, few_read), (many, many_read) = held
    print(
        f"memory of the model's process: {few:.0f} MB for {len(files) // 4} files, {many:.0f} MB for {len(files)}; "
        f"of a reading one {few_read:.0f} and {many_read:.0f} MB",
        flush=True,
    )


_PREDICT = """
import resource, sys
from mammo_hf.cli import main
if __name__ == "__main__":
    main(["predict", sys.argv[1], sys.argv[2], "--output", sys.argv[3], "--num_workers", "2"])
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    print(*(resource.getrusage(one).ru_maxrss / 1000 for one in who))
"""


def ready_made(processor: Any, files: list[str], folder: Path) -> list[str]:
    """Write what the peer can read: PNGs of the model's size."""
    pictures = []
    for number, file in enumerate(files):
        intensity, _ = processor.fit(file)
        pictures.append(str(folder / f"{number:04d}.png"))
        Image.fromarray(np.rint(intensity * 255).astype(np.uint8)).convert("RGB").save(pictures[-1])
    return pictures


def stock_pipeline(sizes: dict[str, Any], size: list[int], device: str) -> Any:
    stock = SwinForImageClassification(SwinConfig(**{**sizes, "num_channels": 3, "num_labels": 2})).eval()
    plain = ViTImageProcessor(size={"height": size[0], "width": size[1]})
    return pipeline("image-classification", model=stock, image_processor=plain, device=device)


def against_stock(
    kind: str,
    model: Any,
    processor: Any,
    files: list[str],
    folder: Path,
    peer: Any,
    pictures: list[str],
    rounds: int,
) -> float:
    ratios = []
    for _ in range(rounds):
        own = predict_speed(model, processor, files, folder)
        ratios.append(own / run_speed(lambda: [peer(one) for one in pictures[: len(pictures) // 2]]))
    ratio = statistics.median(ratios)
    print(
        f"from DICOM{kind} against a loop of the stock pipeline over PNGs: {ratio:.2f}x its images a second "
        f"({min(ratios):.2f} to {max(ratios):.2f})   faster: {verdict(ratio > 1)}",
        flush=True,
    )
    return ratio


def against_other(
    model: Any, exported: Any, names: tuple[str, str], difference: float, processor: Any, rounds: int
) -> None:
    """Print how much faster an exported model is than another one, by the names of both."""
    for batch in sorted({1, default_batch(processor, "cpu")}):
        pixels = torch.randn(batch, 1, *processor.canvas)
        ratios = []
        with torch.inference_mode():
            model(pixels), exported(pixels)
            for _ in range(3 * rounds):
                eager, other = seconds(lambda p=pixels: model(p)), seconds(lambda p=pixels: exported(p))
                ratios.append(eager / other)
        ratio = statistics.median(ratios)
        print(
            f"{names[0]} against {names[1]}, batch {batch}, {torch.get_num_threads()} threads: {ratio:.2f}x, logits "
            f"within {difference:.0e}   at least as fast: {verdict(ratio >= 1)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
