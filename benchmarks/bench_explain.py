"""Explaining against a plain forward pass and against pytorch-grad-cam: time and memory, as ratios.

python benchmarks/bench_explain.py
python benchmarks/bench_explain.py --model nano --size 224x112 --batch_size 2 --pairs 1 --peer by-hand

A pair is a step of ours and a step of what it is measured against, one after the other; the ratio is the median over
pairs, of CPU seconds of the process (on a GPU: of the device). Ours is the whole of ``explain``: scores, map, enlarging
and scaling to [0, 1]. The peak is what a step holds at most beyond the model itself.

pytorch-grad-cam is installed without its dependencies into a folder of this benchmark's own (--peer_folder), with
ttach and OpenCV, and gets a stand-in for torchvision, of which it uses nothing here but the names. Its maps are
compared with ours for the same layer and a right reshape. Where it cannot be had (or with --peer by-hand), the same
work is done here: hooks on the layer, and a backward pass through the whole model.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mammo_hf import MammoSwinConfig, MammoSwinForImageClassification
from mammo_hf.explainers import explain, explainers, score
from mammo_hf.explainers.cam import grad_cam
from mammo_hf.models.configuration_mammo_swin import SIZES

TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}]
PEER = ("grad-cam==1.5.7", "ttach==0.0.3", "opencv-python-headless")
OURS = ("grad_cam", "attention", "hires_cam", "layer_cam", "grad_cam_attention", "attention_rollout", "legrad")
Step = Callable[[], Any]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny", choices=list(SIZES))
    parser.add_argument("--size", default="448x224", help="height x width")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--explainers", nargs="+", default=list(OURS), choices=list(explainers()))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peer", choices=("pytorch-grad-cam", "by-hand"), default="pytorch-grad-cam")
    parser.add_argument("--peer_folder", type=Path, default=Path("build/bench_explain"))
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = tuple(int(side) for side in args.size.split("x"))
    config = MammoSwinConfig(**SIZES[args.model], image_size=size, tasks=TASKS)
    model = MammoSwinForImageClassification(config).to(device).eval()
    pixels = torch.randn(args.batch_size, 1, *size, device=device)
    target = [1] * args.batch_size
    peer = _pytorch_grad_cam(args.peer_folder) if args.peer == "pytorch-grad-cam" else None
    name = "by hand" if peer is None else "pytorch-grad-cam"
    print(f"{torch.__version__} on {device}, {args.threads} threads, Swin-{args.model}, {args.size}, ", end="")
    print(f"batch {args.batch_size}, {args.pairs} pairs; peer: {name}", flush=True)

    def forward() -> None:
        with torch.no_grad():
            model(pixels)

    def ours(explainer: str) -> Step:
        return lambda: explain(model, pixels, target, explainer)

    def one_by_one() -> None:
        for image in pixels.split(1):
            explain(model, image, 1, "grad_cam")

    memory = peak(forward, device)
    for explainer in args.explainers:
        row = ratio(ours(explainer), forward, args.pairs, device)
        _print(f"{explainer} over a forward pass", **row, peak=round(peak(ours(explainer), device) / memory, 2))
    peer_step = _peer_step(model, pixels, target, peer)
    row = ratio(peer_step, ours("grad_cam"), args.pairs, device)
    _print(f"{name} over grad_cam", **row, peak=round(peak(peer_step, device) / memory, 2))
    _print("a batch over its images one by one, grad_cam", **ratio(ours("grad_cam"), one_by_one, args.pairs, device))
    passes: list[int] = []
    handle = model.swin.register_forward_hook(lambda *hooked: passes.append(1))
    explain(model, pixels, None, "grad_cam")
    handle.remove()
    _print("passes of the model for what it predicts, its score and its map", passes=len(passes))
    found, expected = grad_cam.explain_map(model, pixels, target), _peer_maps(model, pixels, target, peer)
    _print(f"largest difference from {name}'s map, of its maximum", difference=_difference(found, expected))


def _print(what: str, **figures: Any) -> None:
    print(json.dumps({"what": what} | figures), flush=True)


def ratio(step: Step, other: Step, pairs: int, device: str) -> dict[str, Any]:
    step(), other()
    timed = [(_timed(step, device), _timed(other, device)) for _ in range(pairs)]
    ratios = [one / against for one, against in timed]
    return {
        "ratio": round(statistics.median(ratios), 2),
        "seconds": round(statistics.median(one for one, _ in timed), 3),
        "against": round(statistics.median(against for _, against in timed), 3),
        "ratios": [round(one, 2) for one in ratios],
    }


def _timed(step: Step, device: str) -> float:
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    step()
    return time.process_time() - start


def peak(step: Step, device: str) -> float:
    """Bytes that a step holds at most beyond what is there before it."""
    step()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


class _Logits(nn.Module):
    """The model as pytorch-grad-cam wants it: a tensor comes out."""

    def __init__(self, model: MammoSwinForImageClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model(pixels).logits


def _pytorch_grad_cam(folder: Path) -> Any:
    """Import the package from the benchmark's own folder, installed there at first; ``None`` if it is not available."""
    if not (folder / "pytorch_grad_cam").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PEER]
        if subprocess.run(command, check=False).returncode:
            return None
    sys.path.append(str(folder))
    for module, names in {
        "torchvision": (),
        "torchvision.transforms": ("Compose", "Normalize", "ToTensor"),
        "torchvision.transforms.functional": ("resize",),
    }.items():
        stand_in = sys.modules.setdefault(module, ModuleType(module))
        for attribute in names:
            setattr(stand_in, attribute, None)
    try:
        import pytorch_grad_cam
    except ImportError as error:
        print(f"pytorch-grad-cam cannot be imported ({error}): its work is done by hand")
        return None
    return pytorch_grad_cam


def _layer(model: MammoSwinForImageClassification) -> nn.Module:
    """Return what is commonly hooked in Swin: the last layer norm, whose tokens the classifier pools."""
    return model.swin.layernorm


def _reshape(model: MammoSwinForImageClassification, size: torch.Size) -> Callable[[torch.Tensor], torch.Tensor]:
    grid = model.config.stage_grids(size[-2], size[-1])[-1]
    return lambda tokens: tokens.unflatten(1, grid).permute(0, 3, 1, 2)


def _peer_step(model: MammoSwinForImageClassification, pixels: torch.Tensor, target: list[int], peer: Any) -> Step:
    if peer is None:
        return lambda: _by_hand(model, pixels, target)
    targets = [lambda logits, label=label: score(logits[None], [label], model.config) for label in target]

    def step() -> None:
        with peer.GradCAM(_Logits(model), [_layer(model)], reshape_transform=_reshape(model, pixels.shape)) as cam:
            cam(input_tensor=pixels, targets=targets)
        model.zero_grad()

    return step


def _peer_maps(model: MammoSwinForImageClassification, pixels: torch.Tensor, target: list[int], peer: Any) -> Any:
    """Compute the peer's maps on the token grid, before it scales and enlarges them."""
    if peer is None:
        return _by_hand(model, pixels, target)
    layer, reshape = _layer(model), _reshape(model, pixels.shape)
    with peer.GradCAM(_Logits(model), [layer], reshape_transform=reshape) as cam:
        logits = cam.activations_and_grads(pixels)
        score(logits, target, model.config).backward()
        held = cam.activations_and_grads
        maps = cam.get_cam_image(pixels, layer, None, held.activations[0].numpy(), held.gradients[0].numpy())
    model.zero_grad()
    return torch.as_tensor(maps).relu()


def _by_hand(model: MammoSwinForImageClassification, pixels: torch.Tensor, target: list[int]) -> torch.Tensor:
    """Do what such a library does: hooks for tokens and gradient, and a backward pass through the whole model."""
    kept: dict[str, torch.Tensor] = {}

    def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        kept["tokens"] = output.detach()
        output.register_hook(lambda gradient: kept.update(gradient=gradient))

    handle = _layer(model).register_forward_hook(keep)
    score(model(pixels).logits, target, model.config).backward()
    handle.remove()
    model.zero_grad()
    reshape = _reshape(model, pixels.shape)
    tokens, gradient = reshape(kept["tokens"]), reshape(kept["gradient"])
    return (tokens * gradient.mean((2, 3), keepdim=True)).sum(1).relu()


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    highest = expected.abs().max()
    return float(f"{float((found.cpu() - expected.cpu()).abs().max() / highest):.2g}")


if __name__ == "__main__":
    main()
