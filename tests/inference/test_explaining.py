import pytest
import torch

from mammo_hf.errors import UsageError
from mammo_hf.explainers import explain
from mammo_hf.inference.scoring import explain_tasks
from mammo_hf.testing import tiny_classifier


@pytest.fixture
def model():
    return tiny_classifier()


@pytest.mark.parametrize("tasks", [["pathology", "density"], ["density"], ["density", "pathology"]])
def test_a_label_of_each_task_is_explained(model, tasks):
    pixels = torch.randn(3, 1, 112, 56)
    logits, found = explain_tasks(model, pixels, "grad_cam", tasks=tasks)
    with torch.no_grad():
        expected = model(pixel_values=pixels).logits
    assert torch.allclose(logits, expected, atol=1e-5)
    # of two labels the positive one, of more the predicted one
    first = {"pathology": [1, 1, 1], "density": expected[:, 2:].argmax(-1) + 2}
    for index, of_image in enumerate(found):
        assert list(of_image) == [int(first[task][index]) for task in tasks]
        for place, explanation in of_image.items():
            assert len(explanation.map) == 1
            alone = explain(model, pixels[index : index + 1], place, "grad_cam")
            assert abs(explanation.map - alone.map).max() < 1e-4


def test_a_target_is_explained_instead(model):
    pixels = torch.randn(2, 1, 112, 56)
    _, found = explain_tasks(model, pixels, "grad_cam", tasks=["pathology"], target=["density:c", "malignant"])
    assert [list(of_image) for of_image in found] == [[4, 1], [4, 1]]
    assert found[0][4].target == ("density:c",)


def test_a_label_that_is_not_there_is_refused(model):
    with pytest.raises(UsageError, match="not a label"):
        explain_tasks(model, torch.randn(1, 1, 112, 56), "grad_cam", tasks=["pathology"], target="benignant")
    with pytest.raises(UsageError, match="names no label"):
        explain_tasks(model, torch.randn(1, 1, 112, 56), "grad_cam", tasks=["pathology"], target=[])
