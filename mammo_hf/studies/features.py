"""Features without training: of a frozen encoder and of image statistics, computed once, and heads fitted on them."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from scipy.ndimage import uniform_filter
from sklearn.ensemble import HistGradientBoostingClassifier
from tqdm.auto import tqdm
from transformers import SwinModel
from transformers.models.swin.modeling_swin import SwinModelOutput

from ..data.prepared_row import intensity_of
from ..data.torch_datasets import PreparedImages
from ..errors import MammoError
from ..files import write_whole
from ..models.checkpoint import load_starting_weights, starting_config
from ..models.modeling_mammo_swin import MammoSwinForImageClassification
from ..processing.image_processing_mammo import MammoImageProcessor
from ..processing.image_source import open_image
from .cells import FROZEN_RANDOM

logger = logging.getLogger(__name__)
BATCH_SIZE = 16


def frozen_encoder(init: str, model: str, processor: MammoImageProcessor, seed: int = 0) -> SwinModel:
    """Load the encoder of a checkpoint, or make a random one of a size.

    Args:
        init: A checkpoint, or "random".
        model: Size of the random encoder.
        processor: Image processor, with the canvas and the channels.
        seed: Random seed of the weights.
    """
    torch.manual_seed(seed)
    if init == FROZEN_RANDOM:
        config = starting_config(model, processor.canvas, num_channels=processor.num_channels)
        return SwinModel(config, add_pooling_layer=False).eval()
    # Leave out what belongs to a classifier of other tasks: its weights would not fit
    bare = dict.fromkeys(("tasks", "class_weights", "task_weights", "ordinal_tasks", "lesion_task"))
    config = starting_config(init, processor.canvas, num_channels=processor.num_channels, **bare, score_from="pooled")
    network = MammoSwinForImageClassification(config)
    load_starting_weights(network, init, processor)
    return network.swin.eval()


def frozen_features(
    encoder: SwinModel, prepared: datasets.Dataset, processor: MammoImageProcessor, folder: Path
) -> dict[str, np.ndarray]:
    """Return the features of each way of pooling; read from the folder if they are there.

    Args:
        encoder: A frozen encoder, in evaluation mode.
        prepared: Prepared images, in the order of the features.
        processor: Image processor, which normalises.
        folder: Folder of the files ``<pool>.npy``, computed once.

    Returns:
        "mean": float32 (images, channels), the mean of the last tokens; "all_stages": float32 (images, channels of all
        stages).
    """
    wanted = _fingerprint(encoder, prepared)
    paths = {name: folder / f"{name}.npy" for name in ("mean", "all_stages")}
    marker = folder / "fingerprint"
    if not (marker.is_file() and marker.read_text() == wanted and all(path.is_file() for path in paths.values())):
        folder.mkdir(parents=True, exist_ok=True)
        marker.unlink(missing_ok=True)
        _compute(encoder, prepared, processor, paths)
        write_whole(marker, wanted)
    return {name: np.load(path) for name, path in paths.items()}


@torch.no_grad()
def _compute(
    encoder: SwinModel, prepared: datasets.Dataset, processor: MammoImageProcessor, paths: dict[str, Path]
) -> None:
    images = PreparedImages(prepared, processor)
    arrays: dict[str, np.memmap] = {}
    for start in tqdm(range(0, len(images), BATCH_SIZE), desc="features", unit="batch", leave=False, disable=None):
        rows = range(start, min(start + BATCH_SIZE, len(images)))
        pixels = torch.stack([images.normalized(images.intensity_and_lesions(index)[0]) for index in rows])
        for name, values in _pooled(encoder(pixels.to(encoder.device), output_hidden_states=True)).items():
            if name not in arrays:
                shape = (len(images), *values.shape[1:])
                # not written whole: the fingerprint, written last, says that the arrays are complete
                arrays[name] = np.lib.format.open_memmap(paths[name], "w+", values.dtype, shape)
            arrays[name][rows.start : rows.stop] = values
    for array in arrays.values():
        array.flush()


def _pooled(output: SwinModelOutput) -> dict[str, np.ndarray]:
    assert output.last_hidden_state is not None
    assert output.reshaped_hidden_states is not None
    last = output.last_hidden_state.float()
    # The tokens that leave each stage, already merged for the next one
    between = [stage.float().mean((2, 3)) for stage in output.reshaped_hidden_states[1:-1]]
    return {
        "mean": last.mean(1).cpu().numpy(),
        "all_stages": torch.cat([*between, last.mean(1)], 1).cpu().numpy(),
    }


def _fingerprint(encoder: SwinModel, prepared: datasets.Dataset) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.float().cpu().numpy().tobytes())
    digest.update("".join(prepared["image_id"]).encode())
    digest.update(str(prepared[0]["size"]).encode())
    return digest.hexdigest()


# Heads on features.


def boosted_probabilities(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int, *, seed: int
) -> np.ndarray:
    """Fit boosted trees, classes weighted by N / (K N_c), and predict; arguments as of `logistic_probabilities`.

    Trees also find what is not monotone in a statistic, or in two of them together.
    """
    trees = HistGradientBoostingClassifier(max_depth=3, class_weight="balanced", random_state=seed).fit(train, labels)
    probabilities = np.zeros((len(test), classes))
    probabilities[:, trees.classes_] = trees.predict_proba(test)
    return probabilities


# Baselines without a network: statistics of the image, and of its acquisition. A model that does not beat them has
# shown nothing; if acquisition alone separates the classes, the data hold a shortcut.


IMAGE_STATISTICS = (
    *("mean", "deviation", "skewness", "kurtosis", "p5", "p25", "p50", "p75", "p95", "entropy"),
    *("gradient mean", "gradient deviation", "fine detail", "coarse detail", "breast area", "breast height"),
)
ACQUISITION_STATISTICS = ("grey range", "grey levels", "rows", "columns", "background fraction")


def image_statistics(intensity: np.ndarray) -> np.ndarray:
    """Compute sixteen statistics of the image inside the breast, in the order of ``IMAGE_STATISTICS``.

    Args:
        intensity: Intensities in [0, 1], 0 outside the breast, float (rows, columns).

    Returns:
        Statistics, float64 (16,); zeros if nothing is displayed.
    """
    inside = intensity > 0
    values = intensity[inside].astype(np.float64)
    if values.size < 2:
        return np.zeros(len(IMAGE_STATISTICS))
    mean, deviation = values.mean(), values.std()
    standard = (values - mean) / max(deviation, 1e-9)
    fractions = np.histogram(values, bins=64, range=(0, 1))[0] / values.size
    entropy = -np.sum(fractions[fractions > 0] * np.log2(fractions[fractions > 0]))
    down, right = np.gradient(intensity.astype(np.float64))
    gradient = np.hypot(down, right)[inside]
    blurred = uniform_filter(intensity.astype(np.float64), 5)
    coarse = uniform_filter(intensity.astype(np.float64), 17)
    rows = np.flatnonzero(inside.any(1))
    return np.array(
        [
            *(mean, deviation, (standard**3).mean(), (standard**4).mean()),
            *np.percentile(values, [5, 25, 50, 75, 95]),
            *(entropy, gradient.mean(), gradient.std()),
            *((intensity - blurred)[inside].std(), (blurred - coarse)[inside].std()),
            *(inside.mean(), (rows[-1] - rows[0] + 1) / len(intensity)),
        ]
    )


def acquisition_statistics(path: str) -> np.ndarray:
    """Compute five statistics of a source file, in the order of ``ACQUISITION_STATISTICS``.

    Raises:
        MammoError: The file cannot be read.
    """
    source = open_image(path)
    values = source.view(slice(None)) if source.mammogram is None else np.asarray(source.mammogram.pixels[0])
    low, high = float(values.min()), float(values.max())
    return np.array([high - low, len(np.unique(values)), *values.shape, float((values == low).mean())])


def scanner_features(vendors: Sequence[str | None], strata: Sequence[str | None], paths: Sequence[str]) -> np.ndarray:
    """Return what a reader of the scanner alone sees: a column of zeros and ones for each value of each argument.

    Args:
        vendors: Makers or scanners of the images; ``None``: not known.
        strata: Strata of the images: scanner, site.
        paths: Paths of their files; the suffix counts, as a format may go with the label too.

    Returns:
        float64 (images, columns); of no column if all images are alike.
    """
    columns = []
    for values in (vendors, strata, [Path(path).suffix.lower() for path in paths]):
        known = sorted({str(value) for value in values})
        columns += [[str(value) == one for value in values] for one in known] if len(known) > 1 else []
    return np.array(columns, dtype=np.float64).reshape(len(columns), len(paths)).T


def statistics_table(prepared: datasets.Dataset, paths: Sequence[str], folder: Path) -> dict[str, np.ndarray]:
    """Return the features of every baseline that these images allow; read from the folder if they are there.

    Args:
        prepared: Prepared images, in the order of the features.
        paths: Paths of their source files. If one cannot be read, a warning says so and the baselines of acquisition
            statistics are left out.
        folder: Folder of ``statistics.npz``.

    Returns:
        For each name of ``cells.BASELINES`` its features, float64 (images, columns).
    """
    path, images = folder / "statistics.npz", np.array(prepared["image_id"])
    if path.is_file():
        stored = np.load(path)
        if np.array_equal(stored["images"], images):
            return {name: stored[name] for name in stored.files if name != "images"}
    of_image = np.stack([_of_row(prepared[index]) for index in _bar(range(len(prepared)), "image statistics")])
    found = {"image statistics": of_image[:, :-1], "brightest pixel": of_image[:, -1:]}
    try:
        found["acquisition statistics"] = np.stack([acquisition_statistics(p) for p in _bar(paths, "source files")])
        both = [found["image statistics"], found["acquisition statistics"]]
        found["image and acquisition statistics"] = np.concatenate(both, axis=1)
    except MammoError as error:
        logger.warning("no baseline of acquisition statistics: %s", error)
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(path, images=images, **found)
    return found


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays by name into an .npz file, whole or not at all."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    write_whole(path, content.getvalue())


def _of_row(row: dict[str, Any]) -> np.ndarray:
    intensity = intensity_of(row)
    return np.append(image_statistics(intensity), intensity.max())


def _bar(values: Iterable[Any], what: str) -> Iterable[Any]:
    bar: Iterable[Any] = tqdm(values, desc=what, leave=False, disable=None)
    return bar
