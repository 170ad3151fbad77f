"""Double machine learning: one coefficient beside nuisance functions that were learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq

from mmfusion.inputs.rounding import nothing_but_rounding
from mmfusion.structured.covariance import sum_by_cluster

__all__ = ["PartialEffect", "partially_linear", "partially_logistic"]

#: A coefficient of more than this many, times the treatment's residual spread, is separation.
LARGEST = 64.0


@dataclass(frozen=True, eq=False)
class PartialEffect:
    """A coefficient whose errors are, to first order, a sum over rows.

    Attributes
    ----------
    coef : float
    influence : ndarray, shape (n,), or (n, S) of S splits
        Each row's share of ``coef`` less the truth.
    between : float
        Variance of ``coef`` between splits of the rows into folds.
    """

    coef: float
    influence: np.ndarray
    between: float = 0.0

    @classmethod
    def mean(cls, effects: Sequence[PartialEffect]) -> PartialEffect:
        """Return the mean over several splits of the rows into folds.

        Its variance is the mean of theirs plus the variance between them (Chernozhukov et al. 2018,
        section 3.4, definition 3.3): one split's networks are one draw of many.
        """
        coefs = [effect.coef for effect in effects]
        influence = np.column_stack([effect.influence for effect in effects])
        return cls(float(np.mean(coefs)), influence, float(np.var(coefs)))

    def covariance(self, others: np.ndarray, cluster: Any = None) -> tuple[float, np.ndarray]:
        """Return the sandwich variance, and the covariance with other estimates.

        Parameters
        ----------
        others : ndarray, shape (n, p)
            The other estimates' influence.
        cluster : array-like, shape (n,), optional
            Rows that share a label count as one (Liang & Zeger 1986).

        Returns
        -------
        float, ndarray of shape (p,)
        """
        own = self.influence.reshape(len(others), -1)
        if cluster is not None:
            own, others = sum_by_cluster(own, cluster), sum_by_cluster(others, cluster)
        variance = float(np.square(own).sum(axis=0).mean()) + self.between
        return variance, own.mean(axis=1) @ others


def partially_linear(
    outcome_residual: np.ndarray, treatment_residual: np.ndarray, weight: np.ndarray | None = None
) -> PartialEffect:
    r"""Return the coefficient of D in ``Y = theta D + g(X) + e`` by partialling out.

    With ``u = Y - E[Y | X]`` and ``v = D - E[D | X]``, ``theta = sum w v u / sum w v v``
    (Robinson 1988; Chernozhukov et al. 2018, Econometrics Journal 21:C1-C68, eq. 4.4). The score
    ``(u - theta v) v`` is Neyman-orthogonal: errors of the two functions enter as their product,
    provided that each row's were learned from other rows.

    Parameters
    ----------
    outcome_residual, treatment_residual : ndarray, shape (n,)
    weight : ndarray, shape (n,), optional
        Case weights.

    Returns
    -------
    PartialEffect

    Raises
    ------
    ValueError
        If the treatment has no residual: what else is known determines it.

    Examples
    --------
    >>> import numpy as np
    >>> v = np.array([-1.0, 1.0, -1.0, 1.0])
    >>> effect = partially_linear(2 * v + [0.1, 0.1, -0.1, -0.1], v)
    >>> round(effect.coef, 6)
    2.0
    """
    u, v = np.asarray(outcome_residual), np.asarray(treatment_residual)
    w = np.ones(len(v)) if weight is None else np.asarray(weight)
    information = _information(w * v**2)
    coef = float(np.sum(w * v * u) / information)
    return PartialEffect(coef, w * v * (u - coef * v) / information)


def partially_logistic(
    event: np.ndarray,
    chance: np.ndarray,
    treatment: np.ndarray,
    expected: np.ndarray,
    weight: np.ndarray | None = None,
) -> PartialEffect:
    r"""Return the coefficient of D in ``logit P(Y = 1 | D, X) = theta D + r(X)``.

    It solves the sum of the Neyman-orthogonal score (Tan 2019, Biometrika 106:1-19; Liu, Zhang &
    Zhou 2021, Econometrics Journal 24:559-588)

    .. math:: \phi(X) \{Y e^{-\theta D} - (1 - Y) e^{r(X)}\} (D - m(X)), \quad
        m(X) = E[D \mid X, Y = 0].

    Since ``P(Y=1 | X) / P(Y=0 | X) = e^r E[e^(theta D) | X, Y=0]``, r follows from the chance
    ``l(X) = P(Y = 1 | X)``, from m and theta, and needs no network of its own. With
    ``phi = (1 - l) e^(theta m)``, a function of X that keeps weights bounded, the score is

    .. math:: \{Y (1 - l) e^{-\theta v} - (1 - Y)\, l / M\} v, \quad v = D - m, \quad
        M = E[e^{\theta v} \mid X, Y = 0].

    M is exact for a treatment of two values. For any other, v is taken to be independent of X
    where Y = 0; if it is not, the estimate is still consistent as long as m is right.

    Parameters
    ----------
    event : ndarray of bool, shape (n,)
    chance : ndarray, shape (n,)
        ``P(Y = 1 | X)``, each row's learned from other rows.
    treatment : ndarray, shape (n,)
    expected : ndarray, shape (n,)
        ``E[D | X, Y = 0]``, each row's learned from other rows.
    weight : ndarray, shape (n,), optional
        Case weights.

    Returns
    -------
    PartialEffect

    Raises
    ------
    ValueError
        If the treatment has no residual, or separates the events from the others.
    """
    y, d = np.asarray(event, dtype=bool), np.asarray(treatment, dtype=np.float64)
    v = d - expected
    w = np.ones(len(v)) if weight is None else np.asarray(weight)
    left = np.where(nothing_but_rounding(np.abs(v), np.abs(d).max()), 0.0, v)
    spread = np.sqrt(_information(w * left**2) / w.sum())
    values = np.unique(d)
    low, high = values[0], values[-1]

    def moment(theta: float) -> np.ndarray:
        if len(values) == 2:
            share = (expected - low) / (high - low)
            at = [np.exp(theta * (value - expected)) for value in (low, high)]
            return (1 - share) * at[0] + share * at[1]
        return np.full(len(v), np.average(np.exp(theta * v[~y]), weights=w[~y]))

    def scores(theta: float) -> np.ndarray:
        treated = np.where(y, (1 - chance) * np.exp(-theta * v), 0.0)
        return w * v * (treated - np.where(y, 0.0, chance / moment(theta)))

    reach = 0.5
    while not scores(-reach / spread).sum() > 0 > scores(reach / spread).sum():
        reach *= 2
        if reach > LARGEST:
            raise ValueError(
                "The treatment separates the events from the others: its log odds ratio runs to "
                "infinity."
            )
    total = brentq(lambda theta: scores(theta).sum(), -reach / spread, reach / spread)
    coef = float(total)
    slope = np.sum((w * v**2 * (1 - chance) * np.exp(-coef * v))[y])
    return PartialEffect(coef, scores(coef) / slope)


def _information(terms: np.ndarray) -> float:
    total = float(terms.sum())
    if not total > 0:
        raise ValueError(
            "The treatment is determined by the other terms and the modalities: nothing of it is "
            "left to have an effect."
        )
    return total
