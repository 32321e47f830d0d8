"""How good a reconstruction is: PSNR and SSIM on hidden pixels inside the breast."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter


def psnr(image: np.ndarray, reconstruction: np.ndarray, counted: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of intensities in [0, 1] over the counted pixels; infinite where they agree."""
    error = float(np.mean((np.asarray(image, np.float64) - reconstruction)[counted] ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def ssim_map(image: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Structural similarity at each pixel, in [-1, 1] (Wang et al. 2004, IEEE Trans. Image Process. 13:600, eq. 13).

    Args:
        image: (height, width) in [0, 1].
        reconstruction: The same shape and range.

    Returns:
        (height, width): windows weighted by a Gaussian of 1.5 pixels, K1 = 0.01 and K2 = 0.03, as in the paper.
    """
    one, other = np.asarray(image, np.float64), np.asarray(reconstruction, np.float64)

    def mean(values: np.ndarray) -> np.ndarray:
        smoothed: np.ndarray = gaussian_filter(values, 1.5, truncate=3.5)
        return smoothed

    mean_one, mean_other = mean(one), mean(other)
    variance_one, variance_other = mean(one**2) - mean_one**2, mean(other**2) - mean_other**2
    covariance = mean(one * other) - mean_one * mean_other
    c1, c2 = 0.01**2, 0.03**2
    similarity: np.ndarray = ((2 * mean_one * mean_other + c1) * (2 * covariance + c2)) / (
        (mean_one**2 + mean_other**2 + c1) * (variance_one + variance_other + c2)
    )
    return similarity


def quality(images: np.ndarray, reconstructions: np.ndarray, counted: np.ndarray) -> dict[str, float]:
    """Means over images of PSNR and SSIM on the counted pixels; images that count none are left out.

    Args:
        images: (n, height, width) in [0, 1].
        reconstructions: The same shape and range; pasted into the images where nothing is counted.
        counted: bool (n, height, width): hidden and inside the breast.
    """
    ratios, similarities = [], []
    for image, reconstruction, where in zip(images, reconstructions, counted, strict=True):
        if not where.any():
            continue
        ratios.append(psnr(image, reconstruction, where))
        similarities.append(float(ssim_map(image, np.where(where, reconstruction, image))[where].mean()))
    finite = [value for value in ratios if np.isfinite(value)]
    return {
        "psnr": float(np.mean(finite)) if finite else float("nan"),
        "ssim": float(np.mean(similarities)) if similarities else float("nan"),
        "images": len(similarities),
    }
