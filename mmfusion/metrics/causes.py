"""Scores and calibration of the predicted cumulative incidence of one of several causes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.labels import check_order
from mmfusion.inputs.rounding import is_constant
from mmfusion.inputs.times import check_clock
from mmfusion.metrics._inputs import check_probabilities
from mmfusion.metrics._weights import CensoringWeights, refuse_delayed
from mmfusion.metrics.auc import weighted_auc
from mmfusion.metrics.influence import OWN, harrell_score
from mmfusion.metrics.score import Score
from mmfusion.survival import Survival, check_survival
from mmfusion.survival.incidence import (
    cumulative_incidence,
    incidence_bounds,
    incidence_influence,
)
from mmfusion.survival.outcome import snap

__all__ = [
    "CauseCalibration",
    "cause_auc",
    "cause_brier",
    "cause_calibration",
    "cause_concordance",
    "cause_scores",
]

#: Incidences of 0 and 1 have no predictor: they are read as these, and so is what is beyond.
LEAST, MOST = 1e-12, 1 - 1e-12


def cause_scores(
    y: Any, incidence: Any, time: float, cause: int = 1, *, level: float = 0.95
) -> pd.DataFrame:
    """Return the scores of the predicted incidence of a cause by a time, with intervals.

    For rows that the model did not see. Who has had another event by then will not have this one,
    and is known not to have had it.

    Parameters
    ----------
    y : outcome, n rows
        The event is a cause: 1, 2, ..., 0 is censored.
    incidence : array-like of float, shape (n,)
        The predicted probability of an event of `cause` by `time`.
    time : float
    cause : int, default=1
    level : float, default=0.95

    Returns
    -------
    DataFrame
        score, se, lower, upper; rows "harrell" (concordance, another event counting as never:
        Wolbers et al. 2009, Epidemiology 20:555-561), "auc" (who has it by `time` against who has
        not, event-free or with another event: Blanche, Dartigues & Jacqmin-Gadda 2013, Stat. Med.
        32:5381-5397), "brier" (Schoop et al. 2011, Biom. J. 53:88-112) and "scaled_brier", 1 less
        its ratio to that of the Aalen-Johansen estimate. With delayed entry "harrell" alone.
        Intervals are those of `score_interval`.

    Raises
    ------
    ValueError
        Probabilities of another shape, outside [0, 1] or NaN; no event of the cause by `time`;
        nobody observed until then.

    Examples
    --------
    >>> from mmfusion.metrics import cause_scores
    >>> y = ([1, 2, 3, 4, 5, 6], [1, 2, 1, 0, 1, 0])
    >>> cause_scores(y, [0.6, 0.3, 0.5, 0.2, 0.4, 0.1], 3)["score"].round(3).to_dict()
    {'harrell': 1.0, 'auc': 1.0, 'brier': 0.118, 'scaled_brier': 0.467}
    """
    outcome, risk = _checked(y, incidence, time, cause)
    scores = {"harrell": cause_concordance(outcome, risk, cause)}
    if not outcome.delayed:
        scores["auc"] = cause_auc(outcome, risk, time, cause)
        own, nothing = cause_brier(outcome, risk, time, cause)
        scores |= {"brier": own, "scaled_brier": own.share_of(nothing)}
    return _table(scores, level)


def _table(scores: dict[str, Score], level: float) -> pd.DataFrame:
    rows = {name: score.interval(level) for name, score in scores.items()}
    columns = ["score", "se", "lower", "upper"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("score")


def cause_concordance(y: Any, risk: Any, cause: int, strata: Any = None) -> Score:
    """Return Harrell's C of a cause; who has another event is compared as if it never came.

    Parameters
    ----------
    y : outcome, n rows
    risk : array-like of float, shape (n,)
        Higher is more.
    cause : int
    strata : array-like, shape (n,), optional
        Pairs are within a stratum.
    """
    outcome = _outcome(y, cause)
    never = (outcome.event > 0) & (outcome.event != cause)
    time = np.where(never, outcome.time.max() + 1, outcome.time)
    own = Survival(time, outcome.event == cause, outcome.entry)
    return harrell_score(own, risk, strata)


def cause_auc(y: Any, risk: Any, time: float, cause: int) -> Score:
    """Return the AUC at a time; parameters are those of `cause_concordance`."""
    outcome = _outcome(y, cause)
    known = _Known(outcome, time, cause)
    cases = known.weight * known.case
    controls = known.weight * ~known.case
    auc, above, below = weighted_auc(np.asarray(risk, np.float64), cases, controls)
    if np.isnan(auc):
        raise ValueError(f"There is nobody without an event of cause {cause} by {time:g}.")
    terms = cases * (above - auc) / cases.sum() + controls * (below - auc) / controls.sum()
    return Score(auc, terms + known.moved(terms), "logit")


def cause_brier(y: Any, incidence: Any, time: float, cause: int) -> tuple[Score, Score]:
    """Return the Brier score at a time, and that of the Aalen-Johansen estimate."""
    outcome = _outcome(y, cause)
    known = _Known(outcome, time, cause)
    n = len(outcome)
    constant = float(cumulative_incidence(outcome.time, outcome.event, cause)(time))
    found = []
    for predicted in (np.asarray(incidence, np.float64), constant):
        terms = known.weight * (predicted - known.case) ** 2 / n
        value = float(terms.sum())
        found.append(Score(value, terms - value / n + known.moved(terms), "log"))
    return found[0], found[1]


@dataclass(frozen=True, eq=False)
class CauseCalibration:
    """What `cause_calibration` returns.

    Attributes
    ----------
    time : float
    cause : int
    table : DataFrame
        score, se, lower, upper; rows slope, intercept, O/E.
    groups : DataFrame
        A row a group of like predictions: n, predicted (mean), observed (Aalen-Johansen), lower,
        upper.
    """

    time: float
    cause: int
    table: pd.DataFrame
    groups: pd.DataFrame = field(repr=False)


def cause_calibration(
    y: Any,
    incidence: Any,
    time: float,
    cause: int = 1,
    *,
    n_groups: int = 10,
    level: float = 0.95,
) -> CauseCalibration:
    """Say how predicted incidences of a cause by a time agree with what was observed.

    For rows that the model did not see (van Geloven et al. 2022, BMJ 377:e069249). With
    ``x = log(-log(1 - F))`` of the predicted incidence F:

    - ``slope``: the coefficient of x in a regression of having the event by `time` with the
      complementary log-log link, rows weighted for censoring; 1 is right, below 1 predictions are
      too extreme.
    - ``intercept``: the constant of that regression beside the offset x; 0 is right.
    - ``O/E``: the Aalen-Johansen estimate by the mean prediction; 1 is right.

    Parameters
    ----------
    y, incidence, time, cause
        As of `cause_scores`.
    n_groups : int, default=10
        Groups of like predictions; fewer where the rows are few (20 a group).
    level : float, default=0.95

    Returns
    -------
    CauseCalibration
        With delayed entry slope and intercept are NaN: their weights are not defined. Predictions
        that are all equal, or that separate the cases from the others, have no slope (NaN).
    """
    outcome, risk = _checked(y, incidence, time, cause)
    curve = cumulative_incidence(outcome.time, outcome.event, cause, outcome.entry)
    observed, expected = float(curve(time)), float(risk.mean())
    moved = incidence_influence(curve, outcome, cause, [time])[:, 0]
    ratio = observed / expected
    scores = {"slope": _undefined(len(risk)), "intercept": _undefined(len(risk))}
    if not outcome.delayed:
        known = _Known(outcome, time, cause)
        values = np.clip(risk, LEAST, MOST)
        x = np.log(-np.log1p(-values))
        if not is_constant(x[:, None], np.float64)[0] and known.overlaps(x):
            both = np.column_stack([np.ones(len(x)), x])
            scores["slope"] = _regression(known, both, np.zeros(len(x)))[1]
        scores["intercept"] = _regression(known, np.ones((len(x), 1)), x)[0]
    scores["O/E"] = Score(ratio, (moved - ratio * (risk - expected) / len(risk)) / expected, "log")
    rows = []
    parts = max(2, min(n_groups, len(risk) // 20))
    for some in np.array_split(np.argsort(risk, kind="stable"), parts):
        mine = outcome.take(some)
        own = cumulative_incidence(mine.time, mine.event, cause, mine.entry)
        bounds = incidence_bounds(own, mine, cause, [time], level)
        rows.append((len(some), risk[some].mean(), float(own(time)), *(b[0] for b in bounds)))
    columns = ["n", "predicted", "observed", "lower", "upper"]
    groups = pd.DataFrame(rows, columns=columns)
    return CauseCalibration(float(time), int(cause), _table(scores, level), groups)


class _Known:
    """Who is known to have, or not to have, the event by a time, weighted for the censored.

    Attributes
    ----------
    case : ndarray of bool, shape (n,)
    weight : ndarray, shape (n,)
        ``1 / G`` of known rows, just before an event or at the time; 0 of others.
    """

    def __init__(self, y: Survival, time: float, cause: int) -> None:
        refuse_delayed(y, "A score of one of several causes")
        at = float(snap(np.array([time]), np.unique(y.time))[0])
        self.any = Survival(y.time, y.event > 0, y.entry)
        self.weights = CensoringWeights(self.any)
        self.at, self.alive = at, y.time > at
        self.seen = self.any.event & ~self.alive
        self.case = self.seen & (y.event == cause)
        self.weight = np.zeros(len(y))
        self.weight[self.seen] = self.weights.before(y.time[self.seen], "time")
        if self.alive.any():
            self.weight[self.alive] = self.weights.at(np.array([at]), "time")[0]

    def overlaps(self, x: np.ndarray) -> bool:
        """Return whether `x` does not separate the cases from the others: a slope is finite."""
        cases, others = x[self.case & (self.weight > 0)], x[~self.case & (self.weight > 0)]
        if not len(cases) or not len(others):
            return False
        return bool(cases.min() < others.max() and others.min() < cases.max())

    def moved(self, terms: np.ndarray) -> np.ndarray:
        """Return what each row moves a sum of weighted terms by, through the weights."""
        early = self.weights.moved_by(self.any, terms * self.seen, self.any.time, OWN)
        late = np.array([terms[self.alive].sum()])
        return early + self.weights.moved_by(self.any, late, np.array([self.at]))


def _regression(known: _Known, design: np.ndarray, offset: np.ndarray) -> list[Score]:
    """Return the coefficients of the weighted complementary log-log regression of the cases."""
    w, d = known.weight, known.case.astype(np.float64)
    beta = np.zeros(design.shape[1])
    if design.shape[1] > 1:
        beta[1] = 1.0
    for _ in range(100):
        score, expected, _ = _parts(design, design @ beta + offset, d, w)
        step = np.linalg.solve(expected, design.T @ score)
        beta = beta + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-10:
            break
    score, _, observed = _parts(design, design @ beta + offset, d, w)
    terms = design * score[:, None]
    moved = np.stack([known.moved(column) for column in terms.T], axis=1)
    rows = (terms + moved) @ np.linalg.inv(observed)
    return [Score(float(b), own) for b, own in zip(beta, rows.T, strict=True)]


def _parts(
    design: np.ndarray, eta: np.ndarray, d: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the derivative of the log-likelihood in eta, expected and observed information."""
    hazard = np.exp(np.clip(eta, -30, 4))
    mean = -np.expm1(-hazard)
    slope = (1 - mean) * hazard
    score = w * hazard * (d - mean) / mean
    expected = w * slope * hazard / mean
    observed = -w * hazard * (d / mean - 1 - d * slope / mean**2)
    return score, *((design * each[:, None]).T @ design for each in (expected, observed))


def _undefined(n: int) -> Score:
    return Score(float("nan"), np.full(n, np.nan))


def _outcome(y: Any, cause: int) -> Survival:
    outcome = check_survival(y, allow_competing=True)
    if not (outcome.event == cause).any():
        raise ValueError(
            f"The cause parameter must be one of {np.unique(outcome.event)[1:].tolist()}, the "
            f"causes of y. Got {cause!r}."
        )
    return outcome


def _checked(y: Any, incidence: Any, time: float, cause: int) -> tuple[Survival, np.ndarray]:
    check_order(y=y, incidence=incidence)
    outcome = _outcome(y, cause)
    check_clock("time", time)
    first, last = outcome.time[outcome.event == cause].min(), outcome.time.max()
    if not first <= time <= last:
        raise ValueError(
            f"The time parameter must lie between the first event of cause {cause} and the end of "
            f"follow-up, {first:g} and {last:g}. Got {time:g}."
        )
    risk = check_probabilities(np.asarray(incidence, np.float64), "incidence")
    if risk.shape != (len(outcome),):
        raise ValueError(
            f"The incidence parameter must have shape ({len(outcome)},). Got {risk.shape}."
        )
    return outcome, risk
