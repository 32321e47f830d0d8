#!/usr/bin/env python
"""Draw what maps look like when they are right and when they are not, on phantoms whose lesions are known.

    python benchmarks/map_gallery.py demo/classifier demo/phantom --output docs/img/map_gallery.png

Each picture is chosen by a rule among the test images, not by eye; its heading states what was measured on it.
"""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mammo_hf.cli.running import quiet
from mammo_hf.data.torch_datasets import LabelledImages, rows_of
from mammo_hf.data.training_data import open_collection, prepared_images
from mammo_hf.explainers.explain import OPERATING_POINT, explain
from mammo_hf.explainers.explanation import Explanation
from mammo_hf.explainers.measures import cascade, distance_to_lesion, energy_over_chance, rank_correlation
from mammo_hf.explainers.overlay import draw_outline, heat_overlay, method_name, percent
from mammo_hf.explainers.targets import threshold_of
from mammo_hf.inference.scoring import load_classifier
from mammo_hf.studies.explanations import Case, lesion_cases

TARGET = 1  # the positive label of the first task


class Seen(NamedTuple):
    """A test image, its map, the distance in pixels of the map's peak from the lesion, and whether it is positive."""

    case: Case
    explanation: Explanation
    distance: float
    positive: bool

    @property
    def score(self) -> float:
        """The probability of the positive label."""
        return self.explanation.score[0]


def main() -> None:
    """Draw the gallery."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="folder of a classifier")
    parser.add_argument("phantoms", type=Path, help="folder of the phantoms that it was trained on")
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    args = parser.parse_args()
    quiet()
    model, processor = load_classifier(args.model)
    table = open_collection(args.phantoms, split_file=args.model / "split.json").where(split="test")
    tasks = model.config.tasks
    prepared = prepared_images(table, processor, args.output.with_suffix(".prepared"), tasks=tasks)
    rows = [row for row in rows_of(prepared, ("test",)) if prepared[row]["lesions"] is not None]
    seen = [_seen(model, case) for case in lesion_cases(LabelledImages(prepared.select(rows), processor))]
    threshold = threshold_of(TARGET, model.config, OPERATING_POINT) or 0.5
    _draw(_panels(model, seen, threshold), args.output)
    print(f"{args.output}: chosen among {len(seen)} test images; threshold {threshold:.2f}")


def _seen(model: Any, case: Case, name: str = "grad_cam") -> Seen:
    shown = explain(model, case.pixel_values[None], TARGET, name, images=case.image[None], operating_point="none")
    return Seen(case, shown, distance_to_lesion(shown.map[0], case.lesion), case.label == TARGET)


def _panels(model: Any, seen: Sequence[Seen], threshold: float) -> list[tuple[str, str, Seen, bool]]:
    """Return of each picture a heading, what was measured, the image, and whether its map is drawn."""

    def first(wanted: Callable[[Seen], bool], by: Callable[[Seen], float]) -> Seen:
        return max(filter(wanted, seen), key=by)

    hit = first(lambda one: one.positive and one.score >= threshold and one.distance == 0, _energy)
    quiet_one = first(lambda one: not one.positive and one.score < threshold, lambda one: -one.score)
    alarm = first(lambda one: not one.positive and one.score >= threshold, lambda one: one.score)
    outside = first(lambda one: one.positive and 0 < one.distance < math.inf, lambda one: one.distance)
    _, other = next(cascade(model))
    again, attention, same = _seen(other, hit.case), *(_seen(one, hit.case, "attention") for one in (model, other))
    alike = _likeness(attention, same)
    return [
        ("right: in the lesion", f"energy {_energy(hit):.1f} times chance", hit, True),
        ("right: benign, no map", "below the operating point", quiet_one, False),
        ("right: another map by\na random classifier", f"rank correlation {_likeness(hit, again):.2f}", again, True),
        ("wrong: benign, and the\nmap looks the same", f"score above {percent(threshold)}", alarm, True),
        ("wrong: outside the lesion", f"{outside.distance:.0f} pixels away", outside, True),
        ("worthless: the same map\nby a random classifier", f"rank correlation {alike:.2f}", same, True),
    ]


def _energy(one: Seen) -> float:
    return energy_over_chance(one.explanation.map[0], one.case.lesion, one.case.breast)


def _likeness(one: Seen, other: Seen) -> float:
    return rank_correlation(one.explanation.map[0], other.explanation.map[0], one.case.breast)


def _draw(panels: Sequence[tuple[str, str, Seen, bool]], out: Path) -> None:
    figure = Figure(figsize=(11, 4.7), dpi=80, layout="constrained")
    for axes, (heading, measured, one, drawn) in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        values = one.explanation.map[0] * drawn
        picture = heat_overlay(one.case.image, values)
        axes.imshow(draw_outline(picture, one.case.lesion))
        axes.set_title(heading, fontsize=9, color="#0b6b3a" if heading.startswith("right") else "#a02020")
        result = f"{one.explanation.target[0].partition(':')[2]} {percent(one.score)}"
        axes.set_xlabel(f"{result}, {method_name(one.explanation.explainer)}\n{measured}", fontsize=8)
        axes.set(xticks=[], yticks=[])
    page = io.BytesIO()
    figure.savefig(page)
    Image.open(page).convert("RGB").quantize(256).save(out, optimize=True)


if __name__ == "__main__":
    main()
