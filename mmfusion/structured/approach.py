"""A way to a maximum by first derivatives, where second ones cost much more."""

from __future__ import annotations

from collections import deque

import numpy as np

from mmfusion.structured.design import Design
from mmfusion.structured.likelihood import Likelihood
from mmfusion.structured.linalg import Factor
from mmfusion.structured.symmetric import Symmetric

__all__ = ["approach"]

#: Pairs of a step and the change of the gradient that are remembered.
MEMORY = 12

#: Steps at most; what is left is for Newton's method, which also tells why there were so many.
STEPS = 60

#: Halvings of one step.
HALVINGS = 10

#: The length of a step, in standard errors, from which on some rows' information is better known.
NEAR = 3.0

#: Rows a coefficient that such information is of; it is worth it where they are a few of all.
ROWS, FEW = 20, 0.25


def approach(
    likelihood: Likelihood,
    design: Design,
    penalty: Symmetric,
    coef: np.ndarray,
    offset: np.ndarray,
    information: Symmetric,
    tol: float,
) -> np.ndarray:
    """Return coefficients near the minimum of ``value(X beta + offset) + beta' S beta / 2``.

    Limited-memory BFGS (Nocedal & Wright 2006, Numerical Optimization, algorithm 7.4) with the
    information where it starts as its first guess, in the place of a multiple of the identity;
    nearer to the minimum with that of some rows there, where they are many.

    Parameters
    ----------
    likelihood, design, penalty, coef, offset
        As of `newton`.
    information : Symmetric, shape (p, p)
        At `coef`.
    tol : float
        Length of a step, in standard errors of the coefficients, that ends it.
    """
    every = int(design.n_rows // (ROWS * max(len(coef), 1)))
    if every > 1 / FEW:
        coef = _descend(likelihood, design, penalty, coef, offset, information, NEAR)
        rows = slice(None, None, every)
        some = design.take(rows)
        eta = some.predict(coef) + offset[rows]
        share = design.n_rows / some.n_rows
        information = likelihood.take(rows).information(eta, some) * share
    return _descend(likelihood, design, penalty, coef, offset, information, tol)


def _descend(
    likelihood: Likelihood,
    design: Design,
    penalty: Symmetric,
    coef: np.ndarray,
    offset: np.ndarray,
    information: Symmetric,
    tol: float,
) -> np.ndarray:
    factor = Factor(information + penalty)
    eta = design.predict(coef) + offset
    value, slopes = likelihood.evaluate(eta)
    pulled = penalty @ coef
    objective, gradient = value + 0.5 * coef @ pulled, design.pull(slopes) + pulled
    pairs: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=MEMORY)
    for _ in range(STEPS):
        step = -_times_inverse(factor, pairs, gradient)
        if -float(gradient @ step) <= tol**2:
            break
        move = design.predict(step)
        for halving in range(HALVINGS):
            size = 0.5**halving
            new_coef, new_eta = coef + size * step, eta + size * move
            value, slopes = likelihood.evaluate(new_eta)
            pulled = penalty @ new_coef
            new = value + 0.5 * new_coef @ pulled
            if new <= objective + 1e-4 * size * (gradient @ step) + 1e-12 * abs(objective):
                break
        else:
            break
        new_gradient = design.pull(slopes) + pulled
        change = new_gradient - gradient
        curvature = float(change @ (new_coef - coef))
        if curvature > 0:
            pairs.append((new_coef - coef, change, curvature))
        coef, eta, objective, gradient = new_coef, new_eta, new, new_gradient
    return coef


def _times_inverse(
    factor: Factor, pairs: deque[tuple[np.ndarray, np.ndarray, float]], gradient: np.ndarray
) -> np.ndarray:
    """Return the gradient times the inverse Hessian that is known so far."""
    shares = []
    for step, change, curvature in reversed(pairs):
        shares.append(float(step @ gradient) / curvature)
        gradient = gradient - shares[-1] * change
    result = factor.solve(gradient)
    for (step, change, curvature), share in zip(pairs, reversed(shares), strict=True):
        result = result + (share - float(change @ result) / curvature) * step
    return result
