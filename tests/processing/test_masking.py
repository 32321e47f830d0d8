import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo_hf.errors import DataError, UsageError
from mammo_hf.processing.masking import BlockwiseMasking


@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    block=st.sampled_from([16, 32, 64]),
    ratio=st.floats(0.1, 0.9),
    seed=st.integers(0, 2**32),
)
def test_exact_share_in_whole_blocks(rows, columns, block, ratio, seed):
    hidden = round(ratio * rows * columns)
    masking = BlockwiseMasking(block, ratio)
    if not 0 < hidden < rows * columns:
        with pytest.raises(UsageError):
            masking((rows * block, columns * block), seed=seed)
        return
    patches = block // 4
    mask = masking((rows * block, columns * block), seed=seed).reshape(rows, patches, columns, patches)
    whole = mask.all(axis=(1, 3))
    assert (whole == mask.any(axis=(1, 3))).all()
    assert whole.sum() == hidden


def test_seed_epoch_and_index_decide_alone():
    masking = BlockwiseMasking()
    first = masking((224, 112), seed=1, epoch=2, index=3)
    np.random.seed(99)
    assert (first == masking((224, 112), seed=1, epoch=2, index=3)).all()
    others = [masking((224, 112), seed=s, epoch=e, index=i) for s, e, i in [(0, 2, 3), (1, 3, 3), (1, 2, 4)]]
    assert not any((first == other).all() for other in others)


@pytest.mark.parametrize("wrong", [{"block": 18}, {"block": 0}, {"ratio": 0}, {"ratio": 1}, {"ratio": 1.5}])
def test_wrong_arguments(wrong):
    with pytest.raises(UsageError):
        BlockwiseMasking(**wrong)


def test_a_size_that_blocks_do_not_tile_names_the_nearest():
    with pytest.raises(UsageError, match="224 x 112"):
        BlockwiseMasking()((220, 116), seed=0)


@given(share=st.floats(0.05, 1), ratio=st.floats(0.2, 0.8), block=st.sampled_from([16, 32]), seed=st.integers(0, 50))
def test_within_the_breast_nothing_is_spent_on_background(share, ratio, block, seed):
    size, patches = (128, 64), block // 4
    breast = np.random.default_rng(seed).random((32, 16)) < share / patches**2
    masking = BlockwiseMasking(block, ratio, within="breast")
    held = breast.reshape(128 // block, patches, 64 // block, patches).any(axis=(1, 3))
    hidden = round(ratio * held.sum())
    if not 0 < hidden < held.size:
        with pytest.raises(DataError):
            masking(size, seed=seed, breast=breast.ravel())
        return
    mask = masking(size, seed=seed, breast=breast.ravel()).reshape(128 // block, patches, 64 // block, patches)
    blocks = mask.any(axis=(1, 3))
    assert blocks.sum() == hidden
    assert not (blocks & ~held).any()


def test_within_the_breast_needs_one():
    with pytest.raises(UsageError, match="each patch"):
        BlockwiseMasking(within="breast")((64, 32), seed=0)
    with pytest.raises(UsageError, match="within"):
        BlockwiseMasking(within="nipple")
