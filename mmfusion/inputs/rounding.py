"""Which spreads are nothing but rounding: the one rule of all that divides by a spread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["distinct", "is_constant", "nothing_but_rounding", "rounding_of"]

#: Numbers in float64 were computed, in many operations perhaps: this many times its epsilon.
_COMPUTED = 4096

#: Narrower numbers are wider ones that were rounded once or a few times.
_ROUNDED = 8


def rounding_of(dtype: Any) -> float:
    """Return the share of their size that rounding may move equal numbers of a type apart by.

    9e-13 of float64, 1e-6 of float32, .008 of float16. Other numbers are exact, and are compared
    as float64.

    Parameters
    ----------
    dtype : dtype
        Of NumPy, or what it takes as one.
    """
    kind = np.dtype(dtype)
    if kind.kind != "f" or kind.itemsize >= 8:
        return _COMPUTED * float(np.finfo(np.float64).eps)
    return _ROUNDED * float(np.finfo(kind).eps)


def nothing_but_rounding(
    spread: ArrayLike, magnitude: ArrayLike, dtype: Any = np.float64
) -> NDArray[np.bool_]:
    """Return whether spreads are no more than rounding: such a column counts as constant.

    Parameters
    ----------
    spread : array-like
        A range, a standard deviation or a distance, 0 or more.
    magnitude : array-like
        The largest absolute value of what is spread.
    dtype : dtype
        What the values were computed or stored in.

    Returns
    -------
    ndarray of bool
        True also of a spread that is not a number.
    """
    limit = rounding_of(dtype) * np.asarray(magnitude, dtype=np.float64)
    return ~(np.asarray(spread, dtype=np.float64) > limit)


def is_constant(values: NDArray[Any], dtype: Any = None) -> NDArray[np.bool_]:
    """Return which columns hold one value up to rounding, along the first axis.

    Parameters
    ----------
    values : ndarray of shape (n_rows, ...)
        Without NaN. Without rows every column is constant.
    dtype : dtype, optional
        What the values were computed or stored in; by default that of `values`.
    """
    if not len(values):
        return np.ones(values.shape[1:], dtype=bool)
    low, high = values.min(axis=0), values.max(axis=0)
    with np.errstate(over="ignore"):
        spread = np.subtract(high, low, dtype=np.float64)
    size = np.maximum(np.abs(low), np.abs(high))
    return nothing_but_rounding(spread, size, values.dtype if dtype is None else dtype)


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values of a vector that differ by more than rounding, sorted."""
    found = np.unique(values)
    if len(found) < 2:
        return found
    size = np.maximum(np.abs(found[1:]), np.abs(found[:-1]))
    same = nothing_but_rounding(np.diff(found), size, found.dtype)
    return found[np.append(True, ~same)]
