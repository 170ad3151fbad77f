"""What a study reports: a table of effects, and smooth effects with their bands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mmfusion.structured.bands import Bands, band, root_of
from mmfusion.structured.result import StructuredFit
from mmfusion.structured.smoothing_error import smoothing_root
from mmfusion.structured.symmetric import Symmetric
from mmfusion.structured.wald import smooth_test

__all__ = ["effects_table", "smooth_effect"]

#: A smooth of fewer degrees of freedom than this is nothing.
NOTHING = 1e-8


def effects_table(
    fit: StructuredFit,
    *,
    level: float = 0.95,
    covariance: Symmetric | np.ndarray | None = None,
) -> pd.DataFrame:
    """Return the table of effects.

    Parameters
    ----------
    fit : StructuredFit
    level : float, default 0.95
        Coverage of the intervals.
    covariance : Symmetric or ndarray, shape (p, p), optional
        By default the model's, ``fit.covariance``; or that of `robust_covariance`.

    Returns
    -------
    DataFrame
        A row a coefficient of the parametric terms and a row a smooth term, indexed by ``term``.
        ``coef``, ``exp(coef)`` where it means something (a hazard ratio, an odds ratio), ``se``,
        ``lower`` and ``upper`` of the coefficient (also ``exp(lower)``, ``exp(upper)``), ``z`` and
        ``p``; where a residual variance was estimated, ``z`` is a t statistic with
        ``fit.df_residual`` degrees of freedom, and interval and p-value are its. Of few clusters
        each coefficient has degrees of freedom of its own, ``df`` (`FewClusters`). With smooth
        terms also ``edf`` and ``chi2``, the statistic of `mmfusion.structured.wald.smooth_test`. A
        random effect has its standard deviation ``sd`` and degrees of freedom, and no test: its
        variance lies on the boundary under the hypothesis. A coefficient that runs to infinity is
        reported as such, without standard error or p-value, one of which no row says anything
        (`fit_identified`) as NaN.
    """
    if not 0 < level < 1:
        raise ValueError(f"The level parameter must lie between 0 and 1, exclusive. Got {level!r}.")
    used = Symmetric.of(fit.covariance if covariance is None else covariance)
    variance, held = used.diagonal(), fit.bread.diagonal() == 0.0
    edf = fit.edf
    few = bool(np.isfinite(used.degrees(np.eye(1, len(fit.coef)))).all())
    degrees = np.full(len(fit.coef), fit.df_residual)
    if few:
        degrees = np.minimum(degrees, used.degrees(np.eye(len(fit.coef))))
    smooths = [term for term in fit.terms if not term.by_coefficient]
    face = fit.face
    parametric = np.ones(len(fit.coef), dtype=bool)
    for term in smooths:
        parametric[term.columns] = False

    runs = np.isin(fit.names, fit.runaway)
    coef = np.where(runs, np.copysign(np.inf, fit.coef), np.where(held, np.nan, fit.coef))
    se = np.where(runs | held, np.nan, np.sqrt(variance))
    with np.errstate(divide="ignore", invalid="ignore"):  # a perfect fit has no error
        z = coef / se
        reach = stats.t.ppf(0.5 + level / 2, degrees) * se  # of endless degrees the normal one
    by_coefficient = {
        "coef": coef,
        "se": se,
        "lower": coef - reach,
        "upper": coef + reach,
        "z": z,
        "p": 2 * stats.t.sf(np.abs(z), degrees),
        "df": degrees,
    }
    rows: dict[int, dict[str, Any]] = {}
    for term in smooths:
        own = term.columns
        spent = max(float(edf[own].sum()), 0.0)
        row: dict[str, Any] = {"term": term.label, "edf": spent}
        if term.tested and spent < NOTHING and not held[own].all():
            row |= {"chi2": 0.0, "p": 1.0}  # its inequalities leave nothing of it
        elif term.tested and not held[own].all():
            test = smooth_test(
                fit.coef[own],
                used[own, own] if face is None else face.block(used, own),
                fit.information[own, own],
                float(fit.edf_alternative_of(own).sum()),
                float(degrees[own].min()),
            )
            row |= {"chi2": test.statistic, "p": test.p}
        if not term.tested:
            (sp,) = fit.sp[term.label]
            row["sd"] = float(np.sqrt(fit.scale / sp)) if sp > 0 else float("inf")
        rows[range(len(fit.coef))[term.columns][0]] = row

    columns = ["coef", "se", "lower", "upper", "z", "p"] + ["df"] * few
    if smooths:
        columns += ["edf", "chi2"]
    if any(not term.tested for term in smooths):
        columns.append("sd")
    # A coefficient has its row where it stands, a smooth where its first one does.
    places = np.sort(np.concatenate([np.flatnonzero(parametric), np.array(list(rows), dtype=int)]))
    shown = {name: np.full(len(places), np.nan) for name in columns}
    for at, place in enumerate(places):
        for name, value in rows.get(place, {}).items():
            if name != "term":
                shown[name][at] = value
    own = parametric[places]
    for name in by_coefficient.keys() & shown.keys():
        shown[name][own] = by_coefficient[name][parametric]
    if fit.ratio is not None:
        with np.errstate(over="ignore"):  # of a separated column
            ratios = {name: np.exp(shown[name]) for name in ("coef", "lower", "upper")}
        items = list(shown.items())
        for place, name in ((1, "coef"), (5, "lower"), (6, "upper")):
            items.insert(place, (f"exp({name})", ratios[name]))
        shown = dict(items)
    terms = [rows[place]["term"] if place in rows else fit.names[place] for place in places]
    return pd.DataFrame(shown, index=pd.Index(terms, name="term"))


def smooth_effect(
    fit: StructuredFit,
    label: str,
    basis: np.ndarray,
    *,
    level: float = 0.95,
    covariance: Symmetric | np.ndarray | None = None,
    bands: Bands = "pointwise",
    unconditional: bool = False,
) -> pd.DataFrame:
    """Return a term's effect on the predictor at some points, with bands.

    Pointwise bands are Bayesian (Nychka 1988; Marra & Wood 2012): over the range of the covariate
    their average coverage is the level. The term is centred over the training rows, so that its
    band does not hold the uncertainty of the intercept.

    Parameters
    ----------
    fit : StructuredFit
    label : str
        A term.
    basis : ndarray, shape (m, k)
        The term's columns of the design at the points.
    level : float, default 0.95
    covariance : Symmetric or ndarray, shape (p, p), optional
        By default ``fit.covariance``.
    bands : {"pointwise", "simultaneous"}
        Whether the band is for each point, or for the whole curve: `critical_value`.
    unconditional : bool, default False
        Whether the covariance gets what estimated smoothing parameters add (`smoothing_root`).

    Returns
    -------
    DataFrame
        ``effect``, ``se``, ``lower``, ``upper``, a row a point.
    """
    own = fit.term(label).columns
    coef = fit.coef[own]
    basis = np.asarray(basis, dtype=np.float64)
    if basis.ndim != 2 or basis.shape[1] != len(coef):
        raise ValueError(
            f"The basis of {label!r} must have shape (m, {len(coef)}). Got {basis.shape}."
        )
    used = Symmetric.of(fit.covariance if covariance is None else covariance)[own, own]
    root = root_of(used)
    if unconditional:
        root = np.hstack([root, smoothing_root(fit)[own]])
    return band(basis @ coef, basis @ root, level, bands, "effect")
