import numpy as np

from mammo_hf.training.breast_area import breast_patches


def canvas(background, noise=0.0):
    """A half disc at the left edge, bright in its middle, and a film label at the right."""
    rows, columns = np.mgrid[:128, :64]
    inside = (rows - 64) ** 2 + columns**2 < 45**2
    gland = (rows - 64) ** 2 + (columns - 10) ** 2 < 15**2
    image = np.where(inside, background + 0.25, background) + 0.4 * gland
    image[4:12, 52:60] = 1.0
    image += noise * np.random.default_rng(0).standard_normal(image.shape)
    return np.clip(image, 0, 1).astype(np.float32), inside


def test_the_breast_and_neither_label_nor_background():
    for background, noise in ((0.0, 0.0), (0.1, 0.02)):
        image, inside = canvas(background, noise)
        found = breast_patches(image).repeat(4, 0).repeat(4, 1)
        overlap = (found & inside).sum() / (found | inside).sum()
        assert overlap > 0.85, (background, overlap)
        assert not found[:16, 50:].any()


def test_a_hole_in_the_breast_is_filled():
    image, _ = canvas(0.0)
    image[60:68, 12:20] = 0.0
    assert breast_patches(image)[15, 3]


def test_an_empty_canvas_has_none():
    assert not breast_patches(np.zeros((64, 32), np.float32)).any()
    assert not breast_patches(np.full((64, 32), 0.4, np.float32)).any()
