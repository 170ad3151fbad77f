"""The figure of a fitted model's effects: all coefficients, or one smooth term."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .effects import plot_forest, plot_smooth, plot_surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_effects", "points_of"]

#: Points of a curve, and of each side of a map.
CURVE, MAP = 80, 30


def plot_effects(
    model: Any,
    term: str | None = None,
    ax: Axes | None = None,
    *,
    grid: pd.DataFrame | None = None,
    parameter: str | None = None,
) -> Axes:
    """Draw the coefficients of a fitted model, or one of its smooth terms.

    Parameters
    ----------
    model : estimator
        Fitted with `structured`.
    term : str, optional
        A smooth term as in ``effects_``: its curve over the range of the training rows (or over
        time), of two columns a map. By default the forest plot of all coefficients.
    ax : matplotlib Axes, optional
    grid : DataFrame, optional
        Other points of the term: a column for each of its variables.
    parameter : str, optional
        Of several predictors, the one that is drawn.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        A term that is no smooth, or one of more than two columns.
    """
    if term is None:
        effects = model.effects_
        shown = effects[effects.index.get_level_values(0) != "Intercept"]
        if parameter is not None:
            shown = shown.xs(parameter, level="parameter")
        shown.attrs = effects.attrs
        return plot_forest(shown, ax)
    layout = model.inference_.layout
    points = points_of(layout.ranges(term)) if grid is None else grid
    # A curve of one column is asked by its values, which leaves out what only multiplies it.
    asked: Any = points[points.columns[0]] if points.shape[1] == 1 else points
    effect = model.smooth_effect(term, asked, parameter=parameter)
    if points.shape[1] == 1:
        effect.index.name = str(points.columns[0])
        return plot_smooth(effect, ax, label=term)
    return plot_surface(effect, points, ax, label=term)


def points_of(ranges: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """Return evenly spaced points over the range of one variable, or of two with each other.

    Raises
    ------
    ValueError
        For more than two variables.
    """
    if len(ranges) > 2:
        raise ValueError(f"The term must be of one or two columns. Got {list(ranges)}.")
    size = CURVE if len(ranges) == 1 else MAP
    sides = [np.linspace(low, high, size) for low, high in ranges.values()]
    mesh = np.meshgrid(*sides, indexing="ij")
    columns = dict(zip(ranges, mesh, strict=True))
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()})
