"""Inverse probability of censoring weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmfusion.survival import (
    KaplanMeier,
    Survival,
    censoring_distribution,
    check_survival,
    kaplan_meier,
)

__all__ = ["CensoringWeights", "refuse_delayed"]

#: Where the probability to be uncensored is not above this, a weight would say nothing.
SMALLEST = 1e-6


class CensoringWeights:
    """Weights ``1 / G``, with G from the outcome of the training rows.

    Parameters
    ----------
    y_train : outcome
    events_first : bool, default True
        Whether tied events leave the risk set before the censorings (`censoring_distribution`),
        or stay in it (the Kaplan-Meier curve of ``1 - event``).

    Attributes
    ----------
    curve : KaplanMeier
        G.
    """

    def __init__(self, y_train: Any, events_first: bool = True) -> None:
        y = check_survival(y_train, name="y_train", require_events=False)
        if events_first:
            self.curve: KaplanMeier = censoring_distribution(y.time, y.event, y.entry)
        else:
            self.curve = kaplan_meier(y.time, ~y.event, y.entry)

    def at(self, time: np.ndarray, use: str) -> np.ndarray:
        """Return ``1 / G(time)``; `use` names the parameter that avoids an error."""
        return self._inverse(self.curve(time), time, use)

    def before(self, time: np.ndarray, use: str) -> np.ndarray:
        """Return ``1 / G(time-)``."""
        return self._inverse(self.curve.left(time), time, use)

    def _inverse(self, probability: np.ndarray, time: np.ndarray, use: str) -> np.ndarray:
        gone = probability <= SMALLEST
        if gone.any():
            usable = self.curve.x[self.curve.y > SMALLEST]
            advice = (
                f"The largest usable time is {usable[-1]:g}: choose {use} accordingly."
                if len(usable)
                else "No time is usable."
            )
            raise ValueError(
                "The probability of being uncensored, estimated on y_train, is (nearly) zero at "
                f"time {time[gone].min():g}, so there is no weight. {advice}"
            )
        return 1.0 / probability


def refuse_delayed(y: Survival, what: str) -> None:
    """Refuse delayed entry where the estimator has no place for it."""
    if y.delayed:
        raise ValueError(
            f"{what} is not defined for delayed entry. Got entry times that change the risk set; "
            "concordance_index respects them."
        )
