"""The table a user gives, checked: a DataFrame a row a subject."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

__all__ = ["check_frame", "fill_unread", "require_frame"]


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


def require_frame(frame: Any, reader: str) -> None:
    """Raise TypeError unless `frame` is a DataFrame; `reader` is what reads it."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"{reader} reads a pandas DataFrame. Got {type(frame).__name__}.")
