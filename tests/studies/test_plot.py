from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mammo_hf.evaluation.study_tables import plot_label_efficiency
from mammo_hf.plotting import save_figure


def _row(arm: str, percentage: float, auroc: float | None, **changes: Any) -> dict[str, Any]:
    low_high = None if auroc is None else [auroc - 0.1, auroc + 0.05]
    return {"arm": arm, "percentage": percentage, "auroc": auroc, "interval": low_high, "baseline": False, **changes}


def test_each_arm_is_drawn_at_its_shares_with_its_interval() -> None:
    rows = [_row("pre-trained", 100, 0.8), _row("pre-trained", 10, 0.7), _row("statistics", 10, 0.6, baseline=True)]
    figure = plot_label_efficiency(rows, "pathology")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert list(axes.get_xticks()) == [10, 100]
    assert axes.get_legend_handles_labels()[1] == ["pre-trained", "statistics"]
    line, _, (bars,) = axes.containers[0]
    assert list(line.get_ydata()) == [0.7, 0.8]
    ends = sorted(float(y) for segment in bars.get_segments() for y in segment[:, 1])
    assert ends == pytest.approx([0.6, 0.7, 0.75, 0.85])


def test_what_has_no_figure_is_left_out_and_what_has_no_interval_has_no_bar() -> None:
    figure = plot_label_efficiency([_row("scratch", 10, 0.5, interval=None), _row("failed", 10, None)])
    axes = figure.axes[0]
    assert axes.get_legend_handles_labels()[1] == ["scratch"]
    _, _, (bars,) = axes.containers[0]
    assert {float(y) for segment in bars.get_segments() for y in segment[:, 1]} == {0.5}


def test_as_a_picture_it_is_small(tmp_path: Path) -> None:
    rows = [_row(arm, percentage, 0.7) for arm in ("scratch", "pre-trained") for percentage in (10, 25, 100)]
    path = save_figure(plot_label_efficiency(rows, "pathology"), tmp_path / "plot.png")
    assert path.stat().st_size < 200_000
