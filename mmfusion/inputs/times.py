"""Times as numbers: dates and durations have no unit of their own, and are refused."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["HOW_TO_COUNT", "as_times", "check_clock", "is_clock"]

#: How a date or a duration becomes a number, to end a message with.
HOW_TO_COUNT = (
    "count the days, months or years first: durations / pd.Timedelta(days=1), "
    "or (dates - start) / pd.Timedelta(days=1)"
)

CLOCKS = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    np.datetime64,
    np.timedelta64,
    pd.Period,
    pd.DateOffset,
)


def is_clock(values: Any) -> bool:
    """Return whether `values` is a date or a duration, or holds one, in any container.

    Examples
    --------
    >>> is_clock(pd.to_timedelta([180], unit="D")), is_clock([pd.Timestamp("2020-01-01")])
    (True, True)
    >>> is_clock([180, 365])
    False
    """
    return _example(values) is not None


def check_clock(name: str, values: Any) -> None:
    """Raise TypeError if `values`, those of the parameter `name`, hold a date or a duration."""
    found = _example(values)
    if found is not None:
        raise TypeError(
            f"The {name} parameter must hold numbers, in the unit of the outcome. "
            f"Got {found} ({HOW_TO_COUNT})."
        )


def as_times(name: str, values: Any) -> np.ndarray:
    """Return the times of the parameter `name` as float64, of any shape, unchecked but for kind.

    Raises
    ------
    TypeError
        If they are dates or durations, whose numbers would be nanoseconds, or no numbers at all.
    ValueError
        If they are text, or rows of different lengths.

    Examples
    --------
    >>> as_times("times", [180, 365])
    array([180., 365.])
    """
    check_clock(name, values)
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        kind = type(error)
        raise kind(f"The {name} parameter must hold numbers. Got {values!r}.") from None


def _example(values: Any) -> str | None:
    """Return a description of what is a date or a duration in `values`, None if nothing is."""
    if isinstance(values, CLOCKS):
        return repr(values)
    if values is None or isinstance(values, (str, bytes, int, float)):
        return None
    dtype = getattr(values, "dtype", None)
    if dtype is not None and not isinstance(dtype, np.dtype):  # of pandas, or of Arrow in pandas
        numpy_kind = getattr(dtype, "kind", "O")
        if numpy_kind in "mM" or isinstance(dtype, pd.PeriodDtype):
            return f"dtype {dtype}"
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # ragged: what reads it next says so
        return None
    if array.dtype.kind in "mM":
        return f"dtype {array.dtype}" + (f", for example {array.flat[0]!r}" if array.size else "")
    if array.dtype.kind != "O":
        return None
    odd = next((value for value in array.flat if isinstance(value, CLOCKS)), None)
    if odd is None or odd is pd.NaT:
        return None
    return repr(odd)
