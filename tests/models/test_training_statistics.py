"""Images that are not like the training images are told from those that are, by mean and covariance alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mammo_hf.errors import DataError
from mammo_hf.models.training_statistics import STATISTICS, TrainingStatistics, pooled_features, read_statistics


def drawn(images: int, seed: int, shift: float = 0.0, channels: int = 6) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).normal(size=(channels, channels))
    return generator.normal(size=(images, channels)) @ mixing + shift


def patients_of(images: int, each: int = 2) -> list[str]:
    return [f"patient {number // each}" for number in range(images)]


def fitted(images: int = 400) -> TrainingStatistics:
    found = TrainingStatistics.of(drawn(images, 0), patients_of(images), drawn(200, 1), patients_of(200))
    assert found is not None
    return found


def test_few_of_the_same_kind_are_flagged_and_most_of_another() -> None:
    statistics = fitted()
    assert statistics.unlike(drawn(2000, 2)).mean() < 0.06
    assert statistics.unlike(drawn(500, 3, shift=8)).mean() > 0.95
    assert statistics.unlike(np.full((1, 6), np.nan)).all()


def test_the_distance_is_that_of_the_shrunk_covariance() -> None:
    statistics, one = fitted(), drawn(1, 4)
    away = one[0] - statistics.mean
    assert statistics.distances(one)[0] ** 2 == pytest.approx(away @ statistics.precision @ away, rel=1e-5)


@given(copies=st.integers(1, 30))
def test_each_validation_patient_counts_as_one(copies: int) -> None:
    training, validation = drawn(120, 0), drawn(60, 1)
    patients = [f"patient {number}" for number in range(60)]
    once = TrainingStatistics.of(training, patients_of(120), validation, patients)
    repeated = np.concatenate([validation, np.repeat(validation[:1], copies, axis=0)])
    again = TrainingStatistics.of(training, patients_of(120), repeated, [*patients, *patients[:1] * copies])
    assert once is not None
    assert again is not None
    assert once.threshold == again.threshold


def test_nothing_is_kept_of_few_patients_or_without_validation() -> None:
    features = drawn(98, 0)
    assert TrainingStatistics.of(features, patients_of(98), drawn(10, 1), patients_of(10)) is None
    assert TrainingStatistics.of(features, patients_of(98, each=1), np.zeros((0, 6)), []) is None


def test_they_come_back_from_a_folder_and_hold_no_single_image(tmp_path: Path) -> None:
    assert read_statistics(tmp_path) is None
    assert read_statistics(tmp_path / "missing") is None
    statistics = fitted()
    statistics.save(tmp_path)
    found = read_statistics(tmp_path)
    assert found is not None
    assert np.array_equal(found.mean, statistics.mean)
    assert np.array_equal(found.precision, statistics.precision)
    assert found.threshold == np.float32(statistics.threshold)
    assert (tmp_path / STATISTICS).stat().st_size < 4 * (6 + 36 + 1) + 400


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_damaged_ones_are_named_with_a_remedy(damage: str, tmp_path: Path) -> None:
    fitted().save(tmp_path)
    path = tmp_path / STATISTICS
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-40], "empty": b"", "other": whole.replace(b"precision", b"prevision")}[damage])
    with pytest.raises(DataError, match=r"damaged.*copy it again"):
        read_statistics(tmp_path)


def test_what_the_classifier_is_given_is_collected_once_for_each_call() -> None:
    model = torch.nn.Module()
    model.classifier = torch.nn.Linear(3, 2)
    with pooled_features(model) as seen:
        model.classifier(torch.ones(4, 3))
        model.classifier(torch.ones(4, 5, 3))  # tokens
    model.classifier(torch.ones(2, 3))
    assert [tuple(one.shape) for one in seen] == [(4, 3)]
