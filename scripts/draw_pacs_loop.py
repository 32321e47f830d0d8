"""Draw the picture of docs/pacs.md: the way of an exam from a PACS through the node and back.

python scripts/draw_pacs_loop.py docs/img/pacs.png
"""

from __future__ import annotations

import sys
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

# name, what it does, centre
BOXES = {
    "device": ("Mammography\ndevice", (0.09, 0.72)),
    "pacs": ("PACS\nkeeps images\nand results", (0.36, 0.72)),
    "receiver": ("receiver\nC-STORE on disk\nbefore it says yes", (0.36, 0.25)),
    "queue": ("queue\nquiet for 60 s, or\nfour views: whole", (0.585, 0.25)),
    "model": ("model\nscores by exam,\nas predict does", (0.80, 0.25)),
    "objects": ("objects\nSR, SEG, capture:\nresearch, unverified", (0.80, 0.72)),
    "viewer": ("Viewer,\nregistry", (0.09, 0.25)),
}
ARROWS = [
    ("device", "pacs", "C-STORE"),
    ("pacs", "receiver", "C-STORE, or\nQIDO and WADO"),
    ("receiver", "queue", ""),
    ("queue", "model", ""),
    ("model", "objects", ""),
    ("objects", "pacs", "STOW or C-STORE, then read back"),
    ("pacs", "viewer", "same study,\nnew series"),
]
NODE = ("receiver", "queue", "model")
WIDTH, HEIGHT = 0.17, 0.24


def main(path: str) -> None:
    """Draw the picture into a file."""
    figure, axes = plt.subplots(figsize=(10, 4.2), dpi=130)
    axes.set_axis_off()
    axes.set(xlim=(0, 0.9), ylim=(0, 0.95))
    around: dict[str, Any] = {"boxstyle": "round,pad=0.005", "fc": "#eef7f6", "ec": "#00796b", "ls": "--"}
    axes.add_patch(FancyBboxPatch((0.265, 0.04), 0.63, 0.40, **around))
    text = "mammo-hf node: nothing of a person is kept once an exam is done; one audit line per exam"
    axes.text(0.275, 0.055, text, size=8)
    for name, (text, (x, y)) in BOXES.items():
        colour = "#b2dfdb" if name in (*NODE, "objects") else "#eceff1"
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        axes.add_patch(FancyBboxPatch(corner, WIDTH, HEIGHT, boxstyle="round,pad=0.004", fc=colour, ec="#37474f"))
        axes.text(x, y, text, ha="center", va="center", size=9)
    for begin, end, text in ARROWS:
        (x0, y0), (x1, y1) = (BOXES[name][1] for name in (begin, end))
        start, stop = _edge(x0, y0, x1, y1), _edge(x1, y1, x0, y0)
        axes.add_patch(FancyArrowPatch(start, stop, arrowstyle="-|>", mutation_scale=14, color="#00695c", lw=1.6))
        middle = ((start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2)
        if abs(y1 - y0) < 0.01:
            axes.text(middle[0], middle[1] + 0.03, text, ha="center", va="bottom", size=8)
        else:  # to the right of an upright arrow, to the left of one that leans
            upright = abs(x1 - x0) < 0.01
            where = middle[0] + (0.01 if upright else -0.03), middle[1] + (0 if upright else 0.03)
            axes.text(*where, text, ha="left" if upright else "right", va="center", size=8)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.05)


def _edge(x: float, y: float, toward_x: float, toward_y: float) -> tuple[float, float]:
    """Return the point of a box's border that faces another box."""
    if abs(toward_y - y) < 0.01:
        return x + (WIDTH / 2 + 0.006) * (1 if toward_x > x else -1), y
    if abs(toward_x - x) < 0.01:
        return x, y + (HEIGHT / 2 + 0.008) * (1 if toward_y > y else -1)
    return x + (WIDTH / 2 + 0.006) * (1 if toward_x > x else -1), y + (HEIGHT / 2) * (0.8 if toward_y > y else -0.8)


if __name__ == "__main__":
    main(*sys.argv[1:])
