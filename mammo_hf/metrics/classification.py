"""Classification metrics as plain functions: of ranking, of probabilities, and of predicted classes.

They are vectorised, in float64, and equal scikit-learn's function of the same idea if it has one. If scikit-learn
returns NaN, warns, or raises an error of its own, these raise `UndefinedMetric`, whose ``reason`` a report shows in
place of the figure. Each metric has a companion ``<name>_rows`` that computes it for all resamples of a bootstrap at
once (``ROWS``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError, UsageError
from .inputs import (
    Ranking,
    Rows,
    UndefinedMetric,
    Weighted,
    check_binary,
    check_classes,
    check_predictions,
    ratio,
    value,
)

# Ranking: how well the scores put the positives above the negatives, on any scale.

_ROUNDING = 1e-9  # images: counts are whole numbers, so a smaller difference in "90 % of the negatives" is rounding


def auroc(references: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve: the chance that a positive scores higher than a negative, ties as a half.

    It is the Mann-Whitney statistic divided by its maximum (Hanley and McNeil, Radiology 1982).

    Args:
        references: ``(n,)`` of 0 (negative) and 1 (positive).
        scores: ``(n,)`` scores on any scale; higher means more probably positive.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: There are no images, one class only, or a score is NaN.
        DataError: The shapes differ, or a reference is neither 0 nor 1.
    """
    return value(auroc_rows, *check_binary(references, scores))


def auroc_rows(data: Weighted) -> np.ndarray:
    """Return `auroc` for each row of weights."""
    hits, alarms = data.counts
    area = np.sum(np.diff(alarms, axis=1) * (hits[:, 1:] + hits[:, :-1]), axis=1) / 2
    return ratio(area, hits[:, -1] * alarms[:, -1])


def auroc_within(references: ArrayLike, scores: ArrayLike, *, strata: np.ndarray, nested: bool = False) -> float:
    """Return the AUC over pairs within strata: the concordant pairs of all strata divided by the pairs of all strata.

    What tells the strata from one another (a scanner, a site, the patient) does not help here. It is van Elteren's
    statistic with the strata weighted by their numbers of pairs (Bulletin of the International Statistical Institute
    1960).

    Args:
        references: ``(n,)`` of 0 (negative) and 1 (positive).
        scores: ``(n,)`` scores on any scale; higher means more probably positive.
        strata: int ``(n,)`` number of each image's stratum.
        nested: Whether each stratum is of one patient, so that a patient who is drawn twice is two strata.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: In the cases of `auroc`, or no stratum has a positive and a negative.
        DataError: In the cases of `auroc`.
    """
    found = value(auroc_within_rows, *check_binary(references, scores), strata=strata, nested=nested)
    if np.isnan(found):
        raise UndefinedMetric("no stratum has both a positive and a negative image")
    return found


def auroc_within_rows(data: Weighted, *, strata: np.ndarray, nested: bool = False) -> np.ndarray:
    """Return `auroc_within` for each row of weights."""
    concordant, pairs = pairs_within(data, strata, nested=nested)
    return ratio(concordant.sum(axis=1), pairs.sum(axis=1))


def pairs_within(data: Weighted, strata: np.ndarray, *, nested: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Count the concordant pairs (ties as a half) and all pairs of each stratum, float64 ``(rows, strata)`` each."""
    order = np.lexsort((data.scores, strata))
    strata, scores, positive = strata[order], data.scores[order], data.references[order] == 1
    # a stratum of a patient who was drawn w times counts w times, not w ** 2 times
    weights = np.sqrt(data.weights[:, order]) if nested else data.weights[:, order]
    begins = np.append(True, strata[1:] != strata[:-1])
    cells = np.flatnonzero(begins | np.append(True, scores[1:] != scores[:-1]))  # of one score in one stratum
    positives, negatives = (
        np.add.reduceat(np.where(of_class, weights, 0.0), cells, axis=1) for of_class in (positive, ~positive)
    )
    firsts = np.searchsorted(cells, np.flatnonzero(begins))  # first cell of each stratum
    before = np.cumsum(negatives, axis=1) - negatives
    below = before - before[:, firsts][:, np.cumsum(begins)[cells] - 1]
    concordant = np.add.reduceat(positives * (below + negatives / 2), firsts, axis=1)
    return concordant, np.add.reduceat(positives, firsts, axis=1) * np.add.reduceat(negatives, firsts, axis=1)


def macro_auroc(references: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean over the classes of each class's AUROC against all the others.

    Args:
        references: ``(n,)`` class numbers from 0 to classes - 1.
        probabilities: ``(n, classes)``, one column per class; the rows need not sum to one.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: There are no images, a class that no image or every image has, or a probability is NaN.
        DataError: The shapes do not fit, or a reference is not a class number.
    """
    numbers, table = check_classes(references, probabilities)
    return float(np.mean([auroc(numbers == k, table[:, k]) for k in range(table.shape[1])]))


def macro_auroc_rows(data: Weighted) -> np.ndarray:
    """Return `macro_auroc` for each row of weights."""
    classes = range(data.scores.shape[1])
    of_class = [auroc_rows(Weighted(data.references == k, data.scores[:, k], data.weights)) for k in classes]
    return np.mean(of_class, axis=0)


def auroc_of(probabilities: np.ndarray) -> tuple[Callable[..., float], np.ndarray]:
    """Return the AUC function that fits a task's probabilities ``(n, classes)``, and the scores that it takes.

    Returns:
        With two classes `auroc` and the last column, with more `macro_auroc` and the whole table.
    """
    return (auroc, probabilities[:, 1]) if probabilities.shape[1] == 2 else (macro_auroc, probabilities)


def auprc(references: ArrayLike, scores: ArrayLike) -> float:
    """Return the average precision: the area under the precision-recall curve as a sum of steps.

    It is scikit-learn's ``average_precision_score``; an uninformative model gets the fraction of positives.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)`` scores on any scale; higher means more probably positive.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: In the cases of `auroc`.
        DataError: In the cases of `auroc`.
    """
    return value(auprc_rows, *check_binary(references, scores))


def auprc_rows(data: Weighted) -> np.ndarray:
    """Return `auprc` for each row of weights."""
    hits, alarms = data.counts
    called = hits[:, 1:] + alarms[:, 1:]
    precision = np.divide(hits[:, 1:], called, out=np.zeros_like(called), where=called > 0)
    return ratio(np.sum(np.diff(hits, axis=1) * precision, axis=1), hits[:, -1])


def sensitivity_at_specificity(references: ArrayLike, scores: ArrayLike, specificity: float = 0.9) -> float:
    """Return the highest sensitivity of any threshold that has at least the given specificity.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)`` scores on any scale; higher means more probably positive.
        specificity: Required specificity in [0, 1].

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: In the cases of `auroc`.
        DataError: In the cases of `auroc`.
        UsageError: The specificity is out of range.
    """
    _check_fraction(specificity, "specificity")
    return value(sensitivity_rows, *check_binary(references, scores), specificity=specificity)


def sensitivity_rows(data: Weighted, specificity: float = 0.9) -> np.ndarray:
    """Return `sensitivity_at_specificity` for each row of weights."""
    hits, alarms = data.counts
    allowed = alarms <= alarms[:, -1:] * (1 - specificity) + _ROUNDING
    last = np.count_nonzero(allowed, axis=1) - 1
    found = ratio(np.take_along_axis(hits, last[:, None], axis=1)[:, 0], hits[:, -1])
    return np.where(alarms[:, -1] > 0, found, np.nan)


def specificity_at_sensitivity(references: ArrayLike, scores: ArrayLike, sensitivity: float = 0.9) -> float:
    """Return the highest specificity of any threshold that has at least the given sensitivity.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)`` scores on any scale; higher means more probably positive.
        sensitivity: Required sensitivity in [0, 1].

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: In the cases of `auroc`.
        DataError: In the cases of `auroc`.
        UsageError: The sensitivity is out of range.
    """
    _check_fraction(sensitivity, "sensitivity")
    return value(specificity_rows, *check_binary(references, scores), sensitivity=sensitivity)


def specificity_rows(data: Weighted, sensitivity: float = 0.9) -> np.ndarray:
    """Return `specificity_at_sensitivity` for each row of weights."""
    hits, alarms = data.counts
    first = np.argmax(hits >= hits[:, -1:] * sensitivity - _ROUNDING, axis=1)
    right = alarms[:, -1] - np.take_along_axis(alarms, first[:, None], axis=1)[:, 0]
    return np.where(hits[:, -1] > 0, ratio(right, alarms[:, -1]), np.nan)


def _check_fraction(fraction: float, name: str) -> None:
    if not 0 <= fraction <= 1:
        raise UsageError(f"is {fraction}", source=name, remedy="it must be from 0 to 1")


def partial_auc(references: ArrayLike, scores: ArrayLike, max_fpr: float = 0.1) -> float:
    """Return the area under the ROC curve up to a false positive rate, on a scale from chance (0.5) to perfect (1).

    It is standardised as McClish (Medical Decision Making 1989) does; scikit-learn's ``roc_auc_score(max_fpr=...)``.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)`` scores on any scale; higher means more probably positive.
        max_fpr: Highest false positive rate, above 0 and at most 1.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: In the cases of `auroc`.
        DataError: In the cases of `auroc`.
        UsageError: ``max_fpr`` is out of range.
    """
    if not 0 < max_fpr <= 1:
        raise UsageError(f"is {max_fpr}", source="max_fpr", remedy="it must be above 0 and at most 1")
    return value(partial_auc_rows, *check_binary(references, scores), max_fpr=max_fpr)


def partial_auc_rows(data: Weighted, max_fpr: float = 0.1) -> np.ndarray:
    """Return `partial_auc` for each row of weights."""
    hits, alarms = data.counts
    y, x = ratio(hits, hits[:, -1:]), ratio(alarms, alarms[:, -1:])
    widths, inside = np.diff(x, axis=1), np.diff(np.minimum(x, max_fpr), axis=1)
    # A segment that the limit cuts ends at the limit, on the straight line between its two points.
    fraction = np.divide(inside, widths, out=np.zeros_like(widths), where=widths > 0)
    area = np.sum(inside * (y[:, :-1] + np.diff(y, axis=1) * fraction / 2), axis=1)
    if max_fpr == 1:
        return area
    chance = max_fpr**2 / 2
    return (1 + (area - chance) / (max_fpr - chance)) / 2


def roc_curve(references: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ROC curve, one point per distinct score, from (0, 0) to (1, 1).

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)`` scores; higher means more probably positive.

    Returns:
        ``(false_positive_rate, true_positive_rate, thresholds)``, each ``(distinct scores + 1,)``; an image is called
        positive at a threshold if its score is at least that, and the first threshold is infinite.

    Raises:
        UndefinedMetric: In the cases of `auroc`.
        DataError: In the cases of `auroc`.
    """
    hits, alarms, thresholds = _curve(references, scores)
    return alarms / alarms[-1], hits / hits[-1], thresholds


def pr_curve(references: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the precision-recall curve, one point per distinct score, by rising recall.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)`` scores; higher means more probably positive.

    Returns:
        ``(precision, recall, thresholds)``, each ``(distinct scores,)``.

    Raises:
        UndefinedMetric: In the cases of `auroc`.
        DataError: In the cases of `auroc`.
    """
    hits, alarms, thresholds = _curve(references, scores)
    return hits[1:] / (hits[1:] + alarms[1:]), hits[1:] / hits[-1], thresholds[1:]


def _curve(references: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ranking = Ranking(*check_binary(references, scores))
    hits, alarms = ranking.counts(np.ones((1, ranking.order.size)))
    return hits[0], alarms[0], np.concatenate(([np.inf], ranking.thresholds))


# Probabilities: whether a score of 0.3 means three in ten.

BINS = 10  # of the calibration error, the usual number


def pf1(references: ArrayLike, scores: ArrayLike) -> float:
    """Return the probabilistic F1: each image counts as called positive by as much as its probability.

    It is the measure of the RSNA 2022 screening mammography challenge (Yacouby and Axman, Eval4NLP 2020), at beta 1.

    Args:
        references: ``(n,)`` of 0 and 1.
        scores: ``(n,)`` probabilities of the positive class.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: There are no images, one class only, or a probability is NaN.
        DataError: The shapes differ, a reference is neither 0 nor 1, or a score is not a probability.
    """
    positive, values = check_binary(references, scores)
    _check_range(values)
    return value(pf1_rows, positive, values)


def pf1_rows(data: Weighted) -> np.ndarray:
    """Return `pf1` for each row of weights."""
    positive = data.references == 1
    hits, called = data.weights @ (data.scores * positive), data.weights @ data.scores
    # 2 P R / (P + R) with P = hits / called and R = hits / positives
    positives = data.weights @ positive.astype(np.float64)
    return np.where(positives > 0, 2 * ratio(hits, called + positives), np.nan)


def brier(references: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean squared difference between probability and outcome (Brier 1950); lower is better.

    Args:
        references: ``(n,)`` of 0 and 1, or class numbers.
        probabilities: ``(n,)`` of the positive class, or ``(n, classes)``, whose squares are summed over the classes.

    Returns:
        A value in [0, 1], for ``(n, classes)`` in [0, 2].

    Raises:
        UndefinedMetric: There are no images, or a probability is NaN.
        DataError: The shapes do not fit, or a score is not a probability.
    """
    return value(brier_rows, *_outcomes(references, probabilities))


def brier_rows(data: Weighted) -> np.ndarray:
    """Return `brier` for each row of weights."""
    if data.scores.ndim == 1:
        return data.mean((data.scores - (data.references == 1)) ** 2)
    hot = data.references[:, None] == np.arange(data.scores.shape[1])
    return data.mean(((data.scores - hot) ** 2).sum(axis=1))


def ece(references: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> float:
    """Return the expected calibration error: the mean distance between probability and frequency over equal bins.

    Each bin holds the same number of images (Nixon et al. 2019, arXiv 1904.01685). Images of one score that fall
    across a border count for both bins in proportion, so that the order of the images does not matter. With several
    classes it is the error of the predicted class: whether 80 % sure is right in 80 of 100.

    Args:
        references: ``(n,)`` of 0 and 1, or class numbers.
        probabilities: ``(n,)`` of the positive class, or ``(n, classes)``.
        bins: Number of bins.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: There are fewer images than bins, or a probability is NaN.
        DataError: The shapes do not fit, or a score is not a probability.
        UsageError: ``bins`` is below 1.
    """
    if bins < 1:
        raise UsageError(f"is {bins}", source="bins", remedy="it must be 1 or more")
    truth, table = _outcomes(references, probabilities)
    if truth.size < bins:
        raise UndefinedMetric(f"{truth.size} images do not fill {bins} bins")
    return value(ece_rows, truth, table, bins=bins)


def ece_rows(data: Weighted, bins: int = BINS) -> np.ndarray:
    """Return `ece` for each row of weights."""
    mass, probability, outcome = _bin_sums(data, bins)
    return ratio(np.abs(probability - outcome).sum(axis=1), mass.sum(axis=1))


def reliability(
    references: ArrayLike, probabilities: ArrayLike, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the bins of `ece`: mean probability, frequency of the outcome, and number of images of each.

    Args:
        references: ``(n,)`` of 0 and 1, or class numbers.
        probabilities: ``(n,)`` of the positive class, or ``(n, classes)``.
        bins: Number of bins; with fewer images than that, one per image.

    Returns:
        ``(probability, frequency, images)``, each ``(bins,)``.

    Raises:
        UndefinedMetric: There are no images, or a probability is NaN.
        DataError: The shapes do not fit, or a score is not a probability.
    """
    truth, table = _outcomes(references, probabilities)
    data = Weighted(truth, table, np.ones((1, truth.size)))
    mass, probability, outcome = (sums[0] for sums in _bin_sums(data, min(bins, truth.size)))
    return probability / mass, outcome / mass, mass


def _bin_sums(data: Weighted, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mass, summed probability and summed outcome of each bin, ``(rows, bins)`` each."""
    if data.scores.ndim == 1:
        sure, right = data.scores, (data.references == 1).astype(np.float64)
    else:
        sure = data.scores.max(axis=1)
        right = (data.scores.argmax(axis=1) == data.references).astype(np.float64)
    order = np.argsort(sure, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(sure[order])), sure.size - 1)
    weights = data.weights[:, order]
    # Running sums at the end of each distinct score: between two of them every image has the same score.
    running = [np.cumsum(weights * part, axis=1)[:, ends] for part in (1.0, sure[order], right[order])]
    at_border = np.zeros((3, len(weights), bins + 1))
    for row, mass in enumerate(running[0]):
        borders = mass[-1] * np.arange(1, bins + 1) / bins
        for part, sums in enumerate(running):
            at_border[part, row, 1:] = np.interp(borders, np.append(0.0, mass), np.append(0.0, sums[row]))
    mass, probability, outcome = np.diff(at_border, axis=2)
    return mass, probability, outcome


def _outcomes(references: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Check references and probabilities of either form; one class alone is enough to judge a probability."""
    table = np.asarray(probabilities, dtype=np.float64)
    if table.ndim == 1:
        truth, _ = check_classes(references, np.stack([1 - table, table], axis=1))
    else:
        truth, table = check_classes(references, table)
    bad = int(np.isnan(table.reshape(len(table), -1)).any(axis=1).sum())
    if bad:
        raise UndefinedMetric(f"{bad} of {len(table)} images have NaN probabilities")
    _check_range(table)
    return truth, table


def _check_range(values: np.ndarray) -> None:
    # A softmax in float32 may end a hair above 1.
    if values.size and not (values.min() >= -1e-6 and values.max() <= 1 + 1e-6):
        raise DataError("values outside 0 to 1", source="probabilities", remedy="give probabilities, not logits")


# Predicted classes.


def accuracy(references: ArrayLike, predictions: ArrayLike) -> float:
    """Return the fraction of the images that are predicted right.

    Args:
        references: ``(n,)`` class numbers.
        predictions: ``(n,)`` class numbers.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: There are no images.
        DataError: The shapes differ, or a class number is not a whole number of at least 0.
    """
    return value(accuracy_rows, *check_predictions(references, predictions))


def accuracy_rows(data: Weighted) -> np.ndarray:
    """Return `accuracy` for each row of weights."""
    return data.mean(data.references == data.scores)


def balanced_accuracy(references: ArrayLike, predictions: ArrayLike) -> float:
    """Return the mean, over the classes that occur in ``references``, of the fraction that is predicted right.

    Args:
        references: ``(n,)`` class numbers.
        predictions: ``(n,)`` class numbers.

    Returns:
        A value in [0, 1]; a constant prediction gives 1 / classes.

    Raises:
        UndefinedMetric: There are no images, or one class only, which leaves nothing to balance.
        DataError: The shapes differ, or a class number is not a whole number of at least 0.
    """
    truth, predicted = check_predictions(references, predictions)
    if (truth == truth[0]).all():
        raise UndefinedMetric(f"all {truth.size} images are of one class")
    return value(balanced_accuracy_rows, truth, predicted)


def balanced_accuracy_rows(data: Weighted) -> np.ndarray:
    """Return `balanced_accuracy` for each row of weights."""
    counts = data.confusions.sum(axis=2)
    right = np.nan_to_num(ratio(np.diagonal(data.confusions, axis1=1, axis2=2), counts))
    present = np.count_nonzero(counts, axis=1)
    return np.where(present > 1, right.sum(axis=1) / np.maximum(present, 1), np.nan)


def quadratic_kappa(references: ArrayLike, predictions: ArrayLike) -> float:
    """Return Cohen's kappa with quadratic weights, for ordered classes such as breast density (Cohen 1968).

    A disagreement counts by the square of its distance in classes. scikit-learn's ``cohen_kappa_score`` with
    ``weights="quadratic"`` and all classes as ``labels``.

    Args:
        references: ``(n,)`` class numbers.
        predictions: ``(n,)`` class numbers.

    Returns:
        1 for full agreement, 0 for the agreement that chance gives, negative for less.

    Raises:
        UndefinedMetric: There are no images, or all are and are predicted to be of one class.
        DataError: The lengths differ, or a class number is not a whole number of at least 0.
    """
    truth, predicted = check_predictions(references, predictions)
    if len({*truth.tolist(), *predicted.tolist()}) < 2:
        raise UndefinedMetric(f"all {truth.size} images are, and are predicted to be, of one class")
    return value(quadratic_kappa_rows, truth, predicted)


def quadratic_kappa_rows(data: Weighted) -> np.ndarray:
    """Return `quadratic_kappa` for each row of weights."""
    table = data.confusions
    classes = np.arange(table.shape[1])
    penalty = (classes[:, None] - classes) ** 2
    by_chance = table.sum(axis=2)[:, :, None] * table.sum(axis=1)[:, None, :]
    found = (table * penalty).sum(axis=(1, 2)) * table.sum(axis=(1, 2))
    return 1 - ratio(found, (by_chance * penalty).sum(axis=(1, 2)))


def confusion(references: ArrayLike, predictions: ArrayLike, classes: int | None = None) -> np.ndarray:
    """Count the images by true and predicted class.

    Args:
        references: ``(n,)`` class numbers.
        predictions: ``(n,)`` class numbers.
        classes: Number of classes; ``None``: one more than the highest class number met.

    Returns:
        int64 ``(classes, classes)``, one row per true class and one column per predicted class.

    Raises:
        UndefinedMetric: There are no images.
        DataError: The shapes differ, or a class number is not a whole number from 0 to classes - 1.
    """
    truth, predicted = check_predictions(references, predictions)
    highest = int(max(truth.max(), predicted.max()))
    size = highest + 1 if classes is None else classes
    if highest >= size:
        raise DataError(f"class number {highest} but {size} classes", source="references or predictions")
    return np.bincount(truth * size + predicted, minlength=size * size).reshape(size, size)


def error_at_coverage(references: ArrayLike, probabilities: ArrayLike, coverage: float = 0.9) -> float:
    """Return the fraction of wrong predictions among the images with the highest probabilities.

    What a reader would see who leaves the others to a person: the risk at a coverage (El-Yaniv & Wiener 2010, JMLR 11,
    1605). An image counts for a part where the coverage ends within it; equally sure images come in their order.

    Args:
        references: ``(n,)`` class numbers.
        probabilities: ``(n, classes)`` probabilities; the highest says how sure the model is.
        coverage: Fraction of the images, above 0 and at most 1.

    Returns:
        A value in [0, 1].

    Raises:
        UndefinedMetric: There are no images.
        DataError: The shapes differ, or a class number is not one of the columns.
        UsageError: The coverage is out of range.
    """
    if not 0 < coverage <= 1:
        raise UsageError(f"is {coverage}", source="coverage", remedy="it must be above 0 and at most 1")
    truth, table = check_classes(references, probabilities)
    return value(error_at_coverage_rows, truth, table, coverage=coverage)


def error_at_coverage_rows(data: Weighted, coverage: float = 0.9) -> np.ndarray:
    """Return `error_at_coverage` for each row of weights."""
    order = np.argsort(-data.scores.max(axis=1), kind="stable")
    wrong = (data.scores.argmax(axis=1) != data.references)[order]
    weights = data.weights[:, order]
    covered = coverage * weights.sum(axis=1, keepdims=True)
    # of each image what is still within the coverage
    kept = np.clip(covered - (np.cumsum(weights, axis=1) - weights), 0, weights)
    return ratio(kept @ wrong, covered[:, 0])


# For each metric the function that computes it for all rows of weights at once.
ROWS: dict[Callable[..., Any], Rows] = {
    accuracy: accuracy_rows,
    auprc: auprc_rows,
    auroc: auroc_rows,
    auroc_within: auroc_within_rows,
    balanced_accuracy: balanced_accuracy_rows,
    brier: brier_rows,
    ece: ece_rows,
    error_at_coverage: error_at_coverage_rows,
    macro_auroc: macro_auroc_rows,
    partial_auc: partial_auc_rows,
    pf1: pf1_rows,
    quadratic_kappa: quadratic_kappa_rows,
    sensitivity_at_specificity: sensitivity_rows,
    specificity_at_sensitivity: specificity_rows,
}

# Metrics of two classes that are as uncertain as the rarer one is rare, however many images the other one has.
NEED_BOTH_CLASSES = frozenset(
    {auprc, auroc, auroc_within, partial_auc, pf1, sensitivity_at_specificity, specificity_at_sensitivity}
)
