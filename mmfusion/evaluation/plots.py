"""Figures of survival models; matplotlib is imported where one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmfusion.evaluation.comparison import TITLES, Comparison
from mmfusion.inputs.labels import check_order
from mmfusion.inputs.times import as_times
from mmfusion.survival import check_survival, kaplan_meier, log_rank_test

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_comparison", "plot_differences", "plot_risk_groups", "plot_survival_curves"]

#: More curves than these are no figure.
MOST_GROUPS = 12
GROUP_NAMES = {2: ["low", "high"], 3: ["low", "medium", "high"]}


def plot_risk_groups(
    y: Any,
    risk: Any = None,
    ax: Axes | None = None,
    *,
    groups: Any = None,
    time_label: str = "time",
    censoring: bool = True,
) -> Axes:
    """Draw the Kaplan-Meier curve of each risk group, with bands and numbers at risk.

    Groups that are a column get a log-rank p, unless entry times matter. Groups of a risk get none:
    of out-of-fold risks it is below .05 in some 10 % of studies in which nothing predicts anything,
    because each fold's model has seen the other folds' outcomes (Simon et al. 2011, Brief.
    Bioinform. 12:203-214). Give the concordance with its interval beside them.

    The axes shrink where the numbers at risk would leave the page or run into other axes; a layout
    of the figure ("constrained", "tight") finds the room itself.

    Use risks of rows the model has not seen: groups of training rows always part.

    Parameters
    ----------
    y : outcome, n rows
    risk : array-like of float, shape (n,)
        Higher is worse; cut into groups of about equal size, rows of the same risk in the same
        group. None where `groups` is a column.
    ax : matplotlib Axes, optional
        The current one by default.
    groups : int or array-like of shape (n,), optional
        How many, by default 3, or 2 where there are two distinct risks; or the group of each row
        (a treatment, a stage), at most 12 of them, in the order of a Categorical or sorted.
    time_label : str, default="time"
        Of the x axis: say the unit.
    censoring : bool, default=True
        Whether a tick on the curve marks each time at which a row was censored.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        NaN or another number of risks, or too few distinct risks for the groups; groups of another
        number of rows, missing ones, fewer than two or more than 12; both `risk` and a column of
        groups, or neither.
    """
    check_order(y=y, risk=risk, groups=groups)
    outcome = check_survival(y)
    label, names, what = _grouped(risk, groups, len(outcome))
    ax = _axes(ax)
    for group, (name, colour) in enumerate(zip(names, _colours(len(names)), strict=True)):
        mine = outcome.take(label == group)
        curve = kaplan_meier(mine.time, mine.event, mine.entry if mine.delayed else None)
        x, s = np.r_[0.0, curve.x], np.r_[1.0, curve.y]
        lower, upper = (np.r_[1.0, bound] for bound in curve.confidence_interval())
        ax.step(x, s, where="post", color=colour, label=f"{name}{what} (n = {len(mine)})")
        ax.fill_between(x, lower, upper, step="post", color=colour, alpha=0.15, linewidth=0)
        if censoring:
            at = np.unique(mine.time[~mine.event])
            ax.scatter(at, curve(at), marker="|", s=30, color=[colour], linewidth=0.9, zorder=3)
    title = None
    if risk is None and not outcome.delayed:  # the test knows no entry times
        p = log_rank_test(outcome.time, outcome.event, label).p_value
        title = "log-rank p < 0.001" if p < 0.001 else f"log-rank p = {p:.3f}"
    ax.set(xlabel=time_label, ylabel="surviving", ylim=(0, 1.02), xlim=(0, outcome.time.max()))
    ax.legend(frameon=False, title=title)
    texts = _write_at_risk(ax, outcome.time, outcome.entry, label, names)
    _make_room(ax, texts)
    return ax


def plot_survival_curves(
    curves: pd.DataFrame,
    ax: Axes | None = None,
    *,
    labels: Sequence[str] | None = None,
    time_label: str = "time",
) -> Axes:
    """Draw predicted survival curves as steps, a line a row, with their bands where there are some.

    Parameters
    ----------
    curves : DataFrame, shape (n, m), or (n m, 4)
        What ``predict_survival_function`` returns; a few rows of it. Or, with bands, what
        ``survival_interval`` and ``predict_band`` do: by row and time.
    ax : matplotlib Axes, optional
    labels : sequence of str, shape (n,), optional
        The index by default.
    time_label : str, default="time"

    Returns
    -------
    matplotlib Axes
    """
    ax = _axes(ax)
    bands: dict[str, pd.DataFrame] = {}
    if isinstance(curves.index, pd.MultiIndex):  # rows stay in their order, times are columns
        rows = curves.index.get_level_values(0).unique()
        wide = {name: curves[name].unstack(-1).loc[rows] for name in ("survival", "lower", "upper")}
        curves, bands = wide.pop("survival"), wide
    names = [str(label) for label in (curves.index if labels is None else labels)]
    if len(names) != len(curves):
        raise ValueError(
            f"The labels parameter must have one for each of the {len(curves)} rows of curves. "
            f"Got {len(names)}."
        )
    times = as_times("curves", curves.columns)
    order = np.argsort(times, kind="stable")  # a step leads to the next time
    times, curves = times[order], curves.iloc[:, order]
    bands = {name: band.iloc[:, order] for name, band in bands.items()}
    x = np.r_[0.0, times]
    for row, (name, colour) in enumerate(zip(names, _colours(len(curves)), strict=True)):
        values = curves.to_numpy()[row]
        ax.step(x, np.r_[1.0, values], where="post", color=colour, label=name)
        if bands:
            lower, upper = (np.r_[1.0, band.to_numpy()[row]] for band in bands.values())
            ax.fill_between(x, lower, upper, step="post", color=colour, alpha=0.15, linewidth=0)
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
    if len(np.unique(label)) == groups:
        return label
    # Many rows share a risk: part at the distinct risks that are nearest to the quantiles.
    distinct, own, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(distinct) < groups:
        raise ValueError(
            f"The risks must differ enough for {groups} groups. "
            f"Got {len(distinct)} distinct risks in {n} rows."
        )
    below, cuts = np.cumsum(counts), [0]
    for number in range(1, groups):
        possible = np.arange(cuts[-1] + 1, len(distinct) - (groups - number) + 1)
        cuts.append(possible[np.abs(below[possible - 1] - n * number / groups).argmin()])
    return np.searchsorted(cuts, own, side="right") - 1


def _grouped(risk: Any, groups: Any, n: int) -> tuple[np.ndarray, list[str], str]:
    """Return the group of each row, the names of the groups, and what their names are names of."""
    by_column = groups is not None and np.ndim(groups) > 0
    if by_column == (risk is not None):
        raise ValueError(
            "Give either the risk parameter or a column as the groups parameter. "
            f"Got {'both' if by_column else 'neither'}."
        )
    if by_column:
        label, names = _levels(groups, n)
        return label, names, ""
    if groups is None:
        groups = 2 if len(np.unique(np.asarray(risk, dtype=np.float64))) == 2 else 3
    label = risk_groups(risk, n, groups)
    names = GROUP_NAMES.get(groups, [f"{number} of {groups}" for number in range(1, groups + 1)])
    return label, names, " risk"


def _levels(column: Any, n: int) -> tuple[np.ndarray, list[str]]:
    """Return the group of each row of a column, and the names of the groups."""
    values = column if isinstance(column, pd.Series) else pd.Series(column)
    if np.shape(values) != (n,):
        raise ValueError(
            f"The groups parameter must be a number, or have one group for each of the {n} rows. "
            f"Got shape {np.shape(column)}."
        )
    label, levels = pd.factorize(values, sort=True)
    if (label < 0).any():
        raise ValueError(
            "The groups parameter must not be missing. Got missing groups in rows "
            f"{np.flatnonzero(label < 0)[:5].tolist()}."
        )
    if not 2 <= len(levels) <= MOST_GROUPS:
        raise ValueError(
            f"The groups parameter must hold 2 to {MOST_GROUPS} groups. Got {len(levels)}; cut a "
            "number into bands first (pandas.cut)."
        )
    return label, [str(level) for level in levels]


def _write_at_risk(
    ax: Axes, time: np.ndarray, entry: np.ndarray, label: np.ndarray, names: Sequence[str]
) -> list[Any]:
    """Write the numbers at risk below the axis, a line a group, at the axis' own ticks."""
    texts = []
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
        title = f"at risk: {name}"
        texts.append(
            ax.annotate(title, (0, 0), (-12, below), xycoords="axes fraction", ha="right", **style)
        )
        for tick in ticks:
            count = int(((label == group) & (time >= tick) & (entry <= tick)).sum())
            where = ("data", "axes fraction")
            texts.append(
                ax.annotate(str(count), (tick, 0), (0, below), xycoords=where, ha="center", **style)
            )
    return texts


def _make_room(ax: Axes, texts: list[Any]) -> None:
    """Shrink the axes, from below and from the left, until `texts` are on the page and free.

    They keep a fifth of their height and of their width.
    """
    figure = ax.figure
    if figure.get_layout_engine() is not None:  # it sees the texts, and finds the room
        return
    page, mine, margin = figure.bbox, ax.get_window_extent(), figure.dpi / 36  # 2 points
    left, floor = page.x0, page.y0
    for other in figure.axes:
        theirs, whole = other.get_window_extent(), other.get_tightbbox()
        if whole is None:  # not visible
            continue
        if theirs.y1 <= mine.y0 and theirs.x0 < mine.x1 and theirs.x1 > mine.x0:
            floor = max(floor, whole.y1)
        if theirs.x1 <= mine.x0 and theirs.y0 < mine.y1 and theirs.y1 > mine.y0:
            left = max(left, whole.x1)
    extents = [text.get_window_extent() for text in texts]
    up = max(0.0, floor + margin - min(extent.y0 for extent in extents))
    right = max(0.0, left + margin - min(extent.x0 for extent in extents))
    up, right = min(up, 0.8 * mine.height), min(right, 0.8 * mine.width)
    if up or right:
        at, laid_out = ax.get_position(), ax.get_in_layout()
        dx, dy = right / page.width, up / page.height
        ax.set_position((at.x0 + dx, at.y0 + dy, at.width - dx, at.height - dy))
        ax.set_in_layout(laid_out)  # a later tight_layout is to see the axes still


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
