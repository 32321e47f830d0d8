from __future__ import annotations

import json

import pytest

from mammo_hf.dicom.display import Slab
from mammo_hf.errors import DataError, UsageError


@pytest.mark.parametrize(
    ("policy", "frames", "indices"),
    [
        ("middle", 5, [2]),
        ("middle", 1, [0]),
        ("all", 3, [0, 1, 2]),
        (0, 4, [0]),
        (-1, 4, [3]),
        ({"slices": [1, 3], "projection": "mean"}, 5, [1, 2]),
        ({"slices": [-2, None]}, 5, [3, 4]),
        ({"slices": [None, 100]}, 2, [0, 1]),
        ({}, 9, [4]),
    ],
)
def test_a_policy_names_slices_and_survives_json(policy: object, frames: int, indices: list[int]) -> None:
    slab = Slab.from_policy(policy)  # type: ignore[arg-type]
    assert list(slab.indices(frames)) == indices
    assert Slab.from_policy(json.loads(json.dumps(slab.to_policy()))) == slab


@pytest.mark.parametrize(
    "policy",
    ["top", True, 1.5, None, {"slices": [1]}, {"slices": ["a", 2]}, {"projection": "median"}, {"slabs": 3}],
)
def test_what_is_no_policy_is_refused(policy: object) -> None:
    with pytest.raises(UsageError, match="slab"):
        Slab.from_policy(policy)  # type: ignore[arg-type]


@pytest.mark.parametrize("slices", [3, -4, (5, 9), (2, 1)])
def test_slices_that_are_not_there_are_refused(slices: object) -> None:
    with pytest.raises(DataError, match="among 3"):
        Slab(slices).indices(3)  # type: ignore[arg-type]
