"""The figure of calibration; matplotlib is imported where it is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mmfusion.metrics import Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_calibration"]

#: Height of the highest bar of predicted risks, as a share of the axes.
TALLEST = 0.12


def plot_calibration(
    calibrations: Calibration | Mapping[str, Calibration], ax: Axes | None = None
) -> Axes:
    """Draw observed against predicted risks, with pointwise bands, and how often each is predicted.

    Parameters
    ----------
    calibrations : Calibration or dict of them by name
        What `mmfusion.metrics.survival_calibration` returns.
    ax : matplotlib Axes, optional
        The current one by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        Nothing to draw, or calibrations at several times.
    """
    import matplotlib.pyplot as plt

    named = {"": calibrations} if isinstance(calibrations, Calibration) else dict(calibrations)
    times = {one.time for one in named.values()}
    if len(times) != 1:
        raise ValueError(
            f"The calibrations parameter must be of one time. Got {sorted(times) or 'none'}."
        )
    ax = plt.gca() if ax is None else ax
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle="--")
    edges = np.linspace(0, 1, 51)
    for number, (name, one) in enumerate(named.items()):
        curve, colour = one.curve, f"C{number}"
        predicted, band = curve["predicted"], (curve["lower"], curve["upper"])
        slope = one.table.loc["slope"]
        figures = "slope {:.2f} [{:.2f}, {:.2f}]".format(*slope[["score", "lower", "upper"]])
        figures = "no slope" if np.isnan(slope["score"]) else figures
        label = f"{name}: {figures}" if name else figures
        ax.plot(predicted, curve["observed"], color=colour, label=label)
        ax.fill_between(predicted, *band, color=colour, alpha=0.15, linewidth=0)
        height = np.histogram(one.risk, edges)[0]
        tops = TALLEST * height / max(height.max(), 1)
        ax.vlines((edges[:-1] + edges[1:]) / 2, 0, tops, color=colour, linewidth=1.5, alpha=0.6)
    ax.set(xlabel=f"predicted risk by {times.pop():g}", ylabel="observed risk")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_aspect("equal")
    ax.legend(frameon=False, loc="upper left")
    return ax
