"""Predictors as the law of the time, and back: the logarithms of the masses of a grid.

A row of masses has ``n_causes * n_intervals + 1`` entries, cause by cause, the last one that of no
event within the grid. Every loss of the head has one of two parametrisations, hazards or masses;
MTLR's is a linear map of the latter.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import log_softmax, logsumexp

__all__ = ["Kind", "constant_masses", "log_masses", "log_survival", "predictors_of"]

#: What predictors are; see `log_masses`.
Kind = Literal["hazard", "mass", "mtlr"]


def log_masses(eta: np.ndarray, kind: Kind) -> np.ndarray:
    """Return log-masses, shape (..., K + 1), of predictors, shape (..., K).

    Parameters
    ----------
    eta : ndarray of float64
    kind : {"hazard", "mass", "mtlr"}
        ``"hazard"``: hazards ``sigmoid(eta)``, which is ``1 - exp(-softplus(eta))``, so that
        logistic hazards and PC-hazard are one; ``"mass"``: ``softmax([eta, 0])``; ``"mtlr"``: the
        same of the sums from the end.
    """
    if kind == "hazard":
        after = np.cumsum(-np.logaddexp(0.0, eta), axis=-1)
        before = np.concatenate([np.zeros_like(after[..., :1]), after[..., :-1]], axis=-1)
        return np.concatenate([before - np.logaddexp(0.0, -eta), after[..., -1:]], axis=-1)
    if kind == "mtlr":
        eta = np.cumsum(eta[..., ::-1], axis=-1)[..., ::-1]
    return log_softmax(np.concatenate([eta, np.zeros_like(eta[..., :1])], axis=-1), axis=-1)


def predictors_of(masses: np.ndarray, kind: Kind) -> np.ndarray:
    """Return the predictors, shape (..., K), that have these log-masses: `log_masses` inverted."""
    if kind == "hazard":
        after = np.logaddexp.accumulate(masses[..., ::-1], axis=-1)[..., -2::-1]
        return masses[..., :-1] - after
    logits = masses[..., :-1] - masses[..., -1:]
    if kind == "mtlr":
        return logits - np.concatenate([logits[..., 1:], np.zeros_like(logits[..., :1])], axis=-1)
    return logits


def log_survival(masses: np.ndarray, n_intervals: int) -> np.ndarray:
    """Return log S at the bounds of the intervals, shape (n, n_intervals + 1), from 0 on."""
    by_cause = masses[:, :-1].reshape(len(masses), -1, n_intervals)
    every = np.column_stack([logsumexp(by_cause, axis=1), masses[:, -1]])
    after = np.logaddexp.accumulate(every[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(after - after[:, :1], 0.0)


def constant_masses(hazards: np.ndarray, floor: float) -> np.ndarray:
    """Return log-masses, shape (n_causes * n_intervals + 1,), of hazards a cause and interval.

    Parameters
    ----------
    hazards : ndarray, shape (n_causes, n_intervals)
    floor : float
        No hazard is closer to 0, no sum over causes to 1.
    """
    hazards = np.maximum(hazards, floor)
    hazards = hazards * np.minimum(1.0, (1.0 - floor) / hazards.sum(axis=0))
    after = np.cumsum(np.log1p(-hazards.sum(axis=0)))
    before = np.concatenate([[0.0], after[:-1]])
    return np.append((np.log(hazards) + before).ravel(), after[-1])
