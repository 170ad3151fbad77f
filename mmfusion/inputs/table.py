"""The table a user gives, checked: a DataFrame a row a subject."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from mmfusion.inputs.columns import column_positions

__all__ = ["check_frame", "check_read", "require_frame"]


def check_frame(estimator: BaseEstimator, X: Any, *, reset: bool) -> pd.DataFrame:
    """Return `X` as a DataFrame and hold its columns against those of `fit`, as scikit-learn does.

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
        or 0 to p - 1, and so does a frame where ``fit`` had an array.

    Raises
    ------
    ValueError
        If `X` has no rows, no columns, columns of the same name, or other columns than in ``fit``.
    """
    names = None if reset else getattr(estimator, "feature_names_in_", None)
    if isinstance(X, pd.DataFrame):
        if not X.columns.is_unique:
            twice = X.columns[X.columns.duplicated()].unique().tolist()
            raise ValueError(f"X has several columns of the same name: {twice}.")
        _refuse_nothing(estimator, X)
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        if names is None and not reset and _has_names(X):
            return X.set_axis(range(X.shape[1]), axis=1)
        return X
    values = validate_data(estimator, X, reset=reset, ensure_all_finite="allow-nan")
    return pd.DataFrame(values, columns=names)


def check_read(
    estimator: BaseEstimator, X: Any, read: Collection[Any], *, also: Collection[Any] = ()
) -> pd.DataFrame:
    """Return the columns of `X` that a fitted estimator reads, by name; others do not matter.

    Where there are no names to go by (an array, or a frame where ``fit`` had an array), all
    columns by position: see `check_frame`.

    Parameters
    ----------
    estimator : estimator
    X : DataFrame or array-like of numbers, shape (n, p)
    read : collection of column labels
        That must be there.
    also : collection of column labels
        That are kept where they are there.

    Raises
    ------
    ValueError
        If `X` has no rows, lacks a column that is read or has two of its name.
    """
    array = not hasattr(estimator, "feature_names_in_")
    if not isinstance(X, pd.DataFrame) or (array and _has_names(X)):
        return check_frame(estimator, X, reset=False)
    _refuse_nothing(estimator, X)
    column_positions(X, list(read))
    kept = X.columns.isin([*read, *also])
    return X if kept.all() else X.loc[:, kept]


def _refuse_nothing(estimator: BaseEstimator, X: pd.DataFrame) -> None:
    for what, size in zip(("sample", "feature"), X.shape, strict=True):
        if size == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={X.shape}) while a minimum of 1 is "
                f"required by {type(estimator).__name__}."
            )


def _has_names(X: pd.DataFrame) -> bool:
    return all(isinstance(label, str) for label in X.columns)


def require_frame(frame: Any, reader: str) -> None:
    """Raise TypeError unless `frame` is a DataFrame; `reader` is what reads it."""
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"{reader} reads a pandas DataFrame. Got {type(frame).__name__}.")
