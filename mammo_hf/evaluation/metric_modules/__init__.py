"""Metric modules for Hugging Face ``evaluate`` that load from this package, without a network.

``evaluate.load(metric_path("auroc"))`` gives a metric that computes exactly what the function of the same name does.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import UsageError

_FOLDER = Path(__file__).parent


def metric_names() -> list[str]:
    """The names that :func:`metric_path` knows, sorted."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/*.py") if path.stem == path.parent.name)


def metric_path(name: str) -> str:
    """Where a metric module lies, for ``evaluate.load``.

    Args:
        name: One of :func:`metric_names`, such as ``"auroc"``.

    Returns:
        The path of the module's file.

    Raises:
        UsageError: There is no metric of that name.
    """
    if name not in metric_names():
        raise UsageError(f"no metric '{name}'", source="metric_path", remedy=f"choose from {', '.join(metric_names())}")
    return str(_FOLDER / name / f"{name}.py")
