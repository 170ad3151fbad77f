"""Words of error messages: the first of many, rows by their labels, the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["did_you_mean", "name_rows", "nearest", "shorten"]


def shorten(labels: Iterable[Any], limit: int = 5, show: Callable[[Any], str] = repr) -> str:
    """Return the first labels or values for a message, with the number of those left out.

    Examples
    --------
    >>> shorten(range(8))
    '0, 1, 2, 3, 4 and 3 more'
    """
    labels = [_plain(label) for label in labels]
    shown = ", ".join(map(show, labels[:limit]))
    return shown if len(labels) <= limit else f"{shown} and {len(labels) - limit} more"


def name_rows(table: Any, rows: Any, values: Any = None) -> str:
    """Return the labels of some rows for a message.

    Parameters
    ----------
    table : DataFrame, Series, sequence of labels or None
        What has the labels; None names positions.
    rows : ndarray
        A mask or positions.
    values : ndarray, optional
        Of all rows: those of `rows` are shown beside the labels.

    Examples
    --------
    >>> name_rows(["ann", "bob", "eve"], [0, 2], values=[0.5, 1, -1])
    "'ann' (0.5), 'eve' (-1)"
    """
    labels = table.index if isinstance(table, pd.DataFrame | pd.Series) else table
    labels = labels.tolist() if isinstance(labels, pd.Index) else labels
    rows = np.asarray(rows)
    positions = np.flatnonzero(rows) if rows.dtype == bool else rows

    def show(row: int) -> str:
        label = repr(row if labels is None else _plain(labels[row]))
        return label if values is None else f"{label} ({_brief(values[row])})"

    return shorten(positions, show=show)


def nearest(value: Any, known: Iterable[Any], limit: int = 1) -> list[str]:
    """Return the names among the `known` that are spelt most like `value`, in any case."""
    names = {str(name).lower(): str(name) for name in known}
    near = difflib.get_close_matches(str(value).lower(), list(names), n=limit, cutoff=0.5)
    return [names[name] for name in near]


def did_you_mean(value: Any, known: Iterable[Any], limit: int = 1) -> str:
    """Return a question with the nearest names to end a message with, or nothing.

    Examples
    --------
    >>> "Got 'Efrn'." + did_you_mean("Efrn", ["efron", "breslow"])
    "Got 'Efrn'. Did you mean 'efron'?"
    >>> did_you_mean(3, ["efron", "breslow"])
    ''
    """
    near = nearest(value, known, limit)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as Python's own, which is shown without its type."""
    return value.item() if isinstance(value, np.generic) else value


def _brief(value: Any) -> str:
    value = _plain(value)
    return f"{value:g}" if isinstance(value, float) else repr(value)
