"""Heads on frozen features: a logistic regression, and attentive pooling over tokens."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional

# of the penalty: its inverse strength, from hardly a slope to hardly a penalty
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def logistic_probabilities(
    train: np.ndarray, labels: np.ndarray, patients: np.ndarray, test: np.ndarray, classes: int
) -> np.ndarray:
    """Probabilities of a logistic regression on standardised features, classes weighted by N / (K N_c).

    The penalty is chosen by cross-validation over the training patients alone.

    Args:
        train: float (n, features).
        labels: int (n,).
        patients: (n,) keys.
        test: float (m, features).
        classes: Of the task; one that never occurs in training has probability 0.

    Returns:
        float64 (m, classes).
    """
    fitted = make_pipeline(StandardScaler(), _logistic(C=_choose(train, labels, patients))).fit(train, labels)
    probabilities = np.zeros((len(test), classes))
    probabilities[:, np.unique(labels)] = fitted.predict_proba(test)
    return probabilities


def _logistic(**how: Any) -> LogisticRegression:
    return LogisticRegression(class_weight="balanced", max_iter=500, tol=1e-3, **how)


def _choose(train: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> float:
    """The strength with the lowest log loss over folds by patient; the middle one where there are too few patients."""
    fewest = min(len(set(patients[labels == label])) for label in np.unique(labels))
    folds = min(5, fewest)
    if folds < 2:
        return STRENGTHS[len(STRENGTHS) // 2]
    splits = list(StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(train, labels, patients))
    # a fold may lack a class where patients have images of several
    losses = [
        _losses(train[fit], labels[fit], train[judge], labels[judge])
        for fit, judge in splits
        if len(set(labels[fit])) == len(set(labels))
    ]
    return STRENGTHS[int(np.argmin(np.mean(losses, axis=0)))] if losses else STRENGTHS[0]


def _losses(train: np.ndarray, labels: np.ndarray, judged: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The log loss on the judged rows at each strength, (strengths,)."""
    scaler = StandardScaler().fit(train)
    train, judged = scaler.transform(train), scaler.transform(judged)
    model = _logistic(warm_start=True)  # each strength goes on where the one before it, which is weaker, has ended
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of a strength that is then not chosen
        for strength in STRENGTHS:
            model.set_params(C=strength).fit(train, labels)
            likelihoods = model.predict_proba(judged)[np.arange(len(truth)), np.searchsorted(model.classes_, truth)]
            found.append(-np.log(np.maximum(likelihoods, np.finfo(float).tiny)).mean())
    return np.array(found)


class AttentivePooling(nn.Module):
    """A linear classifier on tokens weighted by learnt queries (Chen et al. 2022, arXiv 2202.03026, attentive probing).

    Args:
        channels: Of the tokens.
        classes: Of the task.
        queries: Each pools once; the pooled vectors are averaged before the classifier.
    """

    def __init__(self, channels: int, classes: int, queries: int = 4) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, channels) * channels**-0.5)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (batch, tokens, channels) to logits (batch, classes)."""
        weights = (tokens @ self.queries.T / tokens.shape[-1] ** 0.5).softmax(1)
        logits: torch.Tensor = self.classifier(torch.einsum("btq,btc->bqc", weights, tokens).mean(1))
        return logits


def attentive_probabilities(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    classes: int,
    *,
    seed: int,
    updates: int = 600,
    batch_size: int = 64,
) -> np.ndarray:
    """Probabilities of attentive pooling, classes weighted by N / (K N_c).

    Args:
        train: float (n, tokens, channels).
        labels: int (n,).
        test: float (m, tokens, channels).
        classes: Of the task.
        seed: Of weights and batches.
        updates: AdamW steps, with a cosine learning rate.
        batch_size: Images a step.

    Returns:
        float64 (m, classes).
    """
    torch.manual_seed(seed)
    tokens, targets = torch.from_numpy(np.asarray(train, np.float32)), torch.from_numpy(labels)
    mean, deviation = tokens.mean((0, 1)), tokens.std((0, 1)).clamp(min=1e-6)
    tokens = (tokens - mean) / deviation
    counts = torch.bincount(targets, minlength=classes)
    weights = torch.where(counts > 0, len(targets) / (classes * counts.clamp(min=1)), 0.0)
    head = AttentivePooling(tokens.shape[-1], classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        rows = torch.randint(len(tokens), (min(batch_size, len(tokens)),))
        losses = functional.cross_entropy(head(tokens[rows]), targets[rows], weights, reduction="sum")
        (losses / len(rows)).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    with torch.no_grad():
        parts = [
            head((torch.from_numpy(np.asarray(test[i : i + 256], np.float32)) - mean) / deviation).softmax(-1)
            for i in range(0, len(test), 256)
        ]
    return torch.cat(parts).double().numpy()
