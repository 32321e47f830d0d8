import numpy as np
import pytest
import torch
from dense_swin import stock_classifier

from mammo_hf import MammoSwinConfig
from mammo_hf.errors import UsageError
from mammo_hf.explainers.targets import fixed_target, label_names, predicted, resolve, score, task_slices
from mammo_hf.testing import tiny_classifier


@pytest.fixture(scope="module")
def config():
    return tiny_classifier().config  # pathology: benign, malignant; density: a, b, c


def test_a_label_a_full_name_and_an_index_are_the_same(config):
    assert resolve("malignant", 2, config) == [1, 1]
    assert resolve("pathology:malignant", 1, config) == [1]
    assert resolve(1, 1, config) == [1]
    assert resolve(np.int64(4), 1, config) == resolve("density:c", 1, config) == [4]


@pytest.mark.parametrize("each", [["c", 0], ("density:c", 0), np.array([4, 0]), torch.tensor([4, 0])])
def test_one_for_each_image(config, each):
    assert resolve(each, 2, config) == [4, 0]


@pytest.mark.parametrize("wrong", ["nothing", 9, -1, 1.0, ["benign"], ["benign", None], "pathology:a", "pathology"])
def test_what_is_no_label_is_refused_with_those_that_are(config, wrong):
    with pytest.raises(UsageError, match=r"pathology:benign|one per image"):
        resolve(wrong, 2, config)


def test_the_most_severe_of_several_labels_is_explained_if_the_mapping_says_so(tmp_path):
    labels = {"labels": ["a", "b", "c"]}
    tasks = [{"name": "density", **labels}, {"name": "birads", **labels, "severity": True}]
    MammoSwinConfig(tasks=tasks).save_pretrained(tmp_path)
    config = MammoSwinConfig.from_pretrained(tmp_path)
    assert (fixed_target(config, "density"), fixed_target(config, "birads")) == (None, 5)


def test_a_label_of_several_tasks_is_refused():
    tasks = {"pathology": ["benign", "malignant"], "density": ["a", "b", "benign"]}
    config = MammoSwinConfig(tasks=[{"name": name, "labels": labels} for name, labels in tasks.items()])
    with pytest.raises(UsageError, match="several tasks"):
        resolve("benign", 1, config)
    assert resolve("pathology:benign", 1, config) == [0]


def test_the_prediction_is_the_first_tasks(config):
    # density's logits are larger, but they are another task's
    assert predicted(torch.tensor([[0.0, 1.0, 9, 9, 9], [1.0, 0.0, 9, 9, 9]]), config) == [1, 0]


def test_the_score_is_against_the_rivals_of_the_same_task(config):
    logits = torch.tensor([[1.0, 4.0, 2.0, 6.0, 1.0]])
    assert score(logits, [1], config) == 3
    assert score(logits, [0], config) == -3
    assert score(logits, [3], config) == 6 - 1.5
    assert score(logits.repeat(2, 1), [1, 3], config) == 3 + 4.5


def test_what_all_labels_share_does_not_count(config):
    logits = torch.randn(2, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(score(logits, [1, 3], config), logits)
    torch.testing.assert_close(gradient.sum(1), torch.zeros(2))


def test_stock_models_have_one_task_without_a_name():
    config = stock_classifier((56, 56), num_labels=3).config
    assert task_slices(config) == {"": slice(0, 3)}
    assert label_names(config) == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert resolve("LABEL_2", 1, config) == [2]
    one = stock_classifier((56, 56), num_labels=1).config
    assert score(torch.tensor([[2.5]]), [0], one) == 2.5


def test_tasks_are_known_also_to_the_stock_class(tmp_path):
    from transformers import SwinForImageClassification

    tiny_classifier().save_pretrained(tmp_path)
    stock = SwinForImageClassification.from_pretrained(tmp_path)
    assert type(stock.config).__name__ == "SwinConfig"
    assert task_slices(stock.config) == {"pathology": slice(0, 2), "density": slice(2, 5)}
