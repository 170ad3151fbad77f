"""Folds of a cohort, and the checks of folds that a user brings."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.model_selection import (
    GroupKFold,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
)
from sklearn.utils import check_random_state

from mmfusion.evaluation.outcomes import Outcome, for_fit
from mmfusion.inputs.messages import shorten
from mmfusion.survival import Survival, check_survival

__all__ = ["Folds", "check_folds", "number_repeats", "survival_stratified_folds"]

Folds = list[tuple[np.ndarray, np.ndarray]]


def survival_stratified_folds(
    y: Any,
    n_splits: int = 5,
    n_repeats: int = 1,
    random_state: int | np.random.RandomState | None = None,
) -> Folds:
    """Deal the rows into shuffled folds, each with its share of the events.

    Parameters
    ----------
    y : outcome, n rows
        See `mmfusion.survival.check_survival`. A row must be a subject: rows of one subject would
        be dealt into different folds.
    n_splits : int, default=5
        Folds of a repeat.
    n_repeats : int, default=1
    random_state : int, RandomState or None

    Returns
    -------
    list of tuple (train, test) of ndarray of int64
        ``n_splits * n_repeats`` folds, a repeat after the other.

    Raises
    ------
    ValueError
        If there are fewer rows, or fewer events, than folds.

    Examples
    --------
    >>> from mmfusion.evaluation import survival_stratified_folds
    >>> y = ([3, 1, 4, 1, 5, 9, 2, 6], [1, 0, 1, 0, 1, 0, 1, 0])
    >>> [len(test) for train, test in survival_stratified_folds(y, 4, random_state=0)]
    [2, 2, 2, 2]
    """
    event = check_survival(y, allow_competing=True).event  # of causes, each its share
    if n_splits < 2 or n_repeats < 1:
        raise ValueError(
            "The n_splits parameter must be at least 2 and n_repeats at least 1. "
            f"Got {n_splits!r} and {n_repeats!r}."
        )
    if len(event) < n_splits:
        raise ValueError(
            f"The n_splits parameter must be at most the number of rows. Got {n_splits} folds of "
            f"{len(event)} rows."
        )
    if (event > 0).sum() < n_splits:
        raise ValueError(
            "The n_splits parameter must be at most the number of events: a fold without an event "
            f"cannot be scored. Got {n_splits} folds of {(event > 0).sum()} events "
            f"({len(event)} rows)."
        )
    dealer = RepeatedStratifiedKFold(
        n_splits=n_splits, n_repeats=n_repeats, random_state=random_state
    )
    with warnings.catch_warnings():  # of few censored rows: a fold without any is no trouble
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return list(dealer.split(np.zeros(len(event)), event))


def check_folds(
    folds: Any,
    y: Outcome,
    *,
    classes: bool = False,
    n_repeats: int = 1,
    random_state: int | np.random.RandomState | None = 0,
    groups: np.ndarray | None = None,
    X: Any = None,
) -> Folds:
    """Return folds as a list of index arrays, whatever form they came in.

    Parameters
    ----------
    folds : int, splitter or iterable of (train, test)
        An int makes shuffled folds, stratified by the event or class; a splitter of scikit-learn is
        given these to stratify by.
    y : Survival, or ndarray of labels or numbers
    classes : bool, default=False
        Whether an array holds classes.
    n_repeats : int, default=1
        Of an int: how often folds are dealt.
    random_state : int, RandomState or None, default=0
        Of an int.
    groups : ndarray, shape (n,), optional
        Labels of rows that stay together; a splitter of scikit-learn is given these too.
    X : DataFrame or array, n rows, optional
        What a splitter is given; of `mmfusion.evaluation`, also the whole outcome.

    Raises
    ------
    ValueError
        Folds that part the rows of a group; a fold without rows, with rows that do not exist, or
        with rows in both of its parts.
    TypeError
        Something else than folds.
    """
    labels = y.event if isinstance(y, Survival) else y
    if isinstance(folds, int) and not isinstance(folds, bool):
        if groups is not None:
            stratified = classes or isinstance(y, Survival)
            folds = _group_folds(labels, groups, folds, n_repeats, random_state, stratified)
        elif isinstance(y, Survival):
            return survival_stratified_folds(y, folds, n_repeats, random_state)
    if isinstance(folds, int) and not isinstance(folds, bool):
        if not 2 <= folds <= len(y) or n_repeats < 1:
            raise ValueError(
                f"The number of folds must be from 2 to the number of rows ({len(y)}), and "
                f"n_repeats at least 1. Got {folds!r} and {n_repeats!r}."
            )
        dealer = RepeatedStratifiedKFold if classes else RepeatedKFold
        folds = dealer(n_splits=folds, n_repeats=n_repeats, random_state=random_state)
    if hasattr(folds, "get_n_splits"):
        told = for_fit(y) if getattr(folds, "reads_outcome", False) else labels
        folds = folds.split(np.zeros(len(y)) if X is None else X, told, groups)
    if not isinstance(folds, Iterable) or isinstance(folds, str):
        raise TypeError(
            "The folds parameter must be a number of folds, a splitter of scikit-learn or a list "
            f"of (train, test) index arrays. Got {folds!r}."
        )
    checked = [(np.asarray(train), np.asarray(test)) for train, test in folds]
    if not checked:
        raise ValueError("The folds parameter must hold at least one fold. Got none.")
    for number, fold in enumerate(checked):
        for part, rows in zip(("training", "test"), fold, strict=True):
            if rows.ndim != 1 or not len(rows) or rows.dtype.kind not in "iu":
                raise ValueError(
                    f"The {part} rows of fold {number} must be a non-empty array of positions. "
                    f"Got dtype {rows.dtype}, shape {rows.shape}."
                )
            if rows.min() < 0 or rows.max() >= len(y):
                raise ValueError(
                    f"The {part} rows of fold {number} must be between 0 and {len(y) - 1}. "
                    f"Got {rows.min()} to {rows.max()}."
                )
        both = np.intersect1d(*fold)
        if len(both):
            raise ValueError(
                f"The training and test rows of fold {number} must not overlap. "
                f"Got rows {both[:5].tolist()} in both."
            )
        if groups is not None:
            parted = np.intersect1d(groups[fold[0]], groups[fold[1]])
            if len(parted):
                raise ValueError(
                    f"The folds part rows that belong together: fold {number} has rows of "
                    f"{shorten(parted)} on both sides. Give a number of folds, or a splitter such "
                    "as scikit-learn's GroupKFold."
                )
    return checked


def _group_folds(
    labels: np.ndarray,
    groups: np.ndarray,
    n_splits: int,
    n_repeats: int,
    random_state: int | np.random.RandomState | None,
    stratified: bool,
) -> Folds:
    """Deal groups into shuffled folds, with their share of the labels if `stratified`."""
    n_groups = len(np.unique(groups))
    if not 2 <= n_splits <= n_groups or n_repeats < 1:
        raise ValueError(
            f"The number of folds must be from 2 to the number of groups ({n_groups}), and "
            f"n_repeats at least 1. Got {n_splits!r} and {n_repeats!r}."
        )
    kind = StratifiedGroupKFold if stratified else GroupKFold
    seeds = check_random_state(random_state)
    dealt: Folds = []
    for _ in range(n_repeats):
        splitter = kind(n_splits, shuffle=True, random_state=seeds.randint(2**31 - 1))
        dealt += list(splitter.split(np.zeros(len(labels)), labels, groups))
    return dealt


def number_repeats(folds: Folds, n_rows: int) -> list[tuple[int, int]]:
    """Return (repeat, fold) of each fold, from 0: a repeat ends where a row is tested again."""
    numbers = []
    repeat, fold = 0, 0
    tested = np.zeros(n_rows, dtype=bool)
    for _, test in folds:
        if tested[test].any():
            repeat, fold = repeat + 1, 0
            tested[:] = False
        tested[test] = True
        numbers.append((repeat, fold))
        fold += 1
    return numbers
