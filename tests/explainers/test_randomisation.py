import itertools

import numpy as np
import torch

from mammo_hf.explainers import explain
from mammo_hf.explainers.measures import cascade, rank_correlation, untrained
from mammo_hf.testing import tiny_classifier


def drawn_anew(model, other):
    own = dict(model.named_parameters())
    return {name for name, parameter in other.named_parameters() if not torch.equal(parameter, own[name])}


def test_one_part_more_at_each_step_from_the_classifier_down():
    model = tiny_classifier(lesion_task="pathology")
    before = [parameter.clone() for parameter in model.parameters()]
    steps = [(name, drawn_anew(model, other)) for name, other in cascade(model)]
    assert [name for name, _ in steps] == ["classifier", "stage 2", "stage 1", "patches"]
    for (_, fewer), (_, more) in itertools.pairwise(steps):
        assert fewer < more
    assert {name.split(".")[0] for name in steps[0][1]} == {"classifier", "swin", "lesion_head"}
    assert not any("encoder" in name for name in steps[0][1])
    assert len(steps[-1][1]) == len(list(model.parameters()))
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), before, strict=True))


def test_what_is_drawn_still_gives_maps_and_is_the_same_for_a_seed():
    model, pixels = tiny_classifier(), torch.randn(1, 1, 112, 56)
    state = torch.get_rng_state()
    first, again, other = untrained(model, 0), untrained(model, 0), untrained(model, 1)
    assert torch.equal(torch.get_rng_state(), state)
    maps = [explain(one, pixels, 1).map for one in (first, again, other)]
    assert maps[0].max() == 1
    np.testing.assert_array_equal(maps[0], maps[1])
    assert (maps[0] != maps[2]).any()


def test_grad_cam_changes_with_the_weights():
    model, pixels = tiny_classifier(), torch.randn(4, 1, 112, 56)
    breast = np.ones((112, 56))
    before = explain(model, pixels, 1).map
    after = explain(untrained(model), pixels, 1).map
    assert rank_correlation(before[0], before[0], breast) == 1
    assert abs(np.mean([rank_correlation(*pair, breast) for pair in zip(before, after, strict=True)])) < 0.5


def test_flat_maps_have_no_ranks():
    ramp = np.arange(6.0).reshape(2, 3)
    assert rank_correlation(ramp, np.zeros((2, 3)), np.ones((2, 3))) == 0
    assert rank_correlation(ramp, -ramp, np.ones((2, 3))) == -1
    assert rank_correlation(ramp, ramp, np.zeros((2, 3))) == 0
    outside = np.where(ramp > 3, 100 - ramp, ramp)  # what lies outside the breast is not compared
    assert rank_correlation(ramp, outside, ramp <= 3) == 1
