import pytest
import torch
from dense_swin import stock_classifier

from mammo_hf.errors import UsageError
from mammo_hf.explainers import explain
from mammo_hf.explainers.lesion_head import lesion_head
from mammo_hf.testing import check_explainer, tiny_classifier


def taught(num_channels=1, **options):
    return tiny_classifier(num_channels, lesion_task="pathology", **options)


def test_keeps_the_contract():
    check_explainer("lesion_head", model=taught, other_targets=[0, 1])


def test_is_the_heads_probability():
    model, pixels = taught(), torch.randn(2, 1, 112, 56)
    with torch.no_grad():
        chances = model(pixels).lesion_logits.softmax(1)
    found = lesion_head.explain_map(model, pixels, [1, 0])
    torch.testing.assert_close(found, torch.stack([chances[0, 2], chances[1, 1]]))
    explanation = explain(model, pixels, "malignant", "lesion_head")
    assert explanation.supervised
    assert "trained on lesion annotations" in explanation.caption()
    assert not explain(model, pixels, "malignant").supervised


def test_labels_of_another_task_and_models_without_the_head_are_refused():
    pixels = torch.randn(1, 1, 112, 56)
    with pytest.raises(UsageError, match="density:b is not a label of the lesion head"):
        explain(taught(), pixels, "density:b", "lesion_head")
    for model in (tiny_classifier(), stock_classifier((112, 56))):
        with pytest.raises(UsageError, match="has no lesion head"):
            explain(model, pixels, 0, "lesion_head")
