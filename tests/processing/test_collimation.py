import numpy as np
import pytest

from mammo_hf.processing.breast import exposed_field, find_breast


def breast(*, oblique=False, start=0):
    """A left breast that fades to its skin on a noisy background; oblique: with a muscle that touches the top."""
    rows, columns = np.mgrid[:320, :256].astype(float)
    columns -= start
    distance = ((rows - 160) / 115) ** 2 + (columns / 150) ** 2
    image = (distance < 1) * (0.35 + 0.25 * np.exp(-2 * distance)) * np.clip(6 * (1 - distance), 0.25, 1)
    if oblique:
        image = np.maximum(image, 0.55 * (columns / 90 + rows / 150 < 1))
    return np.where(columns < 0, 0, image) + 0.01 * np.random.default_rng(0).random((320, 256))


def collimated(image, sides, thickness, brightness):
    image = image.copy()
    for side in sides:
        edge = {"t": np.s_[:thickness], "b": np.s_[-thickness:], "r": np.s_[:, -thickness:], "l": np.s_[:, :thickness]}
        image[edge[side]] = brightness
    return image


@pytest.mark.parametrize("brightness", [0.3, 0.6, 1.0])  # darker than the breast, as bright, brighter
@pytest.mark.parametrize("thickness", [3, 20, 40])
@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
def test_bright_collimator_edges_are_no_breast(brightness, thickness, oblique, mirrored):
    film = breast(oblique=oblique)
    image = collimated(film, "tbr", thickness, brightness)
    expected = find_breast(film).mask.copy()
    expected[:thickness] = False
    if mirrored:
        image, expected = image[:, ::-1], expected[:, ::-1]
    found = find_breast(image)
    assert found.chest_wall == ("right" if mirrored else "left")
    assert (found.mask & expected).sum() / (found.mask | expected).sum() > 0.97
    assert found.box[0] >= (thickness if oblique else 0)
    assert found.box[2] <= 320 - thickness
    # the margin around the breast does not bring the edges back
    assert not found.widened(30).mask[:thickness].any()
    assert ("bright edges around the exposed field are left out" in found.notes) == (thickness >= 20)


def test_an_edge_at_the_chest_wall_is_left_out():
    image = collimated(breast(oblique=True, start=20), "tblr", 20, 1.0)
    found = find_breast(image)
    assert found.chest_wall == "left"
    assert found.box[1] == 20
    assert exposed_field(image) == (slice(20, 300), slice(20, 236))


def test_a_stride_keeps_the_box_within_the_field():
    image = np.repeat(np.repeat(collimated(breast(oblique=True), "tbr", 20, 1.0), 5, axis=0), 5, axis=1)
    found = find_breast(image[::3, ::3], stride=3, size=image.shape)
    top, left, bottom, right = found.box
    assert 100 <= top < 106
    assert not (image[top:bottom, left:right] == 1.0).any()


@pytest.mark.parametrize(
    "image",
    [
        breast(),
        breast(oblique=True),
        1 - breast(),  # a negative: its bright background ends nowhere at a line
        np.full((50, 40), 0.7),
        np.ones((300, 200)) * np.linspace(0.6, 1, 300)[:, None],  # a breast that fills the image
    ],
)
def test_an_image_without_bright_edges_is_taken_whole(image):
    assert exposed_field(image) == (slice(0, image.shape[0]), slice(0, image.shape[1]))
