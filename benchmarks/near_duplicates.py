"""How far apart two films are by their perceptual hash: other patients' films, and altered copies of the same film.

python benchmarks/near_duplicates.py ddsm=/data/ddsm-299 mini-mias=/data/mini-mias
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from mammo_hf import MammoImageProcessor, load
from mammo_hf.data.leaks import MAX_DISTANCE, perceptual_hash


def jpeg(pixels: np.ndarray) -> np.ndarray:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=75)
    return np.asarray(Image.open(content))


def power(exponent: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: np.rint(255 * (pixels / 255) ** exponent).astype(np.uint8)


def noisy(pixels: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 5, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def halved(pixels: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(pixels)
    return np.asarray(picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX))


def trimmed(pixels: np.ndarray) -> np.ndarray:
    rows, columns = (size // 100 + 1 for size in pixels.shape)
    return pixels[rows:-rows, columns:-columns]


ALTERED = {
    "JPEG, quality 75": jpeg,
    "grey values to the power 0.8": power(0.8),
    "grey values to the power 1.25": power(1.25),
    "noise of 5 of 255": noisy,
    "half the size": halved,
    "1 % cut off each edge": trimmed,
}


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.bitwise_count(one[:, None] ^ other[None]).sum(axis=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("collections", nargs="+", help="name=folder")
    parser.add_argument("--altered", type=int, default=100, help="films that are altered, of each collection")
    args = parser.parse_args()
    processor = MammoImageProcessor(size=(448, 224))

    def hash_of(pixels: np.ndarray) -> np.ndarray:
        return perceptual_hash(processor.fit(pixels)[0])

    for collection in args.collections:
        name, _, folder = collection.partition("=")
        table = load(name, folder)
        films = [np.asarray(Image.open(path).convert("L")) for path in table.column("path")]
        hashes = np.stack([hash_of(film) for film in films])
        patients = np.array(table.column("patient"))
        apart = distances(hashes, hashes)[patients[:, None] != patients[None]]
        low = np.quantile(apart, [0, 1e-5, 1e-4, 1e-3, 0.5]).astype(int)
        print(f"{name}: {len(films)} films, {len(apart) // 2} pairs of different patients")
        print(f"  bits apart: least {low[0]}, quantiles 1e-5 {low[1]}, 1e-4 {low[2]}, 1e-3 {low[3]}, median {low[4]}")
        print(f"  pairs up to {MAX_DISTANCE} bits: {np.count_nonzero(apart <= MAX_DISTANCE) // 2}")
        chosen = np.linspace(0, len(films) - 1, min(args.altered, len(films))).astype(int)
        for what, alter in ALTERED.items():
            moved = [int(distances(hashes[i : i + 1], hash_of(alter(films[i]))[None])[0, 0]) for i in chosen]
            found = np.mean(np.array(moved) <= MAX_DISTANCE)
            middle, high = int(np.median(moved)), int(np.quantile(moved, 0.95))
            print(f"  {what}: median {middle}, 95 % within {high}; found {found:.0%}")


if __name__ == "__main__":
    main()
