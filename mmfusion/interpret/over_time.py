"""What each column adds to a curve, over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mmfusion.inputs.times import as_times
from mmfusion.interpret.attribution import attribute

__all__ = ["AttributionOverTime", "attribute_over_time"]


class AttributionOverTime(NamedTuple):
    """What `attribute_over_time` found.

    Attributes
    ----------
    values : DataFrame
        A row a subject, feature and time: ``subject`` (the index of `X`), ``modality``,
        ``feature``, ``time``, ``value``.
    summary : DataFrame
        Indexed by modality and feature, the most important first: ``importance``, the absolute
        value averaged over subjects and over the time from the first to the last; ``mean`` the same
        with signs; ``first`` and ``last``, the mean values at these times.
    """

    values: pd.DataFrame
    summary: pd.DataFrame


def attribute_over_time(
    model: Any,
    X: Any,
    times: Sequence[float] | np.ndarray,
    modality: Any = None,
    method: str = "integrated_gradients",
    baseline: Any = None,
    *,
    cause: int | None = None,
    **options: Any,
) -> AttributionOverTime:
    """Say what each column adds to the survival probability, or an incidence, at each time.

    In the manner of SurvSHAP(t) (Krzyzinski et al. 2023): at each time the values of a subject sum
    to the difference between its curve and that of the baseline.

    Parameters
    ----------
    model : survival estimator
        Fitted.
    X : DataFrame, shape (n, p)
    times : array-like, shape (m,)
        In the unit of the outcome, within the follow-up of the training rows.
    modality, method, baseline, **options
        As of `attribute`; "shapley_sampling" samples Shapley values, for small tables.
    cause : int, optional
        Of the cumulative incidence that is explained, instead of the survival probability.

    Returns
    -------
    AttributionOverTime
        A named tuple ``(values, summary)``. Of an image or a cloud the feature is the whole of it.

    Raises
    ------
    ValueError
        As of `attribute`, and if the times are none, or do not increase.
    """
    grid = np.atleast_1d(as_times("times", times))
    if not len(grid) or grid.ndim != 1 or not (np.diff(grid) > 0).all():
        raise ValueError(f"The times parameter must hold increasing times. Got {times!r}.")
    found = []
    for time in grid.tolist():
        target = ("survival", time) if cause is None else ("cumulative_incidence", cause, time)
        one = attribute(model, X, modality, method, target, baseline, **options)
        tables = dict(one.tables)
        for name, total in one.by_modality().items():
            tables.setdefault(str(name), total.to_frame(name))
        found.append(pd.concat(tables, axis=1))
    whole = pd.concat(found, keys=grid.tolist(), names=["time", "subject"])
    whole.columns.names = ["modality", "feature"]
    mean = whole.groupby(level="time").mean()
    width = np.gradient(grid) if len(grid) > 1 else np.ones(1)
    if len(grid) > 1:  # of the trapezoidal rule
        width = np.convolve(np.diff(grid), [0.5, 0.5], mode="full")
    weights = width / width.sum()
    summary = pd.DataFrame(
        {
            "importance": whole.abs().groupby(level="time").mean().T @ weights,
            "mean": mean.T @ weights,
            "first": mean.iloc[0],
            "last": mean.iloc[-1],
        }
    ).sort_values("importance", ascending=False, kind="stable")
    stacked: Any = whole.stack(["modality", "feature"], future_stack=True)
    values = stacked.rename("value").reset_index()
    return AttributionOverTime(values[["subject", "modality", "feature", "time", "value"]], summary)
