"""Regularised logistic regression on features: the baseline of every head, and what a head over bags starts from."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

# inverse strengths of the penalty, from hardly a slope to hardly a penalty
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
ENOUGH = 2000  # rows that the strength is chosen on
NEVER = 5.0  # what the intercept of a class without a training row is below the lowest of the others


def logistic_probabilities(
    train: np.ndarray, labels: np.ndarray, patients: np.ndarray, test: np.ndarray, classes: int
) -> np.ndarray:
    """Fit a logistic regression on standardised features, classes weighted by N / (K N_c), and predict.

    The penalty is chosen by cross-validation over the training patients alone.

    Args:
        train: Features of the training images, float (n, features).
        labels: Labels of the training images, int (n,).
        patients: Keys of their patients, (n,).
        test: Features of the test images, float (m, features).
        classes: Number of classes of the task; one that never occurs in training has probability 0.

    Returns:
        Probabilities of the test images, float64 (m, classes).
    """
    probabilities = np.zeros((len(test), classes))
    probabilities[:, np.unique(labels)] = fit_logistic(train, labels, patients).predict_proba(test)
    return probabilities


def fit_logistic(train: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> Pipeline:
    """Fit the regression of `logistic_probabilities`: a standardisation, and the regression of what it gives."""
    return make_pipeline(StandardScaler(), _logistic(C=_choose(train, labels, patients))).fit(train, labels)


def linear_coefficients(fitted: Pipeline, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of a fitted regression as a linear function of its features.

    Args:
        fitted: Result of `fit_logistic`.
        classes: Number of classes of the task.

    Returns:
        Coefficients (classes, features) and intercepts (classes,), whose softmax is the regression's. A class that
        never occurs in training has the coefficients 0 and the lowest intercept.
    """
    scaler, regression = fitted[0], fitted[1]
    rows, intercepts = regression.coef_, regression.intercept_
    if len(rows) == 1:  # one row for two classes: the log odds of the second
        rows, intercepts = np.stack([-rows[0], rows[0]]) / 2, np.array([-intercepts[0], intercepts[0]]) / 2
    scaled = rows / scaler.scale_
    coefficients, found = np.zeros((classes, rows.shape[1])), np.full(classes, intercepts.min() - NEVER)
    coefficients[regression.classes_], found[regression.classes_] = scaled, intercepts - scaled @ scaler.mean_
    return coefficients, found


def _logistic(**how: Any) -> LogisticRegression:
    return LogisticRegression(class_weight="balanced", max_iter=500, tol=1e-3, **how)


def _some(patients: np.ndarray) -> np.ndarray:
    """Return the rows of as many patients, in random order, as have ``ENOUGH`` rows: more would change little."""
    _, patient = np.unique(patients, return_inverse=True)
    order = np.random.default_rng(0).permutation(patient.max() + 1)[patient]
    by_patient = np.argsort(order, kind="stable")
    last = order[by_patient[min(ENOUGH, len(order)) - 1]]
    return np.flatnonzero(order <= last)


def _choose(train: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> float:
    """Choose the strength with the lowest log loss over folds by patient; the middle one if patients are too few."""
    rows = _some(patients)
    train, labels, patients = train[rows], labels[rows], patients[rows]
    fewest = min(len(set(patients[labels == label])) for label in np.unique(labels))
    folds = min(5, fewest)
    if folds < 2:
        return STRENGTHS[len(STRENGTHS) // 2]
    splits = list(StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(train, labels, patients))
    # A fold may lack a class if patients have images of several classes
    losses = [
        _losses(train[fit], labels[fit], train[judge], labels[judge])
        for fit, judge in splits
        if len(set(labels[fit])) == len(set(labels))
    ]
    return STRENGTHS[int(np.argmin(np.mean(losses, axis=0)))] if losses else STRENGTHS[0]


def _losses(train: np.ndarray, labels: np.ndarray, judged: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Compute the log loss on the judged rows at each strength, (strengths,)."""
    scaler = StandardScaler().fit(train)
    train, judged = scaler.transform(train), scaler.transform(judged)
    model = _logistic(warm_start=True)  # each strength starts from the solution of the one before it
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # such a strength is not chosen
        for strength in STRENGTHS:
            model.set_params(C=strength).fit(train, labels)
            likelihoods = model.predict_proba(judged)[np.arange(len(truth)), np.searchsorted(model.classes_, truth)]
            found.append(-np.log(np.maximum(likelihoods, np.finfo(float).tiny)).mean())
    return np.array(found)
