"""Columns that hold the outcome itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.messages import shorten

__all__ = ["warn_of_outcome"]

#: With fewer rows a column of two values agrees with a rare event by chance.
FEWEST = 20
#: How closely a column of another unit must follow the outcome.
CLOSE = 1e-7


def warn_of_outcome(y: Any, table: pd.DataFrame, columns: Iterable[Any]) -> None:
    """Warn where a column that is read is the outcome: its times, events, classes or numbers.

    Numbers may be in another unit, labels may have other names.

    Parameters
    ----------
    y : outcome of n rows, as the user gave it
    table : DataFrame of n rows
    columns : iterable of column labels
        What modalities and formulas read.
    """
    found: dict[Any, str] = {}
    parts = [_Part(name, values) for name, values in _parts(y).items() if len(values) == len(table)]
    read = set(columns)
    names = [label for label in table.columns if label in read]
    places = table.columns.get_indexer(pd.Index(names, dtype=object))
    kinds = [getattr(dtype, "kind", "O") for dtype in table.dtypes.iloc[places]]
    plain = np.isin(kinds, list("iuf"))
    first = np.full((min(len(table), FEWEST), len(names)), np.nan)
    first[:, plain] = table.iloc[:FEWEST, places[plain]].to_numpy(np.float64, na_value=np.nan)
    for part in parts:
        for at in np.flatnonzero(part.may_be_in(first)):
            if part.is_in(table.iloc[:, places[at]]):
                found[names[at]] = part.name
    if not found:
        return
    found = {name: found[name] for name in names if name in found}
    which = " and ".join(dict.fromkeys(found.values()))
    word = "Columns" if len(found) > 1 else "Column"
    warnings.warn(
        f"{word} {shorten(found)} of X {'hold' if len(found) > 1 else 'holds'} the outcome ({which}"
        "), which the model reads and shall predict: its scores mean nothing. Leave the outcome "
        "out of X, or name the columns to read (modalities=, structured=).",
        UserWarning,
        stacklevel=3,
    )


def _parts(y: Any) -> Mapping[str, np.ndarray]:
    """Return the parts of an outcome in any of its forms."""
    if isinstance(y, pd.DataFrame):
        parts = {str(name): y[name] for name in y.columns}
    elif getattr(getattr(y, "dtype", None), "names", None):
        parts = {name: y[name] for name in y.dtype.names}
    elif hasattr(y, "time") and hasattr(y, "event"):
        parts = {"time": y.time, "event": y.event}
    elif isinstance(y, tuple | list) and len(y) in (2, 3) and np.ndim(y[0]) == 1:
        parts = dict(zip(("time", "event"), y, strict=False))
    else:
        parts = {"y": y}
    arrays = {name: np.asarray(part) for name, part in parts.items() if name != "entry"}
    return {name: part for name, part in arrays.items() if part.ndim == 1}


class _Part:
    """A part of the outcome, and whether a column holds it."""

    def __init__(self, name: str, values: np.ndarray) -> None:
        self.name = name
        many = values.dtype.kind in "iuf" and len(np.unique(values[:FEWEST])) > 2
        self.numbers = values.astype(np.float64) if many else None
        most, n = max(len(values) // 10, 2), len(values)
        # Where some rows have more labels than that, all rows have.
        no_labels = n < FEWEST or len(pd.unique(values[: n // 5 + 1])) > most + 1
        codes, labels = (np.zeros(0), ()) if no_labels else pd.factorize(values)
        self.codes = codes if 2 <= len(labels) <= most else None

    def may_be_in(self, first: np.ndarray) -> np.ndarray:
        """Return which columns the first rows, (r, p) with NaN where unknown, do not rule out."""
        possible = np.isnan(first).any(axis=0)
        if self.numbers is not None:
            values, part = first, self.numbers[: len(first), None]
            with np.errstate(all="ignore"):
                factor = (values * part).sum(axis=0) / (values**2).sum(axis=0)
                possible |= (np.abs(factor * values - part) <= CLOSE * np.abs(part).max()).all(0)
        if self.codes is not None:
            groups = [first[self.codes[: len(first)] == code] for code in np.unique(self.codes)]
            possible |= np.all([(rows == rows[:1]).all(axis=0) for rows in groups], axis=0)
        return possible

    def is_in(self, column: pd.Series) -> bool:
        """Return whether a column holds these numbers, in any unit, or labels, by any name."""
        if self.numbers is not None and getattr(column.dtype, "kind", "O") in "iuf":
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
            there = np.isfinite(values)
            if _proportional(self.numbers[there], values[there]):
                return True
        try:
            return self.codes is not None and np.array_equal(self.codes, pd.factorize(column)[0])
        except (TypeError, ValueError):  # of cells that are no labels
            return False


def _proportional(part: np.ndarray, values: np.ndarray) -> bool:
    """Return whether numbers are a positive multiple of others."""
    size = float(values @ values)
    if len(values) < 3 or size == 0 or values.min() == values.max():
        return False
    factor = float(values @ part) / size
    return factor > 0 and bool(np.abs(factor * values - part).max() <= CLOSE * np.abs(part).max())
