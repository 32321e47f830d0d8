"""How often the mask of the breast and the side of the chest wall change with the tone of the image, by set.

Tones are applied in floating point after reading; the reference is the mask of the untouched image. Images without a
clear side, and masks that may be wrong by the finder's own notes, are counted too, as is the time next to that of
`resize_area` on the same view.

python benchmarks/breast_tones.py ../shared/data --images 100
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mammo_hf.notes import codes
from mammo_hf.processing.breast import DOUBTS, LONGEST_SIDE, Breast, find_breast, much_smaller
from mammo_hf.processing.geometry import resize_area

SETS = {
    "DDSM, dark films of scanner A": "ddsm-films/**/*.png",
    "DDSM, other films": "ddsm-films/**/*.jpg",
    "DDSM at 299": "ddsm-299/**/*.png",
    "mini-MIAS": "mini-mias/*.png",
    "CDD-CESM": "cdd-cesm/images/*.jpg",
}
TONES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "square root": np.sqrt,
    "logarithm": lambda image: np.log1p(255 * image) / np.log(256),
    **{f"gamma {gamma}": lambda image, gamma=gamma: image**gamma for gamma in (0.7, 1.5, 2, 3, 4)},  # type: ignore[misc]
}
LOST = 0.1  # of the reference: a mask that lacks more has lost part of the breast


def view(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L"))
    stride = max(1, max(pixels.shape) // LONGEST_SIDE)
    return pixels[::stride, ::stride] / np.float64(255)


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def time_ratio(image: np.ndarray) -> float:
    """Return how many times longer the breast takes than halving the same view."""
    half = max(1, image.shape[0] // 2), max(1, image.shape[1] // 2)
    return seconds(lambda: find_breast(image)) / max(seconds(lambda: resize_area(image, half)), 1e-6)


def measure(name: str, paths: list[Path], tones: list[str]) -> None:
    lost, sides, plain, ratios = 0, 0, [], []
    for path in paths:
        image = view(path)
        reference = find_breast(image)
        plain.append(reference)
        ratios.append(time_ratio(image))
        for tone in tones:
            found = find_breast(TONES[tone](image))
            lost += bool((reference.mask & ~found.mask).sum() > LOST * reference.mask.sum())
            sides += found.chest_wall != reference.chest_wall
    print(f"| {name} | {len(paths)} | {lost} of {len(paths) * len(tones)} | {sides} | {doubts(plain)} | "
          f"{np.median(ratios):.0f} |", flush=True)  # fmt: skip


def doubts(found: list[Breast]) -> str:
    unclear = sum(breast.chest_wall is None for breast in found)
    noted = sum(bool(DOUBTS & set(codes(breast.notes))) for breast in found)
    return f"{unclear} | {noted} | {sum(much_smaller([float(breast.mask.mean()) for breast in found]))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, help="folder with the folders of the sets")
    parser.add_argument("--images", type=int, default=100, help="most images of each set (default %(default)s)")
    parser.add_argument("--tones", nargs="+", default=list(TONES), choices=list(TONES), help="tones to apply")
    args = parser.parse_args()
    print("| set | images | lose over 10 % of the breast | side changes | side unclear | noted as doubtful | "
          "much smaller | times resize_area |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name, pattern in SETS.items():
        paths = sorted(args.data.glob(pattern))
        chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, args.images).astype(int))] if paths else []
        measure(name, chosen, args.tones) if chosen else print(f"no images of {name}")


if __name__ == "__main__":
    main()
