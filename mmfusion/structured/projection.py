"""What of a deep predictor belongs to the structured part."""

from __future__ import annotations

import numpy as np

from mmfusion.structured.design import Design, as_design
from mmfusion.structured.likelihood import Likelihood
from mmfusion.structured.linalg import Factor

__all__ = ["project"]

#: Newton steps end when one is shorter than this share of the first.
TOL = 1e-10

#: No predictor is moved further than this, in units of a logarithm.
FAR = 100.0


def project(
    likelihood: Likelihood,
    eta: np.ndarray,
    design: Design | np.ndarray,
    deep: np.ndarray,
    max_iter: int = 50,
) -> np.ndarray:
    r"""Return the coefficients of a deep predictor on the design.

    What is left of the deep predictor d, ``r = d - X a``, is orthogonal to the design in the
    metric of the likelihood:

    .. math:: X' W r = X' (g(\eta + r) - g(\eta)) = 0, \qquad W = \int_0^1 H(\eta + t\, r)\, dt,

    with the gradient g and the Hessian H of the negative log-likelihood at the structured
    predictor `eta`. It is the post-hoc orthogonalisation of Ruegamer (2023, ICML, arXiv
    2306.00522), ``a = (X'WX)^-1 X'W d``, with the mean Hessian on the way from `eta` to ``eta + r``
    (the first equality is the mean value theorem) instead of a constant. What is left does not
    change the score of the structured coefficients, so that a refit beside it finds them where
    they were; for a Gaussian outcome W is constant and a the regression of d on X.

    In a Cox or logistic model the Hessian moves with the predictor. The metric at ``eta + d``,
    where an overfitted d leaves a few rows all the weight, moves the coefficients by several
    standard errors, and so does the one at `eta`.

    Parameters
    ----------
    likelihood : Likelihood
    eta : ndarray, shape (n, K)
        Of the structured part alone.
    design : Design
    deep : ndarray, shape (n, K)
    max_iter : int
        Newton steps, each halved until the (convex) objective does not rise.

    Returns
    -------
    ndarray, shape (p,)
        Where the design is collinear, one of many with the same ``X a``.
    """
    design = as_design(design, likelihood.shape[1]).linear
    eta, deep = np.reshape(eta, likelihood.shape), np.reshape(deep, likelihood.shape)
    score = design.pull(likelihood.gradient(eta))
    coef = np.zeros(design.n_columns)
    at = eta + deep
    value = likelihood.value(at)
    first = None
    for _ in range(max_iter):
        slope = score - design.pull(likelihood.gradient(at))
        information = likelihood.information(at, design).dense()
        if likelihood.expects and not Factor(information).definite:
            information = likelihood.information(at, design, definite=True).dense()
        step = np.linalg.lstsq(information, -slope, rcond=None)[0]
        length = float(np.sqrt(max(-float(slope @ step), 0.0)))
        first = length if first is None else first
        if length <= TOL * first:
            break
        reach = float(np.abs(design.predict(coef + step)).max(initial=0.0))
        if reach > FAR and not likelihood.has_scale:
            break  # beside a perfect fit a scale has no end
        for _ in range(30):
            new_at = eta + deep - design.predict(coef + step)
            new_value = likelihood.value(new_at) + float((coef + step) @ score)
            if new_value <= value + 1e-12 * abs(value):
                break
            step = step / 2
        else:
            break  # nothing is left but rounding
        coef, at, value = coef + step, new_at, new_value
    return coef
