"""Figures that judge predictive distributions; matplotlib is imported where one is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from mmfusion.inputs.parameters import check_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_pit", "plot_quantile_reliability", "plot_rootogram", "plot_worm"]


def plot_worm(worm: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw a worm plot with its pointwise bounds.

    Parameters
    ----------
    worm : DataFrame
        What `mmfusion.metrics.worm` returns.
    ax : matplotlib Axes, optional
        The current one by default.

    Returns
    -------
    matplotlib Axes
    """
    ax = _axes(ax)
    z = worm["theoretical"]
    ax.axhline(0, color="0.6", linewidth=0.8, linestyle="--")
    ax.fill_between(z, worm["lower"], worm["upper"], color="0.5", alpha=0.15, linewidth=0)
    ax.plot(z, worm["deviation"], linestyle="", marker=".", markersize=3)
    # The bounds of the outermost points are far away, and say the least.
    highest = max(worm["deviation"].abs().max(), worm["upper"].median() * 2) * 1.1
    ax.set(xlabel="normal quantile", ylabel="deviation", ylim=(-highest, highest))
    return ax


def plot_rootogram(rootogram: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw a hanging rootogram: bars that reach below zero are counts observed too often.

    Parameters
    ----------
    rootogram : DataFrame
        What `mmfusion.metrics.rootogram` returns.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = _axes(ax)
    value = rootogram.index.to_numpy()
    height = np.sqrt(rootogram["observed"])
    ax.bar(value, height, bottom=rootogram["bottom"], width=0.9, color="C0", alpha=0.6)
    ax.plot(value, np.sqrt(rootogram["expected"]), color="C1", marker=".", label="expected")
    ax.axhline(0, color="0.3", linewidth=0.8)
    ax.set(xlabel="value", ylabel="square root of how often")
    ax.legend(frameon=False)
    return ax


def plot_quantile_reliability(
    reliability: pd.DataFrame | Mapping[str, pd.DataFrame], ax: Axes | None = None
) -> Axes:
    """Draw how often outcomes lie below predicted quantiles, with pointwise intervals.

    Parameters
    ----------
    reliability : DataFrame or dict of them by name
        What `mmfusion.metrics.quantile_reliability` returns.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    named = {"": reliability} if isinstance(reliability, pd.DataFrame) else dict(reliability)
    ax = _axes(ax)
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle="--")
    for name, table in named.items():
        error = np.vstack(
            [table["observed"] - table["lower"], table["upper"] - table["observed"]]
        ).clip(0)
        ax.errorbar(table.index, table["observed"], error, marker=".", linewidth=1, label=name)
    ax.set(xlabel="level of the quantile", ylabel="outcomes below it", xlim=(0, 1), ylim=(0, 1))
    ax.set_aspect("equal")
    if any(named):
        ax.legend(frameon=False, loc="upper left")
    return ax


def plot_pit(pit: Any, ax: Axes | None = None, *, bins: int = 20, level: float = 0.95) -> Axes:
    """Draw a histogram of probability integral transforms: flat if the predictions are right.

    A hump says that they are too wide, a U that they are too narrow, a slope that they are too low
    or too high (Gneiting, Balabdaoui & Raftery 2007, J. R. Stat. Soc. B 69:243-268).

    Parameters
    ----------
    pit : array-like of float, shape (n,)
        What `mmfusion.metrics.pit` returns.
    ax : matplotlib Axes, optional
    bins : int, default=20
    level : float, default=0.95
        Of the band in which a bar of right predictions ends.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        Values outside [0, 1] or missing.
    """
    check_number("bins", bins, 1, integer=True)
    check_number("level", level, 0, 1, open_ends="low and high")
    values = np.asarray(pit, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("The pit parameter must hold numbers in [0, 1]. Got others.")
    ax = _axes(ax)
    ax.hist(values, bins=bins, range=(0, 1), density=True, color="C0", alpha=0.6)
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = stats.binom.ppf(ends, len(values), 1 / bins) * bins / len(values)
    ax.axhspan(low, high, color="0.5", alpha=0.15, linewidth=0)
    ax.axhline(1, color="0.6", linewidth=0.8, linestyle="--")
    ax.set(xlabel="probability integral transform", ylabel="density", xlim=(0, 1))
    return ax


def _axes(ax: Axes | None) -> Axes:
    import matplotlib.pyplot as plt

    return plt.gca() if ax is None else ax
