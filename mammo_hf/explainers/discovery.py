"""Explainers found through the entry-point group ``mammo_hf.explainers``.

A plugin is a module with three names: ``REQUIRES``, the packages it needs; ``available()``, whether they are there; and
``explain_map(model, pixel_values, target)``, which gives a map (batch, rows, columns) of any grid.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from ..errors import UsageError

GROUP = "mammo_hf.explainers"


@dataclass(frozen=True)
class Found:
    """One explainer that an installed package offers.

    Attributes:
        name: As it is called in ``explain(..., explainer=name)``.
        module: The plugin; ``None`` where it cannot be used.
        reason: Why it cannot be used; ``None`` where it can.
    """

    name: str
    module: ModuleType | None
    reason: str | None


def explainers() -> dict[str, Found]:
    """All explainers by name; a broken or incomplete one is listed with its reason and hinders no other."""
    # ours last, so that no plugin takes the place of a built-in one
    entries = sorted(entry_points(group=GROUP), key=lambda entry: entry.value.startswith("mammo_hf."))
    return {entry.name: _load(entry) for entry in entries}


def find_explainer(name: str) -> ModuleType:
    """The explainer of a name.

    Raises:
        UsageError: There is none (the nearest name is told), or it cannot be used (with the reason).
    """
    found = explainers()
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean {near[0]}? There are: " if near else "there are: "
        raise UsageError("is no explainer", source=name, remedy=hint + ", ".join(sorted(found)))
    if found[name].module is None:
        raise UsageError(f"this explainer cannot be used: {found[name].reason}", source=name)
    module = found[name].module
    assert module is not None
    return module


def _load(entry: EntryPoint) -> Found:
    try:
        module = entry.load()
        if not callable(getattr(module, "explain_map", None)):
            return Found(entry.name, None, "has no function explain_map")
        if not module.available():
            return Found(entry.name, None, f"needs {', '.join(module.REQUIRES)}")
    except Exception as error:
        # whatever a stranger's module raises on import must not take the others down; the reason is kept
        return Found(entry.name, None, f"{type(error).__name__}: {error}")
    return Found(entry.name, module, None)
