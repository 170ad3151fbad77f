"""Folds of the rows for what networks say of rows that they did not see."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from mmfusion.heads import CategoricalHead, DiscreteTimeHead
from mmfusion.heads.base import Head, Target

__all__ = ["check_labels", "deal_folds"]


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


def check_labels(head: Head, target: Target, groups: np.ndarray | None, instead: str) -> None:
    """Raise where folds would leave networks without a class, or a cause, of the others.

    Parameters
    ----------
    head, target : Head, Target
    groups : ndarray, shape (n,), optional
        Clusters, which stay together.
    instead : str
        What to use, for the message.
    """
    labels = head.stratify(target)
    if isinstance(head, CategoricalHead):
        kind, names = "class", head.classes_
    elif isinstance(head, DiscreteTimeHead) and len(head.causes_) > 1:
        kind, names = "cause", np.concatenate([[0], head.causes_])
    else:
        return
    where = np.arange(len(labels)) if groups is None else groups
    what = "rows" if groups is None else "clusters"
    for label in np.unique(labels):
        count = len(np.unique(where[labels == label]))
        if count < 2:
            raise ValueError(
                f"Out-of-fold predictions need at least 2 {what} of each {kind}. "
                f"{kind.capitalize()} {names[label].item()!r} has {count}; use {instead}."
            )
