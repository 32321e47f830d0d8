"""Features of a frozen encoder, computed once for all images and kept on disk."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import datasets
import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import SwinModel
from transformers.models.swin.modeling_swin import SwinModelOutput

from ..image_processing_mammo import MammoImageProcessor
from ..modeling_mammo_swin import stateless_windows
from ..training.datasets import PreparedImages
from ..training.loading import load_model
from ..training.mim import starting_config
from .cells import FROZEN_RANDOM

logger = logging.getLogger(__name__)

BATCH_SIZE = 16


def frozen_encoder(init: str, model: str, processor: MammoImageProcessor, seed: int = 0) -> SwinModel:
    """The encoder of a checkpoint, or a random one of a size.

    Args:
        init: A checkpoint folder, or "random".
        model: The random one's size.
        processor: Its canvas and channels.
        seed: Of the random weights.
    """
    torch.manual_seed(seed)
    if init == FROZEN_RANDOM:
        config = starting_config(model, processor.canvas, num_channels=processor.num_channels)
        return SwinModel(config, add_pooling_layer=False).eval()
    # without what belongs to a classifier of other tasks, whose weights would not fit
    bare = dict.fromkeys(("tasks", "class_weights", "task_weights", "ordinal_tasks", "lesion_task"))
    config = starting_config(init, processor.canvas, num_channels=processor.num_channels, **bare, score_from="pooled")
    return load_model(SwinModel, init, config=config, add_pooling_layer=False).eval()


def frozen_features(
    encoder: SwinModel, prepared: datasets.Dataset, processor: MammoImageProcessor, folder: Path
) -> dict[str, np.ndarray]:
    """What a head may be fitted on, for each way of pooling; read from the folder where it is there.

    Args:
        encoder: Frozen, in evaluation mode.
        prepared: The images, in the features' order.
        processor: Normalises.
        folder: Holds ``<pool>.npy``; written once, each appears whole or not at all.

    Returns:
        "mean": float32 (images, channels), the mean of the last tokens; "all_stages": float32 (images, channels of all
        stages); "attentive": float16 (images, tokens, channels), memory-mapped.
    """
    wanted = _fingerprint(encoder, prepared)
    paths = {name: folder / f"{name}.npy" for name in ("mean", "all_stages", "attentive")}
    marker = folder / "fingerprint"
    if not (marker.is_file() and marker.read_text() == wanted and all(path.is_file() for path in paths.values())):
        folder.mkdir(parents=True, exist_ok=True)
        marker.unlink(missing_ok=True)
        _compute(encoder, prepared, processor, paths)
        marker.write_text(wanted)
    return {name: np.load(path, mmap_mode="r" if name == "attentive" else None) for name, path in paths.items()}


@torch.no_grad()
def _compute(
    encoder: SwinModel, prepared: datasets.Dataset, processor: MammoImageProcessor, paths: dict[str, Path]
) -> None:
    images = PreparedImages(prepared, processor)
    arrays: dict[str, np.memmap] = {}
    with stateless_windows(encoder):
        for start in tqdm(range(0, len(images), BATCH_SIZE), desc="features", unit="batch", leave=False):
            rows = range(start, min(start + BATCH_SIZE, len(images)))
            pixels = torch.stack([images.normalized(images.intensity_and_lesions(index)[0]) for index in rows])
            for name, values in _pooled(encoder(pixels.to(encoder.device), output_hidden_states=True)).items():
                if name not in arrays:
                    shape = (len(images), *values.shape[1:])
                    arrays[name] = np.lib.format.open_memmap(_partial(paths[name]), "w+", values.dtype, shape)
                arrays[name][rows.start : rows.stop] = values
    for name, array in arrays.items():
        array.flush()
        _partial(paths[name]).replace(paths[name])


def _pooled(output: SwinModelOutput) -> dict[str, np.ndarray]:
    assert output.last_hidden_state is not None
    assert output.reshaped_hidden_states is not None
    last = output.last_hidden_state.float()
    # the tokens that leave each stage, already merged for the next one
    between = [stage.float().mean((2, 3)) for stage in output.reshaped_hidden_states[1:-1]]
    return {
        "mean": last.mean(1).cpu().numpy(),
        "all_stages": torch.cat([*between, last.mean(1)], 1).cpu().numpy(),
        "attentive": last.half().cpu().numpy(),
    }


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.stem}.partial.npy")


def _fingerprint(encoder: SwinModel, prepared: datasets.Dataset) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.float().cpu().numpy().tobytes())
    digest.update("".join(prepared["image_id"]).encode())
    digest.update(str(prepared[0]["size"]).encode())
    return digest.hexdigest()
