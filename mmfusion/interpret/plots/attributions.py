"""Figures of attributions: on an image, of columns, over time, of modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._axes import BLUE, GREY, RED, colours, on_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "plot_attribution_bars",
    "plot_attribution_image",
    "plot_attribution_over_time",
    "plot_shapley",
    "plot_volcano",
]

#: Room between the panels of an image, as a share of its width.
GAP = 0.06


def plot_attribution_image(
    image: Any, attribution: Any, ax: Axes | None = None, *, quantile: float = 0.995
) -> Axes:
    """Draw an image, what each of its pixels adds, and the two over each other, side by side.

    The map alone says how much; over the image it says where, but the image shines through: look at
    both. Red raises the target, blue lowers it.

    Parameters
    ----------
    image : array-like, shape (h, w) or (h, w, 3)
    attribution : array-like, shape (h, w)
    ax : matplotlib Axes, optional
    quantile : float, default=0.995
        Of the absolute values: the colours end there, so that one pixel does not fade the others.

    Returns
    -------
    matplotlib Axes
        Its images are the image, the map, the image in grey and the map over it.

    Raises
    ------
    ValueError
        A map of another height and width than the image, or one that is not finite.
    """
    picture, values = np.asarray(image), np.asarray(attribution, dtype=np.float64)
    if values.ndim != 2 or values.shape != picture.shape[:2] or not np.isfinite(values).all():
        raise ValueError(
            "The attribution parameter must be a finite map of the image's height and width, "
            f"{picture.shape[:2]}. Got shape {values.shape}."
        )
    ax = on_axes(ax)
    height, width = values.shape
    most = float(np.quantile(np.abs(values), quantile)) or float(np.abs(values).max()) or 1.0
    step = width * (1 + GAP)
    places = [(k * step, k * step + width, height, 0) for k in range(3)]
    grey = picture.mean(axis=2) if picture.ndim == 3 else picture
    scale: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
    ax.imshow(picture, extent=places[0], cmap="gray" if picture.ndim == 2 else None)
    shown = ax.imshow(values, extent=places[1], **scale)
    ax.imshow(grey, extent=places[2], cmap="gray")
    strength = np.clip(np.abs(values) / most, 0, 1)
    ax.imshow(values, extent=places[2], alpha=0.8 * strength, **scale)
    ax.set_xlim(0, places[2][1])
    ax.set_ylim(height, 0)
    ax.set_xticks([k * step + width / 2 for k in range(3)], ["image", "map", "map on image"])
    ax.set_yticks([])
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    bar = ax.figure.colorbar(shown, ax=ax, fraction=0.03, pad=0.02)
    bar.set_label("lowers | raises")
    return ax


def plot_attribution_bars(
    attributions: pd.DataFrame | pd.Series, ax: Axes | None = None, *, n: int = 15
) -> Axes:
    """Draw what columns (genes) add, the largest on top.

    Parameters
    ----------
    attributions : DataFrame, shape (rows, columns), or Series, shape (columns,)
        Of several rows the mean of the absolute values is drawn, as a size; of one (a Series) the
        values, red where they raise the target.
    ax : matplotlib Axes, optional
    n : int, default=15
        How many columns.

    Returns
    -------
    matplotlib Axes
    """
    many = isinstance(attributions, pd.DataFrame)
    values: pd.Series = (
        pd.Series(attributions.abs().mean())
        if isinstance(attributions, pd.DataFrame)
        else attributions
    )
    order = values.abs().sort_values(ascending=False, kind="stable").index[:n]
    shown = values[order]
    at = np.arange(len(shown))[::-1]
    ax = on_axes(ax)
    fill = [GREY] * len(shown) if many else [RED if v > 0 else BLUE for v in shown.to_numpy()]
    ax.barh(at, shown.to_numpy(np.float64), color=fill, height=0.7)
    ax.set_yticks(at, [str(name) for name in shown.index])
    ax.set_ylim(-0.6, len(shown) - 0.4)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_xlabel("mean absolute attribution" if many else "attribution (lowers | raises)")
    return ax


def plot_volcano(
    table: pd.DataFrame, ax: Axes | None = None, *, level: float = 0.05, n_labels: int = 8
) -> Axes:
    """Draw the size of effects against their evidence, a point a gene; name the foremost.

    Parameters
    ----------
    table : DataFrame
        ``coef`` and ``p`` (as ``effects_`` has them), a row a gene. Where there is ``p_adjusted``,
        that decides who is coloured.
    ax : matplotlib Axes, optional
    level : float, default=0.05
        Below it a gene is coloured: of p-values not adjusted for their number, many by chance.
    n_labels : int, default=8

    Returns
    -------
    matplotlib Axes
    """
    effect = table["coef"].to_numpy(np.float64)
    p = table["p"].to_numpy(np.float64)
    decides = table["p_adjusted" if "p_adjusted" in table else "p"].to_numpy(np.float64)
    with np.errstate(divide="ignore"):
        evidence = -np.log10(np.maximum(p, np.finfo(float).tiny))
    ax = on_axes(ax)
    fill = np.where(decides >= level, "#b0b0b0", np.where(effect > 0, RED, BLUE))
    ax.scatter(effect, evidence, s=14, c=fill.tolist(), linewidths=0)
    ax.axvline(0, color=GREY, linewidth=0.8)
    foremost = np.argsort(p, kind="stable")[:n_labels]
    for row in foremost[decides[foremost] < level]:
        right = effect[row] >= 0
        ax.annotate(
            str(table.index[row]),
            (effect[row], evidence[row]),
            (4 if right else -4, 2),
            textcoords="offset points",
            ha="left" if right else "right",
            fontsize="small",
        )
    ax.margins(x=0.15)
    ax.set(xlabel="effect (lowers | raises)", ylabel="-log10 p")
    return ax


def plot_attribution_over_time(
    curves: pd.DataFrame, ax: Axes | None = None, *, n: int = 6, time_label: str = "time"
) -> Axes:
    """Draw what each column adds to a subject's prediction at each time, a line a column.

    Parameters
    ----------
    curves : DataFrame, shape (times, columns)
        Indexed by time.
    ax : matplotlib Axes, optional
    n : int, default=6
        The columns of the largest mean absolute value.
    time_label : str, default="time"

    Returns
    -------
    matplotlib Axes
    """
    foremost = curves.abs().mean().sort_values(ascending=False, kind="stable").index[:n]
    ax = on_axes(ax)
    for name, colour in zip(foremost, colours(len(foremost)), strict=True):
        ax.plot(curves.index.to_numpy(np.float64), curves[name], color=colour, label=str(name))
    ax.axhline(0, color=GREY, linewidth=0.8, linestyle="--")
    ax.set(xlabel=time_label, ylabel="attribution")
    ax.legend(frameon=False)
    return ax


def plot_shapley(
    values: pd.Series | pd.DataFrame, ax: Axes | None = None, *, label: str = "Shapley value"
) -> Axes:
    """Draw what each modality adds, a bar each, with intervals where there are some.

    Parameters
    ----------
    values : Series, or DataFrame with one column of values, and perhaps ``lower`` and ``upper``
        Indexed by modality: of one subject, or of a score.
    ax : matplotlib Axes, optional
    label : str, default="Shapley value"

    Returns
    -------
    matplotlib Axes
        The first modality on top.
    """
    table = values.to_frame("value") if isinstance(values, pd.Series) else values
    own = next(name for name in table.columns if name not in ("lower", "upper"))
    middle = table[own].to_numpy(np.float64)
    at = np.arange(len(table))[::-1]
    ax = on_axes(ax)
    ax.barh(at, middle, color=[RED if v > 0 else BLUE for v in middle], height=0.6)
    if {"lower", "upper"} <= set(table.columns):
        ax.hlines(at, table["lower"], table["upper"], color="black", linewidth=1.2)
    ax.set_yticks(at, [str(name) for name in table.index])
    ax.set_ylim(-0.6, len(table) - 0.4)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_xlabel(label)
    return ax
