"""The figure of how networks learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ._axes import colours, on_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_learning_curves"]


def plot_learning_curves(history: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the loss of training and of judging rows, epoch by epoch; mark the best epoch.

    Parameters
    ----------
    history : DataFrame
        ``history_`` of an estimator: a line a network in each of the two styles.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        For each network its loss (dashed), then that of its judging rows (solid) where it has some.

    Raises
    ------
    ValueError
        A model without networks, which has no history.
    """
    if history.empty:
        raise ValueError(
            "The history parameter must have epochs. Got none: no network was trained."
        )
    parts: list[tuple[str, pd.DataFrame]] = [("", history)]
    if "model" in history:
        parts = [(str(name), part) for name, part in history.groupby("model", sort=False)]
    ax = on_axes(ax)
    for (name, part), colour in zip(parts, colours(len(parts)), strict=True):
        prefix = f"{name}: " if name else ""
        epoch = part["epoch"].to_numpy()
        ax.plot(epoch, part["loss"], color=colour, linestyle="--", label=f"{prefix}training")
        if "val_loss" not in part or part["val_loss"].isna().all():
            continue
        judged = part["val_loss"].to_numpy(np.float64)
        ax.plot(epoch, judged, color=colour, label=f"{prefix}judging")
        best = int(np.nanargmin(judged))
        ax.plot(epoch[best], judged[best], "o", color=colour, markersize=5)
    ax.set(xlabel="epoch", ylabel="loss")
    ax.legend(frameon=False)
    return ax
