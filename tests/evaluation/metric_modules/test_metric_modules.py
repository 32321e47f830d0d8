from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import mammo_hf.evaluation as evaluation
from mammo_hf.errors import UsageError
from mammo_hf.evaluation.metric_modules import metric_names, metric_path


@pytest.fixture(autouse=True, scope="module")
def _alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No network, and evaluate's copies of the modules in a folder of these tests' own (one a process: it imports)."""
    import evaluate

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", folder / "modules")
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", folder / "metrics")
        patch.syspath_prepend(str(folder / "modules"))
        _forget_copies()  # another test of this process may have had its own, from another folder
        yield
    _forget_copies()


def _forget_copies() -> None:
    """A package that Python has imported once is looked for in that folder alone from then on."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "evaluate_modules"]:
        del sys.modules[name]


def _inputs(name: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    if name == "auroc":
        # 30,000 scores within a hair of each other: 32 bits would tie many of them
        labels = rng.integers(0, 2, 30_000)
        return {"references": labels, "prediction_scores": 0.5 + 1e-5 * (labels + rng.normal(size=labels.size))}
    labels = np.arange(300) % 3
    if name not in ("accuracy", "balanced_accuracy", "macro_auroc", "quadratic_kappa"):
        return {"references": labels // 2, "prediction_scores": rng.random(300)}
    if name == "macro_auroc":
        return {"references": labels, "prediction_scores": rng.dirichlet(np.ones(3), 300)}
    return {"references": labels, "predictions": rng.integers(0, 3, 300)}


@pytest.mark.parametrize("name", metric_names())
def test_each_module_loads_offline_and_equals_its_function(name: str) -> None:
    import evaluate

    inputs = _inputs(name)
    result = evaluate.load(metric_path(name)).compute(**inputs)
    assert result == {name: getattr(evaluation, name)(*inputs.values())}


def test_batches_add_up_and_an_undefined_value_does_not_stop_the_metric() -> None:
    import evaluate

    metric = evaluate.load(metric_path("auroc"))
    assert metric.compute(references=[0, 0], prediction_scores=[0.1, 0.2]) == {
        "auroc": None,
        "auroc_reason": "all 2 images are negative",
    }
    metric.add_batch(references=[0, 1], prediction_scores=[0.1, 0.2])
    metric.add_batch(references=[0, 1], prediction_scores=[0.3, 0.15])
    assert metric.compute() == {"auroc": evaluation.auroc([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.15])}


def test_options_of_a_function_are_arguments_of_compute() -> None:
    import evaluate

    labels, scores = np.arange(200) % 2, np.random.default_rng(0).random(200)
    metric = evaluate.load(metric_path("sensitivity_at_specificity"))
    found = metric.compute(references=labels, prediction_scores=scores, specificity=0.5)
    assert found == {"sensitivity_at_specificity": evaluation.sensitivity_at_specificity(labels, scores, 0.5)}
    assert found != metric.compute(references=labels, prediction_scores=scores)


def test_the_names_are_those_of_functions_and_files() -> None:
    assert {"accuracy", "auroc", "balanced_accuracy", "macro_auroc"} <= set(metric_names())
    for name in metric_names():
        assert Path(metric_path(name)).is_file()
        assert callable(getattr(evaluation, name))


def test_an_unknown_metric_is_told_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no metric 'auc'.*auroc"):
        metric_path("auc")


def test_the_modules_are_importable_from_the_package() -> None:
    # what an installed wheel must hold: the folders count as packages, so that setuptools takes them along
    for name in metric_names():
        assert importlib.util.find_spec(f"mammo_hf.evaluation.metric_modules.{name}.{name}") is not None
