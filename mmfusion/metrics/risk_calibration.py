"""Calibration of the predicted risk by a time: slope, intercept, observed by expected, curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.rounding import is_constant
from mmfusion.inputs.times import check_clock
from mmfusion.metrics._cox import SmallCox
from mmfusion.metrics._inputs import check_survival_table
from mmfusion.metrics.influence import survival_influence
from mmfusion.metrics.score import Score
from mmfusion.survival import Survival, check_survival, kaplan_meier

__all__ = ["Calibration", "survival_calibration"]

#: Survival probabilities of 0 and 1 have no x: they are read as these, and so is what is beyond.
LEAST, MOST = 1e-300, 1 - 1e-8
#: Names of the distances of the curve from what was predicted.
INDICES = ("ICI", "E50", "E90")
#: Quantiles of the predictor at which the spline of the curve bends (Harrell 2015, table 2.3).
KNOTS = (0.1, 0.5, 0.9)
#: Points of the curve, and at most so many of the predicted risks for the indices' intervals.
N_POINTS, N_RISKS, N_DRAWS = 101, 500, 1000


@dataclass(frozen=True, eq=False)
class Calibration:
    """What `survival_calibration` returns.

    Attributes
    ----------
    time : float
    table : DataFrame
        score, se, lower, upper; rows slope, intercept, O/E, ICI, E50, E90.
    curve : DataFrame
        A row a predicted risk: predicted, observed, lower, upper (pointwise).
    scores : mapping of str to Score
        Of slope, intercept and O/E: they subtract, between models of the same rows.
    risk : ndarray, shape (n,)
        The predicted risks.
    """

    time: float
    table: pd.DataFrame
    curve: pd.DataFrame
    scores: Mapping[str, Score] = field(repr=False)
    risk: np.ndarray = field(repr=False)


def survival_calibration(
    y: Any,
    survival: Any,
    time: float | None = None,
    *,
    cluster: Any = None,
    level: float = 0.95,
) -> Calibration:
    """Say how the risks that a model predicts by a time agree with what was observed.

    For rows that the model did not see. With ``x = log(-log S)`` of the predicted survival `S` and
    follow-up that ends at `time`:

    - ``slope``: the coefficient of x in a Cox model; 1 is right, below 1 predictions are too
      extreme (overfitting). For a Cox model x is its predictor.
    - ``intercept``: the log of the cumulative hazard at `time` beside the offset x, that is of the
      ratio of observed to predicted cumulative hazard; 0 is right.
    - ``O/E``: ``1 - KM(time)`` by the mean predicted risk; 1 is right.
    - ``ICI``, ``E50``, ``E90``: mean, median and 90th percentile over the rows of ``|observed -
      predicted|`` risk, with the observed risk from a Cox model on a restricted cubic spline of x
      with three knots (Austin, Harrell & van Klaveren 2020, Stat. Med. 39:2714-2742).

    Parameters
    ----------
    y : outcome, n rows
        With entry times, check who is at risk early: ``O/E`` reads the Kaplan-Meier curve.
    survival : array-like of float, shape (n,) or (n, 1)
        The probability to survive `time`; a DataFrame of one column brings its time.
    time : float, optional
        Needed where `survival` is no DataFrame.
    cluster : array-like, shape (n,), optional
        Rows that are not independent; see `Score.interval`.
    level : float, default=0.95

    Returns
    -------
    Calibration
        Standard errors are those of the influences of the rows (sandwich). The three indices are
        positive even of a perfect model, by chance; their intervals are those of 1,000 normal draws
        of the curve, turned around (basic bootstrap), which allows for that, and cut at 0.
        Predictions that are all equal have no slope (NaN), nor have such that put all events
        first: it would be infinite.

    Raises
    ------
    ValueError
        As `check_survival`; probabilities of another shape, outside [0, 1] or NaN; no event by
        `time`, or nobody observed until then.

    Examples
    --------
    >>> import numpy as np
    >>> from mmfusion.metrics import survival_calibration
    >>> y = (np.arange(1, 11), [1, 1, 0, 1, 1, 1, 0, 1, 1, 0])
    >>> survival = [0.1, 0.3, 0.4, 0.2, 0.5, 0.4, 0.6, 0.8, 0.5, 0.7]
    >>> survival_calibration(y, survival, 6).table["score"].round(2)[["slope", "O/E"]]
    slope    4.51
    O/E      0.99
    Name: score, dtype: float64
    """
    outcome = check_survival(y)
    n = len(outcome)
    if not isinstance(survival, pd.DataFrame):
        survival = np.reshape(survival, (np.shape(survival)[0], -1)) if np.ndim(survival) else []
    times, table = check_survival_table(survival, time, n)
    if len(times) != 1:
        raise ValueError(f"The survival parameter must be of one time. Got {len(times)}.")
    at = float(times[0])
    check_clock("time", at)
    short = _until(outcome, at)
    risk = 1 - table[:, 0]
    x = np.log(-np.log(np.clip(table[:, 0], LEAST, MOST)))
    scores = {
        "slope": _slope(short, x),
        "intercept": _intercept(short, x),
        "O/E": _observed_by_expected(short, risk, at),
    }
    rows: dict[str, tuple[float, ...]]
    rows = {name: score.interval(level, cluster) for name, score in scores.items()}
    knots = _knots(x)
    smooth = SmallCox.fit(short, _basis(x, knots))
    grid = np.linspace(x.min(), x.max(), N_POINTS)
    curve = _curve(smooth, grid, _basis(grid, knots), level, cluster)
    rows |= _indices(smooth, x, risk, knots, level, cluster)
    columns = ["score", "se", "lower", "upper"]
    found = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return Calibration(at, found, curve, scores, risk)


def _until(y: Survival, time: float) -> Survival:
    """Return the outcome of follow-up that ends at `time`."""
    event = y.event & (y.time <= time)
    if not event.any():
        raise ValueError(f"The time parameter must not be before the first event. Got {time:g}.")
    if not (y.time >= time).any():
        raise ValueError(
            "The time parameter must not be beyond the follow-up, which ends at "
            f"{y.time.max():g}. Got {time:g}."
        )
    started = y.entry < time  # who enters later is never at risk: any time does
    return Survival(
        np.where(started, np.minimum(y.time, time), y.time), event, np.where(started, y.entry, time)
    )


def _slope(y: Survival, x: np.ndarray) -> Score:
    if is_constant(x[:, None], np.float64)[0]:
        return Score(float("nan"), np.full(len(x), np.nan))
    fit = SmallCox.fit(y, x[:, None])
    return Score(float(fit.coef[0]), fit.influence[:, 1])


def _intercept(y: Survival, x: np.ndarray) -> Score:
    fit = SmallCox.fit(y, np.empty((len(x), 0)), x)
    return Score(fit.log_hazard, fit.influence[:, 0])


def _observed_by_expected(y: Survival, risk: np.ndarray, time: float) -> Score:
    curve = kaplan_meier(y.time, y.event, y.entry if y.delayed else None)
    observed, expected = 1 - float(curve(time)), float(risk.mean())
    moved = -survival_influence(curve, y, np.array([time]))[:, 0]
    ratio = observed / expected
    return Score(ratio, (moved - ratio * (risk - expected) / len(risk)) / expected, "log")


def _knots(x: np.ndarray) -> np.ndarray:
    """Return where the spline bends; fewer than three: a line, none: a constant."""
    if is_constant(x[:, None], np.float64)[0]:
        return np.empty(0)
    knots = np.unique(np.quantile(x, KNOTS))
    return knots if len(knots) == len(KNOTS) else knots[:1]


def _basis(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Return a restricted cubic spline, linear beyond its knots (Stone & Koo 1985)."""
    if len(knots) < len(KNOTS):
        return x[:, None][:, : len(knots)]
    low, middle, high = knots
    cubes = [np.maximum(x - knot, 0.0) ** 3 for knot in knots]
    bend = (
        cubes[0]
        - cubes[1] * (high - low) / (high - middle)
        + cubes[2] * (middle - low) / (high - middle)
    )
    return np.column_stack([x, bend / (high - low) ** 2])


def _curve(
    fit: SmallCox, x: np.ndarray, basis: np.ndarray, level: float, cluster: Any
) -> pd.DataFrame:
    design = np.column_stack([np.ones(len(x)), basis])
    log_hazard = design @ np.r_[fit.log_hazard, fit.coef]
    bounds = np.array(
        [
            Score(value, moved).interval(level, cluster)[2:]
            for value, moved in zip(log_hazard, design @ fit.influence.T, strict=True)
        ]
    )
    columns = {"predicted": x, "observed": log_hazard, "lower": bounds[:, 0], "upper": bounds[:, 1]}
    return pd.DataFrame({name: _risk(values) for name, values in columns.items()})


def _indices(
    fit: SmallCox, x: np.ndarray, risk: np.ndarray, knots: np.ndarray, level: float, cluster: Any
) -> dict[str, tuple[float, ...]]:
    """Return ICI, E50 and E90 with standard errors and intervals."""
    own = np.r_[fit.log_hazard, fit.coef]
    values = _distances(own[None], x, risk, knots)[0]
    moved = fit.influence
    if cluster is not None:
        code = pd.factorize(np.asarray(cluster))[0]
        sums = np.zeros((code.max() + 1, len(own)))
        np.add.at(sums, code, moved)
        moved = sums * np.sqrt(len(sums) / (len(sums) - 1))
    covariance = moved.T @ moved
    nothing = (np.nan,) * 3
    if not np.isfinite(covariance).all():
        return {
            name: (float(v), *nothing)
            for name, v in zip(("ICI", "E50", "E90"), values, strict=True)
        }
    draws = np.random.default_rng(0).multivariate_normal(own, covariance, N_DRAWS)
    order = np.argsort(risk)
    some = order[np.linspace(0, len(risk) - 1, min(len(risk), N_RISKS)).astype(int)]
    found = _distances(draws, x[some], risk[some], knots)
    high, low = np.quantile(found, [(1 + level) / 2, (1 - level) / 2], axis=0)
    bounds = np.maximum(2 * values - [high, low], 0.0)
    return {
        name: (float(values[k]), float(found[:, k].std()), float(bounds[0, k]), float(bounds[1, k]))
        for k, name in enumerate(INDICES)
    }


def _distances(
    parameters: np.ndarray, x: np.ndarray, risk: np.ndarray, knots: np.ndarray
) -> np.ndarray:
    """Return mean, median and 90th percentile of the distances, (m, 3), of curves (m, 1 + p)."""
    design = np.column_stack([np.ones(len(x)), _basis(x, knots)])
    distance = np.abs(_risk(parameters @ design.T) - risk)
    return np.column_stack([distance.mean(axis=1), *np.quantile(distance, [0.5, 0.9], axis=1)])


def _risk(log_hazard: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return -np.expm1(-np.exp(log_hazard))
