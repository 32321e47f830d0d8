"""Which arms stand in a grid, what they are called, and in which order they are run."""

import pytest

from mammo_hf.errors import UsageError
from mammo_hf.studies.cells import BASELINES, Arm, Cell, arms, cells


def test_every_grid_has_its_baselines():
    names = [arm.name for arm in arms(["scratch", "out/mim"], ["head"], pools=["mean", "all_stages"])]
    assert names[:2] == ["mim, frozen, mean features", "mim, frozen, all stages features"]
    assert set(BASELINES) <= set(names)
    assert {"random, frozen, mean features", "random, frozen, all stages features"} <= set(names)
    trained = [arm.name for arm in arms(["scratch", "out/mim"], ["full"], lesion_losses=[0, 1], baselines=())]
    assert trained == [
        "scratch, full",
        "scratch, full, lesion loss 1",
        "mim, full",
        "mim, full, lesion loss 1",
        "random, frozen, mean features",
        "stock, full",
    ]


def test_an_encoder_that_is_no_swin_is_frozen_and_has_the_features_that_embed_computes():
    inits, tunes = ["scratch", "out/mim", "lab/vit@1"], ["head", "bag", "full"]
    found = arms(inits, tunes, pools=["mean", "tiles"], baselines=(), others=["lab/vit@1"])
    assert [arm.name for arm in found] == [
        "mim, frozen, mean features",
        "mim, frozen, whole view and tiles features",
        "vit@1, frozen, whole view and tiles features",
        "mim, frozen, head over bags",
        "vit@1, frozen, head over bags",
        "scratch, full",
        "mim, full",
        "random, frozen, mean features",
        "random, frozen, whole view and tiles features",
        "random, frozen, head over bags",
        "stock, full",
    ]
    assert found[4].reference in found
    assert [arm.embedded for arm in found[:4]] == [False, True, True, True]
    assert [arm.pool for arm in arms(["lab/vit"], ["head"], baselines=(), others=["lab/vit"])] == ["whole"] * 2
    with pytest.raises(UsageError, match="lab/vit: cannot be trained; give `tune` head or bag"):
        arms(["scratch", "lab/vit"], ["full"], others=["lab/vit"])


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
