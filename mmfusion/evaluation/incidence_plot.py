"""The figure of the cumulative incidence of one of several causes, by group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmfusion.evaluation.plots import _axes, _colours, _grouped, _make_room, _write_at_risk
from mmfusion.inputs.labels import check_order
from mmfusion.survival import check_survival, cumulative_incidence
from mmfusion.survival.incidence import incidence_bounds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_incidence"]

#: Bands are drawn at so many times at most.
N_TIMES = 150


def plot_incidence(
    y: Any,
    risk: Any = None,
    cause: int = 1,
    ax: Axes | None = None,
    *,
    groups: Any = None,
    predicted: pd.DataFrame | None = None,
    time_label: str = "time",
) -> Axes:
    """Draw the Aalen-Johansen estimate of a cause in each group, with bands and numbers at risk.

    Parameters
    ----------
    y : outcome, n rows
        The event is a cause: 1, 2, ..., 0 is censored. Of rows that the model did not see.
    risk : array-like of float, shape (n,)
        Higher is more; cut into groups, as by `plot_risk_groups`. None where `groups` is a column.
    cause : int, default=1
    ax : matplotlib Axes, optional
    groups : int or array-like of shape (n,), optional
        As of `plot_risk_groups`.
    predicted : DataFrame, shape (n, m), optional
        What ``predict_cumulative_incidence_function`` returns: the mean of each group is drawn as a
        dashed line, which is to lie on the estimate.
    time_label : str, default="time"

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        As of `plot_risk_groups`; for a cause that `y` does not have.
    """
    check_order(y=y, risk=risk, groups=groups, predicted=predicted)
    outcome = check_survival(y, allow_competing=True)
    if not (outcome.event == cause).any():
        known = np.unique(outcome.event)[1:].astype(int).tolist()
        raise ValueError(
            f"The cause parameter must be one of {known}, the causes of y. Got {cause!r}."
        )
    label, names, what = _grouped(risk, groups, len(outcome))
    ax, highest = _axes(ax), 0.0
    for group, (name, colour) in enumerate(zip(names, _colours(len(names)), strict=True)):
        mine = outcome.take(label == group)
        curve = cumulative_incidence(mine.time, mine.event, cause, mine.entry)
        x, f = np.r_[0.0, curve.x], np.r_[0.0, curve.y]
        ax.step(x, f, where="post", color=colour, label=f"{name}{what} (n = {len(mine)})")
        at = curve.x[np.unique(np.linspace(0, len(curve.x) - 1, N_TIMES).astype(int))]
        lower, upper = incidence_bounds(curve, mine, cause, at)
        ax.fill_between(at, lower, upper, step="post", color=colour, alpha=0.15, linewidth=0)
        highest = max(highest, float(upper.max()))
        if predicted is not None:
            mean = predicted[label == group].mean().sort_index()
            times = np.r_[0.0, mean.index.to_numpy(np.float64)]
            ax.plot(times, np.r_[0.0, mean], color=colour, linestyle="--", linewidth=1.1)
    ax.set(xlabel=time_label, ylabel="cumulative incidence", xlim=(0, outcome.time.max()))
    ax.set_ylim(0, min(1.02, 1.05 * highest))
    ax.legend(frameon=False)
    _make_room(ax, _write_at_risk(ax, outcome.time, outcome.entry, label, names))
    return ax
