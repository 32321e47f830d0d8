"""The grid of a study of label efficiency: arms, at percentages of the labels, seeds and folds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ..errors import UsageError

POOLS = ("mean", "all_stages", "whole", "tiles")
EMBEDDED = {"whole": "whole view", "tiles": "whole view and tiles"}  # pools of the features that `embed` computes
SCANNER, BOOSTED = "scanner and file format", ", boosted"
BASELINES = (
    *("image statistics", f"image statistics{BOOSTED}", "acquisition statistics", "image and acquisition statistics"),
    *("brightest pixel", SCANNER),
)
SCRATCH, STOCK, FROZEN_RANDOM = "scratch", "stock", "random"
UPDATES = 3000  # of each training, whatever the number of labels


@dataclass(frozen=True)
class Arm:
    """One way to get a classifier.

    Attributes:
        init: Start of the encoder: "scratch", "stock" (scratch without class weights and lesion loss: what plain
            transformers trains), "random" (a random encoder that stays frozen), a baseline's name, or a checkpoint.
        tune: Trained part: "head" (a logistic regression on features of a frozen encoder), "bag" (a head over the
            features of the whole view and of tiles), "last_stage", "full", or "baseline".
        pool: Features of "head": "mean" or "all_stages" of a Swin's tokens on the prepared image; or of any encoder,
            mean and maximum of the "whole" view, or next to them the mean of those of the "tiles".
        lesion_loss: Weight of the loss of lesion tokens, if a network is trained.
        semi_supervised: Training on unlabelled images, if a network is trained.
    """

    init: str
    tune: str
    pool: str = "mean"
    lesion_loss: float = 0.0
    semi_supervised: str = "none"

    @property
    def name(self) -> str:
        """Name of the arm in tables."""
        if self.is_free:
            return self.init
        start = Path(self.init).name
        if self.tune == "head":
            return f"{start}, frozen, {EMBEDDED.get(self.pool, self.pool.replace('_', ' '))} features"
        if self.tune == "bag":
            return f"{start}, frozen, head over bags"
        parts = [start, self.tune.replace("_", " ")]
        if self.lesion_loss:
            parts.append(f"lesion loss {self.lesion_loss:g}")
        if self.semi_supervised != "none":
            parts.append(self.semi_supervised.replace("_", " "))
        return ", ".join(parts)

    @property
    def trained(self) -> bool:
        """Whether a network is trained, rather than a head fitted on features."""
        return self.tune in ("last_stage", "full")

    @property
    def embedded(self) -> bool:
        """Whether the arm is over features that `embed` computes, of any encoder."""
        return self.tune == "bag" or (self.tune == "head" and self.pool in EMBEDDED)

    @property
    def is_free(self) -> bool:
        """Whether the arm needs no network at all: statistics, or the scanner alone."""
        return self.tune == "baseline"

    @property
    def is_baseline(self) -> bool:
        """Whether the other arms must beat this one."""
        return self.is_free or self.init in (STOCK, FROZEN_RANDOM)

    @property
    def reference(self) -> Arm | None:
        """The same arm without the pre-training of its encoder; ``None`` if it has none."""
        if self.is_free or self.init in (SCRATCH, STOCK, FROZEN_RANDOM):
            return None
        init = FROZEN_RANDOM if self.tune in ("head", "bag") else SCRATCH
        return Arm(init, self.tune, self.pool, self.lesion_loss, self.semi_supervised)


@dataclass(frozen=True)
class Cell:
    """One training or fit of an arm.

    Attributes:
        arm: The arm.
        percentage: Percentage of the labelled training patients whose labels are used.
        seed: Random seed of split, label subset and weights.
        fold: Fold that is tested; -1 is the collection's own split.
    """

    arm: Arm
    percentage: float
    seed: int
    fold: int

    @property
    def key(self) -> str:
        """Name of the file of the cell's result, without suffix."""
        arm = re.sub(r"[^A-Za-z0-9]+", "-", self.arm.name).strip("-")
        fold = "" if self.fold < 0 else f"_fold{self.fold}"
        return f"{arm}_{self.percentage:g}pc_seed{self.seed}{fold}"


def arms(
    inits: Sequence[str],
    tunes: Sequence[str],
    *,
    pools: Sequence[str] = ("mean",),
    lesion_losses: Sequence[float] = (0.0,),
    semi_supervised: Sequence[str] = ("none",),
    baselines: Sequence[str] = BASELINES,
    others: Sequence[str] = (),
) -> list[Arm]:
    """Combine the given options into arms, and add the baselines that they must be compared with.

    Args:
        inits: Starts of the encoder.
        tunes: Trained parts.
        pools: Features of "head".
        lesion_losses: Weights of the lesion loss.
        semi_supervised: Trainings on unlabelled images.
        baselines: Names of baselines.
        others: Those of the starts that are encoders other than a Swin: frozen, with features from `embed`.

    Raises:
        UsageError: Two checkpoints would have the same name in the table, or there is nothing to do with an encoder.
    """
    checkpoints = [init for init in inits if init != SCRATCH]
    names = [Path(init).name for init in checkpoints]
    for name in names:
        if names.count(name) > 1 or name in (SCRATCH, STOCK, FROZEN_RANDOM, *BASELINES):
            raise UsageError(f"two arms would be called {name!r}", source="init", remedy="rename a checkpoint folder")
    idle = [init for init in others if not {"head", "bag"} & set(tunes)]
    if idle:
        remedy = "give `tune` head or bag: an encoder that is not a Swin stays frozen"
        raise UsageError("cannot be trained", source=idle[0], remedy=remedy)
    found: list[Arm] = []
    for tune in tunes:
        if tune == "head":
            found += [Arm(init, tune, pool) for init in checkpoints for pool in _pools(pools, init in others)]
        elif tune == "bag":
            found += [Arm(init, tune) for init in checkpoints]
        else:
            options = product([init for init in inits if init not in others], lesion_losses, semi_supervised)
            found += [Arm(init, tune, "mean", loss, semi) for init, loss, semi in options]
    compared = [Arm(name, "baseline") for name in baselines]
    used = list(dict.fromkeys(arm.pool for arm in found if arm.tune == "head"))
    compared += [Arm(FROZEN_RANDOM, "head", pool) for pool in used or ["mean"]]
    compared += [Arm(FROZEN_RANDOM, tune) for tune in tunes if tune == "bag"]
    compared += [Arm(STOCK, tune) for tune in tunes if tune not in ("head", "bag")]
    return [*found, *(arm for arm in compared if arm not in found)]


def _pools(pools: Sequence[str], other: bool) -> list[str]:
    """Return the features that an encoder can have; of one that is not a Swin at least the whole view."""
    return [pool for pool in pools if pool in EMBEDDED] or ["whole"] if other else list(pools)


def cells(chosen: Sequence[Arm], percentages: Sequence[float], seeds: int, folds: int) -> Iterator[Cell]:
    """List every arm at every percentage, seed and fold; cheap arms first, so that there is a table early."""
    for trained in (False, True):
        similar = [arm for arm in chosen if arm.trained == trained]
        # Arms vary fastest: they share the split
        for seed, fold, percentage in product(range(seeds), range(folds) if folds else (-1,), percentages):
            for arm in similar:
                yield Cell(arm, percentage, seed, fold)
