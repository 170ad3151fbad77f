"""The sandwich covariance, for rows that are not independent or a model that is not quite right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mmfusion.structured.design import Design, as_design
from mmfusion.structured.likelihood import Likelihood
from mmfusion.structured.result import StructuredFit

__all__ = ["robust_covariance", "sum_by_cluster"]


def robust_covariance(
    fit: StructuredFit,
    likelihood: Likelihood,
    design: Design | np.ndarray,
    offset: np.ndarray | None = None,
    cluster: Any = None,
) -> np.ndarray:
    """Return ``V (sum_g u_g u_g') V``, u_g the sum of the scores of the rows of a cluster.

    Without clusters every row is its own: Lin & Wei (1989, JASA 84:1074-1078) for Cox, White's HC0
    (1980, Econometrica 48:817-838) for Gaussian and logistic models. With clusters: Lee, Wei &
    Amato (1992) and Liang & Zeger (1986, Biometrika 73:13-22). No factor for few clusters, as in
    R's ``coxph(robust=TRUE)``.

    Parameters
    ----------
    fit : StructuredFit
    likelihood, design, offset
        What it was fitted to.
    cluster : array-like, shape (n,), optional
        Labels, none missing.

    Returns
    -------
    ndarray, shape (p, p)

    Raises
    ------
    ValueError
        For labels that are missing, of the wrong number, or all the same.
    """
    design = as_design(design, likelihood.shape[1])
    eta = design.predict(fit.coef)
    if offset is not None:
        eta += np.reshape(offset, likelihood.shape)
    scores = likelihood.scores(eta, design)
    if cluster is not None:
        scores = sum_by_cluster(scores, cluster)
    return fit.bread @ (scores.T @ scores) @ fit.bread


def sum_by_cluster(scores: np.ndarray, cluster: Any) -> np.ndarray:
    """Return the sums of the scores (n, p) of each cluster's rows, shape (n_clusters, p).

    Raises
    ------
    ValueError
        For labels that are missing, of the wrong number, or all the same.
    """
    labels = pd.Series(np.asarray(cluster).ravel())
    if len(labels) != len(scores):
        raise ValueError(
            f"The cluster parameter must have one label a row, {len(scores)}. Got {len(labels)}."
        )
    code, found = pd.factorize(labels)
    if (code < 0).any():
        raise ValueError(
            "The cluster parameter must have a label for each row. "
            f"Got {labels.iloc[int(np.argmax(code < 0))]} at position {int(np.argmax(code < 0))}."
        )
    if len(found) < 2:
        raise ValueError(f"The cluster parameter must have two labels or more. Got {found[0]!r}.")
    sums = np.zeros((len(found), scores.shape[1]))
    np.add.at(sums, code, scores)
    return sums
