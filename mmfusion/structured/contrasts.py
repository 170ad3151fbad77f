"""Tests of terms: Wald and likelihood ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from mmfusion.structured.columns import TermColumns
from mmfusion.structured.design import Design, as_design
from mmfusion.structured.fit import fit_structured
from mmfusion.structured.likelihood import Likelihood
from mmfusion.structured.result import StructuredFit
from mmfusion.structured.symmetric import Symmetric
from mmfusion.structured.wald import contrast_test

__all__ = ["contrast_table", "effects_test"]


def effects_test(
    fit: StructuredFit,
    terms: Sequence[str],
    likelihood: Likelihood | None = None,
    design: Design | np.ndarray | None = None,
    offset: np.ndarray | None = None,
    *,
    method: Literal["wald", "likelihood_ratio"] = "wald",
    covariance: Symmetric | np.ndarray | None = None,
) -> pd.Series:
    """Test that some terms have no effect, all together.

    Parameters
    ----------
    fit : StructuredFit
    terms : sequence of str
        Labels of terms, or names of coefficients.
    likelihood, design, offset : optional
        What it was fitted to: the likelihood ratio needs them.
    method : {"wald", "likelihood_ratio"}
        The likelihood ratio fits again without the terms; the smoothing parameters of the others
        stay, and the degrees of freedom are the difference of the effective ones.
    covariance : Symmetric or ndarray, shape (p, p), optional
        Of the Wald test: by default ``fit.covariance``.

    Returns
    -------
    Series
        ``statistic``, ``df`` and ``p``. The Wald statistic is compared with F where a residual
        variance was estimated, everything else with chi-square.

    Raises
    ------
    ValueError
        For an unknown term or method, a random effect (its variance lies on the boundary), and a
        smooth term in a Wald test (`effects_table` has one that knows the penalty).
    """
    columns = _columns(fit, terms)
    if method == "wald":
        for term in fit.terms:
            if term.penalties and columns[term.columns].any():
                raise ValueError(
                    f"A Wald test of the penalised term {term.label!r} is in the table of effects; "
                    "ask here for method='likelihood_ratio'."
                )
        used = Symmetric.of(fit.covariance if covariance is None else covariance)
        among = used[np.ix_(columns, columns)]
        # Of few clusters: the least degrees of freedom of the directions that are tested.
        directions = np.zeros((len(among), len(columns)))
        directions[:, columns] = np.linalg.eigh(among)[1].T
        df = min(fit.df_residual, float(np.nanmin(used.degrees(directions))))
        test = contrast_test(fit.coef[columns], among, df)
        return pd.Series({"statistic": test.statistic, "df": test.df, "p": test.p})
    if method != "likelihood_ratio":
        raise ValueError(
            f"The method parameter must be 'wald' or 'likelihood_ratio'. Got {method!r}."
        )
    if likelihood is None or design is None:
        raise ValueError("The likelihood ratio needs the likelihood and the design parameter.")
    left_out = columns | (fit.bread.diagonal() == 0.0)  # and what is held
    kept = [j for j in range(len(columns)) if not left_out[j]]
    smaller = fit_structured(
        likelihood,
        as_design(design, likelihood.shape[1]).keep(np.array(kept, dtype=np.intp)),
        _remaining(fit, left_out),
        offset,
        names=[fit.names[j] for j in kept],
    )
    statistic = max(2 * (fit.log_likelihood - smaller.log_likelihood), 0.0)
    df = float(fit.edf.sum() - smaller.edf.sum())
    return pd.Series({"statistic": statistic, "df": df, "p": float(stats.chi2.sf(statistic, df))})


def contrast_table(
    fit: StructuredFit,
    contrasts: np.ndarray,
    *,
    level: float = 0.95,
    covariance: Symmetric | np.ndarray | None = None,
    index: Sequence[str] | None = None,
    known: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return estimates of linear combinations of coefficients.

    Parameters
    ----------
    fit : StructuredFit
    contrasts : ndarray, shape (m, p)
        For two rows of a design their difference is the contrast of the two.
    level : float, default 0.95
    covariance : Symmetric or ndarray, shape (p, p), optional
    index : sequence of str, length m, optional
    known : ndarray, shape (m,), optional
        What is added to the combinations: of two rows, the difference of their offsets.

    Returns
    -------
    DataFrame
        ``estimate``, ``se``, ``lower``, ``upper``, ``z``, ``p``, as `effects_table`.
    """
    if not 0 < level < 1:
        raise ValueError(f"The level parameter must lie between 0 and 1, exclusive. Got {level!r}.")
    contrasts = np.asarray(contrasts, dtype=np.float64)
    if contrasts.ndim != 2 or contrasts.shape[1] != len(fit.coef):
        raise ValueError(
            f"The contrasts parameter must have shape (m, {len(fit.coef)}). Got {contrasts.shape}."
        )
    used = Symmetric.of(fit.covariance if covariance is None else covariance)
    estimate = contrasts @ fit.coef + (0.0 if known is None else known)
    se = np.sqrt(((contrasts @ used) * contrasts).sum(1).clip(min=0))
    df = np.minimum(fit.df_residual, used.degrees(contrasts))
    reference = stats.t(df) if np.isfinite(df).any() else stats.norm()
    quantile = reference.ppf(0.5 + level / 2)
    z = np.divide(estimate, se, out=np.full_like(se, np.nan), where=se > 0)  # nothing to test
    return pd.DataFrame(
        {
            "estimate": estimate,
            "se": se,
            "lower": estimate - quantile * se,
            "upper": estimate + quantile * se,
            "z": z,
            "p": 2 * reference.sf(np.abs(z)),
        },
        index=None if index is None else pd.Index(index),
    )


def _columns(fit: StructuredFit, terms: Sequence[str]) -> np.ndarray:
    if isinstance(terms, str):
        terms = [terms]
    columns = np.zeros(len(fit.coef), dtype=bool)
    known = {term.label: term for term in fit.terms}
    for label in terms:
        if label in known:
            if known[label].penalties and not known[label].tested:
                raise ValueError(
                    f"{label!r} is a random effect: that its variance is 0 lies on the boundary, "
                    "where neither test holds."
                )
            columns[known[label].columns] = True
        elif label in fit.names:
            columns[fit.names.index(label)] = True
        else:
            raise ValueError(
                f"No term or coefficient {label!r}. The terms are {list(known)}, "
                f"the coefficients {list(fit.names)}."
            )
    if not columns.any():
        raise ValueError("The terms parameter must name a term. Got none.")
    return columns


def _remaining(fit: StructuredFit, columns: np.ndarray) -> list[TermColumns]:
    """Return the terms left, at their places in the smaller design, smoothing parameters fixed."""
    place = np.cumsum(~columns)
    result = []
    for term in fit.terms:
        if columns[term.columns].any():
            continue
        start = int(place[term.columns][0]) - 1
        stop = start + int((~columns[term.columns]).sum())
        sp = fit.sp.get(term.label)
        result.append(replace(term, columns=slice(start, stop), sp=sp, df=None))
    return result
