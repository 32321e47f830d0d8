"""What an explainer is: the contract that ours and every plugin keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

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
