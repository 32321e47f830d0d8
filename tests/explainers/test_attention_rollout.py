import pytest
import torch
from dense_swin import dense_rollout, stock_classifier

from mammo_hf.explainers import attention_rollout
from mammo_hf.testing import check_explainer, tiny_classifier


def test_keeps_the_contract():
    check_explainer("attention_rollout", depends_on_target=False)


@pytest.mark.parametrize(
    ("size", "depths"),
    [
        ((112, 56), (2, 2)),  # rectangle, shifted in the first stage
        ((112, 112), (1, 2, 1)),  # three stages, of 28, 14 and 7 tokens a side
        ((72, 116), (2, 1)),  # 18 x 29 and 9 x 15 tokens: padded in both stages, an odd side merged
        ((64, 36), (2,)),  # one stage, padded and shifted
    ],
)
def test_equals_the_product_of_whole_matrices(size, depths):
    model, pixels = stock_classifier(size, depths), torch.randn(2, 1, *size)
    found = attention_rollout.explain_map(model, pixels, [0, 0])
    for index in range(2):
        expected = dense_rollout(model, pixels[index : index + 1])
        torch.testing.assert_close(found[index], expected, rtol=1e-4, atol=1e-7)


def test_nothing_of_the_relevance_is_lost():
    found = attention_rollout.explain_map(stock_classifier((72, 116), (2, 2)), torch.randn(1, 1, 72, 116), [0])
    torch.testing.assert_close(found.sum(), torch.tensor(1.0))
    assert (found >= 0).all()


def test_can_end_at_a_later_stage():
    model, pixels = tiny_classifier(), torch.randn(1, 1, 112, 56)
    late = attention_rollout.explain_map(model, pixels, [0], stage=-1)
    assert late.shape == (1, 14, 7)
    torch.testing.assert_close(late.sum(), torch.tensor(1.0))
