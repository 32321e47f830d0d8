"""Masked image modelling, ours against stock ``SwinForMaskedImageModeling``: time, memory and decoder, as ratios.

python benchmarks/bench_mim.py --models tiny small base --ratios 0.5 0.75
python benchmarks/bench_mim.py --models base --sizes 224x224 448x224 896x448 --batch_size 4 --pairs 3

A pair is a step of ours and a step of the peer (forward and backward, no optimiser), one after the other; the ratio
reported is the median over pairs. On a square the peer is stock Swin itself; on a rectangle, which stock Swin cannot
reconstruct, it is our dense encoder, whose time on the square is printed against stock's. Both have the linear head.
CPU time is what the process used, wall time what the clock says: on a machine that is busy with other things the
first is the fairer. The peak is what the step adds to what the model itself needs: on a GPU by torch's own counter,
on a CPU by torch's profiler.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import SwinConfig, SwinForMaskedImageModeling

from mammo_hf import BlockwiseMasking, MammoSwinConfig, MammoSwinForMaskedImageModeling
from mammo_hf.configuration_mammo_swin import SIZES
from mammo_hf.visible_tokens import visible_tokens

WINDOW = {"window_size": 7, "drop_path_rate": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=["tiny", "small", "base"], choices=list(SIZES))
    parser.add_argument("--sizes", nargs="+", default=["224x224"], help="height x width")
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.5, 0.75])
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--decoder", action="store_true", help="only: parameters, MACs and time of both decoders")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{torch.__version__} on {device}, {args.threads} threads, batch {args.batch_size}, {args.pairs} pairs")
    for model in args.models:
        for size in [tuple(int(side) for side in text.split("x")) for text in args.sizes]:
            if args.decoder:
                _decoders(model, size, args)
                continue
            for ratio in args.ratios:
                _compare(model, size, ratio, args, device)


def _compare(model: str, size: tuple[int, int], ratio: float, args: argparse.Namespace, device: str) -> None:
    masks = np.stack([BlockwiseMasking(16, ratio)(size, seed=0, index=index) for index in range(args.batch_size)])
    pixels, hidden = torch.randn(args.batch_size, 1, *size, device=device), torch.from_numpy(masks).to(device)
    ours = MammoSwinForMaskedImageModeling(_config(model, size, sparse_encoder=True)).to(device).train()
    if size[0] == size[1]:
        stock = SwinConfig(**SIZES[model] | WINDOW, image_size=size[0], num_channels=1, encoder_stride=_stride(model))
        peer: nn.Module = SwinForMaskedImageModeling(stock).to(device).train()
    else:
        peer = MammoSwinForMaskedImageModeling(_config(model, size, sparse_encoder=False)).to(device).train()
    grid, stages = ours.config.stage_grids(*size)[0], len(ours.config.depths)

    def sparse_step() -> None:
        # packing is part of the step, as if no data loader had made it beforehand
        packed = visible_tokens(masks, grid, stages=stages, window=7)
        ours(pixels, bool_masked_pos=hidden, visible=packed).loss.backward()

    def peer_step() -> None:
        peer(pixels, bool_masked_pos=hidden).loss.backward()

    with torch.autocast(device, dtype=torch.bfloat16, enabled=args.bf16):
        peaks = [_peak(step, network, device) for step, network in ((peer_step, peer), (sparse_step, ours))]
        pairs = [(_timed(peer_step, peer, device), _timed(sparse_step, ours, device)) for _ in range(args.pairs)]
    row = {
        "model": model,
        "size": f"{size[0]}x{size[1]}",
        "ratio": ratio,
        "peer": "stock" if size[0] == size[1] else "our dense",
        "cpu_speedup": round(statistics.median(a[0] / b[0] for a, b in pairs), 2),
        "wall_speedup": round(statistics.median(a[1] / b[1] for a, b in pairs), 2),
        "peak_memory": round(peaks[1] / peaks[0], 2),
        "peer_seconds": round(statistics.median(a[1] for a, _ in pairs), 3),
        "our_seconds": round(statistics.median(b[1] for _, b in pairs), 3),
        "pairs": [(round(a[0] / b[0], 2), round(a[1] / b[1], 2)) for a, b in pairs],
    }
    print(json.dumps(row), flush=True)


def _config(model: str, size: tuple[int, int], **changes: Any) -> MammoSwinConfig:
    return MammoSwinConfig(**SIZES[model] | WINDOW | {"decoder": "linear"} | changes, image_size=size)


def _stride(model: str) -> int:
    return 4 * 2 ** (len(SIZES[model]["depths"]) - 1)


def _timed(step: Callable[[], None], network: nn.Module, device: str) -> tuple[float, float]:
    """CPU seconds (on a GPU: seconds of the device) and wall seconds of one step."""
    network.zero_grad()
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
    cpu, wall = time.process_time(), time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
        return (time.perf_counter() - wall,) * 2
    return time.process_time() - cpu, time.perf_counter() - wall


def _peak(step: Callable[[], None], network: nn.Module, device: str) -> float:
    """Bytes that a step holds at most beyond weights and gradients; it also warms up."""
    step()  # afterwards gradients exist: what is measured is activations
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    held = peak = 0
    for event in sorted(_memory_events(recorded), key=lambda event: event[0]):
        held += event[1]
        peak = max(peak, held)
    network.zero_grad()
    return peak


def _memory_events(recorded: profile) -> list[tuple[int, int]]:
    """(time, bytes) of each allocation (above zero) and release (below)."""
    return [
        (event.start_ns(), event.nbytes())
        for event in recorded.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]


def _decoders(model: str, size: tuple[int, int], args: argparse.Namespace) -> None:
    """Both decoders beside the dense encoder: parameters, multiply-accumulates an image, and the time of a step."""
    dense = MammoSwinForMaskedImageModeling(_config(model, size, sparse_encoder=False)).train()
    pixels = torch.randn(args.batch_size, 1, *size)
    mask = torch.zeros(args.batch_size, dense.swin.embeddings.patch_embeddings.num_patches, dtype=torch.bool)

    def encoder_step() -> None:
        dense.swin(pixels, bool_masked_pos=mask).last_hidden_state.mean().backward()

    for kind in ("conv", "linear"):
        decoder = MammoSwinForMaskedImageModeling(_config(model, size, decoder=kind)).decoder
        tokens = torch.randn(args.batch_size, dense.config.hidden_size, *dense.config.stage_grids(*size)[-1])
        tokens.requires_grad_()

        def decoder_step(decoder: nn.Module = decoder, tokens: torch.Tensor = tokens) -> None:
            decoder(tokens).abs().mean().backward()

        encoder_step(), decoder_step()
        pairs = [(_timed(decoder_step, decoder, "cpu"), _timed(encoder_step, dense, "cpu")) for _ in range(args.pairs)]
        row = {
            "model": model,
            "size": f"{size[0]}x{size[1]}",
            "decoder": kind,
            "parameters": sum(parameter.numel() for parameter in decoder.parameters()),
            "gmacs_an_image": round(_macs(decoder, tokens[:1].detach()) / 1e9, 3),
            "share_of_the_dense_encoders_step": round(statistics.median(a[0] / b[0] for a, b in pairs), 3),
            "cpu_seconds": round(statistics.median(a[0] for a, _ in pairs), 3),
        }
        print(json.dumps(row), flush=True)


def _macs(decoder: nn.Module, tokens: torch.Tensor) -> int:
    counted: list[int] = []

    def count(module: Any, inputs: Any, output: torch.Tensor) -> None:
        # a transposed convolution applies its weights at each input place, another at each output place
        places = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        counted.append(places[0, 0].numel() * module.weight.numel())

    hooks = [
        module.register_forward_hook(count)
        for module in decoder.modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    with torch.no_grad():
        decoder(tokens)
    for hook in hooks:
        hook.remove()
    return sum(counted)


if __name__ == "__main__":
    main()
