"""Which arms stand in a grid, what they are called, and in which order they are run."""

import pytest

from mammo_hf.errors import UsageError
from mammo_hf.studies.cells import BASELINES, Arm, Cell, arms, cells


def test_every_grid_has_its_baselines():
    names = [arm.name for arm in arms(["scratch", "out/mim"], ["head"], pools=["mean", "attentive"])]
    assert names[:2] == ["mim, frozen, mean features", "mim, frozen, attentive features"]
    assert set(BASELINES) <= set(names)
    assert {"random, frozen, mean features", "random, frozen, attentive features"} <= set(names)
    trained = [arm.name for arm in arms(["scratch", "out/mim"], ["full"], lesion_losses=[0, 1], baselines=())]
    assert trained == [
        "scratch, full",
        "scratch, full, lesion loss 1",
        "mim, full",
        "mim, full, lesion loss 1",
        "random, frozen, mean features",
        "stock, full",
    ]


def test_two_checkpoints_of_one_name_are_refused():
    with pytest.raises(UsageError, match="'mim'"):
        arms(["a/mim", "b/mim"], ["head"])
    with pytest.raises(UsageError, match="'random'"):
        arms(["a/random"], ["head"])


def test_cheap_cells_come_first_and_keys_are_unique():
    chosen = arms(["scratch", "out/mim"], ["head", "full"], semi_supervised=["none", "mean_teacher"])
    grid = list(cells(chosen, [10, 100], seeds=2, folds=3))
    assert len(grid) == len(chosen) * 2 * 2 * 3
    trained = [cell.arm.trained for cell in grid]
    assert trained == sorted(trained)
    assert len({cell.key for cell in grid}) == len(grid)
    assert Cell(Arm("out/mim", "full"), 12.5, 1, -1).key == "mim-full_12.5pc_seed1"
