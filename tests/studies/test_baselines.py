"""What the image and its acquisition tell by themselves, against plain loops and made-up files."""

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from mammo_hf.errors import MammoError
from mammo_hf.studies.features import (
    ACQUISITION_STATISTICS,
    IMAGE_STATISTICS,
    acquisition_statistics,
    boosted_probabilities,
    image_statistics,
    scanner_features,
)


def test_image_statistics_are_of_the_breast_alone():
    generator = np.random.default_rng(0)
    image = np.zeros((64, 32), np.float32)
    image[8:40, :20] = generator.uniform(0.2, 0.9, (32, 20))
    found = dict(zip(IMAGE_STATISTICS, image_statistics(image), strict=True))
    inside = image[image > 0].astype(float)
    assert found["mean"] == pytest.approx(inside.mean())
    assert found["skewness"] == pytest.approx(stats.skew(inside))
    assert found["kurtosis"] == pytest.approx(stats.kurtosis(inside, fisher=False))
    assert found["p25"] == pytest.approx(np.percentile(inside, 25))
    assert found["breast area"] == pytest.approx(32 * 20 / image.size)
    assert found["breast height"] == pytest.approx(0.5)
    shares = np.histogram(inside, 64, (0, 1))[0] / inside.size
    assert found["entropy"] == pytest.approx(stats.entropy(shares, base=2))
    taller = np.pad(image, ((0, 0), (0, 32)))
    same = dict(zip(IMAGE_STATISTICS, image_statistics(taller), strict=True))
    assert same["mean"] == found["mean"]
    assert same["breast area"] == found["breast area"] / 2


def test_fine_detail_tells_a_rough_image_from_a_smooth_one():
    generator = np.random.default_rng(0)
    rough = generator.uniform(0.4, 0.6, (64, 32)).astype(np.float32)
    smooth = np.tile(np.linspace(0.4, 0.6, 32, dtype=np.float32), (64, 1))
    place = IMAGE_STATISTICS.index("fine detail")
    assert image_statistics(rough)[place] > 10 * image_statistics(smooth)[place]


def test_an_empty_image_has_zeros_and_no_nan():
    assert not image_statistics(np.zeros((8, 8), np.float32)).any()


def test_acquisition_statistics_are_of_the_source(tmp_path):
    image = np.zeros((40, 30), np.uint8)
    image[:20] = np.arange(30)
    Image.fromarray(image).save(tmp_path / "film.png")
    found = dict(zip(ACQUISITION_STATISTICS, acquisition_statistics(str(tmp_path / "film.png")), strict=True))
    assert found["grey range"] == pytest.approx(29 / 255)
    assert (found["grey levels"], found["rows"], found["columns"]) == (30, 40, 30)
    assert found["background fraction"] == pytest.approx((600 + 20) / 1200)
    with pytest.raises(MammoError):
        acquisition_statistics(str(tmp_path / "missing.dcm"))


def test_a_reader_of_the_scanner_sees_maker_stratum_and_file_format_alone():
    found = scanner_features(["A", "B", None], ["x", "x", "x"], ["a.png", "b.JPG", "c.jpg"])
    assert found.tolist() == [[1, 0, 0, 0, 1], [0, 1, 0, 1, 0], [0, 0, 1, 1, 0]]
    assert scanner_features(["A"] * 4, [None] * 4, ["a.png"] * 4).shape == (4, 0)


def test_boosted_trees_find_what_is_not_monotone_and_leave_out_what_never_occurs():
    generator = np.random.default_rng(0)
    values = generator.standard_normal((400, 2))
    labels = 2 * (np.abs(values[:, 0]) > 0.7).astype(int)
    found = boosted_probabilities(values[:300], labels[:300], values[300:], 3, seed=0)
    assert ((found[:, 2] > 0.5) == (labels[300:] == 2)).mean() > 0.9
    assert not found[:, 1].any()
    assert np.allclose(found.sum(1), 1)
