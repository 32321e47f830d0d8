"""Labels saved, without shortcuts: the malignant breast against the same woman's other breast, same view, on DDSM.

python benchmarks/within_patient.py --ddsm ddsm-films --work within
python benchmarks/within_patient.py --ddsm ddsm-films --work within --encoders out/mim --only random teacher

Frozen features of several encoders, each under the same regularised logistic regression on the differences between the
breasts of a pair; scanner and volume of publication are the same in both. Each woman is tested once per seed, by
cross-validation over patients. Stage 1 sees the films of women without such a pair alone, so that no fold tests a woman
whose films an encoder was trained on; of encoders that are given by ``--encoders`` the women whom they were trained on
are not tested, and comparisons are over the others. With all labels the regression is fitted on single breasts too, to
be compared with what is published: malignant against the other breasts, pooled and within the scanner.

``, ranks equalised`` shows the encoder the rank of each intensity within its image, ``, tone curves`` fits the
regression on copies of the training films with random monotone curves too. ``--tuned "NAME, RECIPE"`` trains a network
from an encoder of ``--encoders``, or from scratch, by a recipe of within_patient_tuned.py, on the women of the given
encoders; it is tested on the women whom none of them has seen.

What is in ``--work`` already, images, features, encoders and the scores of cells, is not computed again; ``table.md``
is written from the cells. The teacher is ``efficientnet-lite0`` of plugins/mammo-hf-efficientnet-lite unless
``--teacher`` names another encoder.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from within_patient_tuned import RECIPES, figures_of_training, tuned

import mammo_hf
from mammo_hf.data.augmentation import Augmentation
from mammo_hf.data.prepare.folder import open_prepared
from mammo_hf.data.splits import in_hash_order, read_seen, save_split
from mammo_hf.encoders import load_encoder, read_features
from mammo_hf.encoders.logistic import fit_logistic
from mammo_hf.encoders.views import Picture
from mammo_hf.files import write_record, write_whole
from mammo_hf.metrics.classification import auroc, auroc_within
from mammo_hf.metrics.intervals import (
    bootstrap_interval,
    detectable_difference,
    mean_score,
    paired_interval,
    resampled,
    rows_of,
)
from mammo_hf.models.checkpoint import load_processor, read_json, starting_config
from mammo_hf.models.modeling_mammo_swin import MammoSwinForMaskedImageModeling, pooled
from mammo_hf.processing.image_processing_mammo import as_ranks
from mammo_hf.studies.cells import BOOSTED, SCANNER
from mammo_hf.studies.features import image_statistics, scanner_features, write_arrays
from mammo_hf.studies.label_efficiency import percentage_needed

SIZE = (224, 112)
STATISTICS = "image statistics"
FREE = (SCANNER, STATISTICS, f"{STATISTICS}{BOOSTED}")
PRETRAINED = ("masked, 25 % of the films", "masked", "taught")
RANKED, CURVED = ", ranks equalised", ", tone curves"  # what is done about the tone of the films
CURVE, COPIES = Augmentation(rotation=0, scale=0, shift=0, gamma=0, flip=False, curve=0.5), 1
TONED = (
    *(f"{STATISTICS}{RANKED}", f"{STATISTICS}{RANKED}{BOOSTED}", f"{STATISTICS}{CURVED}{BOOSTED}"),
    *(f"random{RANKED}", f"teacher{RANKED}", f"teacher{CURVED}"),
)
ARMS = (*FREE, "random", *PRETRAINED, "teacher", *TONED)
BEST_FREE, SAME = "best free baseline", "the same without"
REFERENCES = (BEST_FREE, "random")  # an arm is shown to be worth something above both
TRAINING: dict[str, Any] = {
    **{"model": "nano", "image_size": [*SIZE], "validation_fraction": 0.05, "mask_ratio": 0.5},
    **{"mask_within": "breast", "per_device_train_batch_size": 32, "learning_rate": 1e-3, "eval_strategy": "no"},
    **{"save_strategy": "no", "load_best_model_at_end": False, "num_workers": 0, "report_to": "none"},
    **{"dataloader_pin_memory": False, "disable_tqdm": True, "use_cpu": True},
}


@dataclass(frozen=True)
class Pairs:
    """Pairs of films of one view: of the malignant breast, and of the same woman's other breast.

    Attributes:
        patients: Patient of each pair.
        ill: Image of the malignant breast.
        other: Image of the other breast.
        images: Facts of each image, vendor, stratum, path.
    """

    patients: np.ndarray
    ill: list[str]
    other: list[str]
    images: dict[str, tuple[Any, ...]]


def pairs_of(ddsm: Path, limit: int | None, known: set[str] | None = None) -> Pairs:
    """Return the pairs of the women with one malignant breast, of images that are known."""
    collection = mammo_hf.load("ddsm", ddsm)
    columns = [collection.column(name) for name in ("patient", "laterality", "view", "image_id", "path")]
    facts = zip(*(collection.column(name) for name in ("vendor", "stratum", "path")), strict=True)
    with (ddsm / "index.csv").open(encoding="utf-8") as file:
        of_file = {row["path"]: row for row in csv.DictReader(file)}
    cases: dict[str, dict[tuple[str, str], tuple[str, bool]]] = {}
    for patient, side, view, image, path in zip(*columns, strict=True):
        row = of_file[str(Path(path).relative_to(ddsm))]
        malignant = "MALIGNANT" in row["overlay_pathology"]
        if row["category"] == "cancers":
            cases.setdefault(patient, {})[side, view] = image, malignant
    found = []
    for patient in sorted(cases)[:limit]:
        films = cases[patient]
        ill = {side for (side, _), (_, malignant) in films.items() if malignant}
        other = "L" if ill == {"R"} else "R"
        for (side, view), (image, _) in sorted(films.items()):
            if ill == {side} and (other, view) in films:
                found.append((patient, image, films[other, view][0]))
    found = [one for one in found if known is None or known.issuperset(one[1:])]
    patients, one, two = zip(*found, strict=True)
    return Pairs(np.array(patients), list(one), list(two), dict(zip(columns[3], facts, strict=True)))


def split_for_stage_1(pairs: Pairs, films: Path, path: Path, seed: int) -> None:
    """Write the split of stage 1: women with a pair are tested, all others train and validate."""
    collection, tested = mammo_hf.load(films), set(pairs.patients.tolist())
    others = in_hash_order(set(collection.column("patient")) - tested, purpose="validation", seed=seed)
    held = set(others[: round(TRAINING["validation_fraction"] * len(others))])
    split = {patient: "validation" if patient in held else "train" for patient in others}
    save_split(collection.with_splits(split | dict.fromkeys(tested, "test")), path)


def encoder_of(arm: str, work: Path, args: argparse.Namespace) -> str | Path:
    """Return the encoder of an arm, made unless it is there."""
    films, folder = work / "films", work / _file_name(arm)
    if arm in args.encoders:
        return Path(args.encoders[arm])
    if arm == "teacher":
        return str(args.teacher)
    if arm == "random" and not (folder / "config.json").is_file():
        torch.manual_seed(0)
        MammoSwinForMaskedImageModeling(starting_config("nano", SIZE)).save_pretrained(folder)
        load_processor(films).save_pretrained(folder)
    if arm in PRETRAINED and not (folder / "metrics.json").is_file():
        options: dict[str, Any] = {"max_steps": args.steps, "seed": 0, "split_file": str(work / "split.json")}
        if arm == "taught":
            grid = SIZE[0] // 16, SIZE[1] // 16
            mammo_hf.embed(films, work / "lite", encoder=args.teacher, tiles="whole", image_size=SIZE, grid=grid)
            options["teacher"] = str(work / "lite")
        collection = mammo_hf.load(films)
        if "25" in arm:
            kept = set(in_hash_order(set(collection.column("patient")), purpose="films", seed=0)[::4])
            collection = collection.where(lambda row: row["patient"] in kept)
        mammo_hf.pretrain(collection, folder, **TRAINING, **options)
    return folder


def features_of(arm: str, pairs: Pairs, work: Path, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Return the features (versions, channels) of each image of a pair, computed unless they are there.

    The first version is tested; the regression is fitted on all of them.
    """
    wanted = sorted({*pairs.ill, *pairs.other})
    if arm == SCANNER:
        vendors, strata, paths = zip(*(pairs.images[image] for image in wanted), strict=True)
        return dict(zip(wanted, scanner_features(vendors, strata, paths)[:, None], strict=True))
    if arm in FREE or arm in TONED:
        path = work / f"{_file_name(arm.removesuffix(BOOSTED))}.npz"
        if not path.is_file():
            write_arrays(path, images=np.array(wanted), table=_in_tones(arm, wanted, work, args))
        with np.load(path) as stored:
            found = dict(zip(stored["images"].tolist(), stored["table"].astype(np.float64), strict=True))
        if CURVED not in arm:
            return found
        untouched = features_of(_without(arm), pairs, work, args)
        return {image: np.concatenate([untouched[image], bent]) for image, bent in found.items()}
    encoder, folder, chosen = encoder_of(arm, work, args), work / f"{_file_name(arm)}_features", set(wanted)
    if not (folder / "features.json").is_file():
        size = SIZE if arm != "teacher" else tuple(-(-side // 32) * 32 for side in SIZE)
        images = mammo_hf.load(work / "films").where(lambda row: row["image_id"] in chosen)
        mammo_hf.embed(images, folder, encoder=encoder, tiles="whole", image_size=size)
    rows = read_features(folder).select_columns(["image_id", "features"])
    vectors = [np.frombuffer(one, np.float16).astype(np.float64)[None] for one in rows["features"]]
    return dict(zip(rows["image_id"], vectors, strict=True))


def _in_tones(arm: str, wanted: list[str], work: Path, args: argparse.Namespace) -> np.ndarray:
    """Compute the features (images, versions, channels) of statistics, or of an encoder that sees what embed draws."""
    rows, processor = open_prepared(work / "films"), load_processor(work / "films")
    at = {image: index for index, image in enumerate(rows["image_id"])}
    encoder, size = None, SIZE
    if not arm.startswith(STATISTICS):
        encoder = load_encoder(encoder_of(arm.partition(", ")[0], work, args)).eval()
        size = -(-SIZE[0] // encoder.multiple) * encoder.multiple, -(-SIZE[1] // encoder.multiple) * encoder.multiple
    found = []
    for index, image in enumerate(wanted):
        picture = Picture.of_prepared(rows[at[image]], processor)
        versions = _toned(arm, picture.draw(picture.whole(size)), np.random.default_rng(index))
        if encoder is None:
            found.append(np.stack([image_statistics(one) for one in versions]))
            continue
        with torch.inference_mode():
            pixels = torch.from_numpy(np.stack(versions))[:, None]
            found.append(pooled(encoder(pixels), pixels > 0).numpy())
    return np.stack(found)


def _toned(arm: str, intensity: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
    """Return an image as an arm sees it; of tone curves the copies that it is trained on next to the image itself."""
    if RANKED in arm:
        return [as_ranks(intensity)]
    if CURVED not in arm:
        return [intensity]
    image = torch.from_numpy(intensity)[None]
    return [CURVE(image, view=None, generator=generator)[0][0].numpy() for _ in range(COPIES)]


def _file_name(text: str) -> str:
    return re.sub(r"\W+", "_", text)


# A cell: an arm at a percentage of the labels, with a seed of folds and labels; every woman is tested.


def scored(arm: str, percentage: float, seed: int, args: argparse.Namespace, pairs: Pairs) -> dict[str, Any]:
    """Return the scores of all pairs, above 0 if the malignant breast scores higher; from its file if it is there."""
    path = args.work / "cells" / f"{_file_name(f'{arm} {percentage:g} {seed}')}.json"
    if path.is_file():
        return read_json(path)
    found: dict[str, Any] = {"arm": arm, "percentage": percentage, "seed": seed}
    found |= (_tuned if arm in args.tuned else _frozen)(arm, percentage, seed, args, pairs)
    path.parent.mkdir(exist_ok=True)
    write_record(found, path)
    return found


def _frozen(arm: str, percentage: float, seed: int, args: argparse.Namespace, pairs: Pairs) -> dict[str, Any]:
    features = features_of(arm, pairs, args.work, args)
    ill, other = (np.stack([features[image] for image in images]) for images in (pairs.ill, pairs.other))
    differences, seen = np.zeros(len(ill)), _seen([arm], pairs, args)
    single, counts = np.zeros((len(ill), 2)), []
    for test, train in _folds(pairs, percentage, seed, args.folds):
        # both directions, so that no side of the difference is the malignant one by itself
        rows, patients = _versions(ill[train] - other[train]), np.tile(pairs.patients[train], ill.shape[1])
        model = _fitted(arm, np.concatenate([rows, -rows]), patients, seed)
        there, back = (_decision(model, sign * (ill[test, 0] - other[test, 0])) for sign in (1, -1))
        differences[test] = (there - back) / 2
        counts.append(int(train.sum()))
        if percentage == 100 and seed == 0:  # the one that is shown
            rows = np.concatenate([_versions(ill[train]), _versions(other[train])])
            model = _fitted(arm, rows, patients, seed)
            both = np.stack([_decision(model, ill[test, 0]), _decision(model, other[test, 0])], 1)
            single[test] = (np.argsort(np.argsort(both, axis=None)) / both.size).reshape(both.shape)
    scores = [None if known else score for known, score in zip(seen, differences.tolist(), strict=True)]
    shown = single.tolist() if percentage == 100 and seed == 0 and not seen.any() else None
    return {"train_pairs": float(np.mean(counts)), "scores": scores, "single": shown}


def _tuned(arm: str, percentage: float, seed: int, args: argparse.Namespace, pairs: Pairs) -> dict[str, Any]:
    """Train a network on women whom the encoders have seen, or on a part of them, and test it on the others."""
    start, _, recipe = arm.partition(", ")
    seen = _seen(list(args.encoders), pairs, args)
    order = in_hash_order(set(pairs.patients[seen].tolist()), purpose="labels", seed=seed)
    used = set(order[: max(2, round(percentage / 100 * len(order)))])
    sides = dict.fromkeys(used, "train") | dict.fromkeys(pairs.patients[~seen].tolist(), "test")
    where: dict[str, Any] = {"ddsm": args.ddsm, "films": args.work / "films", "out": args.work / "trainer"}
    where["images"] = [*pairs.ill, *pairs.other]
    odds, facts = tuned(args.encoders.get(start, "nano"), recipe, sides, seed=seed, updates=args.updates, **where)
    of_pair = [odds.get(one, np.nan) - odds.get(two, np.nan) for one, two in zip(pairs.ill, pairs.other, strict=True)]
    learned = np.array(of_pair)[np.isin(pairs.patients, sorted(used))]
    facts |= {"train_pairs": float(len(learned)), "own": float(np.mean((learned > 0) + (learned == 0) / 2))}
    scores = [None if known else score for known, score in zip(seen, of_pair, strict=True)]
    return facts | {"scores": scores, "single": None}


def _versions(values: np.ndarray) -> np.ndarray:
    """Return all first versions (pairs, versions, channels), then all second ones."""
    return values.swapaxes(0, 1).reshape(-1, values.shape[-1])


def _seen(arms: Sequence[str], pairs: Pairs, args: argparse.Namespace) -> np.ndarray:
    """Return which pairs are of women whose films one of the given encoders was trained on."""
    seen = [read_seen(args.encoders[arm]) or frozenset() for arm in arms if arm in args.encoders]
    return np.isin(pairs.patients, sorted(frozenset().union(*seen)))


def _folds(pairs: Pairs, percentage: float, seed: int, folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each fold which pairs are tested, and which train: nested subsets of the other folds' patients."""
    order = in_hash_order(set(pairs.patients.tolist()), purpose="folds", seed=seed)
    found = []
    for fold in range(folds):
        held = set(order[fold::folds])
        rest = in_hash_order(set(order) - held, purpose="labels", seed=seed)
        used = rest[: max(2, round(percentage / 100 * len(rest)))]
        found.append((np.isin(pairs.patients, sorted(held)), np.isin(pairs.patients, used)))
    return found


def _fitted(arm: str, rows: np.ndarray, patients: np.ndarray, seed: int) -> Any:
    """Fit a classifier on rows of which the first half is of malignant breasts."""
    labels = np.repeat([1, 0], len(patients))
    if arm == SCANNER and not np.ptp(rows, axis=0).any():
        return None  # the two breasts of a pair are alike
    if arm.endswith(BOOSTED):
        return HistGradientBoostingClassifier(max_depth=3, random_state=seed).fit(rows, labels)
    return fit_logistic(rows, labels, np.tile(patients, 2))


def _decision(model: Any, rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.zeros(len(rows)) if model is None else model.decision_function(rows)
    return found


# The table, from the cells alone.


def concordance(cells: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return how often the malignant breast of each pair scores higher, the mean over the seeds; ties are a half.

    NaN: the pair is not tested.
    """
    scores = np.array([cell["scores"] for cell in cells], np.float64)
    found: np.ndarray = np.where(np.isnan(scores), np.nan, (scores > 0) + (scores == 0) / 2).mean(0)
    return found


def table_of(cells: dict[tuple[str, float], list[dict[str, Any]]], pairs: Pairs, folds: int) -> tuple[str, list[str]]:
    """Return the table as Markdown, and the sentences that follow from it."""
    groups = pairs.patients
    means = {key: concordance(of_seeds) for key, of_seeds in cells.items()}
    changed = any(_same_without(arm, p, means) for arm, p in means if arm not in FREE)
    names = (*REFERENCES, SAME) if changed else REFERENCES
    shown = "".join(f" minus {name} |" for name in names)
    lines = [f"| | labels | training pairs | tested | AUC within patients |{shown}"]
    lines.append("|---" * (5 + len(names)) + "|")
    gains: dict[tuple[str, float, str], tuple[float, Any]] = {}
    for (arm, percentage), own in means.items():
        kept = ~np.isnan(own)
        interval = bootstrap_interval(mean_score, np.zeros(kept.sum()), own[kept], groups=groups[kept])
        trained = np.mean([cell["train_pairs"] for cell in cells[arm, percentage]])
        line = f"| {arm} | {percentage:g} % | {trained:.0f} | {kept.sum()} | {_text(own[kept].mean(), interval)} |"
        compared = _best_free(means, percentage), "random", _same_without(arm, percentage, means)
        for name, reference in zip(names, compared, strict=False):
            if arm in FREE or arm == reference or (reference, percentage) not in means:
                line += " |"
                continue
            other = means[reference, percentage][kept]
            gain = paired_interval(mean_score, np.zeros(len(other)), other, own[kept], groups=groups[kept])
            gains[arm, percentage, name] = float(own[kept].mean() - other.mean()), gain
            seen = f" [{detectable_difference(gain):.3f}]" if gain[0] <= 0 <= gain[1] else ""
            line += f" {_text(gains[arm, percentage, name][0], gain, '+.3f')}{seen} |"
        lines.append(line)
    seeds = max(len(of_seeds) for of_seeds in cells.values())
    about = (
        f"{len(groups)} pairs of films of {len(set(groups.tolist()))} women; {folds} folds by patient, {seeds} seeds; "
        "95 % by patient. In square brackets, next to a difference that is not shown: the smallest one that these "
        "women would have shown with a power of 80 %."
    )
    if SAME in names:
        about += f' "{SAME[0].upper()}{SAME[1:]}" is the arm with less in its name.'
    return f"{about}\n\n" + "\n".join(lines) + "\n", _sentences(means, gains, groups)


def _without(arm: str) -> str:
    """Return the arm without what was done about tone, or without the last part of its name; "" if it has one part."""
    for tone in (RANKED, CURVED):
        if tone in arm:
            return arm.replace(tone, "")
    return arm.rpartition(", ")[0]


def _same_without(arm: str, percentage: float, means: dict[tuple[str, float], np.ndarray]) -> str:
    """Return the nearest arm that has less done to it and is in the table; "" if none is."""
    arm = _without(arm)
    while arm and (arm, percentage) not in means:
        arm = _without(arm)
    return arm


def _best_free(means: dict[tuple[str, float], np.ndarray], percentage: float) -> str:
    """Return the free baseline with the highest AUC at a percentage."""
    return max((arm for arm in FREE if (arm, percentage) in means), key=lambda arm: means[arm, percentage].mean())


def _sentences(
    means: dict[tuple[str, float], np.ndarray], gains: dict[tuple[str, float, str], Any], groups: np.ndarray
) -> list[str]:
    most = max(percentage for _, percentage in means)
    best = _best_free(means, most)
    found = [f"What costs nothing, the best of {len(FREE)} with all labels: {best}, {means[best, most].mean():.3f}."]
    changes = {arm for arm, p, name in gains if name == SAME}
    for arm in dict.fromkeys(arm for arm, _ in means if arm not in FREE and arm not in changes):
        parts = []
        for name in [name for name in REFERENCES if (arm, most, name) in gains]:
            shown = sorted(p for a, p in means if a == arm and (a, p, name) in gains and gains[a, p, name][1][0] > 0)
            fractions = ", ".join(f"{p:g}" for p in shown)
            parts.append(f"above {name} with {fractions} % of the labels" if shown else f"never above {name}")
        at = "; ".join(parts)
        found.append(f"{arm[0].upper()}{arm[1:]}: {np.nanmean(means[arm, most]):.3f} with all labels; {at}.")
    found += _changes({arm: gains[arm, most, SAME] for arm in sorted(changes) if (arm, most, SAME) in gains})
    if gains.get(("random", most, BEST_FREE), (0, (-1, 0)))[1][0] <= 0:
        return [*found, "Labels saved: no reference, as random features are not above the best free baseline."]
    draws = {key: _draws(own, groups) for key, own in means.items() if not np.isnan(own).any()}
    for arm in [arm for arm in (*PRETRAINED, "teacher") if (arm, most) in draws]:
        own = {p: (float(means[a, p].mean()), draws[a, p]) for a, p in means if a == arm}
        percentage, ends = percentage_needed(own, (float(means["random", most].mean()), draws["random", most]))
        found.append(f"Labels saved: {arm} reaches random features' {most:g} % with {percentage} % ({ends}).")
    return found


def _changes(gains: dict[str, tuple[float, Any]]) -> list[str]:
    """Say which changes of an arm helped with all labels, which harmed, and of which neither is shown."""
    kinds: dict[str, list[str]] = {"help": [], "harm": [], "change nothing that is shown": []}
    for arm, (gain, (low, high)) in gains.items():
        kind = "help" if low > 0 else "harm" if high < 0 else "change nothing that is shown"
        kinds[kind].append(f"{arm} ({gain:+.3f})")
    return [f"Additions that {kind}, with all labels: {'; '.join(arms)}." for kind, arms in kinds.items() if arms]


def _draws(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    return resampled({"": rows_of(mean_score)}, np.zeros(len(values)), values, groups=groups)[""]


def single_table(cells: dict[tuple[str, float], list[dict[str, Any]]], pairs: Pairs) -> str:
    """Return the AUC of single breasts as Markdown, pooled and within the scanner: malignant against the others."""
    scanner = np.unique([str(pairs.images[image][1]) for image in pairs.ill], return_inverse=True)[1]
    truth, groups = np.repeat([1, 0], len(scanner)), np.tile(pairs.patients, 2)
    metrics: list[Any] = [auroc, partial(auroc_within, strata=np.tile(scanner, 2))]
    lines = ["| all labels, first seed | AUC pooled | AUC within scanner |", "|---|---|---|"]
    for (arm, _), of_seeds in cells.items():
        if of_seeds[0]["single"] is not None:
            scores = np.array(of_seeds[0]["single"]).T.ravel()
            texts = [_text(m(truth, scores), bootstrap_interval(m, truth, scores, groups=groups)) for m in metrics]
            lines.append(f"| {arm} | {texts[0]} | {texts[1]} |")
    return f"Prevalence 50 %: {len(scanner)} malignant of {2 * len(scanner)} images.\n\n" + "\n".join(lines) + "\n"


def _text(value: float, interval: Any, form: str = ".3f") -> str:
    return f"{value:{form}} ({interval[0]:{form}} to {interval[1]:{form}})"


def main() -> None:
    """Compute the chosen cells, and write the table of all that are there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ddsm", type=Path, required=True, help="folder of the films and index.csv")
    parser.add_argument("--work", type=Path, required=True, help="folder of all that is written")
    parser.add_argument("--teacher", default="efficientnet-lite0", help="encoder that teaches (default %(default)s)")
    parser.add_argument("--steps", type=int, default=500, help="updates of 32 of each pre-training")
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds of folds and labels")
    parser.add_argument("--folds", type=int, default=3, help="folds by patient")
    parser.add_argument("--percentages", type=float, nargs="+", default=[10, 25, 50, 100], help="labels by patient")
    of_changes = "those of arms that change another: its tone, or tuned"
    parser.add_argument("--changes_at", type=float, nargs="+", default=[10, 100], help=of_changes)
    parser.add_argument("--limit", type=int, help="cases of the collection, for a trial")
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS), help="arms; default: all")
    parser.add_argument("--encoders", nargs="+", default=[], help="checkpoints, each an arm under its folder's name")
    parser.add_argument("--tuned", nargs="+", default=[], help='arms "NAME, RECIPE", of an encoder\'s name or scratch')
    parser.add_argument("--updates", type=int, default=300, help="updates of 16 of each tuned network")
    args = parser.parse_args()
    args.encoders = {Path(folder).name: folder for folder in args.encoders}
    for arm in args.tuned:
        start, _, recipe = arm.partition(", ")
        if not args.encoders or start not in (*args.encoders, "scratch") or recipe not in RECIPES:
            parser.error(f"--tuned {arm!r}: an encoder of --encoders or scratch, and one of {'; '.join(RECIPES)}")
    films = args.work / "films"
    if not (films / "prepared.json").is_file():
        mammo_hf.prepare(mammo_hf.load("ddsm", args.ddsm), films, image_size=SIZE)
    pairs = pairs_of(args.ddsm, args.limit, set(open_prepared(films)["image_id"]))
    if not (args.work / "split.json").is_file():
        split_for_stage_1(pairs, films, args.work / "split.json", seed=0)
    cells: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for arm in [*args.only, *args.encoders, *args.tuned]:
        changes = arm in (*TONED, *args.tuned)
        for percentage in [one for one in args.percentages if not changes or one in args.changes_at]:
            cells[arm, percentage] = [scored(arm, percentage, seed, args, pairs) for seed in range(args.seeds)]
            print(arm, f"{percentage:g} %", f"{np.nanmean(concordance(cells[arm, percentage])):.3f}", flush=True)
    table, sentences = table_of(cells, pairs, args.folds)
    text = f"{table}\n{figures_of_training(cells)}\n{single_table(cells, pairs)}\n"
    text += "".join(f"- {one}\n" for one in sentences)
    write_whole(args.work / "table.md", text)
    write_whole(args.work / "sentences.json", json.dumps(sentences))
    print(f"\n{text}")


if __name__ == "__main__":
    main()
