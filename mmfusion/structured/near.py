"""Where Newton's method starts among many rows: at the fit of some of them."""

from __future__ import annotations

import numpy as np

from mmfusion.structured.identifiability import check_identified
from mmfusion.structured.newton import newton
from mmfusion.structured.smoothing import Problem
from mmfusion.structured.symmetric import Symmetric

__all__ = ["near_start"]

#: Rows that are fitted first, and a coefficient; where all rows are so many times as many.
SOME, EACH, MANY = 5000, 100, 4
#: How closely, in standard errors of the few rows, which are far larger than those of all, and in
#: how many steps at most: few rows may have no finite maximum.
TOL, STEPS = 1e-2, 12


def near_start(problem: Problem, start: np.ndarray) -> np.ndarray:
    """Return coefficients near the fit of all rows: those of evenly spread rows.

    Where rows are few, interact, or coefficients are penalised it is `start` itself, and also where
    the spread rows have no fit of their own, or all rows do not prefer it.
    """
    likelihood, design, offset = problem.likelihood, problem.design, problem.offset
    n, p = len(offset), len(start)
    step = n // (SOME + EACH * p)
    if likelihood.interacts or likelihood.multinomial or problem.penalties.rank or step < MANY:
        return start
    rows = np.arange(0, n, step)
    part, few = likelihood.take(rows), design.take(rows)
    eta, labels = few.predict(start) + offset[rows], [f"x{j}" for j in range(p)]
    nothing = Symmetric.zeros(few.layout)
    try:  # a level of few rows may be in none of them, or in so few that a scale has no end
        slopes, information = part.derivatives(eta, few)
        try:
            check_identified(information, labels, len(eta))
        except ValueError:  # also of a likelihood that is not concave here
            check_identified(part.information(eta, few, definite=True), labels, len(eta))
        found = newton(
            *(part, few, nothing, start, offset[rows]),
            information=information,
            slopes=slopes,
            tol=TOL,
            max_iter=STEPS,
        )
    except ValueError:
        return start
    if not found.converged or not np.isfinite(found.coef).all():
        return start
    here, there = (likelihood.value(design.predicted(at) + offset) for at in (start, found.coef))
    return found.coef if there < here else start
