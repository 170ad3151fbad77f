"""Labels of rows (strata, clusters, groups), checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.messages import name_rows

__all__ = ["check_labels"]


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
