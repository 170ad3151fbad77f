"""The sandwich covariance where rows or clusters are few, and its degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmfusion.structured.covariance import robust_covariance, sum_by_cluster
from mmfusion.structured.design import Design, as_design
from mmfusion.structured.likelihood import Likelihood
from mmfusion.structured.result import StructuredFit
from mmfusion.structured.symmetric import Symmetric

__all__ = ["FewClusters", "small_sample_sandwich"]

Array = NDArray[np.float64]

#: From so many rows, or clusters, on the plain sandwich holds its level (clusters: Cameron & Miller
#: 2015, J. Human Resources 50:317-372, whose upper end of "few" this is).
ENOUGH_ROWS, ENOUGH_CLUSTERS = 250, 50
#: Numbers in the rows' or clusters' own matrices at most; beyond, the sandwich stays plain.
MOST = 4_000_000
#: A cluster that alone determines a direction has a residual of 0 along it: 0 / 0 is read as 0.
ALONE = 1e-9


@dataclass(frozen=True, eq=False)
class FewClusters(Symmetric):
    """The CR2 covariance, which knows the degrees of freedom of each contrast.

    Attributes
    ----------
    root : ndarray, shape (q, q)
        ``V = root root'``: of all coefficients that were fitted, of which the covariance may be
        that of the first p.
    informations : ndarray, shape (G, q, q)
        Each cluster's share of the information.
    """

    root: Array
    informations: Array

    def degrees(self, contrasts: Array) -> Array:
        """Return Satterthwaite's degrees of freedom of contrasts (m, p), shape (m,).

        Those of Bell & McCaffrey (2002, Survey Methodology 28:169-181), in general Pustejovsky &
        Tipton (2018, JBES 36:672-683), under the model's own variances: each cluster's score is a
        combination of independent errors, of which the estimated variance is a quadratic form with
        the matrix ``P_gh = [g = h] a_g' I_g a_g - a_g' I_g V I_h a_h``; they are
        ``tr(P)^2 / tr(P^2)``.
        """
        padded = np.zeros((len(contrasts), len(self.root)))
        padded[:, : contrasts.shape[1]] = contrasts
        metrics = self.root.T @ self.informations @ self.root
        adjusted = _power(metrics, -0.5) @ (self.root.T @ padded.T)  # (G, q, m)
        weighted = metrics @ adjusted
        own = (adjusted * weighted).sum(axis=1)  # (G, m)
        result = np.full(len(contrasts), np.nan)
        for m in range(len(contrasts)):
            across = np.diag(own[:, m]) - weighted[:, :, m] @ weighted[:, :, m].T
            square = float((across**2).sum())
            if square > 0:
                result[m] = np.trace(across) ** 2 / square
        return result

    def leading(self, count: int) -> FewClusters:
        """Return the covariance of the first coefficients."""
        part = Symmetric.of(self.first[:count, :count])
        return FewClusters(
            part.layout, part.first, part.side, part.last, self.root, self.informations
        )

    def state(self) -> dict[str, Any]:
        """Return it as saving writes it."""
        blocks = {k: v for k, v in vars(self).items() if k != "layout"}
        return {"size": self.layout.size, "apart": self.layout.apart, **blocks}


def small_sample_sandwich(
    fit: StructuredFit,
    likelihood: Likelihood,
    design: Design | Array,
    offset: Array | None = None,
    cluster: Any = None,
    owner: NDArray[np.intp] | None = None,
) -> Symmetric:
    r"""Return the sandwich covariance, corrected where rows or clusters are few.

    A row's or cluster's residuals are shrunk by its own pull on the fit. With its score u, its
    share I of the information and ``V = (X'HX + S)^-1`` the covariance is
    ``sum_g (V A_g u_g)(V A_g u_g)'`` with

    - of fewer than 250 rows without clusters ``A = (1 - I V)^-1``: HC3 (MacKinnon & White 1985, J.
      Econometrics 29:305-325), the jackknife's one-step approximation;
    - of fewer than 50 clusters ``A = (1 - I V)^{-1/2}``: CR2 (Bell & McCaffrey 2002), whose
      `FewClusters.degrees` stand for the normal distribution;
    - else, and where all the shares would take more than 32 MB, ``A = 1``, as `robust_covariance`.

    The rows of a Cox model have no information of their own: theirs is the predictable variation of
    their score, ``sum_t r_i (x_i - xbar(t))(x_i - xbar(t))' dH(t)`` over their time at risk, which
    adds up to the information (Wang, Turner & Li 2023, Biom. J. 65:2200113, with this share).

    Parameters
    ----------
    fit, likelihood, design, offset, cluster
        As of `robust_covariance`.
    owner : ndarray of int, shape (n,), optional
        The subject of each row: without clusters, the rows of a subject count as one row.

    Returns
    -------
    Symmetric
        `FewClusters` of fewer than 50 clusters.

    Raises
    ------
    ValueError
        As `robust_covariance`.
    """
    design = as_design(design, likelihood.shape[1])
    groups = owner if cluster is None else cluster
    plain = robust_covariance(fit, likelihood, design, offset, groups)
    code = None if groups is None else pd.factorize(np.asarray(groups).ravel())[0]
    n_parts = likelihood.n_rows if code is None else int(code.max()) + 1
    enough = ENOUGH_ROWS if cluster is None else ENOUGH_CLUSTERS
    if n_parts >= enough or n_parts * len(fit.coef) ** 2 > MOST:
        return Symmetric.of(plain)
    eta = design.predict(fit.coef)
    if offset is not None:
        eta += np.reshape(offset, likelihood.shape)
    rows = np.arange(likelihood.shape[0])
    informations = likelihood.informations(eta, design, rows if code is None else code)
    scores = likelihood.scores(eta, design)
    values, vectors = np.linalg.eigh(fit.bread.dense())
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    scores = scores if groups is None else sum_by_cluster(scores, groups)
    adjust = _power(root.T @ informations @ root, -1.0 if cluster is None else -0.5)
    moved = (adjust @ (scores @ root)[:, :, None])[:, :, 0] @ root.T
    covariance = Symmetric.of(moved.T @ moved)
    if cluster is None:
        return covariance
    parts = covariance.layout, covariance.first, covariance.side, covariance.last
    return FewClusters(*parts, root, informations)


def _power(metrics: Array, power: float) -> Array:
    """Return ``(1 - M)^power`` of symmetric matrices (G, q, q), 0 where an eigenvalue of M is 1."""
    values, vectors = np.linalg.eigh((metrics + metrics.transpose(0, 2, 1)) / 2)
    left = 1 - values
    factor = np.where(left > ALONE, np.maximum(left, ALONE) ** power, 0.0)
    return (vectors * factor[:, None, :]) @ vectors.transpose(0, 2, 1)
