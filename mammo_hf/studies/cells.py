"""What is compared: arms, each a way to get a classifier, at shares of the labels, seeds and folds: cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ..errors import UsageError

POOLS = ("mean", "attentive", "all_stages")
BASELINES = ("image statistics", "acquisition statistics", "image and acquisition statistics", "brightest pixel")
SCRATCH, STOCK, FROZEN_RANDOM = "scratch", "stock", "random"


@dataclass(frozen=True)
class Arm:
    """One way to get a classifier.

    Attributes:
        init: "scratch", "stock" (scratch without class weights and lesion places: what plain transformers trains),
            "random" (a random encoder that stays frozen), a baseline's name, or a checkpoint folder.
        tune: "head" (features of a frozen encoder), "last_stage", "full", or "baseline".
        pool: With "head": how tokens become features.
        lesion_loss: With training: weight of what the places of lesions teach.
        semi_supervised: With training: what unlabelled images teach.
    """

    init: str
    tune: str
    pool: str = "mean"
    lesion_loss: float = 0.0
    semi_supervised: str = "none"

    @property
    def name(self) -> str:
        """As the table calls it."""
        if self.tune == "baseline":
            return self.init
        start = self.init if self.init in (SCRATCH, STOCK, FROZEN_RANDOM) else _short(self.init)
        if self.tune == "head":
            return f"{start}, frozen, {self.pool.replace('_', ' ')} features"
        parts = [start, self.tune.replace("_", " ")]
        if self.lesion_loss:
            parts.append(f"lesion places {self.lesion_loss:g}")
        if self.semi_supervised != "none":
            parts.append(self.semi_supervised.replace("_", " "))
        return ", ".join(parts)

    @property
    def trained(self) -> bool:
        """Whether a network is trained, rather than a head fitted on features."""
        return self.tune in ("last_stage", "full")


@dataclass(frozen=True)
class Cell:
    """An arm at a share of the labels (percent), a seed and a fold (-1: the collection's own split)."""

    arm: Arm
    percentage: float
    seed: int
    fold: int

    @property
    def key(self) -> str:
        """The name of its result's file."""
        arm = re.sub(r"[^A-Za-z0-9]+", "-", self.arm.name).strip("-")
        fold = "" if self.fold < 0 else f"_fold{self.fold}"
        return f"{arm}_{self.percentage:g}pc_seed{self.seed}{fold}"


def _short(init: str) -> str:
    return Path(init).name


def arms(
    inits: Sequence[str],
    tunes: Sequence[str],
    *,
    pools: Sequence[str] = ("mean",),
    lesion_losses: Sequence[float] = (0.0,),
    semi_supervised: Sequence[str] = ("none",),
    baselines: Sequence[str] = BASELINES,
) -> list[Arm]:
    """The arms that are asked for, and the baselines beside which they must stand.

    Raises:
        UsageError: Two checkpoints would have one name in the table.
    """
    checkpoints = [init for init in inits if init != SCRATCH]
    names = [_short(init) for init in checkpoints]
    for name in names:
        if names.count(name) > 1 or name in (SCRATCH, STOCK, FROZEN_RANDOM, *BASELINES):
            raise UsageError(f"two arms would be called {name!r}", source="--init", remedy="rename a checkpoint folder")
    found = []
    for tune in tunes:
        if tune == "head":
            found += [Arm(init, tune, pool) for init in checkpoints for pool in pools]
        else:
            found += [
                Arm(init, tune, "mean", loss, semi)
                for init in inits
                for loss in lesion_losses
                for semi in semi_supervised
            ]
    beside = [Arm(name, "baseline") for name in baselines]
    beside += [Arm(FROZEN_RANDOM, "head", pool) for pool in (pools if "head" in tunes else ("mean",))]
    beside += [Arm(STOCK, tune) for tune in tunes if tune != "head"]
    return [*found, *(arm for arm in beside if arm not in found)]


def cells(chosen: Sequence[Arm], percentages: Sequence[float], seeds: int, folds: int) -> Iterator[Cell]:
    """Every arm at every share, seed and fold; cheap arms first, so that a table is there early."""
    for trained in (False, True):
        alike = [arm for arm in chosen if arm.trained == trained]
        # arms innermost: they share the split
        for seed, fold, percentage in product(range(seeds), range(folds) if folds else (-1,), percentages):
            for arm in alike:
                yield Cell(arm, percentage, seed, fold)
