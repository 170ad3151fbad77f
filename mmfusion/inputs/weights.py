"""Weights of rows, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["check_weights"]


def check_weights(weights: Any, n: int, parameter: str = "sample_weight") -> np.ndarray:
    """Return the weights of `n` rows as float64, ones where there are none.

    Parameters
    ----------
    weights : array-like of number, shape (n,) or (1,); number or None
        One number counts for all rows.
    n : int
    parameter : str
        What messages call the weights.

    Returns
    -------
    ndarray of float64, shape (n,)
        A new array.

    Raises
    ------
    TypeError
        If they are no numbers, for instance the name of a column.
    ValueError
        If they are not `n` finite numbers, none negative and one positive.

    Examples
    --------
    >>> check_weights(None, 3)
    array([1., 1., 1.])
    """
    if weights is None:
        return np.ones(n)
    try:
        if isinstance(weights, pd.Series):
            weights = weights.to_numpy(dtype=np.float64, na_value=np.nan)
        values = np.array(weights, dtype=np.float64, ndmin=1)
    except (TypeError, ValueError):
        text = isinstance(weights, str)
        name = f"X[{weights!r}]" if text else "a column of numbers"
        found = repr(weights) if text else f"{type(weights).__name__} of something else"
        raise TypeError(
            f"The {parameter} parameter must hold a number for each row, as {name} does. "
            f"Got {found}."
        ) from None
    if values.shape == (1,):
        values = np.full(n, values[0])
    if values.shape != (n,):  # in scikit-learn's words
        raise ValueError(
            f"The {parameter} parameter must have one value for each of the {n} rows: "
            f"{parameter}.shape == {values.shape}, expected {(n,)}!"
        )
    bad = np.flatnonzero(~np.isfinite(values) | (values < 0))
    if len(bad):
        raise ValueError(
            f"The {parameter} parameter must hold finite numbers, none negative. "
            f"Got {values[bad[0]]} at position {bad[0]}."
        )
    if not values.any():
        raise ValueError(f"The {parameter} parameter must hold a number above zero. All are 0.")
    return values
