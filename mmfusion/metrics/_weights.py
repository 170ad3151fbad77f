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

    def at_event(self, time: np.ndarray, use: str, convention: str) -> np.ndarray:
        """Return the weight of events at `time`: at ``G(time)`` for "sksurv", else ``G(time-)``."""
        return self.at(time, use) if convention == "sksurv" else self.before(time, use)

    def moved_by(
        self, y: Survival, share: np.ndarray, time: np.ndarray, convention: str | None = None
    ) -> np.ndarray:
        """Return what each row moves ``sum_i share_i log(1 / G_i)`` by, G being its own curve.

        The derivative in the weight of the row, of a curve that was estimated from just these rows,
        events first.

        Parameters
        ----------
        y : Survival, n rows
        share : ndarray, shape (m,)
            Zero where G is.
        time : ndarray, shape (m,)
        convention : str, optional
            Whether G is taken at or just before `time`, as by `at_event`; None is at.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        curve = self.curve
        side: Any = "left" if convention not in (None, "sksurv") else "right"
        steps = np.searchsorted(curve.x, time, side=side)  # factors 1 - d / r that G_i has
        beyond = np.bincount(steps, weights=share, minlength=len(curve.x) + 1)
        reaching = (np.cumsum(beyond[::-1])[::-1])[1:]  # the share of those that have each factor
        left = curve.at_risk - curve.events
        term = np.divide(reaching, left, out=np.zeros(len(left)), where=left > 0)
        hazard = np.divide(
            curve.events, curve.at_risk, out=np.zeros(len(left)), where=curve.events > 0
        )
        running = np.concatenate([[0.0], np.cumsum(hazard * term)])
        place = np.searchsorted(curve.x, y.time)
        # Who has an event leaves the risk set of censoring before its own time.
        return np.where(y.event, -running[place], term[place] - running[place + 1])

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
