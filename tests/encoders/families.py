"""Tiny random models of every family of encoders that transformers has, saved as their authors save them."""

import json
from pathlib import Path

import torch
import transformers as t

VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 16}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
SWIN = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 7, "patch_size": 4}

# the model, (height, width) of its input, and the stride and channels of its grid
FAMILIES = {
    "vit": (lambda: t.ViTModel(t.ViTConfig(**VIT, image_size=64)), 64, 16, 16),
    "dinov2": (lambda: t.Dinov2Model(t.Dinov2Config(**VIT | {"patch_size": 14}, image_size=70)), 70, 14, 16),
    "dinov2_with_registers": (
        lambda: t.Dinov2WithRegistersModel(
            t.Dinov2WithRegistersConfig(**VIT | {"patch_size": 14}, image_size=70, num_register_tokens=4)
        ),
        70,
        14,
        16,
    ),
    "dinov3": (
        lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(**VIT, image_size=64, num_register_tokens=4)),
        64,
        16,
        16,
    ),
    "siglip": (
        lambda: t.SiglipModel(
            t.SiglipConfig(text_config=TEXT, vision_config=VIT | {"image_size": 64, "patch_size": 16})
        ),
        64,
        16,
        16,
    ),
    "clip": (
        lambda: t.CLIPModel(t.CLIPConfig(text_config=TEXT, vision_config=VIT | {"image_size": 64}, projection_dim=8)),
        64,
        16,
        16,
    ),
    "convnext": (
        lambda: t.ConvNextModel(t.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])),
        64,
        32,
        16,
    ),
    "resnet": (
        lambda: t.ResNetModel(
            t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic")
        ),
        64,
        32,
        16,
    ),
    "efficientnet": (
        lambda: t.EfficientNetModel(
            t.EfficientNetConfig(width_coefficient=0.25, depth_coefficient=0.1, hidden_dim=320, image_size=64)
        ),
        64,
        32,
        None,
    ),
    "swinv2": (lambda: t.Swinv2Model(t.Swinv2Config(**SWIN, image_size=56)), 56, 8, 16),
    "swin": (lambda: t.SwinModel(t.SwinConfig(**SWIN, image_size=56)), 56, 8, 16),
}


def save_family(name: str, folder: Path, **processor) -> Path:
    """Save the tiny model of a family with the files that a Hub repository has."""
    build, side, _, _ = FAMILIES[name]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = build()
        with torch.no_grad():
            for parameter in model.parameters():  # larger than for training, so that features differ between cells
                spread = 0.05 if parameter.ndim < 4 else (2 / parameter[0].numel()) ** 0.5
                parameter.add_(spread * torch.randn_like(parameter))
        _settle(model, side)
        model.save_pretrained(folder)
    facts = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": side, "width": side},
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.25, 0.3],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(facts | processor))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\nA tiny random model.\n")
    return folder


def _settle(model: torch.nn.Module, side: int) -> None:
    """Give batch normalisation the statistics of noise, as training would: with others a random network is constant."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    if norms:
        for module in norms:
            module.momentum = None  # the plain mean of what has been seen
        with torch.no_grad():
            model.train()(torch.rand(8, 3, 2 * side, 2 * side))
        model.eval()
