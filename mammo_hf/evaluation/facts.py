"""What is known of each image besides its labels: the columns that subgroups and the cohort table are made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import datasets
import numpy as np

from ..data.prepare import LESION_CELL
from ..geometry import Geometry

if TYPE_CHECKING:
    from ..data import MammoTable

Column = list[str | None]

_OF_THE_TABLE = ("view", "laterality", "exam", "age_band", "vendor", "source", "density")
_BANDS_MM = (10.0, 20.0)  # the second is where a T1 tumour becomes a T2


def facts_of(table: MammoTable | None, prepared: datasets.Dataset) -> dict[str, Column]:
    """The facts of prepared images, in their order.

    Args:
        table: The table that they were prepared from, or a part of it that holds them; ``None``: only what the prepared
            rows tell.
        prepared: Rows with ``image_id``, ``lesions`` and ``geometry``.

    Returns:
        Columns ``(n,)``: view, laterality, exam, age band, vendor, source and density where the table has them;
        ``lesion_type`` where its findings have a kind; ``lesion_size`` where lesions have a place: the equivalent
        diameter, in mm where the spacing is known, else by thirds in pixels of the model's input.
    """
    if table is None:
        sizes = _lesion_sizes(prepared)
        facts = {name: list(prepared[name]) for name in ("view", "laterality")}
        return facts | ({"lesion_size": sizes} if any(size is not None for size in sizes) else {})
    places = {image_id: place for place, image_id in enumerate(table.column("image_id"))}
    order = [places[image_id] for image_id in prepared["image_id"]]
    columns = {name: table.column(name) for name in _OF_THE_TABLE if name in table.dataset.column_names}
    facts = {name: [values[place] for place in order] for name, values in columns.items()}
    kinds = [lesion_type(findings) for findings in table.column("findings")]
    if any(kind not in (None, "none") for kind in kinds):
        facts["lesion_type"] = [kinds[place] for place in order]
    sizes = _lesion_sizes(prepared)
    if any(size is not None for size in sizes):
        facts["lesion_size"] = sizes
    return facts


def lesion_type(findings: Sequence[dict[str, object]]) -> str | None:
    """Of an image: "mass", "calcification", ...; "several" for more than one kind, "none" without a finding."""
    kinds = {finding["kind"] for finding in findings}
    if not kinds:
        return "none"
    return "several" if len(kinds) > 1 else (None if None in kinds else str(kinds.pop()))


def _lesion_sizes(prepared: datasets.Dataset) -> Column:
    rows = zip(prepared["lesions"], prepared["geometry"], strict=True)
    found = [None if lesions is None else _diameter(lesions, geometry) for lesions, geometry in rows]
    known = [diameter for diameter in found if diameter is not None]
    if not known:
        return [None] * len(found)
    if all(unit == "mm" for _, unit in known):
        low, high = _BANDS_MM
        names = (f"below {low:g} mm", f"{low:g} to {high:g} mm", f"above {high:g} mm")
    else:
        # a pixel is no measure across images of other spacings, so the bands are those of this collection
        known = [(diameter, unit) for diameter, unit in known if unit == "px"]
        low, high = np.quantile([diameter for diameter, _ in known], [1 / 3, 2 / 3])
        names = (f"1: below {low:.0f} px", f"2: {low:.0f} to {high:.0f} px", f"3: above {high:.0f} px")
    unit = known[0][1]
    return [
        None if diameter is None or diameter[1] != unit else names[int(diameter[0] >= low) + int(diameter[0] > high)]
        for diameter in found
    ]


def _diameter(lesions: bytes, geometry: str) -> tuple[float, str] | None:
    """The diameter of the disc of the lesions' area; ``None`` where the map holds none."""
    cells = int(np.count_nonzero(np.frombuffer(lesions, np.uint8)))
    if not cells:
        return None
    area = float(cells * LESION_CELL**2)
    facts = json.loads(geometry)
    place = Geometry.from_dict(facts) if facts else None
    if place is None or place.spacing_mm is None:
        return 2 * float(np.sqrt(area / np.pi)), "px"
    in_mm = area * place.spacing_mm[0] * place.spacing_mm[1] / (place.scale[0] * place.scale[1])
    return 2 * float(np.sqrt(in_mm / np.pi)), "mm"
