"""Checks of the predictions that metrics take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.times import as_times

__all__ = ["check_probabilities", "check_risk", "check_survival_table", "check_times"]

#: Rounding of float32 predictions may leave [0, 1] by this much.
ROUNDING = 1e-6


def check_risk(risk: Any, n: int, n_times: int | None = None) -> np.ndarray:
    """Return the risks as float64: shape (n,), or (n, n_times) where that is allowed and given."""
    values = np.asarray(risk, dtype=np.float64)
    shapes = [(n,)] if n_times is None else [(n,), (n, n_times)]
    if values.shape not in shapes:
        raise ValueError(
            f"The risk parameter must have shape {' or '.join(map(str, shapes))}. "
            f"Got {values.shape}."
        )
    missing = np.flatnonzero(np.isnan(values.reshape(n, -1)).any(axis=1))
    if len(missing):
        raise ValueError(
            f"The risk parameter must not be NaN. Got NaN in rows {missing[:5].tolist()}."
        )
    return values


def check_times(times: Any) -> np.ndarray:
    """Return times as float64: finite, not negative, strictly increasing, no dates or durations."""
    values = np.atleast_1d(as_times("times", times))
    if values.ndim != 1 or not len(values):
        raise ValueError(
            "The times parameter must be a non-empty array of one dimension. "
            f"Got shape {values.shape}."
        )
    if not (np.isfinite(values) & (values >= 0)).all() or not (np.diff(values) > 0).all():
        raise ValueError(
            "The times parameter must be finite, not negative and strictly increasing. "
            f"Got {np.array2string(values, threshold=10)}."
        )
    return values


def check_survival_table(survival: Any, times: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the times (k,) and the survival probabilities (n, k) of a prediction.

    A DataFrame brings its times as columns; an array needs `times`.
    """
    if isinstance(survival, pd.DataFrame):
        columns = check_times(survival.columns)
        if times is not None and not np.array_equal(
            columns, np.atleast_1d(as_times("times", times))
        ):
            raise ValueError(
                "The times parameter must equal the columns of the survival DataFrame, or be left "
                f"out. Got {np.size(times)} times and {len(columns)} columns that differ."
            )
        grid = columns
    elif times is None:
        raise ValueError(
            "The times parameter must be given where survival is an array: the time of each "
            "column. Got None."
        )
    else:
        grid = check_times(times)
    table = np.asarray(survival, dtype=np.float64)
    if table.shape != (n, len(grid)):
        raise ValueError(
            "The survival parameter must have a row for each subject and a column for each time: "
            f"shape {(n, len(grid))}. Got {table.shape}."
        )
    return grid, check_probabilities(table, "survival")


def check_probabilities(values: np.ndarray, name: str) -> np.ndarray:
    """Return probabilities within [0, 1]; what rounding added is cut off."""
    inside = (values >= -ROUNDING) & (values <= 1 + ROUNDING)  # False for NaN
    if not inside.all():
        rows = np.flatnonzero(~inside.reshape(len(values), -1).all(axis=1))
        worst = values[~inside].flat[0]
        raise ValueError(
            f"The {name} parameter must hold probabilities in [0, 1]. "
            f"Got {worst:g} in rows {rows[:5].tolist()}."
        )
    return np.clip(values, 0.0, 1.0)
