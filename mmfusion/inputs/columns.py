"""Columns of a table: found by their labels, told apart by what they hold, read as numbers."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Sequence
from numbers import Number
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmfusion.inputs.messages import did_you_mean, nearest, shorten
from mmfusion.inputs.rounding import rounding_of

__all__ = [
    "column_kind",
    "column_positions",
    "list_labels",
    "numeric_matrix",
    "take_column",
    "warn_of_text",
]

#: Text with as many different numbers is no name of a category.
MANY_NUMBERS = 15

#: Columns converted at a time: bounds the copy that a wide table costs.
_CHUNK = 1024
_LARGEST = float(np.finfo(np.float32).max)


def list_labels(columns: Any, owner: str, parameter: str = "columns") -> list[Hashable]:
    """Return a parameter that holds one label or several as a list without repeats."""
    if isinstance(columns, str) or not isinstance(columns, Iterable):
        columns = [columns]
    labels = list(columns)
    if not labels:
        raise ValueError(f"The {parameter} parameter of {owner} must name a column. Got none.")
    repeated = [label for label, count in _counts(labels).items() if count > 1]
    if repeated:
        raise ValueError(
            f"The {parameter} parameter of {owner} must name each column once. "
            f"Got {shorten(repeated)} more than once."
        )
    return labels


def _counts(labels: Iterable[Hashable]) -> dict[Hashable, int]:
    counts: dict[Hashable, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    return counts


def column_positions(frame: pd.DataFrame, labels: Sequence[Hashable]) -> NDArray[np.intp]:
    """Return where the labels stand in the table.

    Raises
    ------
    ValueError
        If a label is not a column, with the nearest names, or is the label of two columns.
    """
    place: dict[Hashable, int] = {label: position for position, label in enumerate(frame.columns)}
    unknown = [label for label in labels if label not in place]
    if unknown:
        _unknown_columns(frame, unknown)
    if len(place) < frame.shape[1]:
        counts = _counts(frame.columns)
        repeated = [label for label in labels if counts[label] > 1]
        if repeated:
            raise ValueError(
                f"The table has more than one column named {shorten(repeated)}: rename them."
            )
    return np.array([place[label] for label in labels], dtype=np.intp)


def _unknown_columns(frame: pd.DataFrame, unknown: Sequence[Hashable]) -> NoReturn:
    names = [str(label) for label in frame.columns]
    near = nearest(unknown[0], names, 3)
    if near:
        hint = f"Nearest to {unknown[0]!r}: {shorten(near)}."
    else:
        hint = f"It has {len(names)}: {shorten(frame.columns)}."
    word = "Column" if len(unknown) == 1 else "Columns"
    raise ValueError(f"{word} {shorten(unknown)} not found in the table. {hint}")


def take_column(frame: Any, label: Any, parameter: str) -> pd.Series:
    """Return the column that a parameter names.

    Raises
    ------
    ValueError
        If it is none of the table's, with the nearest name or the first ones.
    """
    columns = getattr(frame, "columns", pd.Index([]))
    several = isinstance(label, list) or (isinstance(label, tuple) and label not in columns)
    parts = label if several and len(label) > 1 else []
    if parts and all(isinstance(part, Hashable) and part in columns for part in parts):
        joined = ' + "/" + '.join(f"X[{part!r}].astype(str)" for part in parts)
        raise ValueError(
            f"The {parameter} parameter must name one column of X. Got {label!r}. Of several make "
            f"one of their combinations: X[{parameter!r}] = {joined}."
        )
    if not isinstance(label, Hashable) or label not in columns:
        raise ValueError(
            f"The {parameter} parameter must name a column of X. Got {label!r}; "
            f"X has {shorten(columns)}.{did_you_mean(label, columns)}"
        )
    return frame[label]


def column_kind(column: pd.Series) -> str:
    """Return "numeric", "categorical" or "empty": what a column of a table holds.

    Bools are numeric; objects are looked at: numbers with ``None`` between them are numeric.

    Raises
    ------
    ValueError
        If the column holds dates, numbers mixed with text or with bools, or other objects.
    """
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        odd = [level for level in dtype.categories if not pd.api.types.is_scalar(level)]
        if odd:
            raise ValueError(
                f"Column {column.name!r} has levels of the type {type(odd[0]).__name__}, "
                f"{odd[0]!r}. Make them text, frame[{column.name!r}].astype(str)."
            )
        return "categorical"
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return "numeric"
    found = pd.api.types.infer_dtype(column, skipna=True)
    if found in ("integer", "floating", "mixed-integer-float", "boolean", "decimal"):
        return "numeric"
    if found == "string":
        return "categorical"
    if found == "empty" or column.isna().all():
        return "empty"
    name = column.name
    if found.startswith(("date", "time", "period")):
        raise ValueError(
            f"Column {name!r} holds dates or durations ({dtype}). Turn it into a number first, "
            f"for instance days since a start: (frame[{name!r}] - start).dt.days, or leave it out."
        )
    cells = column[column.notna()]
    text = np.array([isinstance(cell, str) for cell in cells], dtype=bool)
    number = np.array([isinstance(cell, Number | np.bool_) for cell in cells], dtype=bool)
    if text.any() and number.any() and (text | number).all():
        raise ValueError(
            f"Column {name!r} mixes numbers and text: {_first(cells[number])}, "
            f"{_first(cells[text])}. Make it numbers with pd.to_numeric(..., errors='coerce') or "
            "text with .astype(str)."
        )
    if isinstance(dtype, pd.ArrowDtype):
        raise ValueError(
            f"Column {name!r} is stored as {dtype}, which is not read. Make it plain first: "
            f"frame[{name!r}].astype(object)."
        )
    kinds = sorted({type(cell).__name__ for cell in cells})
    if all(getattr(cell, "ndim", 0) == 1 for cell in cells):
        raise ValueError(
            f"Column {name!r} holds vectors ({' and '.join(kinds)}) in its cells. Vectors that "
            f"another model computed are a modality of their own: Embedding({name!r}). Name it "
            "with modalities=, or leave the column out."
        )
    if number.all() and len(kinds) > 1:
        first = [_first(cells[[type(cell).__name__ == kind for cell in cells]]) for kind in kinds]
        raise ValueError(
            f"Column {name!r} mixes values of the types {', '.join(kinds)}: {', '.join(first)}. "
            "Make them numbers of one type with .astype(float)."
        )
    other = cells if (text | number).all() else cells[~(text | number)]
    raise ValueError(
        f"Column {name!r} must hold numbers or categories. Got {type(other.iloc[0]).__name__} in "
        f"row {shorten(other.index[:1])}; images need an Image modality."
    )


def warn_of_text(column: pd.Series) -> None:
    """Warn of text that is read as categories, and is mostly numbers of many values.

    One "unknown" in a file makes text of a column of ages.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        return  # someone said so
    levels = column.dropna().drop_duplicates().astype(str)
    number = pd.to_numeric(levels, errors="coerce").notna()
    if number.sum() < MANY_NUMBERS or number.mean() < 0.5:
        return
    others = levels[~number]
    but = f" but {_first(others)}" if len(others) else ""
    warnings.warn(
        f"Column {column.name!r} holds text, {number.sum()} different numbers{but}: it is read as "
        f"categories. For numbers: pd.to_numeric(frame[{column.name!r}], errors='coerce'); for "
        "categories without this warning: .astype('category').",
        UserWarning,
        stacklevel=2,
    )


def _first(cells: pd.Series) -> str:
    return f"{shorten(cells.iloc[:1])} in row {shorten(cells.index[:1])}"


def numeric_matrix(
    frame: pd.DataFrame, columns: Sequence[Hashable], dtype: Any = np.float64
) -> NDArray[Any]:
    """Return columns of numbers as one array with NaN where they are missing.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
    columns : sequence of labels
    dtype : float64 or float32

    Returns
    -------
    ndarray of shape (n_rows, len(columns))
        A new array, C-contiguous.

    Raises
    ------
    ValueError
        If a column is not in the table, holds something other than numbers, or holds an infinite
        value or one beyond float32 (column and row named).
    """
    positions = column_positions(frame, columns)
    dtypes = frame.dtypes.to_numpy()[positions]
    plain = np.array([isinstance(d, np.dtype) and d.kind in "biuf" for d in dtypes], dtype=bool)
    values = np.empty((len(frame), len(positions)), dtype)
    quick = np.flatnonzero(plain)
    with np.errstate(over="ignore"):  # found and named below
        for start in range(0, len(quick), _CHUNK):
            some = quick[start : start + _CHUNK]
            there, here = _as_slice(positions[some]), _as_slice(some)
            values[:, here] = frame.iloc[:, there].to_numpy(dtype=dtype)
        for place in np.flatnonzero(~plain):
            values[:, place] = _numbers(frame.iloc[:, positions[place]])
    if values.size and not (
        np.fmax.reduce(values, axis=None) <= _LARGEST
        and np.fmin.reduce(values, axis=None) >= -_LARGEST
    ):
        _name_infinite(frame, positions, values)
    return values


def refuse_overflow(
    values: NDArray[Any], labels: Sequence[Any], index: pd.Index, what: str
) -> None:
    """Raise ValueError for numbers that are not finite in float32, naming column and row.

    Parameters
    ----------
    values : ndarray of shape (n_rows, len(labels))
        As networks read them, without missing ones.
    labels : sequence
        Names of the columns.
    index : Index
        Labels of the rows.
    what : str
        What made them, at the start of the message: "Tabular: scaled, ".
    """
    if values.size and not (values.max() <= _LARGEST and values.min() >= -_LARGEST):
        row, place = np.argwhere(~(np.abs(values) <= _LARGEST))[0]
        raise ValueError(
            f"{what}column {labels[place]!r} overflows float32 in row {shorten(index[[row]])}: "
            f"it is {values[row, place]:.3g} there, and must be within {_LARGEST:.3g}. Look for a "
            "wrong value, or one of another unit than in the training rows."
        )


def column_rounding(frame: pd.DataFrame, columns: Sequence[Hashable]) -> NDArray[np.float64]:
    """Return what share of its size rounding may move the numbers of each column by.

    By the type in which the table holds them (`rounding_of`).
    """
    dtypes = frame.dtypes.to_numpy()[column_positions(frame, columns)]
    return np.array([rounding_of(_stored(dtype)) for dtype in dtypes], dtype=np.float64)


def _stored(dtype: Any) -> Any:
    """Return the NumPy type of a column's numbers; of objects, float64."""
    found = getattr(dtype, "numpy_dtype", getattr(dtype, "subtype", dtype))
    return found if isinstance(found, np.dtype) else np.float64


def _as_slice(places: NDArray[np.intp]) -> Any:
    """Return adjacent places as a slice, which is read without a copy."""
    first, last = int(places[0]), int(places[-1])
    adjacent = last - first == len(places) - 1 and bool((np.diff(places) == 1).all())
    return slice(first, last + 1) if adjacent else places


def _numbers(column: pd.Series) -> NDArray[np.float64]:
    """Return a column of objects, nullable or sparse numbers as float64."""
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(
        column.dtype
    ):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    kind = column_kind(column)
    if kind == "categorical":
        cells = column[column.notna()]
        raise ValueError(
            f"Column {column.name!r} must hold numbers. Got {_first(cells)} ({column.dtype})."
        )
    numbers = np.full(len(column), np.nan)
    there = column.notna().to_numpy()
    numbers[there] = column.to_numpy(dtype=object)[there].astype(np.float64)
    return numbers


def _name_infinite(frame: pd.DataFrame, positions: NDArray[np.intp], values: NDArray[Any]) -> None:
    bad = np.abs(values) > _LARGEST
    if not bad.any():  # every value is NaN
        return
    row, place = np.argwhere(bad)[0]
    raise ValueError(
        f"Column {frame.columns[positions[place]]!r} must hold finite numbers (or missing). "
        f"Got {_first(frame.iloc[row : row + 1, positions[place]])}, infinite or beyond float32."
    )
