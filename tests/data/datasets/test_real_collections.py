"""Real films in CBIS-DDSM's layout, read by its source: lesions land on the film pixels that the annotations name."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from real_collections import cdd_cesm, mini_mias, region_mask, write_real_collection
from scipy import ndimage

from mammo_hf import MammoImageProcessor
from mammo_hf.data.loading import load
from mammo_hf.data.prepared_row import CELL
from mammo_hf.data.training_data import prepared_images
from mammo_hf.processing.geometry import Geometry

SIZE = {"height": 448, "width": 224}


def prepared_rows(films, tmp_path):
    """Films by the path of their DICOM file, each with its prepared row."""
    table = load(write_real_collection(tmp_path / "cbis", films))
    tasks = [task for task in table.tasks if task["name"] == "pathology"]
    rows = prepared_images(table, MammoImageProcessor(size=SIZE), tmp_path / "out", tasks=tasks)
    assert (tmp_path / "out" / "rejected.csv").read_text().splitlines() == ["source,reason,code"]
    return [(row["path"], prepared) for row, prepared in zip(table, rows, strict=True)]


def lesion_cells(row):
    cells = np.frombuffer(row["lesions"], np.uint8).reshape(SIZE["height"] // CELL, -1)
    return ndimage.center_of_mass(cells > 0), cells


# one film of each side; the rows count from the film's top, the columns from its left, as one reads them off the film
@pytest.mark.parametrize(
    ("film", "column", "row_from_top", "radius", "label"),
    [("mdb184", 352, 1024 - 624, 114, "malignant"), ("mdb023", 538, 1024 - 681, 29, "malignant")],
)
def test_a_circle_lands_on_its_film_pixels(real_data, tmp_path, film, column, row_from_top, radius, label):
    films = [found for found in mini_mias(real_data / "mini-mias") if found.picture.stem == film]
    ((path, row),) = prepared_rows(films, tmp_path)
    is_right = "RIGHT" in path
    geometry = Geometry.from_dict(json.loads(row["geometry"]))
    # the chest wall comes to the left edge, and the films show it as we read them
    assert (geometry.orientation == "flip_left_right") == is_right
    (down, across), cells = lesion_cells(row)
    y, x = geometry.to_model((row_from_top, column))
    assert (down + 0.5) * CELL == pytest.approx(y, abs=CELL)
    assert (across + 0.5) * CELL == pytest.approx(x, abs=CELL)
    scale = geometry.resized[0] / (geometry.crop[2] - geometry.crop[0])
    area = (cells > 0).sum() * CELL**2  # a cell counts as soon as half a pixel of it is lesion
    assert np.pi * (radius * scale) ** 2 * 0.95 < area < np.pi * (radius * scale + CELL) ** 2
    assert row["labels"] == [["benign", "malignant"].index(label)]
    # by pixels alone: around the lesion the canvas shows what the film shows around the annotated place
    canvas = np.frombuffer(row["pixels"], np.uint16).reshape(448, 224)
    reach = round(2 * radius * scale)
    y, x = round((down + 0.5) * CELL), round((across + 0.5) * CELL)
    shown = canvas[max(y - reach, 0) : y + reach, max(x - reach, 0) : x + reach]
    film_shown = Image.open(films[0].picture)

    def likeness(film_row):
        # in units of the film: the same window, cut where the canvas ends
        top, left = (film_row - min(y, reach) / scale, min(x, reach) / scale)
        bottom, width = top + shown.shape[0] / scale, shown.shape[1] / scale
        left = column + left - width if is_right else column - left
        patch = np.asarray(film_shown.resize(shown.shape[::-1], box=(left, top, left + width, bottom)), float)
        return np.corrcoef((patch[:, ::-1] if is_right else patch).ravel(), shown.ravel())[0, 1]

    assert likeness(row_from_top) > 0.9
    assert likeness(1024 - row_from_top) < 0.7  # y counted from the wrong end


def test_the_bright_mass_is_inside_its_circle(real_data, tmp_path):
    films = [found for found in mini_mias(real_data / "mini-mias") if found.picture.stem == "mdb184"]
    ((_, row),) = prepared_rows(films, tmp_path)
    canvas = np.frombuffer(row["pixels"], np.uint16).reshape(448, 224) / 65535
    _, cells = lesion_cells(row)
    inside = np.kron(cells > 0, np.ones((CELL, CELL), bool))
    ring = ndimage.binary_dilation(inside, iterations=20) & ~ndimage.binary_dilation(inside, iterations=4)
    assert canvas[inside].mean() > canvas[ring].mean() + 0.1


def test_films_without_coordinates_have_a_label_and_no_place(real_data, tmp_path):
    wanted = ("mdb059", "mdb003", "mdb233", "mdb245")
    films = [found for found in mini_mias(real_data / "mini-mias") if found.picture.stem in wanted]
    assert len(films) >= 2
    for path, row in prepared_rows(films, tmp_path):
        assert row["lesions"] is None
        assert (row["labels"] == [-100]) == ("P_00002_" in path)  # mdb003 is normal, and stands in no table


def test_outlines_of_a_digital_image_land_where_they_were_drawn(real_data, tmp_path):
    wanted = ("P121_R_DM_CC", "P99_R_DM_CC", "P126_L_DM_CC")
    films = {found.picture.stem: found for found in cdd_cesm(real_data / "cdd-cesm") if found.picture.stem in wanted}
    assert {"P99_R_DM_CC", "P126_L_DM_CC"} <= set(films)
    for path, row in prepared_rows(list(films.values()), tmp_path):
        geometry = Geometry.from_dict(json.loads(row["geometry"]))
        assert (geometry.orientation == "flip_left_right") == ("RIGHT" in path)
        film = next(found for found in films.values() if found.findings[0][0].film in path)
        mask = np.any([mask for _, mask in film.findings], axis=0)
        (down, across), _ = lesion_cells(row)
        row_in_film, column_in_film = ndimage.center_of_mass(mask)
        y, x = geometry.to_model((row_in_film, column_in_film))
        assert (down + 0.5) * CELL == pytest.approx(y, abs=CELL)
        assert (across + 0.5) * CELL == pytest.approx(x, abs=CELL)


def test_every_outline_of_the_digital_set_is_on_its_film(real_data):
    kinds = set()
    with (real_data / "cdd-cesm" / "index.csv").open() as file:
        assert file.readline().startswith("path,")
    for film in cdd_cesm(real_data / "cdd-cesm"):
        for finding, mask in film.findings:
            assert mask.any(), film.name
            kinds.add(finding.pathology)
    assert kinds == {"BENIGN", "MALIGNANT"}
    square = region_mask({"name": "polygon", "all_points_x": [1, 4, 4, 1], "all_points_y": [2, 2, 6, 6]}, (9, 8))
    assert square[2:7, 1:5].all()
    assert square.sum() == 20
