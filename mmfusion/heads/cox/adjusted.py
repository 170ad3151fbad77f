"""The hazard ratio of two randomised arms, and the log-rank test, adjusted for covariates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from mmfusion.heads.cox.head import CoxTarget
from mmfusion.heads.cox.information import cox_information
from mmfusion.heads.cox.plan import TiesMethod
from mmfusion.heads.cox.residuals import cox_score_residuals

__all__ = ["HazardRatio", "adjusted_hazard_ratio"]

#: A log hazard ratio is looked for within these bounds.
LARGEST = 20.0
STEPS = 100


@dataclass(frozen=True, eq=False)
class HazardRatio:
    """A marginal log hazard ratio of the treated, and the test that it is 0.

    Attributes
    ----------
    coef, variance : float
    z : float
        Of the log-rank test: its square is chi-squared with one degree of freedom.
    """

    coef: float
    variance: float
    z: float


def adjusted_hazard_ratio(
    target: CoxTarget,
    treated: np.ndarray,
    covariates: np.ndarray | None = None,
    *,
    ties: TiesMethod = "efron",
    sums: Callable[[np.ndarray], np.ndarray] = lambda rows: rows - rows.mean(axis=0),
) -> HazardRatio:
    r"""Return the marginal log hazard ratio, its precision raised by covariates.

    With the Cox score :math:`U(\theta)` of treatment alone, its residuals :math:`R_i`, covariates
    :math:`Z_i` less their mean, and :math:`b_a` the slopes of R on Z in arm a, it solves

    .. math:: U(\theta) = \sum_i A_i Z_i' b_1 + (1 - A_i) Z_i' b_0,

    and its score at 0 is the adjusted log-rank test (Lu & Tsiatis 2008, Biometrika 95:679-694; Ye,
    Shao & Yi 2024, Biometrika 111:691-705, eq. 4 and 7). Randomisation makes the right-hand side
    a mean of zero, so the target is the unadjusted hazard ratio, whatever the covariates are.

    Parameters
    ----------
    target : CoxTarget
        Without strata, weights and delayed entry.
    treated : ndarray of bool, shape (n,)
    covariates : ndarray, shape (n, q), optional
        Known before treatment; predictions of models that did not see the row. Without them the
        estimate and the test are the unadjusted ones, with the robust variance.
    ties : {"efron", "breslow"}
    sums : callable
        Makes of rows (n, 1) independent contributions: centred, perhaps summed over clusters.

    Returns
    -------
    HazardRatio
    """
    arm = torch.from_numpy(treated.astype(np.float64))[:, None]
    n = len(treated)
    z = np.zeros((n, 0)) if covariates is None else covariates - covariates.mean(axis=0)

    def residuals(theta: float) -> np.ndarray:
        return cox_score_residuals(theta * arm, target.plan, arm, ties).numpy()[:, 0]

    def information(theta: float) -> float:
        return float(cox_information(theta * arm, target.plan, arm, ties, "sum")[0, 0])

    def explained(of: np.ndarray) -> np.ndarray:
        """Return (A - pi) Z (b_1 - b_0): it sums to what the slopes explain of the score."""
        slopes = [_slope(z[rows], of[rows]) for rows in (~treated, treated)]
        return (treated - treated.mean()) * (z @ (slopes[1] - slopes[0]))

    def solve(shift: float) -> float:
        low, high, theta = -LARGEST, LARGEST, 0.0
        for _ in range(STEPS):  # Newton's method, kept within what is known of the root
            score = float(residuals(theta).sum()) - shift
            low, high = (theta, high) if score > 0 else (low, theta)
            step = score / max(information(theta), 1e-300)
            new = theta + step
            theta_new = new if low < new < high else 0.5 * (low + high)
            if abs(theta_new - theta) <= 1e-12 * (1 + abs(theta)):
                break
            theta = theta_new
        return theta

    unadjusted = solve(0.0)
    found = residuals(unadjusted)
    taken = explained(found)
    coef = solve(float(taken.sum()))
    spread = sums((found - taken)[:, None])
    at_zero = residuals(0.0)
    left = at_zero - explained(at_zero)
    deviation = float(np.sqrt(np.square(sums(left[:, None])).sum()))
    return HazardRatio(
        coef,
        float(np.square(spread).sum()) / information(unadjusted) ** 2,
        float(left.sum()) / max(deviation, 1e-300),
    )


def _slope(z: np.ndarray, values: np.ndarray) -> np.ndarray:
    if not z.shape[1]:
        return np.zeros(0)
    found: np.ndarray = np.linalg.lstsq(z - z.mean(axis=0), values - values.mean(), rcond=1e-8)[0]
    return found
