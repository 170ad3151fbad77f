"""Bands of predictions in time: the delta method from coefficients to curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from mmfusion.model.fit import Model
from mmfusion.model.inference import Inference
from mmfusion.model.structured import Structured
from mmfusion.structured import (
    Bands,
    Design,
    StructuredFit,
    Symmetric,
    band,
    critical_value,
    root_of,
    smoothing_root,
)

__all__ = ["curve_bands", "ratio_bands", "value_bands"]

#: Rows whose designs are written out at a time.
CHUNK = 32


def curve_bands(
    model: Model,
    inference: Inference,
    table: pd.DataFrame,
    eta: np.ndarray,
    times: np.ndarray,
    curve: str,
    cause: int | None,
    *,
    level: float,
    bands: Bands,
    unconditional: bool,
    exclude: Sequence[str],
) -> pd.DataFrame:
    """Return curves of some rows with their bands, indexed by row and time.

    The networks' predictor is taken as known. An unseen level of a random intercept has effect 0,
    and the variance of these effects.

    Parameters
    ----------
    eta : ndarray, shape (n, K)
        The predictors of the rows.
    curve : {"survival", "cumulative_hazard", "cumulative_incidence", "hazard"}
        A hazard's band is that of its logarithm.
    level, bands
        As in `mmfusion.structured.bands.critical_value`; of the curve of each row.
    unconditional : bool
        Whether smoothing parameters count as the estimates that they are.
    exclude : sequence of str
        Terms without an effect.
    """
    asked = "log_hazard" if curve == "hazard" else curve
    tables = []
    roots = _roots(model, inference, table, exclude, unconditional)
    for predictor, root in zip(eta, roots, strict=True):
        value, slope = model.head.curve_and_derivatives(predictor, times, asked, cause)
        found = band(value, slope @ root, level, bands, curve)
        tables.append(_exponential(found, curve) if curve == "hazard" else _clipped(found, curve))
    return _stacked(tables, table.index, times)


def ratio_bands(
    inference: Inference,
    table: pd.DataFrame,
    reference: pd.DataFrame,
    chosen: np.ndarray,
    times: np.ndarray,
    *,
    level: float,
    bands: Bands,
    unconditional: bool,
) -> pd.DataFrame:
    """Return hazard ratios of rows and a reference at the predictors `chosen`, one a time."""
    layout = inference.layout
    root = _root(inference.covariance, inference.fit, unconditional)
    designs = _designs(layout.transform(table))
    bases = list(_designs(layout.transform(reference)))
    tables = []
    for number, design in enumerate(designs):
        contrast = (design - bases[number % len(bases)])[chosen]
        found = band(contrast @ inference.fit.coef, contrast @ root, level, bands, "hazard_ratio")
        tables.append(_exponential(found, "hazard_ratio"))
    return _stacked(tables, table.index, times)


def value_bands(
    model: Model,
    inference: Inference,
    table: pd.DataFrame,
    eta: np.ndarray,
    what: str,
    q: float,
    *,
    level: float,
    exclude: Sequence[str],
    unconditional: bool,
) -> pd.DataFrame:
    """Return a number of each row's distribution with its band, indexed as the table.

    The band is symmetric on the scale on which the number has no bounds. The networks' predictor
    is taken as known.

    Parameters
    ----------
    eta : ndarray, shape (n, K)
    what, q
        As `mmfusion.heads.distribution.DistributionHead.value_and_slope`.
    level : float
    exclude : sequence of str
        Terms without an effect.
    unconditional : bool
        As in `curve_bands`.
    """
    value, slope, link = model.head.value_and_slope(eta, what, q)
    roots = _roots(model, inference, table, exclude, unconditional)
    se = np.array([np.linalg.norm(own @ root) for own, root in zip(slope, roots, strict=True)])
    reach = critical_value(np.zeros((0, 0)), level, "pointwise") * se
    back = {"identity": np.asarray, "log": np.exp, "logit": expit}[link]
    found = {"value": back(value), "se": se}
    if link != "identity":
        found["se"] = se * found["value"] * (1 - found["value"] if link == "logit" else 1.0)
    found |= {"lower": back(value - reach), "upper": back(value + reach)}
    return pd.DataFrame(found, index=table.index)


def _roots(
    model: Model,
    inference: Inference,
    table: pd.DataFrame,
    exclude: Sequence[str],
    unconditional: bool,
) -> Iterator[np.ndarray]:
    """Yield L of each row, of which ``L L'`` is the covariance of its K predictors."""
    part = model.structured
    assert isinstance(part, Structured)
    alone = inference.variances[1] == 0
    covariance = inference.covariance if alone else part.final.covariance
    root = _root(covariance, inference.fit if alone else part.final, unconditional)
    if exclude:
        root[part.layout.coefficients_of(exclude)] = 0.0
    new = []
    for label, rows, moves in part.layout.unseen(table):
        (sp,) = part.final.sp[label]
        left_out = label in exclude or label.partition(" [")[0] in exclude
        if rows.any() and sp > 0 and not left_out:
            new.append(np.outer(moves, rows * np.sqrt(part.final.scale / sp)))
    for number, design in enumerate(_designs(part.layout.transform(table))):
        more = [columns[:, [number]] for columns in new]
        yield np.hstack([design @ root, *more])


def _root(covariance: Symmetric, fit: StructuredFit, unconditional: bool) -> np.ndarray:
    """Return L with ``L L'`` the covariance of the coefficients, (p, r)."""
    root = root_of(covariance.dense())
    return np.hstack([root, smoothing_root(fit)]) if unconditional else root


def _designs(design: Design) -> Iterator[np.ndarray]:
    """Yield the design of each row, shape (K, p)."""
    for start in range(0, design.n_rows, CHUNK):
        rows = slice(start, min(start + CHUNK, design.n_rows))
        yield from design.take(rows).dense().reshape(-1, design.n_predictors, design.n_columns)


def _exponential(found: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the band of a logarithm as that of the number itself."""
    result = found.apply(np.exp)
    result["se"] = result[name] * found["se"]
    return result


def _clipped(found: pd.DataFrame, curve: str) -> pd.DataFrame:
    """Return a band without values that the curve cannot have."""
    highest: Any = None if curve == "cumulative_hazard" else 1.0
    return found.assign(
        lower=found["lower"].clip(0.0, highest), upper=found["upper"].clip(0.0, highest)
    )


def _stacked(tables: Sequence[pd.DataFrame], rows: pd.Index, times: np.ndarray) -> pd.DataFrame:
    """Return the tables of all rows as one, indexed by row and time."""
    index = pd.MultiIndex.from_product([rows, times], names=[rows.name, "time"])
    return pd.concat(tables, ignore_index=True).set_axis(index)
