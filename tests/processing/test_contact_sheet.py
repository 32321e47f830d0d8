import io

import numpy as np
from PIL import Image

from mammo_hf.processing.breast import Breast
from mammo_hf.processing.contact_sheet import (
    CHEST_WALL_COLOUR,
    CROP_COLOUR,
    LEGEND,
    LINE,
    MASK_COLOUR,
    captioned,
    sheets,
    tile,
)


def test_a_tile_shows_mask_crop_and_chest_wall():
    mask = np.zeros((50, 40), bool)
    mask[10:40, :20] = True
    view = mask * 0.5
    drawn = np.asarray(tile(view, Breast((40, 0, 200, 100), mask, 4, "left"), 100))
    for colour in (MASK_COLOUR, CROP_COLOUR, CHEST_WALL_COLOUR):
        assert (drawn == colour).all(-1).any()
    # the crop's left edge is the chest wall, its top lies at 40 source pixels, 10 of the view, 20 of the tile
    assert tuple(drawn[21, 40]) == CROP_COLOUR


def test_sheets_hold_every_tile_once():
    tiles = [Image.new("RGB", (10, 12), (index, 0, 0)) for index in range(1, 8)]
    pages = list(sheets(iter(tiles), columns=2, rows=2))
    assert [page.size for page in pages] == [(20, 24), (20, 24)]
    seen = [page.getpixel((x, y))[0] for page in pages for y in (0, 12) for x in (0, 10)]
    assert seen == [1, 2, 3, 4, 5, 6, 7, 0]


def test_a_name_is_whole_however_long_and_a_legend_is_above():
    picture = tile(np.zeros((50, 40)), Breast((0, 0, 50, 40), np.ones((50, 40), bool), 1, "left"), 60)
    short, long = (
        captioned(io.BytesIO(picture.tobytes()), name, notes, 60)
        for name, notes in (("0: a", ()), ("b/c.dcm" * 9, ("breast_even",)))
    )
    assert long.height - short.height >= 5 * LINE
    # letters are drawn smoothly: of the colours of text and note at least the reddest of each line is theirs
    below = np.asarray(long).astype(int)[short.height :].reshape(-1, 3)
    assert (np.ptp(below, axis=1) > 80).any(), "the note is not in its own colour"
    assert (below.min(axis=1) > 150).any(), "the name goes on"
    (page,) = sheets([short, long], columns=2, rows=1, legend=LEGEND)
    above = np.asarray(page)[: page.height - long.height]
    assert all((above == colour).all(-1).any() for colour in LEGEND)
