"""Explainers found through the entry-point group ``mammo_hf.explainers``.

A plugin is a module with three names (see ``Explainer``): ``REQUIRES``, ``available()`` and
``explain_map(model, pixel_values, target)``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from ..errors import UsageError

# What an explainer is: the contract that ours and every plugin keep.


Facts = Mapping[str, Sequence[float]]


class Explainer(Protocol):
    """What a plugin offers under its name, usually as a module with these three names.

    A module may also say ``SUPERVISED = True``, where its map was taught from lesions' places: it is then named so
    wherever it is listed or measured.

    Attributes:
        REQUIRES: The packages it needs beyond mammo_hf's own, as pip knows them.
    """

    REQUIRES: tuple[str, ...]

    def available(self) -> bool:
        """Whether those packages are there; must not raise where they are not."""

    def explain_map(
        self, model: PreTrainedModel, pixel_values: torch.Tensor, target: Sequence[int], **options: Any
    ) -> torch.Tensor | tuple[torch.Tensor, Facts]:
        """Maps of where a score comes from; the model must come back as it was (see ``lent``).

        Args:
            model: A classifier whose output has ``logits`` (batch, labels).
            pixel_values: (batch, channels, height, width), normalised.
            target: For each image an index into the logits; ``score`` makes what is to be differentiated of it.
            options: Keyword arguments of the explainer's own, which ``explain`` passes on.

        Returns:
            (batch, rows, columns) of any grid over the image, or (batch, heads, rows, columns), whose mean over heads
            is the map. Finite; any scale, larger for stronger; what is below 0 speaks against the target and is drawn
            as 0. Beside it, where the explainer has something to report,
            a mapping from a name to a number for each image, which becomes ``Explanation.facts``.
        """


GROUP = "mammo_hf.explainers"


@dataclass(frozen=True)
class Found:
    """One explainer that an installed package offers.

    Attributes:
        name: As it is called in ``explain(..., explainer=name)``.
        module: The plugin; ``None`` where it cannot be used.
        reason: Why it cannot be used; ``None`` where it can.
        about: The first line of its module's docstring.
        supervised: Whether its map was taught from lesions' places.
    """

    name: str
    module: Explainer | None
    reason: str | None
    about: str = ""
    supervised: bool = False


def explainers() -> dict[str, Found]:
    """All explainers by name; a broken or incomplete one is listed with its reason and hinders no other.

    Where two packages offer one name, mammo_hf's own has it, or else the first by the package's name; the other is
    listed as "name (package)" and cannot be used.
    """
    found = {}
    for name, entry in _offered().items():
        taken = name != entry.name
        found[name] = Found(name, None, f"the name {entry.name} is taken") if taken else _load(entry)
    return found


def find_explainer(name: str) -> Explainer:
    """The explainer of a name; no other plugin is imported.

    Raises:
        UsageError: There is none (the nearest name is told), or it cannot be used (with the reason).
    """
    offered = {key: entry for key, entry in _offered().items() if key == entry.name}
    if name not in offered:
        near = difflib.get_close_matches(name, offered, n=1)
        hint = f"did you mean {near[0]}? There are: " if near else "there are: "
        raise UsageError("is no explainer", source=name, remedy=hint + ", ".join(sorted(offered)))
    found = _load(offered[name])
    if found.module is None:
        raise UsageError(
            f"this explainer cannot be used: {found.reason}", source=name, remedy="mend or remove its package"
        )
    return found.module


def _offered() -> dict[str, EntryPoint]:
    """Entry points by name, those whose name is taken by "name (package)"."""
    offered: dict[str, EntryPoint] = {}
    # a distribution could call itself anything; what lies in our own room is ours
    ours_first = sorted(
        entry_points(group=GROUP),
        key=lambda entry: (not entry.value.startswith("mammo_hf.explainers."), _package(entry)),
    )
    for entry in ours_first:
        offered[entry.name if entry.name not in offered else f"{entry.name} ({_package(entry)})"] = entry
    return offered


def _package(entry: EntryPoint) -> str:
    return entry.value if entry.dist is None else entry.dist.name


def _load(entry: EntryPoint) -> Found:
    try:
        plugin = entry.load()
        lacking = [name for name in ("REQUIRES", "available", "explain_map") if not hasattr(plugin, name)]
        if lacking:
            return Found(entry.name, None, f"{entry.value} has no {', '.join(lacking)}")
        if not plugin.available():
            return Found(entry.name, None, f"needs {', '.join(plugin.REQUIRES)}")
    except (Exception, SystemExit) as error:
        # whatever a stranger's module raises on import must not take the others down; the reason is kept
        return Found(entry.name, None, f"{type(error).__name__}: {error}")
    about = next(iter((getattr(plugin, "__doc__", None) or "").strip().splitlines()), "")
    return Found(entry.name, plugin, None, about, bool(getattr(plugin, "SUPERVISED", False)))
