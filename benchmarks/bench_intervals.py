"""How often the intervals cover the true AUC, and how long they take: all that the documentation says of them.

    python benchmarks/bench_intervals.py

A trial draws patients with two images each. A patient is ill or healthy; a score is the illness times a distance, plus
something of the patient and something of the image, both normal. So the true AUC is Phi(distance / (sd * sqrt(2))).
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score

from mammo_hf.metrics.classification import auroc
from mammo_hf.metrics.comparisons import delong
from mammo_hf.metrics.inputs import UndefinedMetric
from mammo_hf.metrics.intervals import bca, bootstrap_interval, resampled, rows_of, without_each

IMAGES = 2
WITHIN = 0.8  # share of the variance that is the patient's own


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--patients", type=int, nargs="+", default=[20, 50, 100, 200])
    parser.add_argument("--auc", type=float, nargs="+", default=[0.7, 0.8, 0.9])
    parser.add_argument("--ill", type=int, nargs="+", default=[2, 3, 4, 5, 8, 10], help="of the last table")
    args = parser.parse_args()
    print(
        f"coverage of 95 % intervals of the AUC: {args.trials} trials, {args.resamples} resamples, {IMAGES} images of"
    )
    print("each patient, half of the patients ill; in brackets: the mean width; last: on which side it misses")
    heads = ("BCa by patient", "percentile by patient", "percentile by image", "DeLong by patient")
    print("patients   AUC " + "".join(f"{head:>24}" for head in heads))
    for patients in args.patients:
        for area in args.auc:
            print(_row(patients, area, args.trials, args.resamples), flush=True)
    print(
        "\npercentile by image (every fourth trial) shows what it costs to take the images of a patient for independent"
    )
    print("\nhow often the BCa interval of a classifier at chance excludes 0.5 (5 % is right), by number of patients:")
    for ill in args.ill:
        rates = [(healthy, _false_verdicts(ill, healthy, args.trials, args.resamples)) for healthy in (ill, 20, 60)]
        print(
            f"{ill:>3} ill: " + ", ".join(f"{rate:.1%} with {healthy} healthy" for healthy, rate in rates), flush=True
        )
    _speed()


def _false_verdicts(ill: int, healthy: int, trials: int, resamples: int) -> float:
    """Return the fraction of trials in which scores that do not depend on the label seem to."""
    patients, wrong, defined = ill + healthy, 0, 0
    groups, rows = np.repeat(np.arange(patients), IMAGES), {"": rows_of(auroc)}
    for trial in range(trials):
        _, scores, _ = draw(np.random.default_rng([ill, healthy, trial]), patients, 0.5)
        labels = (groups < ill).astype(np.int64)
        draws = resampled(rows, labels, scores, groups=groups, resamples=resamples, seed=trial)[""]
        left_out = without_each(rows, labels, scores, groups=groups)[""]
        try:
            low, high = bca(draws, auroc(labels, scores), left_out, patients)
        except UndefinedMetric:  # on most of the resamples
            continue
        defined, wrong = defined + 1, wrong + (low > 0.5 or high < 0.5)
    return wrong / max(defined, 1)


def _row(patients: int, area: float, trials: int, resamples: int) -> str:
    found: dict[str, list[tuple[float, float]]] = {"bca": [], "percentile": [], "image": [], "delong": []}
    for trial in range(trials):
        labels, scores, groups = draw(np.random.default_rng([patients, round(1000 * area), trial]), patients, area)
        rows, drawn = {"": rows_of(auroc)}, {"resamples": resamples, "seed": trial}
        value, left_out = auroc(labels, scores), without_each(rows, labels, scores, groups=groups)[""]
        draws = resampled(rows, labels, scores, groups=groups, **drawn)[""]
        found["bca"].append(bca(draws, value, left_out, patients))
        found["percentile"].append(_percentiles(draws))
        if trial % 4 == 0:
            every = np.arange(labels.size)
            found["image"].append(_percentiles(resampled(rows, labels, scores, groups=every, **drawn)[""]))
        found["delong"].append(delong(labels, scores, groups=groups).interval)
    low, high = np.array(found["bca"]).T
    misses = f"BCa is above {100 * np.mean(low > area):.1f} %, below {100 * np.mean(high < area):.1f} %"
    columns = "".join(f"{coverage(np.array(intervals), area):>24}" for intervals in found.values())
    return f"{patients:>8}  {area:.2f} {columns}   {misses}"


def _percentiles(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def draw(rng: np.random.Generator, patients: int, area: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and patients of a trial; as many ill patients as healthy ones."""
    groups = np.repeat(np.arange(patients), IMAGES)
    ill = rng.permutation(np.arange(patients) % 2)[groups]
    own, each = rng.normal(size=patients)[groups], rng.normal(size=groups.size)
    noise = np.sqrt(WITHIN) * own + np.sqrt(1 - WITHIN) * each
    return ill, ill * np.sqrt(2) * stats.norm.ppf(area) + noise, groups


def coverage(intervals: np.ndarray, area: float) -> str:
    low, high = intervals.T
    return f"{100 * np.mean((low <= area) & (area <= high)):.1f} % ({np.mean(high - low):.3f})"


def _speed() -> None:
    rng = np.random.default_rng(0)
    labels, scores, groups = draw(rng, 5000, 0.8)
    started = time.process_time()
    bootstrap_interval(auroc, labels, scores, groups=groups, resamples=2000)
    ours = time.process_time() - started
    members = np.arange(labels.size).reshape(5000, IMAGES)
    started = time.process_time()
    for _ in range(50):
        chosen = members[rng.integers(0, 5000, 5000)].ravel()
        roc_auc_score(labels[chosen], scores[chosen])
    theirs = (time.process_time() - started) * 2000 / 50
    print(f"\n10,000 images of 5,000 patients, 2,000 resamples, processor time: {ours:.2f} s;")
    print(f"scikit-learn's roc_auc_score on each resample: {theirs:.1f} s (50 of them times 40), {theirs / ours:.1f} x")


if __name__ == "__main__":
    main()
