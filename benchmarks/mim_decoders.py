"""Cost of the decoders: parameters, multiply-accumulates, and time next to a step of the dense encoder."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from typing import Any

import torch
from mim_steps import config_of
from timed_steps import ratios, timed
from torch import nn

from mammo_hf import MammoSwinForMaskedImageModeling


def compare_decoders(args: argparse.Namespace, device: str) -> Iterator[dict[str, Any]]:
    """Rows for each model at the first of the sizes, and each decoder."""
    size = args.sizes[0]
    for model in args.models:
        dense = MammoSwinForMaskedImageModeling(config_of(model, size, sparse_encoder=False)).to(device).train()
        pixels = torch.randn(args.batch_size, 1, *size, device=device)
        patches = dense.swin.embeddings.patch_embeddings.num_patches
        mask = torch.zeros(args.batch_size, patches, dtype=torch.bool, device=device)

        def encoder_step(dense: Any = dense, pixels: torch.Tensor = pixels, mask: torch.Tensor = mask) -> None:
            dense.swin(pixels, bool_masked_pos=mask).last_hidden_state.mean().backward()

        for kind in ("conv", "linear"):
            decoder = MammoSwinForMaskedImageModeling(config_of(model, size, mim_decoder=kind)).decoder.to(device)
            grid = dense.config.stage_grids(*size)[-1]
            tokens = torch.randn(args.batch_size, dense.config.hidden_size, *grid, device=device, requires_grad=True)

            def decoder_step(decoder: nn.Module = decoder, tokens: torch.Tensor = tokens) -> None:
                decoder(tokens).abs().mean().backward()

            with torch.autocast(device, dtype=torch.bfloat16, enabled=args.bf16):
                encoder_step(), decoder_step()
                turns = [
                    (timed(decoder_step, decoder, device), timed(encoder_step, dense, device))
                    for _ in range(max(args.pairs, 3))
                ]
            share = ratios(*zip(*turns, strict=True))
            yield {
                "model": model,
                "size": f"{size[0]} x {size[1]}",
                "decoder": kind,
                "parameters, M": f"{sum(parameter.numel() for parameter in decoder.parameters()) / 1e6:.2f}",
                "GMAC an image": f"{macs(decoder, tokens[:1].detach()) / 1e9:.3f}",
                "CPU seconds a step": f"{statistics.median(one.cpu for one, _ in turns):.3f}",
                "share of the encoder's step": f"{100 * share.cpu:.1f} %",
            }


def macs(decoder: nn.Module, tokens: torch.Tensor) -> int:
    """Multiply-accumulates of a decoder's convolutions for one image's tokens (1, channels, rows, columns)."""
    counted: list[int] = []

    def count(module: Any, inputs: Any, output: torch.Tensor) -> None:
        # a transposed convolution applies its weights at each input position, another at each output position
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
