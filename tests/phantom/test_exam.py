from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import ndimage, stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mammo_hf.errors import UsageError
from mammo_hf.phantom.exam import PhantomExam, draw_exam
from mammo_hf.studies.features import IMAGE_STATISTICS, image_statistics

SMALL = (224, 112)
PATIENTS = 76
STATISTICS = ("mean", "standard deviation", "maximum", "99.9 percentile", "breast area", "mean of the breast")


@cache
def exams() -> tuple[PhantomExam, ...]:
    return tuple(draw_exam(index, seed=1, size=SMALL) for index in range(PATIENTS))


def breast(image: np.ndarray) -> np.ndarray:
    """The largest bright piece of a film: the breast without the label."""
    labels, _ = ndimage.label(ndimage.gaussian_filter(image.astype(np.float32), 1) > 8000)
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1


def affected(exam: PhantomExam) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(exam.images[key], mask) for key, mask in exam.masks.items()]


def statistics(image: np.ndarray) -> tuple[float, ...]:
    inside = breast(image)
    return (image.mean(), image.std(), image.max(), np.quantile(image, 0.999), inside.sum(), image[inside].mean())


def test_an_exam_has_four_views_and_masks_for_the_affected_breast() -> None:
    for exam in exams()[:6]:
        assert set(exam.images) == {(side, view) for side in ("LEFT", "RIGHT") for view in ("CC", "MLO")}
        assert set(exam.masks) == {(exam.case.laterality, view) for view in ("CC", "MLO")}
        for image in exam.images.values():
            assert image.shape == SMALL
            assert image.dtype == np.uint16
        for mask in exam.masks.values():
            assert mask.shape == SMALL
            assert mask.dtype == bool


def test_the_same_arguments_give_the_same_pixels_and_others_do_not() -> None:
    first, again = (draw_exam(5, seed=3, size=(128, 64)) for _ in range(2))
    other_patient, other_seed = draw_exam(6, seed=3, size=(128, 64)), draw_exam(5, seed=4, size=(128, 64))
    for key, image in first.images.items():
        np.testing.assert_array_equal(image, again.images[key])
        assert not np.array_equal(image, other_patient.images[key])
        assert not np.array_equal(image, other_seed.images[key])
    for key, mask in first.masks.items():
        np.testing.assert_array_equal(mask, again.masks[key])


def test_a_finding_is_equally_far_from_the_nipple_in_both_views() -> None:
    for exam in exams():
        diameter, distances = exam.case.lesion.diameter * SMALL[0], []
        for key, center in exam.centers.items():
            distances.append(np.hypot(*np.subtract(center, exam.nipples[key])))
            rows, columns = np.nonzero(exam.masks[key])
            assert np.hypot(rows.mean() + 0.5 - center[0], columns.mean() + 0.5 - center[1]) < 0.25 * diameter
        assert distances[0] == pytest.approx(distances[1], abs=2.0)
        assert distances[0] > 0.5 * diameter


def test_a_finding_lies_within_the_breast() -> None:
    for exam in exams():
        for image, mask in affected(exam):
            assert mask.any()
            assert breast(image)[mask].mean() > 0.98


def test_the_chest_wall_is_where_it_is_when_films_are_hung() -> None:
    for exam in exams()[:10]:
        for (side, _), image in exam.images.items():
            inside = breast(image)
            wall, front = (0, -1) if side == "LEFT" else (-1, 0)
            assert inside[:, wall].mean() > 0.5
            assert inside[:, front].mean() < 0.1


def test_the_two_breasts_are_alike_but_not_mirror_images() -> None:
    alike, strangers = [], []
    for exam, other in zip(exams()[:20], exams()[20:40], strict=True):
        for view in ("CC", "MLO"):
            left, right = exam.images["LEFT", view], exam.images["RIGHT", view][:, ::-1]
            stranger = other.images["RIGHT", view][:, ::-1]
            assert not np.array_equal(left, right)
            areas = [breast(image).sum() for image in (left, right, stranger)]
            alike.append(abs(np.log(areas[0] / areas[1])))
            strangers.append(abs(np.log(areas[0] / areas[2])))
    assert 0.005 < np.mean(alike) < 0.6 * np.mean(strangers)


def test_no_global_statistic_tells_the_pathology() -> None:
    values = np.array([statistics(image) for exam in exams() for image, _ in affected(exam)])
    malignant = np.array([exam.case.pathology == "malignant" for exam in exams() for _ in exam.masks])
    patients = np.repeat(np.arange(PATIENTS), 2)
    # the width of the null distribution of the rank statistic, counting patients, not images
    half = PATIENTS // 2
    reach = 1.96 * np.sqrt((2 * half + 1) / (12 * half * half))
    for name, column in zip(STATISTICS, values.T, strict=True):
        assert abs(roc_auc_score(malignant, column) - 0.5) < reach, name
    together = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_predict(
        together, values, malignant, groups=patients, cv=GroupKFold(5), method="decision_function"
    )
    assert roc_auc_score(malignant, scores) < 0.5 + reach


@pytest.mark.slow
def test_neither_fine_detail_nor_any_statistic_tells_large_haloed_masses() -> None:
    # the settings at which a demonstration can learn in minutes: no shortcut may learn them sooner
    obvious = {"mass_fraction": 1.0, "lesion_scale": 2.5, "lesion_contrast": 1.1, "lesion_halo": 1.4}
    detail, of_image, malignant = [], [], []
    for index in range(24):
        for name in ("benign", "malignant"):
            for image, _ in affected(draw_exam(index, seed=1, size=SMALL, pathology=name, **obvious)):
                inside = breast(image)
                fine = image.astype(np.float64) - ndimage.uniform_filter(image.astype(np.float64), 5)
                detail.append(fine[inside].std())
                of_image.append(image_statistics(np.where(inside, image / 65535.0, 0.0)))
                malignant.append(name == "malignant")
    assert abs(roc_auc_score(malignant, detail) - 0.5) < 0.12
    for name, column in zip(IMAGE_STATISTICS, np.transpose(of_image), strict=True):
        assert abs(roc_auc_score(malignant, column) - 0.5) < 0.12, name


def test_density_is_independent_of_pathology() -> None:
    cases = [(exam.case.density, exam.case.pathology) for exam in exams()]
    table = np.array(
        [[cases.count((density, pathology)) for pathology in ("benign", "malignant")] for density in "abcd"]
    )
    assert table.sum() == PATIENTS
    assert stats.chi2_contingency(table[table.sum(axis=1) > 0]).pvalue > 0.2


@pytest.mark.parametrize("index", [0, 1, 2, 6])
def test_the_other_shape_in_the_same_place_leaves_every_statistic_alone(index: int) -> None:
    benign, malignant = (draw_exam(index, seed=1, pathology=name, size=(448, 224)) for name in ("benign", "malignant"))
    assert [exam.case.pathology for exam in (benign, malignant)] == ["benign", "malignant"]
    diameter = benign.case.lesion.diameter * 448
    for key, image in benign.images.items():
        other = malignant.images[key]
        if key not in benign.masks:
            np.testing.assert_array_equal(image, other)
            continue
        change = other.astype(np.float64) - image
        rows, columns = np.nonzero(np.abs(change) > 500)
        center = benign.centers[key]
        assert np.hypot(rows - center[0], columns - center[1]).max() < 1.3 * diameter
        # what the shape moves is large, what it adds in all is nearly nothing
        assert np.abs(change).max() > 4000
        assert abs(change.sum()) < 0.1 * np.abs(change).sum()
        assert other.std() == pytest.approx(image.std(), rel=2e-3)
        assert other.max() == pytest.approx(image.max(), rel=2e-2)


def test_a_lesion_is_seldom_the_brightest_place_of_the_breast() -> None:
    hits = []
    for exam in exams():
        for image, mask in affected(exam):
            smooth = ndimage.gaussian_filter(image.astype(np.float32), 0.7) * breast(image)
            hits.append(mask[np.unravel_index(smooth.argmax(), smooth.shape)])
    assert np.mean(hits) < 0.2


def test_the_label_is_brighter_than_any_lesion() -> None:
    for exam in exams():
        for (laterality, view), mask in exam.masks.items():
            image = exam.images[laterality, view]
            corner = image[:28, 56:] if laterality == "LEFT" else image[:28, :56]
            assert np.sort(corner, axis=None)[-10] > np.quantile(image[mask], 0.99)


def test_a_lesion_stands_out_from_what_surrounds_it() -> None:
    contrasts = []
    for exam in exams():
        if exam.case.lesion.kind == "mass":
            for image, mask in affected(exam):
                ring = ndimage.binary_dilation(mask, iterations=5) & ~ndimage.binary_dilation(mask, iterations=2)
                contrasts.append(image[mask].mean() - image[ring].mean())
    assert np.median(contrasts) > 0.08 * 65535
    assert np.mean(np.array(contrasts) > 0.03 * 65535) > 0.95


def test_scale_and_contrast_enlarge_and_strengthen() -> None:
    plain = draw_exam(0, seed=2, size=SMALL, mass_fraction=1.0)
    large = draw_exam(0, seed=2, size=SMALL, mass_fraction=1.0, lesion_scale=1.5, lesion_contrast=1.4)
    for key, mask in plain.masks.items():
        assert large.masks[key].sum() == pytest.approx(2.25 * mask.sum(), rel=0.1)
    assert large.case.lesion.contrast == pytest.approx(1.4 * plain.case.lesion.contrast)


@pytest.mark.parametrize("size", [(96, 48), (301, 167), (128, 192)])
def test_any_size_works(size: tuple[int, int]) -> None:
    exam = draw_exam(0, size=size, lesion_scale=1.5)
    for image in exam.images.values():
        assert image.shape == size
        assert breast(image).mean() > 0.1
    assert all(mask.any() for mask in exam.masks.values())


def test_a_patient_keeps_the_same_anatomy_at_any_size() -> None:
    small, large = draw_exam(3, size=(224, 112)), draw_exam(3, size=(448, 224))
    assert small.case.density == large.case.density
    for key, nipple in small.nipples.items():
        np.testing.assert_allclose(np.multiply(nipple, 2), large.nipples[key], atol=2.0)
        halved = large.images[key].reshape(224, 2, 112, 2).mean(axis=(1, 3))
        assert np.corrcoef(halved.ravel(), small.images[key].ravel())[0, 1] > 0.95


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"size": (64, 64)}, "size"), ({"pathology": "normal"}, "pathology"), ({"seed": -1}, "seed")],
)
def test_bad_arguments_are_named(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        draw_exam(0, **arguments)
