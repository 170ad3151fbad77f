"""What acting on the model's risks is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmfusion.interpret.plots import plot_decision
from mmfusion.interpret.report.blocks import Block, Missing, Section, Text, draw
from mmfusion.interpret.report.evidence import Evidence
from mmfusion.interpret.report.performance import an_event_each
from mmfusion.metrics import net_benefit

__all__ = ["decisions"]


def decisions(found: Evidence) -> Section:
    """Return the section of net benefit."""
    section = Section("decisions", "Decision curve")
    section.blocks += an_event_each(found.of_events(), _curve, "The decision curve")
    return section


def _curve(found: Evidence) -> Sequence[Block]:
    risk = found.event_risk
    if risk is None:
        return [
            Missing(
                "There is no decision curve: it is of an event whose risk one acts on, by a time "
                "or of a class, and a number has none. What acting above a threshold of the "
                "outcome is worth is said by the report of a classifier of whether it is exceeded."
            )
        ]
    survival = found.task == "survival"
    y: Any = found.y if survival else found.positive
    table = net_benefit(y, risk, time=found.time if survival else None, cause=found.cause)
    by = f" by {found.time:g} {found.unit}" if survival else ""
    better = table["model"] > np.maximum(table["all"], 0) + 1e-12
    said = "At no threshold is it above both acting on everyone and acting on nobody."
    if better.any():
        run = (better != better.shift()).cumsum()[better]  # the longest without a gap
        where = run.index[run == run.value_counts().idxmax()]
        said = (
            "It is above both acting on everyone and acting on nobody between thresholds of "
            f"{where.min():.0%} and {where.max():.0%}."
        )
    return [
        Text.of(
            "If one acts (treats, refers, follows more closely) on every patient whose risk"
            f"{by} exceeds a threshold, net benefit counts true positives, less false "
            f"positives at the odds of that threshold. {said}"
        ),
        draw(
            lambda ax: plot_decision(table, ax),
            f"Net benefit of acting on the model's risk{by} against the threshold, beside "
            f"acting on everyone and on nobody. {said}",
            "Decision curve. The highest line at a threshold is the best policy for who would "
            "act at it.",
        ),
    ]
