"""Heads on frozen features learn what is there, choose their penalty on training patients, and overfit 64 images."""

import numpy as np

from mammo_hf.encoders.logistic import logistic_probabilities
from mammo_hf.metrics.classification import auroc


def made(n, channels=20, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    features = generator.standard_normal((n, channels)).astype(np.float32)
    features[:, 0] += 1.5 * labels
    return features, labels, np.array([str(number // 2) for number in range(n)])


def test_a_logistic_head_finds_one_telling_feature_among_many():
    train, labels, patients = made(200)
    test, truth, _ = made(200, seed=1)
    shares = logistic_probabilities(train, labels, patients, test, 2)
    np.testing.assert_allclose(shares.sum(1), 1)
    assert auroc(truth, shares[:, 1]) > 0.8


def test_a_class_that_never_occurs_has_probability_zero():
    train, labels, patients = made(60)
    shares = logistic_probabilities(train, 2 * labels, patients, train, 3)
    assert not shares[:, 1].any()
    assert shares[:, 2].max() > 0.5


def test_rare_classes_weigh_as_much_as_common_ones():
    features, labels, patients = made(400, channels=2)
    kept = (labels == 0) | (np.arange(400) % 8 == 0)
    shares = logistic_probabilities(features[kept], labels[kept], patients[kept], features, 2)
    assert 0.4 < (shares[:, 1] > 0.5).mean() < 0.6


def test_64_images_are_overfitted():
    generator = np.random.default_rng(0)
    features, labels = generator.standard_normal((64, 200)), generator.integers(0, 2, 64)
    patients = np.arange(64).astype(str)
    fitted = logistic_probabilities(features, labels, patients, features, 2)
    assert auroc(labels, fitted[:, 1]) == 1.0
