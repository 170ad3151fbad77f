"""The table a user gives, checked: a DataFrame a row a subject."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from mmfusion.survival import Survival

__all__ = ["check_frame", "fill_unread", "name_rows", "take_outcome"]


def check_frame(estimator: BaseEstimator, X: Any, *, reset: bool) -> pd.DataFrame:
    """Return `X` as a DataFrame and hold its columns against those of `fit`.

    Parameters
    ----------
    estimator : estimator
        Gets ``n_features_in_`` and ``feature_names_in_`` where `reset`.
    X : DataFrame or array-like of numbers, shape (n, p)
    reset : bool
        True in ``fit``.

    Returns
    -------
    DataFrame
        `X` itself where it is one (never changed); an array gets the columns of ``fit``'s frame,
        or 0 to p - 1.

    Raises
    ------
    ValueError
        If `X` has no rows, no columns, columns of the same name, or other columns than in ``fit``.
    """
    if isinstance(X, pd.DataFrame):
        if not X.columns.is_unique:
            twice = X.columns[X.columns.duplicated()].unique().tolist()
            raise ValueError(f"X has several columns of the same name: {twice}.")
        for what, size in zip(("sample", "feature"), X.shape, strict=True):
            if size == 0:
                raise ValueError(
                    f"Found array with 0 {what}(s) (shape={X.shape}) while a minimum of 1 is "
                    f"required by {type(estimator).__name__}."
                )
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        return X
    values = validate_data(estimator, X, reset=reset, ensure_all_finite="allow-nan")
    names = getattr(estimator, "feature_names_in_", None)
    return pd.DataFrame(values, columns=names)


def fill_unread(estimator: BaseEstimator, X: Any, read: Collection[Any]) -> Any:
    """Return `X` with empty columns for those of ``fit`` that it lacks, where none is `read`.

    Anything else that is wrong with its columns is left to `check_frame`.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None or not isinstance(X, pd.DataFrame):
        return X
    lacking = [name for name in names if name not in X.columns]
    others = [name for name in names if name in X.columns]
    if not lacking or others != X.columns.tolist() or not set(read).isdisjoint(lacking):
        return X
    return X.reindex(columns=names)


def name_rows(frame: pd.DataFrame, rows: np.ndarray, most: int = 5) -> str:
    """Return the index labels of `rows` (a mask or positions) for an error message."""
    labels = frame.index[rows].tolist()
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(map(repr, labels[:most])) + more


def take_outcome(y: Any, rows: np.ndarray) -> Any:
    """Return the outcome of `rows` in the form that the user gave it."""
    if isinstance(y, Survival):
        return y.take(rows)
    if isinstance(y, tuple | list) and len(y) in (2, 3) and np.ndim(y[0]) == 1:
        return tuple(np.asarray(part)[rows] for part in y)
    return y.iloc[rows] if isinstance(y, pd.DataFrame | pd.Series) else np.asarray(y)[rows]
