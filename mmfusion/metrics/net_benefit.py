"""Net benefit: what acting on a model's risks is worth, at each threshold of risk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.labels import check_order
from mmfusion.inputs.times import check_clock
from mmfusion.metrics._inputs import check_probabilities
from mmfusion.survival import Survival, check_survival, cumulative_incidence, kaplan_meier

__all__ = ["net_benefit"]

#: By default: whoever acts at a higher risk than this acts on nearly nobody.
THRESHOLDS = np.round(np.arange(0.01, 1.0, 0.01), 2)


def net_benefit(
    y: Any,
    risk: Any,
    thresholds: Any = None,
    *,
    time: float | None = None,
    cause: int | None = None,
) -> pd.DataFrame:
    """Return the net benefit of acting on risks, at each threshold from which on one acts.

    ``true positives / n - false positives / n x threshold / (1 - threshold)`` (Vickers & Elkin
    2006, Med. Decis. Making 26:565-574). With a time, positives are who has the event by then;
    where follow-up is censored their share among those above the threshold is 1 less their
    Kaplan-Meier curve (Vickers et al. 2008, BMC Med. Inform. Decis. Mak. 8:53); of one of several
    causes their cumulative incidence (van Geloven et al. 2022, BMJ 377:e069249).

    Parameters
    ----------
    y : outcome of n rows
        A survival outcome where `time` is given, else whether each row is positive (0 or 1).
    risk : array-like of float, shape (n,)
        The predicted probability of the event (by `time`).
    thresholds : array-like of float, shape (k,), optional
        In (0, 1); 0.01, 0.02, ... by default.
    time : float, optional
    cause : int, optional
        Which of several causes of `y` is the event; `risk` is its incidence.

    Returns
    -------
    DataFrame, shape (k, 3)
        Indexed by threshold: ``model``, ``all`` (acting on everyone), ``none`` (on nobody: 0).

    Raises
    ------
    ValueError
        Risks outside [0, 1], of another number or NaN; thresholds outside (0, 1); a time beyond the
        follow-up; an outcome that is neither.

    Examples
    --------
    >>> from mmfusion.metrics import net_benefit
    >>> net_benefit([1, 0, 1, 0], [0.9, 0.6, 0.4, 0.1], [0.2, 0.5]).round(4)
                model    all  none
    threshold
    0.2        0.4375  0.375   0.0
    0.5        0.0000  0.000   0.0
    """
    check_order(y=y, risk=risk)
    cuts = THRESHOLDS if thresholds is None else np.atleast_1d(np.asarray(thresholds, np.float64))
    if cuts.ndim != 1 or not ((cuts > 0) & (cuts < 1)).all():
        raise ValueError(
            "The thresholds parameter must hold risks between 0 and 1, exclusive. Got "
            f"{np.array2string(np.asarray(cuts), threshold=5)}."
        )
    share = _Positives(y, time, cause)
    values = check_probabilities(np.asarray(risk, np.float64), "risk")
    if values.shape != (share.n,):
        raise ValueError(f"The risk parameter must have shape ({share.n},). Got {values.shape}.")
    everyone = share.of(np.ones(share.n, bool))
    rows = {}
    for cut in cuts:
        acts = values >= cut
        odds = cut / (1 - cut)
        positive = share.of(acts) if acts.any() else 0.0
        rows[cut] = (
            float(acts.mean() * (positive - (1 - positive) * odds)),
            everyone - (1 - everyone) * odds,
            0.0,
        )
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["model", "all", "none"])
    return table.rename_axis("threshold")


class _Positives:
    """The share of positives among some rows."""

    def __init__(self, y: Any, time: float | None, cause: int | None) -> None:
        self.time, self.cause = time, cause
        if time is None and cause is not None:
            raise ValueError("The cause parameter is of a survival outcome: give time= too.")
        if time is None:
            self.positive = np.asarray(y, dtype=np.float64)
            if self.positive.ndim != 1 or not np.isin(self.positive, (0, 1)).all():
                raise ValueError(
                    "The y parameter must be 0 or 1 in each row, or a survival outcome with a "
                    f"time. Got {np.unique(self.positive)[:5].tolist()}."
                )
            self.n = len(self.positive)
            return
        check_clock("time", time)
        self.outcome: Survival = check_survival(y, allow_competing=cause is not None)
        self.n = len(self.outcome)
        if not 0 < time <= self.outcome.time.max():
            raise ValueError(
                "The time parameter must lie within the follow-up, which ends at "
                f"{self.outcome.time.max():g}. Got {time:g}."
            )

    def of(self, rows: np.ndarray) -> float:
        if self.time is None:
            return float(self.positive[rows].mean())
        mine = self.outcome.take(rows)
        if self.cause is not None:
            incidence = cumulative_incidence(mine.time, mine.event, self.cause, mine.entry)
            return float(incidence(self.time))
        curve = kaplan_meier(mine.time, mine.event, mine.entry if mine.delayed else None)
        return 1.0 - float(curve(self.time))
