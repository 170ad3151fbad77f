"""The figure of decision curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ._axes import GREY, colours, on_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_decision"]


def plot_decision(
    benefits: pd.DataFrame | Mapping[str, pd.DataFrame], ax: Axes | None = None
) -> Axes:
    """Draw net benefit against the threshold of risk, beside acting on everyone and on nobody.

    Parameters
    ----------
    benefits : DataFrame or dict of them by name of the model
        What `mmfusion.metrics.net_benefit` returns.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        A line a model, then "act on everyone" and "act on nobody".
    """
    named = {"model": benefits} if isinstance(benefits, pd.DataFrame) else dict(benefits)
    ax = on_axes(ax)
    for (name, table), colour in zip(named.items(), colours(len(named)), strict=True):
        ax.plot(table.index, table["model"], color=colour, label=name)
    last = next(reversed(named.values()))
    ax.plot(last.index, last["all"], color=GREY, linestyle="--", label="act on everyone")
    ax.plot(last.index, last["none"], color="black", linewidth=0.9, label="act on nobody")
    most = max(0.01, *(float(table["model"].max()) for table in named.values()))
    most = max(most, float(last["all"].max()))
    useful = [
        float(table.index[np.flatnonzero(table["model"].to_numpy() > 0)[-1]])
        for table in named.values()
        if (table["model"] > 0).any()
    ]
    ax.set(xlabel="threshold of risk at which one acts", ylabel="net benefit")
    ax.set_ylim(-0.15 * most, 1.1 * most)
    ax.set_xlim(0, min(1.0, 1.15 * max(useful, default=1.0)))
    ax.legend(frameon=False)
    return ax
