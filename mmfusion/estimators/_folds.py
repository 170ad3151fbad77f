"""Folds of the rows for what networks say of rows that they did not see."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

__all__ = ["deal_folds"]


def deal_folds(
    labels: np.ndarray, groups: np.ndarray | None, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the training and the held-out rows of each fold.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Each fold has its share of each.
    groups : ndarray, shape (n,), optional
        Rows of a group (a cluster) stay together.
    n_folds : int
    seed : int
    """
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # a rare class is in some folds and not in others
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return list(splitter.split(labels, labels, groups))
