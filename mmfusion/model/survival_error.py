"""Standard errors and bands of predicted survival: the delta method for a formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from mmfusion.heads.cox.errors import HazardError
from mmfusion.heads.cox.plan import TiesMethod

__all__ = ["survival_interval"]


def survival_interval(
    curves: pd.DataFrame,
    design: np.ndarray,
    stratum: np.ndarray,
    trained: tuple[torch.Tensor, Any, np.ndarray],
    covariance: np.ndarray,
    ties: TiesMethod,
    level: float,
) -> pd.DataFrame:
    """Return survival, se, lower and upper of each row and time of predicted curves.

    Parameters
    ----------
    curves : DataFrame, shape (n, m)
    design : ndarray, shape (n, p)
    stratum : ndarray of int, shape (n,)
    trained : tuple of Tensor (N, 1), CoxTarget and ndarray (N, p)
        Predictors, outcome and design of the training rows.
    covariance : ndarray, shape (p, p)
        Of the coefficients.
    ties : {"efron", "breslow"}
    level : float
    """
    eta, target, columns = trained
    centre = columns.mean(axis=0)  # without a constant less cancels
    by_stratum = HazardError.by_stratum(
        eta, target.plan, torch.from_numpy(columns - centre), target.time, target.stratum, ties
    )
    times = curves.columns.to_numpy(dtype=np.float64)
    survival = curves.to_numpy()
    error = np.full(survival.shape, np.nan)
    for group, found in by_stratum.items():
        rows = np.flatnonzero(stratum == group)
        error[rows] = found.of_log(times, design[rows] - centre, covariance)[1]
    reach = float(stats.norm.ppf(0.5 + level / 2)) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        log_survival = np.log(survival)
        columns_found = {
            "survival": survival,
            "se": -survival * log_survival * error,
            "lower": np.exp(log_survival * np.exp(reach)),
            "upper": np.exp(log_survival * np.exp(-reach)),
        }
    untouched = survival == 1.0  # before the first event
    for name, values in columns_found.items():
        columns_found[name] = np.where(untouched, 0.0 if name == "se" else 1.0, values).ravel()
    index = pd.MultiIndex.from_product(
        [curves.index, curves.columns], names=[curves.index.name, "time"]
    )
    return pd.DataFrame(columns_found, index=index)
