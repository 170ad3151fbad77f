"""Scores with the influence of each row, metric by metric.

Each influence is the exact derivative of the score in the weight of a row. Where the weights for
censoring come from the scored rows themselves, what a row moves them by is part of it; where they
come from other rows, they are taken as known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmfusion.metrics._inputs import check_risk, check_survival_table, check_times
from mmfusion.metrics._pairs import count_meetings, count_pairs
from mmfusion.metrics._weights import CensoringWeights, refuse_delayed
from mmfusion.metrics.auc import weighted_auc
from mmfusion.metrics.brier import censored_weights
from mmfusion.metrics.concordance import NO_PAIRS, counted_events, strata_codes
from mmfusion.metrics.score import Score
from mmfusion.survival import KaplanMeier, Survival, check_survival, kaplan_meier
from mmfusion.survival.outcome import snap

__all__ = [
    "auc_scores",
    "brier_scores",
    "harrell_score",
    "integrated",
    "survival_influence",
    "uno_score",
]

#: Here the weights are those of the Brier score by default.
OWN = "mmfusion"


def harrell_score(y: Any, risk: Any, strata: Any = None) -> Score:
    """Return Harrell's C with its influences (R's ``concordance``), in O(n log n).

    Row i belongs to k_i concordant pairs (half of those tied in risk) and p_i comparable ones of P:
    its influence is ``(k_i - C p_i) / P``. Parameters are those of `concordance_index`.
    """
    outcome = check_survival(y)
    n = len(outcome)
    stratum = np.zeros(n, dtype=np.intp) if strata is None else strata_codes(strata, n)
    return _concordance(outcome, check_risk(risk, n), stratum, np.ones(n))[0]


def uno_score(y: Any, risk: Any, tau: float | None = None, y_train: Any = None) -> Score:
    """Return Uno's C with its influences; parameters are those of `concordance_index_uno`."""
    outcome = check_survival(y)
    refuse_delayed(outcome, "Uno's concordance index")
    n = len(outcome)
    weights = CensoringWeights(outcome if y_train is None else y_train)
    counted = counted_events(outcome, tau)
    weight = np.zeros(n)
    weight[counted] = weights.at_event(outcome.time[counted], "tau", OWN) ** 2
    stratum = np.zeros(n, dtype=np.intp)
    score, by_weight = _concordance(outcome, check_risk(risk, n), stratum, weight)
    if y_train is not None:
        return score
    moved = weights.moved_by(outcome, 2 * by_weight, outcome.time, OWN)
    return Score(score.value, score.rows + moved, score.scale)


def _concordance(
    y: Survival, risk: np.ndarray, stratum: np.ndarray, weight: np.ndarray
) -> tuple[Score, np.ndarray]:
    """Return the index of pairs that weigh `weight` of their event, and its derivative in its log.

    A row counts as the event of its pairs and as the one that an event meets.
    """
    pairs = count_pairs(y, risk, stratum)
    comparable, concordant = np.zeros(len(y)), np.zeros(len(y))
    comparable[pairs.row] = pairs.comparable
    concordant[pairs.row] = pairs.lower + 0.5 * pairs.equal
    comparable, concordant = weight * comparable, weight * concordant
    total = comparable.sum()
    if not total > 0:
        raise ValueError(NO_PAIRS)
    c = float(concordant.sum() / total)
    own = (concordant - c * comparable) / total
    met, higher, equal = count_meetings(y, risk, stratum, weight)
    other = (higher + 0.5 * equal - c * met) / total
    return Score(c, own + other, "logit"), own


def auc_scores(y: Any, risk: Any, times: Any, y_train: Any = None) -> dict[Any, Score]:
    """Return the cumulative/dynamic AUC at each time, and its mean, with their influences.

    The influences of the two-sample U statistic, with those of the weights (Blanche, Dartigues &
    Jacqmin-Gadda 2013, Stat. Med. 32:5381-5397). Parameters are those of `cumulative_dynamic_auc`.

    Returns
    -------
    dict of float (the times) and "mean" to Score
        Of several times the mean; a time without cases or controls has a NaN score.
    """
    outcome = check_survival(y)
    refuse_delayed(outcome, "The cumulative/dynamic AUC")
    asked = check_times(times)
    grid = snap(asked, np.unique(outcome.time))
    columns = check_risk(risk, len(outcome), len(grid)).reshape(len(outcome), -1).T
    weights = CensoringWeights(outcome if y_train is None else y_train)
    case = outcome.event & (outcome.time <= grid[-1])
    weight = np.zeros(len(outcome))
    weight[case] = weights.at_event(outcome.time[case], "times", OWN)
    found: dict[Any, Score] = {}
    for k, t in enumerate(grid):
        cases, control = np.where(outcome.time <= t, weight, 0.0), outcome.time > t
        auc, above, below = weighted_auc(columns[k if len(columns) > 1 else 0], cases, control)
        if np.isnan(auc):
            found[asked[k]] = Score(auc, above, "logit")
            continue
        share = cases * (above - auc) / cases.sum()
        rows = share + control * (below - auc) / control.sum()
        if y_train is None:
            rows = rows + weights.moved_by(outcome, share, outcome.time, OWN)
        found[asked[k]] = Score(auc, rows, "logit")
    if len(grid) > 1:
        found["mean"] = _mean_auc(outcome, grid, list(found.values()))
    return found


def _mean_auc(y: Survival, grid: np.ndarray, scores: list[Score]) -> Score:
    """Return the mean over the times, weighted by the drops of the rows' Kaplan-Meier curve."""
    defined = [k for k, score in enumerate(scores) if not np.isnan(score.value)]
    if not defined:
        return scores[0]
    curve = kaplan_meier(y.time, y.event)
    drops = -np.diff(curve(grid[defined]), prepend=1.0)
    moved = -np.diff(survival_influence(curve, y, grid[defined]), axis=1, prepend=0.0)
    mean = Score.combine([scores[k] for k in defined], drops / drops.sum())
    excess = np.array([scores[k].value for k in defined]) - mean.value
    return Score(mean.value, mean.rows + moved @ excess / drops.sum(), "logit")


def brier_scores(
    y: Any, survival: Any, times: Any = None, y_train: Any = None
) -> tuple[np.ndarray, list[Score], list[Score]]:
    """Return the times, the Brier score at each and that of the Kaplan-Meier curve.

    Parameters are those of `brier_score`; the curve is that of `y_train`, by default of `y`.

    Returns
    -------
    grid : ndarray, shape (k,)
    scores, reference : list of Score
    """
    outcome = check_survival(y, require_events=False)
    refuse_delayed(outcome, "The Brier score")
    asked, table = check_survival_table(survival, times, len(outcome))
    grid = snap(asked, np.unique(outcome.time))
    known = outcome
    if y_train is not None:
        known = check_survival(y_train, name="y_train", require_events=False)
    weights = CensoringWeights(known)
    weight = censored_weights(weights, outcome, grid, OWN)
    # Weighted for censoring, the rows' own Kaplan-Meier curve is the constant of least error: to
    # first order, its estimation costs nothing.
    constant = kaplan_meier(known.time, known.event, known.entry)(grid)
    scores: tuple[list[Score], list[Score]] = ([], [])
    for k, t in enumerate(grid):
        alive = outcome.time > t
        for found, predicted in zip(scores, (table[:, k], constant[k]), strict=True):
            each = weight[:, k] * (predicted - alive) ** 2 / len(outcome)
            value = float(each.sum())
            rows = each - value / len(outcome)
            if y_train is None:
                rows = rows + weights.moved_by(outcome, each * ~alive, outcome.time, OWN)
                together = np.array([each[alive].sum()])
                rows = rows + weights.moved_by(outcome, together, np.array([t]))
            found.append(Score(value, rows, "log"))
    return asked, *scores


def integrated(grid: np.ndarray, scores: list[Score]) -> Score:
    """Return the mean over time of scores at some times, by the trapezoidal rule."""
    if len(grid) < 2:
        raise ValueError(
            f"The times parameter must hold at least two times to integrate over. Got {grid}."
        )
    gaps = np.diff(grid)
    weights = (np.append(gaps, 0.0) + np.append(0.0, gaps)) / 2
    return Score.combine(scores, weights / (grid[-1] - grid[0]))


def survival_influence(curve: KaplanMeier, y: Survival, times: np.ndarray) -> np.ndarray:
    """Return what each row moves its own Kaplan-Meier curve by at each time, shape (n, k).

    The derivative in the weight of the row, 0 where the curve is.
    """
    left = curve.at_risk - curve.events
    term = np.divide(1.0, left, out=np.zeros(len(left)), where=left > 0)
    hazard = np.divide(curve.events, curve.at_risk, out=0 * left, where=curve.events > 0)
    running = np.concatenate([[0.0], np.cumsum(hazard * term)])
    place = np.searchsorted(curve.x, y.time)
    until = np.searchsorted(curve.x, times, side="right")  # factors that the curve has by then
    passed = running[np.minimum(place[:, None] + 1, until)]
    if y.delayed:
        entered = np.searchsorted(curve.x, y.entry, side="right")
        passed = passed - running[np.minimum(entered[:, None], until)]
    seen = y.event[:, None] & (place[:, None] < until)
    return -curve(times) * (np.where(seen, term[place][:, None], 0.0) - passed)
