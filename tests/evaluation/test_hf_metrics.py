from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import numpy as np
import pytest

import mammo_hf.evaluation as evaluation
from mammo_hf.errors import UsageError
from mammo_hf.evaluation import METRIC_MODULE
from mammo_hf.evaluation.hf_metrics import METRICS


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


@pytest.mark.parametrize("name", METRICS)
def test_each_module_loads_offline_and_equals_its_function(name: str) -> None:
    import evaluate

    inputs = _inputs(name)
    result = evaluate.load(METRIC_MODULE, name).compute(**inputs)
    assert result == {name: getattr(evaluation, name)(*inputs.values())}


def test_batches_add_up_and_an_undefined_value_does_not_stop_the_metric() -> None:
    import evaluate

    metric = evaluate.load(METRIC_MODULE, "auroc")
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
    metric = evaluate.load(METRIC_MODULE, "sensitivity_at_specificity")
    found = metric.compute(references=labels, prediction_scores=scores, specificity=0.5)
    assert found == {"sensitivity_at_specificity": evaluation.sensitivity_at_specificity(labels, scores, 0.5)}
    assert found != metric.compute(references=labels, prediction_scores=scores)


def test_the_names_are_those_of_functions() -> None:
    assert {"accuracy", "auroc", "balanced_accuracy", "macro_auroc"} <= set(METRICS)
    assert all(callable(getattr(evaluation, name)) for name in METRICS)


@pytest.mark.parametrize("name", ["auc", None])
def test_an_unknown_metric_is_refused_with_the_known_ones(name: str | None) -> None:
    import evaluate

    with pytest.raises(UsageError, match=r"is not a metric; give one of .*auroc"):
        evaluate.load(METRIC_MODULE, name)
