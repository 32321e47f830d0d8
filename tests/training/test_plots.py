from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mammo_hf import plotting as plots
from mammo_hf.errors import DataError
from mammo_hf.metrics.classification import auroc, roc_curve
from mammo_hf.metrics.inputs import UndefinedMetric


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved, to look at what is in them."""
    figures: list[Figure] = []
    save = plots.save_figure

    def keep(figure: Figure, path: Any) -> Path:
        figures.append(figure)
        return save(figure, path)

    monkeypatch.setattr(plots, "save_figure", keep)
    return figures


def _history(epochs: int = 4, logs: int = 5) -> list[dict[str, Any]]:
    """As the Trainer leaves it: losses by step, one evaluation an epoch, a summary at the end."""
    history: list[dict[str, Any]] = []
    for step in range(1, epochs * logs + 1):
        history.append({"loss": 1 / step, "grad_norm": 1.0, "learning_rate": 1e-3, "epoch": step / logs, "step": step})
        if step % logs == 0:
            epoch = step / logs
            metrics = {"eval_pathology_auroc": 0.5 + epoch / 20, "eval_pathology_accuracy": 0.4 + epoch / 20}
            history.append({"eval_loss": 2 / step, **metrics, "epoch": epoch, "step": step})
    history.append({"train_runtime": 1.0, "train_loss": 0.2, "epoch": float(epochs), "step": epochs * logs})
    return history


def _line(figure: Figure, label: str, axes: int = 0) -> tuple[np.ndarray, np.ndarray]:
    (line,) = (line for line in figure.axes[axes].lines if line.get_label() == label)
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def _texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def test_losses_are_drawn_by_step_with_epochs_above(tmp_path: Path, drawn: list[Figure]) -> None:
    path = plots.plot_loss_curves(_history(), tmp_path / "loss.png", "Stage 1")
    with Image.open(path) as picture:
        picture.verify()
        assert picture.format == "PNG"
        assert 800 <= picture.width <= 2000
    assert path.stat().st_size < 200_000
    steps, losses = _line(drawn[0], "training")
    np.testing.assert_allclose(losses, 1 / steps)
    assert steps.tolist() == list(range(1, 21))
    steps, losses = _line(drawn[0], "validation")
    np.testing.assert_allclose(losses, [2 / 5, 2 / 10, 2 / 15, 2 / 20])
    assert "Stage 1" in _texts(drawn[0])
    assert {"optimiser step", "epoch", "loss"} <= set(_texts(drawn[0]).split("\n"))
    (top,) = drawn[0].axes[0].child_axes
    bottom_end, top_end = drawn[0].axes[0].get_xlim()[1], top.get_xlim()[1]
    assert top_end == pytest.approx(bottom_end / 5)


def test_of_a_step_logged_twice_the_later_counts(tmp_path: Path, drawn: list[Figure]) -> None:
    # a run that broke at step 20 and was resumed from step 10
    resumed = [{**entry, "loss": 7.0} for entry in _history() if "loss" in entry and entry["step"] > 10]
    plots.plot_loss_curves(_history() + resumed, tmp_path / "loss.png", "Stage 1")
    steps, losses = _line(drawn[0], "training")
    assert steps.tolist() == list(range(1, 21))
    np.testing.assert_allclose(losses, [1 / step for step in range(1, 11)] + [7.0] * 10)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_a_loss_that_is_not_finite_is_a_gap_and_counted(tmp_path: Path, drawn: list[Figure], bad: float | None) -> None:
    history = _history()
    history[2]["loss"] = bad
    plots.plot_loss_curves(history, tmp_path / "loss.png", "Stage 1")
    _, losses = _line(drawn[0], "training")
    assert np.flatnonzero(np.isnan(losses)).tolist() == [2]
    assert "1 of 20 training losses are not finite" in _texts(drawn[0])


def test_many_logs_are_drawn_with_their_running_mean(tmp_path: Path, drawn: list[Figure]) -> None:
    history: list[dict[str, Any]] = [
        {"loss": 1.0 + (-1) ** step, "step": step, "epoch": step / 50} for step in range(1, 151)
    ]
    history[70]["loss"] = float("nan")
    plots.plot_loss_curves(history, tmp_path / "loss.png", "Stage 1")
    raw, mean = drawn[0].axes[0].lines
    assert np.nanmax(np.asarray(raw.get_ydata())) == 2
    smooth = np.asarray(mean.get_ydata())
    assert np.abs(smooth[10:60] - 1).max() < 0.1
    assert np.flatnonzero(np.isnan(smooth)).tolist() == [70]


@pytest.mark.parametrize(
    ("history", "remarks"),
    [
        ([], ["no training loss was logged", "no validation loss was logged"]),
        ([{"train_runtime": 1.0, "step": 3, "epoch": 1.0}], ["no training loss was logged"]),
        ([{"loss": 1.0, "step": 1, "epoch": 0.0}], ["no validation loss was logged"]),
    ],
)
def test_what_was_not_logged_is_said(
    tmp_path: Path, drawn: list[Figure], history: list[dict[str, Any]], remarks: list[str]
) -> None:
    assert plots.plot_loss_curves(history, tmp_path / "loss.png", "Stage 1").is_file()
    assert all(remark in _texts(drawn[0]) for remark in remarks)


def test_a_loss_that_is_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'loss' is not a number"):
        plots.plot_loss_curves([{"loss": "0.1", "step": 1, "epoch": 1.0}], tmp_path / "loss.png", "Stage 1")


def test_metrics_are_drawn_by_epoch_and_task(tmp_path: Path, drawn: list[Figure]) -> None:
    history = _history()
    for entry in history:
        if "eval_loss" in entry:
            entry |= {"eval_density_auroc": 0.3, "eval_density_balanced_accuracy": 0.2, "eval_density_accuracy": 0.1}
            entry["eval_pathology_auroc_interval"] = [0.1, 0.2]
    path = plots.plot_metric_curves(history, tmp_path / "metrics.png")
    with Image.open(path) as picture:
        assert picture.width > picture.height
    epochs, areas = _line(drawn[0], "pathology", axes=0)
    assert epochs.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(areas, [0.55, 0.6, 0.65, 0.7])
    np.testing.assert_allclose(_line(drawn[0], "density", axes=1)[1], [0.1] * 4)
    assert [line.get_label() for line in drawn[0].axes[0].lines] == ["pathology", "density", "chance"]
    for axes in drawn[0].axes:
        low, high = axes.get_ylim()
        assert all(low < np.nanmin(line.get_ydata()) and np.nanmax(line.get_ydata()) < high for line in axes.lines)


def test_an_undefined_metric_is_a_gap_or_said(tmp_path: Path, drawn: list[Figure]) -> None:
    history = _history()
    evaluations = [entry for entry in history if "eval_loss" in entry]
    evaluations[0]["eval_pathology_auroc"] = None
    for entry in evaluations:
        entry |= {"eval_density_auroc": None, "eval_density_auroc_reason": "one class", "eval_density_accuracy": 0.5}
    plots.plot_metric_curves(history, tmp_path / "metrics.png")
    assert np.isnan(_line(drawn[0], "pathology")[1]).tolist() == [True, False, False, False]
    assert "density: AUC not defined in any evaluation" in _texts(drawn[0])
    assert "pathology: " not in _texts(drawn[0])
    assert _line(drawn[0], "density", axes=1)[1].tolist() == [0.5] * 4


def test_no_metric_at_all_is_said(tmp_path: Path, drawn: list[Figure]) -> None:
    assert plots.plot_metric_curves([], tmp_path / "metrics.png").is_file()
    assert "no metric was logged" in _texts(drawn[0])


def _scores() -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(60) % 2
    return labels, np.random.default_rng(0).normal(size=60) + labels


def test_the_roc_curve_of_one_model(tmp_path: Path, drawn: list[Figure]) -> None:
    labels, scores = _scores()
    path = plots.plot_roc(labels, scores, tmp_path / "roc.png", interval=(0.61, 0.89), label="token loss", title="Test")
    with Image.open(path) as picture:
        assert picture.height > picture.width > 500
    text = f"token loss: AUC {auroc(labels, scores):.2f}\n95 % interval 0.61 to 0.89"
    false_positive_rate, true_positive_rate = _line(drawn[0], text)
    expected = roc_curve(labels, scores)
    np.testing.assert_array_equal(false_positive_rate, expected[0])
    np.testing.assert_array_equal(true_positive_rate, expected[1])
    assert "30 positive, 30 negative" in _texts(drawn[0])


def test_roc_curves_of_several_models_differ_in_colour_and_line(tmp_path: Path, drawn: list[Figure]) -> None:
    labels, scores = _scores()
    plots.plot_roc(labels, {"one": scores, "two": -scores}, tmp_path / "roc.png", interval={"two": (0.1, 0.3)})
    curves = [line for line in drawn[0].axes[0].lines if "chance" not in str(line.get_label())]
    assert len({line.get_color() for line in curves}) == len({line.get_linestyle() for line in curves}) == 2
    assert ["interval" in str(line.get_label()) for line in curves] == [False, True]


def test_a_roc_curve_that_is_not_defined_is_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(UndefinedMetric, match="negative"):
        plots.plot_roc([0, 0], [0.1, 0.2], tmp_path / "roc.png")
    assert not (tmp_path / "roc.png").exists()


def test_drawing_leaves_matplotlibs_settings_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    plots.plot_loss_curves(_history(), tmp_path / "loss.png", "Stage 1")
    plots.plot_roc(*_scores(), tmp_path / "roc.png")
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_imported() -> None:
    code = "import sys, mammo_hf.plotting, mammo_hf.plotting; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
