"""A simulated cohort with a known truth: organ surfaces as point clouds, a table, survival."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from mmfusion.datasets._weibull import SCALE, SHAPE, WeibullTruth, draw_times

#: Log hazard ratio of one standard deviation of the elongation.
ELONGATION = 1.0
#: Log hazard ratios of the table: an untreated patient of 60 has none.
TABLE = {"age": 0.03, "treatment": -0.6}

#: Standard deviations of the log of the long axis and of the size; of the surface's noise.
_AXIS_SD, _SIZE_SD, _NOISE_SD = 0.25, 0.15, 0.03

_DESCRIPTION = f"""A simulated cohort: the surface of an organ as a point cloud, simulated
covariates, and survival times from a known model.

log hazard ratio = table + shape
  table  0.03 (age - 60) - 0.6 treatment
  shape  {ELONGATION:g} z, z standard normal: the elongation

The organ is an ellipsoid with semi-axes s exp({_AXIS_SD:g} z) along the first coordinate and
s exp(-{_AXIS_SD / 2:g} z) along the others: its volume does not change with z. The size s is
lognormal (sd of the log {_SIZE_SD:g}) and the centre standard normal in each coordinate; neither
has an effect. Points lie in directions drawn uniformly, with noise of sd {_NOISE_SD:g} in each
coordinate; their number differs from patient to patient, without effect.

Time (months) is Weibull with proportional hazards: shape {SHAPE}, scale {SCALE:g} at log hazard
ratio 0. Censoring is exponential and independent of everything; shapes go missing completely at
random."""


@dataclass(frozen=True, eq=False)
class ShapesTruth(WeibullTruth):
    """What is true of a cohort of shapes, before any goes missing.

    Attributes
    ----------
    log_hazard : DataFrame, shape (n, 3)
        Log hazard ratio of each patient: table, shape, total (their sum).
    coefficients : Series
        Log hazard ratio of each term; "elongation" is a standard deviation's.
    event_time, shape, scale, censoring_rate
        As of `WeibullTruth`.
    elongation : ndarray of float64, shape (n,)
        Standard normal.
    size : ndarray of float64, shape (n,)
        Radius of the ball of the same volume; without effect.
    """

    elongation: np.ndarray
    size: np.ndarray


def make_shapes(
    n: int = 500,
    *,
    n_points: int | tuple[int, int] = (100, 200),
    missing: float = 0.0,
    censoring: float = 0.3,
    random_state: int | np.random.Generator | None = 0,
) -> Bunch:
    """Simulate a cohort with point clouds whose shape, not size or place, determines the risk.

    See ``DESCR`` of the result for the model.

    Parameters
    ----------
    n : int, default 500
        Number of patients.
    n_points : int or (int, int), default (100, 200)
        Points of a cloud: that many, or from the first to the second.
    missing : float in [0, 1), default 0
        Share of patients without a cloud (exactly, up to rounding).
    censoring : float in [0, 1), default 0.3
        Expected share of censored patients.
    random_state : int, Generator or None, default 0
        Seed. The outcome does not depend on `missing` and `n_points`.

    Returns
    -------
    Bunch
        ``frame``
            DataFrame: surface (float64 array (k, 3), or None), age (years), treatment (0/1).
        ``target``
            Structured array (event: bool, time: float64 in months).
        ``truth``
            `ShapesTruth`: the parts of the log hazard ratio, the elongation, true survival curves.
        ``DESCR``, ``source``, ``license``
            Text.

    Raises
    ------
    ValueError
        A parameter is out of its range.

    Examples
    --------
    >>> from mmfusion.datasets import make_shapes
    >>> cohort = make_shapes(100, missing=0.1)
    >>> cohort.frame.columns.tolist(), cohort.frame["surface"].isna().sum()
    (['surface', 'age', 'treatment'], np.int64(10))
    >>> cohort.frame["surface"].dropna().iloc[0].shape[1]
    3
    >>> cohort.truth.coefficients["elongation"]
    np.float64(1.0)
    """
    fewest, most = _check(n, n_points, missing, censoring)
    # A stream each, so that no part of the cohort changes with the parameters of another.
    shape_rng, points_rng, table_rng, time_rng, censoring_rng, missing_rng = np.random.default_rng(
        random_state
    ).spawn(6)

    elongation = shape_rng.normal(size=n)
    size = np.exp(shape_rng.normal(0, _SIZE_SD, n))
    centre = shape_rng.normal(size=(n, 3))
    axes = size[:, None] * np.exp(_AXIS_SD * elongation[:, None] * [1.0, -0.5, -0.5])
    table = pd.DataFrame(
        {
            "age": np.clip(table_rng.normal(60, 10, n), 30, 90).round(1),
            "treatment": table_rng.integers(0, 2, n),
        }
    )
    log_hazard = pd.DataFrame(
        {
            "table": TABLE["age"] * (table["age"] - 60) + TABLE["treatment"] * table["treatment"],
            "shape": ELONGATION * elongation,
        }
    )
    log_hazard["total"] = log_hazard.sum(axis=1)
    times = draw_times(log_hazard["total"].to_numpy(), censoring, time_rng, censoring_rng)

    cells = np.empty(n, dtype=object)
    lacking = missing_rng.permutation(n)[: round(missing * n)]
    for i, k in enumerate(points_rng.integers(fewest, most + 1, n)):
        directions = points_rng.normal(size=(k, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        noise = points_rng.normal(0, _NOISE_SD, (k, 3))
        cells[i] = centre[i] + axes[i] * directions + noise
    cells[lacking] = None

    return Bunch(
        frame=pd.concat([pd.DataFrame({"surface": cells}), table], axis=1),
        target=times.target,
        truth=ShapesTruth(
            log_hazard=log_hazard,
            coefficients=pd.Series(TABLE | {"elongation": ELONGATION}, dtype=np.float64),
            event_time=times.event_time,
            shape=SHAPE,
            scale=SCALE,
            censoring_rate=times.censoring_rate,
            elongation=elongation,
            size=size,
        ),
        DESCR=_DESCRIPTION,
        source="Simulated.",
        license="None needed.",
    )


def _check(
    n: int, n_points: int | tuple[int, int], missing: float, censoring: float
) -> tuple[int, int]:
    """Return the least and the largest number of points."""
    if not isinstance(n, Integral) or n < 1:
        raise ValueError(f"The n parameter must be an int of at least 1. Got {n!r}.")
    ends = (n_points, n_points) if isinstance(n_points, Integral) else n_points
    good = isinstance(ends, tuple) and len(ends) == 2
    if not good or not all(isinstance(k, Integral) for k in ends) or not 1 <= ends[0] <= ends[1]:
        raise ValueError(
            "The n_points parameter must be an int of at least 1, or two in rising order. "
            f"Got {n_points!r}."
        )
    for name, value in (("missing", missing), ("censoring", censoring)):
        if not isinstance(value, Real) or not 0 <= value < 1:
            raise ValueError(f"The {name} parameter must be at least 0, below 1. Got {value!r}.")
    return int(ends[0]), int(ends[1])
