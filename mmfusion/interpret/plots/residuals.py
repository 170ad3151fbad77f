"""The figure of scaled Schoenfeld residuals: how a log hazard ratio changes over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from ._axes import BLUE, GREY, draw_band, on_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_schoenfeld"]


def plot_schoenfeld(
    residuals: pd.Series,
    time: Any,
    ax: Axes | None = None,
    *,
    coef: float | None = None,
    p: float | None = None,
    df: int = 4,
    time_label: str = "time",
) -> Axes:
    """Draw scaled Schoenfeld residuals against time, with a smooth line and its band.

    The line is what the log hazard ratio looks like over time (Grambsch & Therneau 1994); level, it
    does not change. It is a natural cubic spline by least squares, its band 95 % and pointwise.

    Parameters
    ----------
    residuals : Series, shape (n_events,)
        A column of ``residuals(X, y, "scaled_schoenfeld")``.
    time : array-like, shape (n_events,)
        When each of these events was.
    ax : matplotlib Axes, optional
    coef : float, optional
        The model's log hazard ratio: a dashed line.
    p : float, optional
        Of ``check_proportional_hazards``: stands in the title.
    df : int, default=4
        Degrees of freedom of the spline, at least 2; fewer where times are few.
    time_label : str, default="time"

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        Another number of times than of residuals, or fewer than 4 of them.
    """
    values, at = np.asarray(residuals, np.float64), np.asarray(time, np.float64)
    if at.shape != values.shape or len(at) < 4 or len(np.unique(at)) < 2:
        raise ValueError(
            "The time parameter must have one time for each residual, of 4 or more, and not all "
            f"the same. Got {len(at)} times, {len(np.unique(at))} of them different, and "
            f"{len(values)} residuals."
        )
    ax = on_axes(ax)
    ax.plot(at, values, "o", color=GREY, markersize=3, alpha=0.5, markeredgewidth=0)
    grid = np.linspace(at.min(), at.max(), 60)
    line, half = _spline(at, values, grid, df)
    draw_band(ax, grid, line - half, line + half, BLUE)
    ax.plot(grid, line, color=BLUE)
    if coef is not None:
        ax.axhline(coef, color=GREY, linewidth=0.9, linestyle="--")
    name = "" if residuals.name is None else f" of {residuals.name}"
    ax.set(xlabel=time_label, ylabel=f"log hazard ratio{name}")
    if p is not None:
        ax.set_title("p < 0.001" if p < 0.001 else f"p = {p:.3f}", fontsize="medium")
    return ax


def _spline(
    x: np.ndarray, y: np.ndarray, grid: np.ndarray, df: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a natural cubic spline by least squares at `grid`, and half its 95 % band."""
    df = max(min(df, len(np.unique(x)) - 2), 1)
    knots = np.unique(np.quantile(x, np.linspace(0, 1, df + 1)))
    design, points = _natural(x, knots), _natural(grid, knots)
    coef, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    left = max(len(y) - rank, 1)
    scale = np.sqrt(((y - design @ coef) ** 2).sum() / left)
    root = np.linalg.pinv(design)
    se = scale * np.sqrt(((points @ root) ** 2).sum(axis=1))
    return points @ coef, stats.t(left).ppf(0.975) * se


def _natural(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Return a basis of the splines that are straight beyond the outer knots (Hastie et al. 2009).

    Eq. 5.4 and 5.5 of The Elements of Statistical Learning, with x on the unit of the knots.
    """
    span = knots[-1] - knots[0]
    x, knots = (x - knots[0]) / span, (knots - knots[0]) / span
    last = knots[-1]

    def bend(knot: float) -> np.ndarray:
        cubes = np.maximum(x - knot, 0.0) ** 3 - np.maximum(x - last, 0.0) ** 3
        return cubes / (last - knot)

    final = bend(knots[-2])
    return np.column_stack([np.ones(len(x)), x, *[bend(knot) - final for knot in knots[:-2]]])
