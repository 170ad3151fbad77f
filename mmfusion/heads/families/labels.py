"""Levels that have names: text and categoricals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.heads.families.base import Family

__all__ = ["Labelled", "names_of", "outcome_column", "shown"]

#: A message shows no more labels than these.
SHOWN = 10


def outcome_column(y: Any) -> pd.Series | None:
    """Return an outcome of one value a row as a column; None of any other."""
    if isinstance(y, pd.DataFrame):
        return y.iloc[:, 0] if y.shape[1] == 1 else None
    if isinstance(y, pd.Series):
        return y
    if isinstance(y, tuple) or getattr(getattr(y, "dtype", None), "names", None) is not None:
        return None
    values = y if isinstance(y, pd.api.extensions.ExtensionArray | pd.Index) else np.asarray(y)
    if isinstance(values, np.ndarray):
        if values.ndim == 0 or values.size != len(values):
            return None
        values = values.ravel()
    return pd.Series(values)


def names_of(column: pd.Series) -> np.ndarray | None:
    """Return the names of an outcome's levels, sorted or as a categorical orders them.

    None where the outcome is of numbers, or of text that is.
    """
    levels = pd.Index(column.dropna().unique())
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = column.cat.categories[column.cat.categories.isin(levels)]
    if pd.api.types.is_numeric_dtype(levels.dtype) or len(levels) == 0:
        return None
    if pd.to_numeric(levels.to_series(), errors="coerce").notna().all():
        return None
    names = levels.astype(str).to_numpy(dtype=str)
    ordered = isinstance(column.dtype, pd.CategoricalDtype) and column.cat.ordered
    return names if ordered else np.sort(names)


def shown(labels: Sequence[Any] | np.ndarray) -> str:
    """Return labels as a message shows them."""
    listed = np.asarray(labels).tolist()
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return f"{listed[:SHOWN]}{more}"


class Labelled(Family):
    """A family of levels, which may have names.

    Attributes
    ----------
    labels : ndarray
        A name a level, or the levels themselves.
    """

    labels: np.ndarray

    def numbers(self, y: Any) -> Any:
        column = outcome_column(y)
        if column is None:
            return y
        if not self.named:
            return column.astype(float).to_numpy() if column.dtype == bool else np.asarray(column)
        names = column.astype(str)
        codes = pd.Index(self.labels).get_indexer(pd.Index(names))
        # What has no name among them stays as it is, to be named.
        return np.where(codes < 0, names.to_numpy(dtype=object), codes.astype(object))

    def says(self) -> str:
        return f"the levels {shown(self.labels)}" if self.named else super().says()
