from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo_hf.errors import UsageError
from mammo_hf.phantom.exam import draw_case, evenly, official_test_patients, stream
from mammo_hf.phantom.parenchyma import DENSITIES


@given(seed=st.integers(0, 2**40), pair=st.integers(0, 500))
def test_a_pair_differs_in_pathology_alone(seed: int, pair: int) -> None:
    first, second = (draw_case(2 * pair + member, seed=seed) for member in (0, 1))
    assert {first.pathology, second.pathology} == {"benign", "malignant"}
    assert first.lesion == second.lesion
    assert first.density == second.density
    assert first.subtlety == second.subtlety


def test_who_is_malignant_does_not_follow_from_the_number() -> None:
    first = [draw_case(2 * pair, seed=4).pathology == "malignant" for pair in range(200)]
    assert 70 < sum(first) < 130


def test_neither_side_nor_density_tells_the_pathology() -> None:
    cases = [draw_case(index, seed=2) for index in range(600)]
    for attribute in ("density", "laterality"):
        counts = Counter((getattr(case, attribute), case.pathology) for case in cases)
        values = {value for value, _ in counts}
        shares = [
            counts[value, "malignant"] / sum(counts[value, p] for p in ("benign", "malignant")) for value in values
        ]
        assert np.abs(np.array(shares) - 0.5).max() < 0.1
    assert {case.density for case in cases} == set(DENSITIES)
    assert {case.laterality for case in cases} == {"LEFT", "RIGHT"}


@given(share=st.floats(0, 1), count=st.integers(1, 200))
def test_evenly_gives_the_share_to_within_one(share: float, count: int) -> None:
    chosen = evenly(count, share)
    assert chosen.shape == (count,)
    assert abs(chosen.sum() - share * count) <= 1.0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.65, 1.0])
def test_the_share_of_masses_is_the_one_asked_for(share: float) -> None:
    kinds = [draw_case(index, mass_fraction=share).lesion.kind for index in range(200)]
    assert abs(kinds.count("mass") - 200 * share) <= 2


def test_the_test_split_is_a_fair_sample() -> None:
    cases = [draw_case(index, seed=1) for index in range(120)]
    chosen = official_test_patients(cases, 0.25, seed=1)
    assert len(chosen) == 30
    assert chosen == official_test_patients(cases, 0.25, seed=1)
    assert chosen != official_test_patients(cases, 0.25, seed=2)
    for kind in ("mass", "calcification"):
        for pathology in ("benign", "malignant"):
            group = [case for case in cases if (case.lesion.kind, case.pathology) == (kind, pathology)]
            assert abs(sum(case.patient_index in chosen for case in group) - 0.25 * len(group)) <= 1
    assert official_test_patients(cases, 0.0, seed=1) == set()
    assert len(official_test_patients(cases, 1.0, seed=1)) == 120


def test_streams_do_not_meet() -> None:
    drawn = {stream(seed, *key).integers(2**62) for seed in (0, 1) for key in ((0,), (1,), (0, 0), (0, 1), (1, 0))}
    assert len(drawn) == 10


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("patient_index", -1), ("seed", -1), ("mass_fraction", 1.1), ("mass_fraction", -0.1)),
        *(
            ("lesion_scale", 0.0),
            ("lesion_scale", 11.0),
            ("lesion_contrast", -1.0),
            ("lesion_halo", -0.1),
            ("lesion_halo", 2.1),
        ),
    ],
)
def test_an_argument_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=name):
        draw_case(**{"patient_index": 0, name: value})
