"""Figures of scores over time: discrimination, and errors beside those of no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmfusion.inputs.labels import check_order
from mmfusion.metrics import brier_score, evaluation_times, score_interval
from mmfusion.survival import check_survival, kaplan_meier

from ._axes import BLUE, GREY, draw_band, on_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_auc", "plot_brier"]


def plot_auc(
    y: Any,
    risk: Any,
    times: Any = None,
    ax: Axes | None = None,
    *,
    y_train: Any = None,
    time_label: str = "time",
) -> Axes:
    """Draw the cumulative/dynamic AUC against time, with pointwise 95 % intervals.

    Parameters
    ----------
    y : outcome, n rows
        That the model did not see.
    risk : array-like of float, shape (n,)
        Higher is worse.
    times : array-like of float, optional
        By default 20 over the usable follow-up.
    ax : matplotlib Axes, optional
    y_train : outcome, optional
        The rows that tell the censoring; by default `y`.
    time_label : str, default="time"

    Returns
    -------
    matplotlib Axes
    """
    check_order(y=y, risk=risk)
    outcome = check_survival(y)
    times = _inside(outcome, times)
    table = score_interval("auc", outcome, risk, times=times, y_train=y_train)
    at = [label for label in table.index if not isinstance(label, str)]
    own = table.loc[at]
    x = np.asarray(at, np.float64)
    ax = on_axes(ax)
    draw_band(ax, x, own["lower"].to_numpy(), own["upper"].to_numpy(), BLUE)
    ax.plot(x, own["score"].to_numpy(), color=BLUE)
    ax.axhline(0.5, color=GREY, linewidth=0.8, linestyle="--")
    low = float(np.nanmin(own["lower"].to_numpy(), initial=0.4))
    ax.set(xlabel=time_label, ylabel="AUC(t)", ylim=(max(0.0, min(low, 0.4)), 1.0))
    return ax


def plot_brier(
    y: Any,
    survival: pd.DataFrame,
    ax: Axes | None = None,
    *,
    y_train: Any = None,
    time_label: str = "time",
) -> Axes:
    """Draw the Brier score of predicted survival against time, beside the Kaplan-Meier curve's.

    Parameters
    ----------
    y : outcome, n rows
        That the model did not see.
    survival : DataFrame, shape (n, m)
        What ``predict_survival_function`` returns: a column a time.
    ax : matplotlib Axes, optional
    y_train : outcome, optional
        The rows that tell the censoring and the Kaplan-Meier curve; by default `y`.
    time_label : str, default="time"

    Returns
    -------
    matplotlib Axes
        Two lines: the model's, then that of the curve that is the same for all rows.
    """
    outcome = check_survival(y)
    training = outcome if y_train is None else check_survival(y_train)
    curve = kaplan_meier(
        training.time, training.event, training.entry if training.delayed else None
    )
    survival = survival.iloc[:, np.argsort(survival.columns.to_numpy(np.float64), kind="stable")]
    times = survival.columns.to_numpy(np.float64)
    nothing = pd.DataFrame(
        np.tile(curve(times), (len(outcome), 1)), columns=survival.columns, index=survival.index
    )
    ax = on_axes(ax)
    lines = {"model": (survival, BLUE, "-"), "Kaplan-Meier": (nothing, GREY, "--")}
    for label, (table, colour, style) in lines.items():
        scores = brier_score(training, outcome, table)
        ax.plot(times, scores, color=colour, linestyle=style, label=label)
    ax.set(xlabel=time_label, ylabel="Brier score")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    return ax


def _inside(outcome: Any, times: Any) -> np.ndarray:
    """Return the times, by default those at which an AUC has cases enough to say something."""
    if times is not None:
        return np.atleast_1d(np.asarray(times, dtype=np.float64))
    grid = evaluation_times(outcome, n_times=21)[1:]
    few = np.sort(outcome.time[outcome.event])
    start = few[min(5, len(few) - 1)]
    beyond = np.sort(outcome.time)[-1]
    kept = grid[(grid >= start) & (grid < beyond)]
    return kept if len(kept) else grid[grid < beyond][-1:]
