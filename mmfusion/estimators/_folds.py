"""Folds of the rows for what networks say of rows that they did not see."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from mmfusion.heads import CategoricalHead, DiscreteTimeHead
from mmfusion.heads.base import Head, Target
from mmfusion.structured import SeparationWarning

from ._frame import take_outcome
from ._model import FusionModel

__all__ = ["Folds", "Part", "deal_folds", "deal_taught", "fit_quietly", "needs", "parts"]

Folds = list[tuple[np.ndarray, np.ndarray]]

#: Deals of clusters that are tried for one that leaves every class in every training part.
DEALS = 20
#: From fewer rows, or events, of a modality a fold learns nothing.
FEWEST = 5


class Part(NamedTuple):
    """A fold: positions of its training and held-out rows, and the modalities that it teaches."""

    train: np.ndarray
    held: np.ndarray
    modalities: list[str]


def deal_folds(labels: np.ndarray, groups: np.ndarray | None, n_folds: int, seed: int) -> Folds:
    """Return the training and the held-out rows of each fold.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Each fold has its share of each, if that many rows have one of them.
    groups : ndarray, shape (n,), optional
        Rows of a group (a cluster) stay together.
    n_folds : int
    seed : int
    """
    if np.unique(labels, return_counts=True)[1].max() < n_folds:
        labels = np.zeros_like(labels)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # a rare class is in some folds and not in others
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return list(splitter.split(labels, labels, groups))


def needs(head: Head, target: Target) -> dict[str, np.ndarray]:
    """Return what networks cannot be without, by name: the rows of each class, cause, of events."""
    event = getattr(target, "event", None)
    if isinstance(head, CategoricalHead):
        codes, names, kind = target.code.numpy(), head.classes_.tolist(), "class"  # type: ignore[attr-defined]
    elif isinstance(head, DiscreteTimeHead) and len(head.causes_) > 1:
        codes, names, kind = target.event.numpy() - 1, head.causes_.tolist(), "cause"  # type: ignore[attr-defined]
    elif event is not None:
        return {"event": (event.numpy() != 0) & (target.weight.numpy() > 0)}
    else:
        return {}
    return {f"{kind} {name!r}": codes == code for code, name in enumerate(names)}


def deal_taught(
    labels: np.ndarray,
    required: Mapping[str, np.ndarray],
    groups: np.ndarray | None,
    n_folds: int,
    seed: int,
    instead: str,
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

    Raises
    ------
    ValueError
        Where there are too few rows, or clusters, of anything.
    """
    what = "rows" if groups is None else "clusters"
    unit = np.arange(len(labels)) if groups is None else groups
    count = len(np.unique(unit))
    if count < n_folds:
        raise ValueError(
            f"Out-of-fold predictions need at least {n_folds} {what}, one a fold. "
            f"Got {count}; use {instead}."
        )
    lost = ""
    for deal in range(1 if groups is None else DEALS):
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


def parts(models: Sequence[FusionModel], target: Target, folds: Folds) -> list[Part]:
    """Return the folds with what each teaches; all modalities where none is taught enough.

    Parameters
    ----------
    models : sequence of FusionModel
        Prepared, on all rows.
    target : Target
    folds : list of pairs of positions
    """
    if not folds:
        return []
    every = [name for model in models for name in model.modalities]
    there = torch.cat([model.data.present.cpu() for model in models], dim=1)
    event = getattr(target, "event", None)
    if event is not None:
        there = there & (event != 0)[:, None]
    dealt = []
    for train, held in folds:
        counts = there[torch.from_numpy(train)].sum(0).tolist()
        names = [name for name, count in zip(every, counts, strict=True) if count >= FEWEST]
        dealt.append(Part(train, held, names or every))
    return dealt


def fit_quietly(
    model: Any, frame: pd.DataFrame, y: Any, sample_weight: np.ndarray | None, rows: np.ndarray
) -> None:
    """Fit a model to some rows, without warnings of coefficients and weights that nobody keeps.

    Raises
    ------
    KeyboardInterrupt
        Where Ctrl-C ended its training too.
    """
    weight = None if sample_weight is None else sample_weight[rows]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(The t|T)raining was interrupted", UserWarning)
        warnings.simplefilter("ignore", SeparationWarning)
        model.fit(frame.iloc[rows], take_outcome(y, rows), weight)
    if model.interrupted_:
        raise KeyboardInterrupt
