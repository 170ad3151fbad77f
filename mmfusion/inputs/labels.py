"""Labels of rows, checked: those of strata, clusters and groups, and the index of tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.messages import name_rows

__all__ = ["check_labels", "check_order"]


def check_labels(labels: Any, n: int, parameter: str, index: Any = None) -> np.ndarray:
    """Return the labels of `n` rows as an array.

    Parameters
    ----------
    labels : array-like, shape (n,)
    n : int
    parameter : str
        What messages call the labels.
    index : sequence, optional
        Names of the rows for messages; by default those of a Series, else positions.

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError
        If there is not one label a row, or one is missing; the message names the rows.

    Examples
    --------
    >>> check_labels(["a", "b"], 2, "strata")
    array(['a', 'b'], dtype='<U1')
    """
    if index is None and isinstance(labels, pd.Series):
        index = labels.index
    values = np.asarray(labels)
    if values.shape != (n,):
        raise ValueError(
            f"The {parameter} parameter must hold one label for each of the {n} rows. "
            f"Got shape {values.shape}."
        )
    missing = pd.isna(values)
    if missing.any():
        raise ValueError(
            f"The {parameter} parameter must have no missing labels. "
            f"Got some in rows {name_rows(index, missing)}."
        )
    return values


def check_order(**given: Any) -> None:
    """Raise ValueError where two of the given have the same row labels in another order.

    Rows go by position everywhere. Where two tables both name their rows, by the same names, and
    the names disagree, positions join the rows of different subjects.

    Parameters
    ----------
    **given : DataFrame, Series, tuple of these, or anything else
        By what messages call them. What has no index is not looked at.

    Examples
    --------
    >>> x, y = pd.Series([1, 2], index=["a", "b"]), pd.Series([3, 4], index=["b", "a"])
    >>> check_order(x=x, y=y[x.index], weight=[0.5, 1])
    >>> check_order(x=x, y=y)
    Traceback (most recent call last):
    ValueError: x and y name the same rows in another order: the first is 'a' in x, 'b' in y. ...
    """
    named = [(name, index) for name, value in given.items() for index in _indices(value)]
    for name, index in named[1:]:
        first, known = named[0]
        place = _disagree(known, index)
        if place is not None:
            raise ValueError(
                f"{first} and {name} name the same rows in another order: "
                f"{'the first' if place == 0 else f'at position {place} one'} is "
                f"{known[place]!r} in {first}, {index[place]!r} in {name}. Rows go by position: "
                f"align them, {name}.loc[{first}.index]; or, where the positions are right, say so "
                f"with {name}.set_axis({first}.index)."
            )


def _indices(value: Any) -> list[pd.Index]:
    """Return the index of a table, or those of the parts of a tuple."""
    if isinstance(value, pd.DataFrame | pd.Series):
        return [value.index]
    if isinstance(value, tuple | list) and len(value) <= 3:
        return [index for part in value for index in _indices(part)]
    return []


def _disagree(first: pd.Index, second: pd.Index) -> int | None:
    """Return where two indices of the same labels differ first; None where they agree.

    Text names a subject for good: a single shared name at another position is enough there.
    Numbers may count anew, and tell of another order only where all of them are the same.
    """
    if len(first) != len(second) or first.equals(second):
        return None
    shared = second.isin(first)
    text = {pd.api.types.infer_dtype(index, skipna=True) for index in (first, second)}
    if not shared.all() and (text != {"string"} or not shared.any()):
        return None
    different = np.flatnonzero(first.to_numpy() != second.to_numpy())
    if not shared.all():
        different = np.intersect1d(different, np.flatnonzero(shared))
    return int(different[0]) if len(different) else None
