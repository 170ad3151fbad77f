"""Figures of the formula's effects: forest plot, curves with bands, surfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._axes import BLUE, GREY, draw_band, on_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_forest", "plot_smooth", "plot_surface"]


def plot_forest(
    effects: pd.DataFrame, ax: Axes | None = None, *, ratio: bool | None = None
) -> Axes:
    """Draw each coefficient as a point with its interval, a line a term.

    Parameters
    ----------
    effects : DataFrame
        What ``effects_`` returns, or some rows of it. Rows without a standard error (smooth terms,
        random effects) are left out, and ratios whose interval ends at 0 or infinity.
    ax : matplotlib Axes, optional
        The current one by default.
    ratio : bool, optional
        Whether ratios are drawn, on a log axis; by default where the table has ``exp(coef)``.

    Returns
    -------
    matplotlib Axes
        The first row on top; the numbers stand on the right.

    Raises
    ------
    ValueError
        No row with a coefficient and an interval, or ratios that the table does not have.
    """
    has_ratio = "exp(coef)" in effects
    ratio = has_ratio if ratio is None else ratio
    if ratio and not has_ratio:
        raise ValueError(
            "The ratio parameter must be False for a table without 'exp(coef)'. "
            f"Got the columns {list(effects.columns)}."
        )
    names = ["exp(coef)", "exp(lower)", "exp(upper)"] if ratio else ["coef", "lower", "upper"]
    table = effects[names].astype(float)
    ends = np.log(table.clip(lower=0)) if ratio else table
    table = table.iloc[np.flatnonzero(np.isfinite(np.asarray(ends, np.float64)).all(axis=1))]
    if table.empty:
        raise ValueError("The effects parameter must have a row with a coefficient and interval.")
    ax = on_axes(ax)
    at = np.arange(len(table))[::-1]
    middle, lower, upper = table.to_numpy(np.float64).T
    ax.hlines(at, lower, upper, color=BLUE, linewidth=1.6)
    ax.plot(middle, at, "s", color=BLUE, markersize=5)
    ax.axvline(1.0 if ratio else 0.0, color=GREY, linewidth=0.8, linestyle="--")
    ax.set_yticks(at, [_label(label) for label in table.index])
    ax.set_ylim(-0.6, len(table) - 0.4)
    if ratio:
        ax.set_xscale("log")
        _plain_ticks(ax, lower.min(), upper.max())
    words = effects.attrs.get("ratio") or "exp(coef)" if ratio else "coefficient"
    ax.set_xlabel(f"{words} [95 % interval]")
    for height, values in zip(at, table.to_numpy(np.float64), strict=True):
        ax.annotate(
            "{:.2f} [{:.2f}, {:.2f}]".format(*values),
            (1.0, height),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize="small",
            annotation_clip=False,
        )
    return ax


def plot_smooth(
    effect: pd.DataFrame,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    values: Any = None,
) -> Axes:
    """Draw an effect along a column, or along time, with its band.

    Parameters
    ----------
    effect : DataFrame
        What ``smooth_effect`` returns, of one column: effect, lower, upper, indexed by the grid.
        Also one row's part of ``hazard_ratio``: the ratio is then drawn on a log axis.
    ax : matplotlib Axes, optional
    label : str, optional
        Of the effect's axis: by default "effect on the predictor".
    values : array-like, optional
        The column's values in the rows: a tick each, at the foot.

    Returns
    -------
    matplotlib Axes
    """
    ax = on_axes(ax)
    column = "effect" if "effect" in effect else "hazard_ratio"
    index = effect.index
    if index.nlevels > 1:
        index = index.get_level_values(-1)
    x = index.to_numpy(np.float64)
    lower, upper = effect["lower"].to_numpy(np.float64), effect["upper"].to_numpy(np.float64)
    draw_band(ax, x, lower, upper, BLUE)
    ax.plot(x, effect[column].to_numpy(np.float64), color=BLUE)
    ax.axhline(0.0 if column == "effect" else 1.0, color=GREY, linewidth=0.8, linestyle="--")
    if column != "effect":
        ax.set_yscale("log")
    if values is not None:
        own = np.asarray(values, dtype=np.float64)
        own = own[np.isfinite(own)]
        ax.plot(own, np.zeros(len(own)), "|", color=GREY, alpha=0.4, markersize=6, clip_on=False)
        ax.lines[-1].set_transform(ax.get_xaxis_transform())
    words = "effect on the predictor" if column == "effect" else "hazard ratio"
    ax.set(xlabel=str(index.name or "value"), ylabel=label or words)
    return ax


def plot_surface(
    effect: pd.DataFrame, grid: pd.DataFrame, ax: Axes | None = None, *, label: str | None = None
) -> Axes:
    """Draw an effect of two columns as a map with contours; points within noise are hatched.

    Parameters
    ----------
    effect : DataFrame, shape (m, 4)
        What ``smooth_effect(term, grid)`` returns: where lower and upper have both signs, the map
        is hatched.
    grid : DataFrame, shape (m, 2)
        The points: every value of the first column with every one of the second.
    ax : matplotlib Axes, optional
    label : str, optional
        Of the colours.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        A grid of other than two columns, or one that is not full.
    """
    if grid.shape[1] != 2:
        raise ValueError(f"The grid parameter must have two columns. Got {list(grid.columns)}.")
    wide = {
        name: effect[name].set_axis(pd.MultiIndex.from_frame(grid)).unstack(0)
        for name in ("effect", "lower", "upper")
    }
    z = wide["effect"].to_numpy(np.float64)
    if np.isnan(z).any() or z.size != len(grid):
        raise ValueError(
            "The grid parameter must hold every value of one column with every one of the other. "
            f"Got {len(grid)} points, {z.shape[1]} and {z.shape[0]} values."
        )
    ax = on_axes(ax)
    x, y = (np.asarray(a, np.float64) for a in (wide["effect"].columns, wide["effect"].index))
    most = float(np.abs(z).max()) or 1.0
    mesh = ax.pcolormesh(x, y, z, cmap="RdBu_r", vmin=-most, vmax=most, shading="nearest")
    lines = ax.contour(x, y, z, colors="0.25", linewidths=0.6)
    ax.clabel(lines, fontsize=7)
    unsure = (wide["lower"].to_numpy() < 0) & (wide["upper"].to_numpy() > 0)
    if unsure.any():
        ax.contourf(x, y, unsure.astype(float), levels=[0.5, 1.5], colors="none", hatches=["///"])
    bar = ax.figure.colorbar(mesh, ax=ax)
    bar.set_label(label or "effect on the predictor")
    ax.set(xlabel=str(grid.columns[0]), ylabel=str(grid.columns[1]))
    return ax


def _label(label: Any) -> str:
    if isinstance(label, tuple):
        return ", ".join(str(part) for part in label if part != "")
    return str(label)


def _plain_ticks(ax: Axes, lower: float, upper: float) -> None:
    """Write ratios as numbers, not as powers of ten."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    lower, upper = min(lower, 1.0) / 1.05, max(upper, 1.0) * 1.05
    near = [0.1, 0.2, 0.25, 0.33, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 8, 10]
    inside = [tick for tick in near if lower <= tick <= upper]
    if len(inside) > 6:
        inside = [tick for tick in inside if tick in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
    if lower < near[0] or upper > near[-1]:  # far away: powers of ten, written out
        powers = np.arange(np.floor(np.log10(lower)), np.ceil(np.log10(upper)) + 1)
        inside = [float(tick) for tick in 10.0**powers if lower <= tick <= upper]
    ax.xaxis.set_major_locator(FixedLocator(inside))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlim(lower, upper)
