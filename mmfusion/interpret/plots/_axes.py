"""What all figures share: where they are drawn, and in which colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BLUE", "GREY", "RED", "colours", "draw_band", "on_axes", "steps"]

#: They stay apart in print and for the colour-blind: lower is blue, higher is red.
BLUE, GREY, RED = "#2166ac", "#595959", "#b2182b"
#: Of lines that have no order (Okabe & Ito 2008).
APART = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def on_axes(ax: Axes | None) -> Axes:
    """Return the axes that a figure is drawn on: the current one by default."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.gca()


def colours(n: int) -> list[Any]:
    """Return n colours for lines without an order."""
    return [APART[k % len(APART)] for k in range(n)]


def draw_band(ax: Axes, x: Any, lower: Any, upper: Any, colour: Any, **options: Any) -> None:
    """Fill the band between two bounds."""
    ax.fill_between(x, lower, upper, color=colour, alpha=0.15, linewidth=0, **options)


def steps(times: Any, values: Any, initial: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a step function from time 0 on."""
    return np.r_[0.0, np.asarray(times, np.float64)], np.r_[initial, np.asarray(values, np.float64)]
