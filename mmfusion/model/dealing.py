"""Rows dealt into folds, each of which teaches what it must."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

__all__ = ["Folds", "deal_folds", "deal_taught"]

Folds = list[tuple[np.ndarray, np.ndarray]]

#: How often rows are dealt anew until the training rows of every fold have what they need.
DEALS = 20


def deal_folds(labels: np.ndarray, groups: np.ndarray | None, n_folds: int, seed: int) -> Folds:
    """Return the training and the held-out rows of each fold.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Each fold has its share of every label, if some label has as many rows as there are folds.
    groups : ndarray, shape (n,), optional
        Rows of a group (a cluster) stay together.
    n_folds : int
    seed : int
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # slow to import

    if np.unique(labels, return_counts=True)[1].max() < n_folds:
        labels = np.zeros_like(labels)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # a rare class is in some folds and not in others
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return list(splitter.split(labels, labels, groups))


def deal_taught(
    labels: np.ndarray,
    required: Mapping[str, np.ndarray],
    groups: np.ndarray | None,
    n_folds: int,
    seed: int,
    instead: str,
    what: str = "rows",
) -> Folds:
    """Deal folds of which each training part has what is required.

    Parameters
    ----------
    labels, groups, n_folds, seed
        As for `deal_folds`.
    required : mapping of str to ndarray of bool, shape (n,)
        By name, rows of which one must be in each training part.
    instead : str
        What to use where there are too few, for the message.
    what : str
        What is dealt, for the message (`Study.unit`).

    Raises
    ------
    ValueError
        Where there are too few rows, subjects or clusters of anything.
    """
    unit = np.arange(len(labels)) if groups is None else groups
    count = len(np.unique(unit))
    if count < n_folds:
        raise ValueError(
            f"Out-of-fold predictions need at least {n_folds} {what}, one a fold. "
            f"Got {count}; use {instead}."
        )
    lost = ""
    for deal in range(DEALS):
        folds = list(deal_folds(labels, groups, n_folds, seed + deal))
        missing = (
            name for name, rows in required.items() for train, _ in folds if not rows[train].any()
        )
        lost = next(missing, "")
        if not lost:
            return folds
    found = len(np.unique(unit[required[lost]]))
    raise ValueError(
        f"Out-of-fold predictions need each class, cause or event in the training rows of each "
        f"fold, so in at least 2 {what} that are not held out together. Got {lost} in {found}; "
        f"use {instead}."
    )
