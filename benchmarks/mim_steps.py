"""A step of the sparse encoder against stock Swin's and against our dense encoder's."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from timed_steps import Seconds, activation_peak, ratios, timed
from torch import nn
from transformers import SwinConfig, SwinForMaskedImageModeling

from mammo_hf import BlockwiseMasking, MammoSwinConfig, MammoSwinForMaskedImageModeling
from mammo_hf.models.configuration_mammo_swin import SIZES
from mammo_hf.models.sparse_encoder import visible_tokens

WINDOW = {"window_size": 7, "drop_path_rate": 0.0}

Step = Callable[[], object]


def config_of(model: str, size: tuple[int, int], **changes: Any) -> MammoSwinConfig:
    """Return the configuration of a size, without stochastic depth, so that each step computes the same."""
    return MammoSwinConfig(**SIZES[model] | WINDOW | {"mim_decoder": "linear"} | changes, image_size=size)


def compare_steps(args: argparse.Namespace, device: str) -> Iterator[dict[str, Any]]:
    """Rows for each model and size: each ratio of the sparse encoder, and on a square our dense encoder."""
    for size in args.sizes:
        for model in args.models:
            with torch.autocast(device, dtype=torch.bfloat16, enabled=args.bf16):
                yield from _compare(model, size, args, device)


def _compare(model: str, size: tuple[int, int], args: argparse.Namespace, device: str) -> Iterator[dict[str, Any]]:
    pixels = torch.randn(args.batch_size, 1, *size, device=device)
    masks = {ratio: _masks(ratio, size, args.batch_size) for ratio in args.ratios}
    ours = MammoSwinForMaskedImageModeling(config_of(model, size)).to(device).train()
    dense = MammoSwinForMaskedImageModeling(config_of(model, size, sparse_encoder=False)).to(device).train()
    hidden = torch.from_numpy(masks[args.ratios[0]]).to(device)
    steps: dict[str, tuple[Step, nn.Module]] = {}
    if size[0] == size[1]:
        stock = _stock(model, size[0]).to(device).train()
        steps["stock"] = (lambda: stock(pixels, bool_masked_pos=hidden).loss.backward(), stock)
    # what a dense encoder computes does not depend on the ratio
    steps["our dense"] = (lambda: dense(pixels, bool_masked_pos=hidden).loss.backward(), dense)
    for ratio in args.ratios:
        steps[f"sparse, {ratio}"] = (_sparse_step(ours, pixels, masks[ratio]), ours)
    peer = next(iter(steps))
    peaks = {name: activation_peak(step, network, device) for name, (step, network) in steps.items()}
    times: dict[str, list[Seconds]] = {name: [] for name in steps}
    for _ in range(args.pairs):
        for name, (step, network) in steps.items():
            times[name].append(timed(step, network, device))
    for name in list(steps)[1:]:
        faster = ratios(times[peer], times[name])
        yield {
            "model": model,
            "size": f"{size[0]} x {size[1]}",
            "encoder": name,
            "against": peer,
            "speed-up, CPU time": f"{faster.cpu:.2f}",
            "by the clock": f"{faster.wall:.2f}",
            "each turn": " ".join(f"{a.cpu / b.cpu:.2f}" for a, b in zip(times[peer], times[name], strict=True)),
            "peak": f"{peaks[name] / peaks[peer]:.2f}",
            "peak of the peer, MB": f"{peaks[peer] / 1e6:.0f}",
            "seconds of the peer": f"{min(taken.cpu for taken in times[peer]):.2f}",
        }


def _masks(ratio: float, size: tuple[int, int], batch_size: int) -> np.ndarray:
    return np.stack([BlockwiseMasking(16, ratio)(size, seed=0, index=index) for index in range(batch_size)])


def _stock(model: str, side: int) -> SwinForMaskedImageModeling:
    stride = 4 * 2 ** (len(SIZES[model]["depths"]) - 1)
    config = SwinConfig(**SIZES[model] | WINDOW, image_size=side, num_channels=1, encoder_stride=stride)
    return SwinForMaskedImageModeling(config)


def _sparse_step(network: MammoSwinForMaskedImageModeling, pixels: torch.Tensor, masks: np.ndarray) -> Step:
    grid = network.config.stage_grids(*pixels.shape[-2:])[0]
    stages, window = len(network.config.depths), network.config.window_size
    hidden = torch.from_numpy(masks).to(pixels.device)

    def step() -> None:
        # packing is part of the step, as if no data loader had made it beforehand
        packed = visible_tokens(masks, grid, stages=stages, window=window)
        network(pixels, bool_masked_pos=hidden, visible=packed).loss.backward()

    return step
