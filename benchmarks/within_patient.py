"""Labels saved, without shortcuts: the malignant breast against the same woman's other breast, same view, on DDSM.

python benchmarks/within_patient.py --ddsm ddsm-films --work within --steps 500
python benchmarks/within_patient.py --ddsm ddsm-films --work within --only masked taught

Frozen features of several encoders, each under the same regularised logistic regression on the differences between the
breasts of a pair. Scanner and volume of publication are the same in both. What is
in ``--work`` already, images, features, encoders and the scores of cells, is not computed again. The teacher is
``efficientnet-lite0`` of plugins/mammo-hf-efficientnet-lite unless ``--teacher`` names another encoder.
"""

from __future__ import annotations

import argparse
import csv
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

import mammo_hf
from mammo_hf.data.prepare.folder import open_prepared
from mammo_hf.data.prepared_row import intensity_of
from mammo_hf.data.splits import in_hash_order, read_split
from mammo_hf.encoders import read_features
from mammo_hf.encoders.logistic import fit_logistic
from mammo_hf.files import write_record
from mammo_hf.metrics.classification import auroc_within
from mammo_hf.metrics.intervals import bootstrap_interval, detectable_difference, paired_interval
from mammo_hf.models.checkpoint import load_processor, read_json, starting_config
from mammo_hf.models.modeling_mammo_swin import MammoSwinForMaskedImageModeling
from mammo_hf.studies.features import image_statistics

SIZE = (224, 112)
STATISTICS = "image statistics"
# from an arm to what is fitted on the differences; "image statistics" are the free baseline
ARMS = (STATISTICS, f"{STATISTICS}, boosted", "random", "masked", "taught", "teacher")
REFERENCES = (f"{STATISTICS}, boosted", "masked")  # what costs nothing, and hidden pixels alone
TRAINING: dict[str, Any] = {
    **{"model": "nano", "image_size": [*SIZE], "test_fraction": 0.3, "validation_fraction": 0.05, "mask_ratio": 0.5},
    **{"mask_within": "breast", "per_device_train_batch_size": 32, "learning_rate": 1e-3, "eval_strategy": "no"},
    **{"save_strategy": "no", "load_best_model_at_end": False, "num_workers": 0, "report_to": "none"},
    **{"dataloader_pin_memory": False, "disable_tqdm": True, "use_cpu": True},
}


def pairs_of(ddsm: Path, limit: int | None) -> list[tuple[str, str, str]]:
    """Return patient, image of the malignant breast and image of the other, of women with one malignant breast."""
    collection = mammo_hf.load("ddsm", ddsm)
    names = ("patient", "laterality", "view", "image_id", "path")
    columns = [collection.column(name) for name in names]
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
        if len(ill) == 1:
            side = ill.pop()
            other = "L" if side == "R" else "R"
            found += [
                (patient, image, films[other, view][0])
                for (of, view), (image, _) in sorted(films.items())
                if of == side and (other, view) in films
            ]
    return found


def train_encoder(arm: str, work: Path, args: argparse.Namespace) -> None:
    """Make the checkpoint of an arm, unless it is there."""
    films = work / "films"
    if arm == "random" and not (work / arm / "config.json").is_file():
        torch.manual_seed(args.seed)
        MammoSwinForMaskedImageModeling(starting_config("nano", SIZE)).save_pretrained(work / arm)
        load_processor(films).save_pretrained(work / arm)
    if arm in ("masked", "taught") and not (work / arm / "metrics.json").is_file():
        if arm == "taught":
            grid = SIZE[0] // 16, SIZE[1] // 16
            mammo_hf.embed(films, work / "lite", encoder=args.teacher, tiles="whole", image_size=SIZE, grid=grid)
        options = {"teacher": str(work / "lite")} if arm == "taught" else {}
        mammo_hf.pretrain(films, work / arm, max_steps=args.steps, seed=args.seed, **TRAINING, **options)


def features_of(arm: str, wanted: list[str], work: Path, args: argparse.Namespace) -> tuple[list[str], np.ndarray]:
    """Return image ids and features (images, features) of an arm, computed unless they are there."""
    films = work / "films"
    if arm.startswith(STATISTICS):
        prepared = open_prepared(films, wanted)
        return prepared["image_id"], np.stack([image_statistics(intensity_of(row)) for row in prepared])
    train_encoder(arm, work, args)
    folder, chosen = work / f"{arm}_features", set(wanted)
    some = mammo_hf.load(films).where(lambda row: row["image_id"] in chosen)
    encoder = args.teacher if arm == "teacher" else work / arm
    size = SIZE if arm != "teacher" else tuple(-(-side // 32) * 32 for side in SIZE)
    mammo_hf.embed(some, folder, encoder=encoder, tiles="whole", image_size=size)
    rows = read_features(folder).select_columns(["image_id", "features"])
    return rows["image_id"], np.stack([np.frombuffer(one, np.float16) for one in rows["features"]]).astype(np.float64)


def scored(arm: str, pairs: list[tuple[str, str, str]], percentage: float, work: Path, args: argparse.Namespace) -> Any:
    """Return the scores of the test pairs, above 0 if the malignant breast scores higher; from its file if there."""
    name = re.sub(r"\W+", "_", f"{arm} {percentage:g}")
    path = work / "cells" / f"{name}.json"
    if path.is_file():
        return read_json(path)
    split = read_split(work / "masked" / "split.json")
    images, features = features_of(arm, sorted({image for pair in pairs for image in pair[1:]}), work, args)
    at = {image: row for row, image in enumerate(images)}
    patients = np.array([patient for patient, *_ in pairs])
    differences = np.stack([features[at[one]] - features[at[other]] for _, one, other in pairs])
    testing = np.array([split[patient] == "test" for patient in patients])
    order = in_hash_order(set(patients[~testing]), purpose="labels", seed=args.seed)
    train = np.isin(patients, order[: max(2, round(percentage / 100 * len(order)))])
    # both directions, so that no side of the difference is the malignant one by itself
    rows = np.concatenate([differences[train], -differences[train]])
    labels, owners = np.repeat([1, 0], train.sum()), np.tile(patients[train], 2)
    if arm.endswith("boosted"):
        model = HistGradientBoostingClassifier(max_depth=3, random_state=args.seed).fit(rows, labels)
    else:
        model = fit_logistic(rows, labels, owners)
    there, back = (model.decision_function(sign * differences[testing]) for sign in (1, -1))
    found = {"arm": arm, "percentage": percentage, "seed": args.seed, "train_pairs": int(train.sum())}
    found |= {"patients": patients[testing].tolist(), "scores": ((there - back) / 2).tolist()}
    path.parent.mkdir(exist_ok=True)
    write_record(found, path)
    return found


def row_of(cell: dict[str, Any], references: list[dict[str, Any]]) -> str:
    """Return a line of the table: the AUC within patients, and its difference from the reference arms.

    A difference that is not shown has the smallest one that these pairs would have shown in square brackets.
    """
    metric, (truth, scores, groups) = _metric(cell), _both(cell)
    value, interval = metric(truth, scores), bootstrap_interval(metric, truth, scores, groups=groups)
    text = f"| {cell['arm']} | {cell['percentage']:g} % | {cell['train_pairs']} | {_text(value, interval)} |"
    for reference in references:
        if reference["arm"] == cell["arm"]:
            text += " |"
            continue
        other = _both(reference)[1]
        gain = paired_interval(metric, truth, other, scores, groups=groups)
        seen = f" [{detectable_difference(gain):.3f}]" if gain[0] <= 0 <= gain[1] else ""
        text += f" {_text(value - metric(truth, other), gain)}{seen} |"
    return text


def _metric(cell: dict[str, Any]) -> Any:
    return partial(auroc_within, strata=np.tile(np.arange(len(cell["scores"])), 2), nested=True)


def _both(cell: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = np.array(cell["scores"])
    truth = np.repeat([1, 0], len(scores))
    return truth, np.concatenate([scores, -scores]), np.tile(cell["patients"], 2)


def _text(value: float, interval: Any) -> str:
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def main() -> None:
    """Compute the chosen cells and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ddsm", type=Path, required=True, help="folder of the films and index.csv")
    parser.add_argument("--work", type=Path, required=True, help="folder of all that is written")
    parser.add_argument("--teacher", default="efficientnet-lite0", help="encoder that teaches (default %(default)s)")
    parser.add_argument("--steps", type=int, default=500, help="updates of 32 of each pre-training")
    parser.add_argument("--seed", type=int, default=0, help="random seed of networks, split and labels")
    parser.add_argument("--percentages", type=float, nargs="+", default=[10, 100], help="labels by patient")
    parser.add_argument("--limit", type=int, help="cases of the collection, for a trial")
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS), help="arms; default: all")
    args = parser.parse_args()
    if not (args.work / "films" / "prepared.json").is_file():
        mammo_hf.prepare(mammo_hf.load("ddsm", args.ddsm), args.work / "films", image_size=SIZE)
    if not (args.work / "masked" / "split.json").is_file():
        train_encoder("masked", args.work, args)  # its split is that of all
    known = set(open_prepared(args.work / "films")["image_id"])
    pairs = [pair for pair in pairs_of(args.ddsm, args.limit) if known.issuperset(pair[1:])]
    shown = "".join(f" minus {arm} |" for arm in REFERENCES)
    print(f"| frozen features | labels | training pairs | AUC within patients |{shown}")
    print("|---" * (4 + len(REFERENCES)) + "|")
    for percentage in args.percentages:
        references = [scored(arm, pairs, percentage, args.work, args) for arm in REFERENCES]
        for arm in args.only:
            print(row_of(scored(arm, pairs, percentage, args.work, args), references), flush=True)


if __name__ == "__main__":
    main()
