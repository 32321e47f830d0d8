"""Plug-ins: what installed packages offer as entry points, for every group in the same way.

A package that cannot be used is listed with its reason and hinders no other. What belongs to mammo_hf keeps its name
even if another package offers the same one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import MammoError, UsageError, did_you_mean

logger = logging.getLogger(__name__)


class PluginError(MammoError):
    """Error of a plug-in while it was at work; the log has its traceback."""


@dataclass(frozen=True)
class Plugin:
    """A plug-in of an installed package.

    Attributes:
        object: What the entry point names, a module as a rule; ``None`` if it cannot be used.
        reason: Why it cannot be used; ``None`` if it can.
    """

    object: Any
    reason: str | None = None

    @property
    def about(self) -> str:
        """The first line of its docstring."""
        return next(iter((getattr(self.object, "__doc__", None) or "").strip().splitlines()), "") if self.object else ""


def offered(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, our own first; no plug-in is imported.

    If two packages offer one name, mammo_hf's own has it, or else the first by the package's name; the other is listed
    as "name (package)".
    """
    found: dict[str, EntryPoint] = {}
    # a distribution may have any name; what is in this package is ours
    ours_first = sorted(
        entry_points(group=group), key=lambda entry: (not entry.value.startswith("mammo_hf."), _package(entry))
    )
    for entry in ours_first:
        found[entry.name if entry.name not in found else f"{entry.name} ({_package(entry)})"] = entry
    return found


def plugins(group: str, names: Sequence[str]) -> dict[str, Plugin]:
    """Return all plug-ins of a group by name, those that cannot be used with their reason.

    Args:
        group: Group of entry points, such as ``mammo_hf.explainers``.
        names: Names that a plug-in of this group must have.
    """
    return {
        name: _load(entry, names) if name == entry.name else Plugin(None, f"the name {entry.name} is taken")
        for name, entry in offered(group).items()
    }


def find_plugin(group: str, name: str, names: Sequence[str], *, kind: str, others: Sequence[str] = ()) -> Any:
    """Return the plug-in of a name; no other one is imported.

    Args:
        group: Group of entry points.
        name: Name of the plug-in.
        names: Names that a plug-in of this group must have.
        kind: What a plug-in of this group is called, for messages: "explainer".
        others: Further names that the user may have meant.

    Raises:
        UsageError: There is none (the nearest name is suggested), or it cannot be used (with the reason).
    """
    known = {key: entry for key, entry in offered(group).items() if key == entry.name}
    if name not in known:
        there_are = sorted({*known, *others})
        remedy = f"{did_you_mean(name, there_are)}there are: {', '.join(there_are)}"
        raise UsageError(f"is not a known {kind}", source=name, remedy=remedy)
    found = _load(known[name], names)
    if found.reason is not None:
        problem = f"this {kind} cannot be used: {found.reason}"
        raise UsageError(problem, source=name, remedy="fix or remove its package")
    return found.object


@contextmanager
def plugin_errors(kind: str, name: str) -> Iterator[None]:
    """Turn whatever a plug-in raises into an error that names it; an error for the user is left as it is.

    Args:
        kind: What a plug-in of its group is called: "explainer".
        name: Name of the plug-in.

    Raises:
        PluginError: It raised something else than a `MammoError`.
    """
    try:
        yield
    except MammoError:
        raise
    except Exception as error:
        logger.info("%s %s", kind, name, exc_info=True)
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        remedy = f"use another {kind}, or report this to its author"
        raise PluginError(f"this {kind} failed with {reason}", source=name, remedy=remedy) from error


@cache
def pass_over(reason: str) -> None:
    """Warn, once per reason, that a plug-in is passed over."""
    logger.warning("passed over: %s", reason)


def _package(entry: EntryPoint) -> str:
    return entry.value if entry.dist is None else entry.dist.name


def _load(entry: EntryPoint, names: Sequence[str]) -> Plugin:
    try:
        plugin = entry.load()
        lacking = [name for name in names if not hasattr(plugin, name)]
        if lacking:
            return Plugin(None, f"{entry.value} has no {', '.join(lacking)}")
        if hasattr(plugin, "available") and not plugin.available():
            return Plugin(None, f"needs {', '.join(plugin.REQUIRES)}")
    except (Exception, SystemExit) as error:
        # whatever another package raises on import must not take the others down; the reason is kept
        return Plugin(None, f"{type(error).__name__}: {error}")
    return Plugin(plugin)
