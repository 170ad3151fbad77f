"""Figures of survival models; matplotlib is imported where one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmfusion.evaluation.comparison import TITLES, Comparison
from mmfusion.inputs.times import as_times
from mmfusion.survival import check_survival, kaplan_meier, log_rank_test

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_comparison", "plot_differences", "plot_risk_groups", "plot_survival_curves"]

GROUP_NAMES = {2: ["low", "high"], 3: ["low", "medium", "high"]}


def plot_risk_groups(
    y: Any, risk: Any, ax: Axes | None = None, *, groups: int = 3, time_label: str = "time"
) -> Axes:
    """Draw the Kaplan-Meier curve of each risk group, with bands, numbers at risk and log-rank p.

    There is no log-rank test where entry times matter.

    Use risks of rows the model has not seen: groups of training rows always part.

    Parameters
    ----------
    y : outcome, n rows
    risk : array-like of float, shape (n,)
        Higher is worse; cut into groups of about equal size.
    ax : matplotlib Axes, optional
        The current one by default.
    groups : int, default=3
    time_label : str, default="time"
        Of the x axis: say the unit.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        NaN or another number of risks, or too few distinct risks for the groups.
    """
    outcome = check_survival(y)
    label = risk_groups(risk, len(outcome), groups)
    ax = _axes(ax)
    names = GROUP_NAMES.get(groups, [f"{number} of {groups}" for number in range(1, groups + 1)])
    for group, (name, colour) in enumerate(zip(names, _colours(groups), strict=True)):
        mine = outcome.take(label == group)
        curve = kaplan_meier(mine.time, mine.event, mine.entry if mine.delayed else None)
        x, s = np.r_[0.0, curve.x], np.r_[1.0, curve.y]
        lower, upper = (np.r_[1.0, bound] for bound in curve.confidence_interval())
        ax.step(x, s, where="post", color=colour, label=f"{name} risk (n = {len(mine)})")
        ax.fill_between(x, lower, upper, step="post", color=colour, alpha=0.15, linewidth=0)
    title = None
    if not outcome.delayed:  # the test knows no entry times
        p = log_rank_test(outcome.time, outcome.event, label).p_value
        title = "log-rank p < 0.001" if p < 0.001 else f"log-rank p = {p:.3f}"
    ax.set(xlabel=time_label, ylabel="surviving", ylim=(0, 1.02), xlim=(0, outcome.time.max()))
    ax.legend(frameon=False, title=title)
    _write_at_risk(ax, outcome.time, outcome.entry, label, names)
    return ax


def plot_survival_curves(
    curves: pd.DataFrame,
    ax: Axes | None = None,
    *,
    labels: Sequence[str] | None = None,
    time_label: str = "time",
) -> Axes:
    """Draw predicted survival curves as steps, a line a row.

    Parameters
    ----------
    curves : DataFrame, shape (n, m)
        What ``predict_survival_function`` returns; a few rows of it.
    ax : matplotlib Axes, optional
    labels : sequence of str, shape (n,), optional
        The index by default.
    time_label : str, default="time"

    Returns
    -------
    matplotlib Axes
    """
    ax = _axes(ax)
    names = [str(label) for label in (curves.index if labels is None else labels)]
    times = as_times("curves", curves.columns)
    for name, values, colour in zip(names, curves.to_numpy(), _colours(len(curves)), strict=True):
        ax.step(np.r_[0.0, times], np.r_[1.0, values], where="post", color=colour, label=name)
    ax.set(xlabel=time_label, ylabel="predicted survival", ylim=(0, 1.02), xlim=(0, times[-1]))
    ax.legend(frameon=False)
    return ax


def plot_differences(
    comparison: Comparison,
    reference: str | None = None,
    ax: Axes | None = None,
    *,
    metric: str | None = None,
) -> Axes:
    """Draw each model's paired difference to `reference`: folds as dots, mean, 95 % interval.

    Parameters
    ----------
    comparison : Comparison
    reference : str, optional
        By default the comparison's own.
    ax : matplotlib Axes, optional
    metric : str, optional
        The first score by default.

    Returns
    -------
    matplotlib Axes
    """
    reference, metric = comparison.resolve(reference, metric)
    others = [name for name in comparison.models if name != reference]
    return _draw_differences(_axes(ax), comparison, reference, metric, others)


def plot_comparison(
    comparison: Comparison, reference: str | None = None, *, metric: str | None = None
) -> Figure:
    """Draw each model's scores beside its paired differences to `reference`, a line a model.

    Left: folds as dots, their mean as a bar. Right: as `plot_differences`.

    Parameters
    ----------
    comparison : Comparison
    reference : str, optional
        By default the comparison's own.
    metric : str, optional
        The first score by default.

    Returns
    -------
    matplotlib Figure
    """
    import matplotlib.pyplot as plt

    reference, metric = comparison.resolve(reference, metric)
    names = comparison.models
    wide = comparison.by_fold(metric)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 1.2 + 0.38 * len(names)), sharey=True, layout="constrained"
    )
    for at, name in zip(range(len(names))[::-1], names, strict=True):
        left.plot(wide[name], np.full(len(wide), at), "o", color="0.6", markersize=3)
        left.plot(wide[name].mean(), at, "|", color="C0", markersize=16, markeredgewidth=2)
    left.set_xlabel(f"{TITLES.get(metric, metric)}: folds and mean")
    _draw_differences(right, comparison, reference, metric, names)
    return figure


def _draw_differences(
    ax: Axes, comparison: Comparison, reference: str, metric: str, names: list[str]
) -> Axes:
    differences = comparison.differences(reference, metric).reindex(names)
    wide = comparison.by_fold(metric)
    height = np.arange(len(names))[::-1]
    for at, name in zip(height, names, strict=True):
        if name != reference:
            d = wide[name] - wide[reference]
            ax.plot(d, np.full(len(d), at + 0.18), "o", color="0.6", markersize=3)
    ax.hlines(height, differences["lower"], differences["upper"], color="C0")
    ax.plot(differences["difference"], height, "o", color="C0")
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.set_yticks(height, names)
    ax.set(
        xlabel=f"{TITLES.get(metric, metric)}: difference to {reference}",
        ylim=(-0.6, len(names) - 0.4),
    )
    return ax


def risk_groups(risk: Any, n: int, groups: int) -> np.ndarray:
    """Return the group of each row, 0 (lowest risk) to ``groups - 1``, of about equal size.

    Rows of the same risk stay in the same group.
    """
    values = np.asarray(risk, dtype=np.float64)
    if values.shape != (n,) or np.isnan(values).any():
        raise ValueError(
            f"The risk parameter must have one number, no NaN, for each of the {n} rows. "
            f"Got shape {values.shape}, {int(np.isnan(values).sum())} NaN."
        )
    if groups < 2:
        raise ValueError(f"The groups parameter must be at least 2. Got {groups!r}.")
    bounds = np.quantile(values, np.arange(1, groups) / groups)
    label = np.searchsorted(bounds, values, side="left")
    if len(np.unique(label)) < groups:
        raise ValueError(
            f"The risks must differ enough for {groups} groups. "
            f"Got {len(np.unique(values))} distinct risks in {n} rows."
        )
    return label


def _write_at_risk(
    ax: Axes, time: np.ndarray, entry: np.ndarray, label: np.ndarray, names: Sequence[str]
) -> None:
    """Write the numbers at risk below the axis, a line a group, at the axis' own ticks."""
    ticks = [tick for tick in ax.get_xticks() if 0 <= tick <= time.max()]
    ax.set_xticks(ticks)  # a later change of the layout would choose others
    style: dict[str, Any] = {
        "fontsize": 7.5,
        "annotation_clip": False,
        "textcoords": "offset points",
    }
    for group, (name, colour) in enumerate(zip(names, _colours(len(names)), strict=True)):
        below = -48 - 11 * group  # points below the axis: behind its label
        style["color"] = colour
        ax.annotate(
            f"at risk: {name}", (0, 0), (-12, below), xycoords="axes fraction", ha="right", **style
        )
        for tick in ticks:
            count = int(((label == group) & (time >= tick) & (entry <= tick)).sum())
            where = ("data", "axes fraction")
            ax.annotate(str(count), (tick, 0), (0, below), xycoords=where, ha="center", **style)


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.gca()


def _colours(n: int) -> list[Any]:
    """Return colours that stay apart without hue: from low (blue) to high risk (red)."""
    import matplotlib

    if n <= 3:
        return ["#2166ac", "#737373", "#b2182b"][:n] if n != 2 else ["#2166ac", "#b2182b"]
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, n)))
