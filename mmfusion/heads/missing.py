"""Outcomes that are missing, by the rows in which they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.messages import name_rows

__all__ = ["refuse_missing"]


def refuse_missing(y: Any, index: Any = None) -> None:
    """Raise for an outcome that is missing or infinite in some rows.

    Parameters
    ----------
    y : array-like, shape (n,) or (n, 1)
        Of another shape or kind it is left to other checks.
    index : sequence, optional
        Labels of the rows for the message; by default `y`'s own index, else positions.

    Raises
    ------
    ValueError
        Naming the rows.
    """
    dtype = getattr(y, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind in "iub":
        return  # none can be missing
    if isinstance(dtype, np.dtype) and dtype.kind == "f" and np.isfinite(np.asarray(y)).all():
        return
    values = np.asarray(y, dtype=object)
    if values.ndim == 0:
        return
    if index is None:
        index = y.index if isinstance(y, pd.Series | pd.DataFrame) else range(len(values))
    infinite = np.array([isinstance(v, float) and math.isinf(v) for v in values.ravel()], bool)
    for what, bad in (("NaN", pd.isna(values)), ("infinity", infinite.reshape(values.shape))):
        rows = np.flatnonzero(bad.reshape(len(values), -1).any(axis=1))
        if len(rows):
            labels = index if len(index) == len(values) else range(len(values))
            raise ValueError(
                f"Input y contains {what}, in row(s) {name_rows(labels, rows)}. "
                "Leave out rows without an outcome."
            )
