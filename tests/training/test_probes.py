import numpy as np
import pytest

from mammo_hf.errors import UsageError
from mammo_hf.training.callbacks import Probes, knn_scores, linear_scores


@pytest.mark.parametrize("probe", [linear_scores, knn_scores])
def test_probes_read_what_the_features_tell(probe):
    generator = np.random.default_rng(0)
    labels = np.arange(90) % 3
    features = np.eye(8)[labels] * 3 + generator.standard_normal((90, 8))
    scores = probe(features[:60], labels[:60], features[60:])
    assert scores.shape == (30, 3)
    assert np.allclose(scores.sum(1), 1)
    assert (scores.argmax(1) == labels[60:]).mean() > 0.8
    noise = probe(generator.standard_normal((60, 8)), labels[:60], features[60:])
    assert (noise.argmax(1) == labels[60:]).mean() < 0.6


def test_one_near_neighbour_outvotes_many_far_ones():
    train = np.array([[1.0, 0.0], [0.0, 1.0], [0.05, 1.0], [0.1, 1.0]])
    scores = knn_scores(train, np.array([1, 0, 0, 0]), np.array([[1.0, 0.01]]))
    assert scores[0, 1] > 0.99


def test_an_unknown_probe():
    with pytest.raises(UsageError, match="no probe 'forest'"):
        Probes(None, None, None, None, ["forest"])
