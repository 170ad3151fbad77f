"""Folds of the rows for what networks say of rows that they did not see."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from mmfusion.heads import CategoricalTarget, DiscreteTimeTarget
from mmfusion.heads.base import Head, Target
from mmfusion.structured import SeparationWarning
from mmfusion.survival import Survival

from ._model import FusionModel

__all__ = ["Folds", "Part", "deal_folds", "deal_taught", "fit_quietly", "needs", "parts"]

Folds = list[tuple[np.ndarray, np.ndarray]]

#: Deals that are tried for one that leaves every class in every training part.
DEALS = 20
#: From fewer rows, or events, of a modality a fold learns nothing.
FEWEST = 5


class Part(NamedTuple):
    """A fold: positions of its training and held-out rows, and the modalities that it teaches.

    `tells` says which training rows teach which of these, (n_train, n_modalities).
    """

    train: np.ndarray
    held: np.ndarray
    modalities: list[str]
    tells: np.ndarray


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
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # slow to import

    if np.unique(labels, return_counts=True)[1].max() < n_folds:
        labels = np.zeros_like(labels)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # a rare class is in some folds and not in others
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return list(splitter.split(labels, labels, groups))


def needs(head: Head, target: Target) -> dict[str, np.ndarray]:
    """Return what networks cannot be without, by name: the rows of each class, cause, of events."""
    required = {}
    event = _events(target)
    if isinstance(target, CategoricalTarget):
        codes, names = target.code.numpy(), head.classes_.tolist()  # type: ignore[attr-defined]
        required = {f"class {name!r}": codes == code for code, name in enumerate(names)}
    elif isinstance(target, DiscreteTimeTarget) and len(head.causes_) > 1:  # type: ignore[attr-defined]
        codes, names = target.event.numpy(), head.causes_.tolist()  # type: ignore[attr-defined]
        required = {f"cause {name!r}": codes == code for code, name in enumerate(names, start=1)}
    if event is not None:
        required["event"] = event.numpy() & (target.weight.numpy() > 0)
    return required


def _events(target: Target) -> torch.Tensor | None:
    """Return which rows have an event, within the grid if there is one; None of other outcomes."""
    event = getattr(target, "cause", getattr(target, "event", None))
    return None if event is None else event != 0


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


def parts(
    models: Sequence[FusionModel], target: Target, folds: Folds, *, needs_any: bool
) -> list[Part]:
    """Return the folds with the modalities that each teaches.

    These are the ones that `FEWEST` of its training rows have, with an event; where there is none,
    those that any has.

    Parameters
    ----------
    models : sequence of FusionModel
        Prepared, on all rows.
    target : Target
    folds : list of pairs of positions
    needs_any : bool
        Whether a row must have one of them (there is no formula): others are left out.
    """
    if not folds:
        return []
    every = np.array([name for model in models for name in model.modalities])
    present = torch.cat([model.data.present.cpu() for model in models], dim=1).numpy()
    event = _events(target)
    tells = present.copy() if event is None else present & event.numpy()[:, None]
    dealt = []
    for train, held in folds:
        counts: np.ndarray = tells[train].sum(0)
        fewest = FEWEST if counts.max() >= FEWEST else 1
        chosen = np.flatnonzero(counts >= fewest)
        if needs_any:
            any_of = np.asarray(present[:, chosen].any(1))
            train, held = train[any_of[train]], held[any_of[held]]
        dealt.append(Part(train, held, every[chosen].tolist(), tells[train][:, chosen]))
    return dealt


def fit_quietly(
    model: Any, frame: pd.DataFrame, y: Any, sample_weight: np.ndarray | None, rows: np.ndarray
) -> None:
    """Fit a model to some rows, without warnings of coefficients and weights that nobody keeps.

    Of rows of one cluster there is no sandwich, which nobody keeps either.

    Raises
    ------
    KeyboardInterrupt
        Where Ctrl-C ended its training too.
    """
    weight = None if sample_weight is None else sample_weight[rows]
    if model.cluster is not None and frame[model.cluster].iloc[rows].nunique() < 2:
        model.set_params(cluster=None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(The t|T)raining was interrupted", UserWarning)
        warnings.filterwarnings("ignore", "There are too few rows, or events", UserWarning)
        warnings.simplefilter("ignore", SeparationWarning)
        model.fit(frame.iloc[rows], take_outcome(y, rows), weight)
    if model.interrupted_:
        raise KeyboardInterrupt


def take_outcome(y: Any, rows: np.ndarray) -> Any:
    """Return the outcome of `rows` in the form that the user gave it."""
    if isinstance(y, Survival):
        return y.take(rows)
    if isinstance(y, tuple | list) and len(y) in (2, 3) and np.ndim(y[0]) == 1:
        return tuple(np.asarray(part)[rows] for part in y)
    return y.iloc[rows] if isinstance(y, pd.DataFrame | pd.Series) else np.asarray(y)[rows]
