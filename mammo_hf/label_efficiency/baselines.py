"""What anybody has without a network: statistics of the image, and of how it was acquired.

A model that does not beat them has shown nothing; where acquisition alone tells the classes apart, the data hold a
shortcut.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from scipy.ndimage import uniform_filter
from tqdm.auto import tqdm

from ..data.prepare import FULL_SCALE
from ..data.records import write_whole
from ..errors import MammoError
from ..image_source import open_image

logger = logging.getLogger(__name__)

IMAGE_STATISTICS = (
    *("mean", "deviation", "skewness", "kurtosis", "p5", "p25", "p50", "p75", "p95", "entropy"),
    *("gradient mean", "gradient deviation", "fine detail", "coarse detail", "breast area", "breast height"),
)
ACQUISITION_STATISTICS = ("grey range", "grey levels", "rows", "columns", "background share")


def image_statistics(intensity: np.ndarray) -> np.ndarray:
    """Sixteen numbers of the displayed image inside the breast, in the order of ``IMAGE_STATISTICS``.

    Args:
        intensity: float (rows, columns) in [0, 1], 0 outside the breast.

    Returns:
        float64 (16,); zeros where nothing is displayed.
    """
    inside = intensity > 0
    values = intensity[inside].astype(np.float64)
    if values.size < 2:
        return np.zeros(len(IMAGE_STATISTICS))
    mean, deviation = values.mean(), values.std()
    standard = (values - mean) / max(deviation, 1e-9)
    shares = np.histogram(values, bins=64, range=(0, 1))[0] / values.size
    entropy = -np.sum(shares[shares > 0] * np.log2(shares[shares > 0]))
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
    """Five numbers of the source file, in the order of ``ACQUISITION_STATISTICS``.

    Raises:
        MammoError: The file cannot be read.
    """
    source = open_image(path)
    values = source.view(slice(None)) if source.mammogram is None else np.asarray(source.mammogram.pixels[0])
    low, high = float(values.min()), float(values.max())
    return np.array([high - low, len(np.unique(values)), *values.shape, float((values == low).mean())])


def statistics_table(prepared: datasets.Dataset, paths: Sequence[str], folder: Path) -> dict[str, np.ndarray]:
    """The features of every baseline that these images allow, read from the folder where they are there.

    Args:
        prepared: The images, in the features' order.
        paths: Of their source files. Where one cannot be read, the acquisition's baselines are left out and it is said.
        folder: Keeps ``statistics.npz``.

    Returns:
        For each name of ``cells.BASELINES`` float64 (images, columns).
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
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, images=images, **found)
    write_whole(path, content.getvalue())
    return found


def _of_row(row: dict[str, Any]) -> np.ndarray:
    intensity = np.frombuffer(row["pixels"], np.uint16).reshape(row["size"]) / np.float32(FULL_SCALE)
    return np.append(image_statistics(intensity), intensity.max())


def _bar(values: Iterable[Any], what: str) -> Iterable[Any]:
    bar: Iterable[Any] = tqdm(values, desc=what, leave=False)
    return bar
