"""Newton's method for a penalised likelihood, exact and in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmfusion.structured.approach import approach
from mmfusion.structured.bounds import bounded_step
from mmfusion.structured.design import Design
from mmfusion.structured.likelihood import Likelihood
from mmfusion.structured.linalg import Factor
from mmfusion.structured.symmetric import Symmetric

__all__ = ["NewtonResult", "newton"]

#: A decrement of so many times the tolerance is the last: its step leads below the tolerance.
LAST = 100

#: A step this short, after one so many times as long, lies where a quadratic is as good as exact:
#: the likelihood is not asked whether it is lower there.
SURE, SHORTER = 0.1, 10.0

#: Halvings of one step before rounding is taken to be all that is left.
HALVINGS = 30

#: A coefficient running to infinity never converges; the others have by this decrement.
RUNAWAY_TOL = 1e-5

#: A likelihood that has kept less than this share of its information is flat to rounding.
FLAT = 1e-20

#: How far along a step the likelihood is looked at, in units of the predictor.
FAR = 40.0

#: A step that moves a predictor further, where the Hessian may be of any sign, is shortened.
LONGEST = 10.0

#: A slope below this, a row and unit of the predictor, is zero.
ROUNDING = 1e-12


@dataclass(frozen=True)
class NewtonResult:
    """Where Newton's method arrived.

    Attributes
    ----------
    coef : ndarray, shape (p,)
    eta : ndarray, shape (n, K)
    value : float
        Negative log-likelihood without penalty.
    information : Symmetric, shape (p, p)
        ``X' H X`` there, without penalty.
    factor : Factor
        Of the information and the penalty.
    n_iter : int
    converged : bool
    runaway : ndarray, shape (p,)
        A direction along which the likelihood rises for ever; zero if none was met.
    active : ndarray of bool, shape (m,)
        Which of the inequalities hold as equalities.
    last_step : ndarray, shape (p,)
        What the last step was, or would have been.
    """

    coef: np.ndarray
    eta: np.ndarray
    value: float
    information: Symmetric
    factor: Factor
    n_iter: int
    converged: bool
    runaway: np.ndarray
    active: np.ndarray
    last_step: np.ndarray


def newton(
    likelihood: Likelihood,
    design: Design,
    penalty: Symmetric,
    coef: np.ndarray,
    offset: np.ndarray,
    *,
    information: Symmetric | None = None,
    slopes: np.ndarray | None = None,
    bounds: np.ndarray | None = None,
    max_iter: int = 50,
    tol: float = 1e-9,
) -> NewtonResult:
    """Minimise ``value(X beta + offset) + beta' S beta / 2``, perhaps under inequalities.

    Steps are halved until the penalised value does not rise, and has derivatives that are finite
    numbers; short ones, each far shorter than the one before, are taken as they are. The iteration
    stops when the Newton decrement, the length of the step in standard errors of the coefficients,
    is below `tol`; or below its square root and no longer falling, where a heavy penalty's rounding
    is all that is left.

    Where the Hessian is not positive definite the expected one takes its place, of a head that
    knows it (Fisher's scoring); of others see `Factor`.

    A likelihood without a finite maximum (separation, a monotone likelihood) is told by its
    recession direction: far along the step its slope is still not positive. A convex function with
    a minimum rises in every direction there.

    Parameters
    ----------
    design : Design
        With columns of about the same scale.
    penalty : Symmetric, shape (p, p)
    coef : ndarray, shape (p,)
        Where to start.
    offset : ndarray, shape (n, K)
    information : Symmetric, shape (p, p), optional
        At `coef`, if it is known. Of more than two classes first derivatives then lead near the
        minimum, since information costs as much as many of them.
    slopes : ndarray, shape (n, K), optional
        The gradient in the predictors at `coef`, if it is known.
    bounds : ndarray, shape (m, p), optional
        Rows whose products with the coefficients are not negative, at `coef` either.
    """
    if information is not None and likelihood.multinomial and bounds is None:
        start = coef
        coef = approach(likelihood, design, penalty, start, offset, information, LAST * tol)
        information = information if coef is start else None
        slopes = None
    eta = design.predicted(coef) + offset
    value: float | None = likelihood.value(eta)
    runaway = np.zeros(len(coef))
    converged = False
    last = np.inf
    here = _derivatives(likelihood, design, penalty, eta, information, slopes)
    if here is None:
        raise ValueError("The likelihood has no finite derivatives where its fit starts.")
    largest = float(here.information.diagonal().max(initial=0.0))
    before = here.information
    step, active = np.zeros(len(coef)), np.zeros(0 if bounds is None else len(bounds), dtype=bool)
    for n_iter in range(max_iter + 1):
        factor = here.factor
        gradient = here.gradient + penalty @ coef
        if len(coef) == 0:
            converged = True
            break
        flat = here.information.diagonal().max() <= FLAT * largest
        if flat and not penalty.diagonal().any():
            # The last step went so far that nothing tells where to go on.
            runaway, factor = step, Factor(before)
            break
        step = -factor.solve(gradient)
        fall = -float(gradient @ step)
        if bounds is not None:
            step, active = bounded_step(factor, bounds, coef, step)
            fall = float(step @ (here.information @ step + penalty @ step))
        if value is None and likelihood.has_scale:
            value = likelihood.value(eta)
        unit = 2 * (value or 0.0) / likelihood.n_rows if likelihood.has_scale else 1.0
        decrement = float(np.sqrt(max(fall, 0.0) / max(unit, 1e-300)))
        move = design.predict(step)
        reach = float(np.abs(move).max(initial=0.0))
        slow = not likelihood.has_scale and reach > 0.5 and decrement < 0.1
        known = bool(runaway.any())  # the direction is clearer with each step along it
        if slow and (known or _rises_for_ever(likelihood, penalty, coef, eta, step, move)):
            runaway = step
        rounding = reach <= 1e-13 * np.abs(eta).max(initial=0.0)  # a perfect fit has no variance
        # Newton's method squares a decrement this small, unless rounding holds it where it is.
        rounding |= np.sqrt(tol) >= decrement > 0.5 * last
        sure = decrement <= min(SURE, last / SHORTER) and not slow
        last = decrement
        if rounding or decrement <= (RUNAWAY_TOL if runaway.any() else tol):
            converged = True
            break
        if decrement <= LAST * tol:  # it is squared, and the information as good as the same
            coef, eta = coef + step, eta + move
            value, converged = likelihood.value(eta), True
            break
        if n_iter == max_iter:
            break
        if likelihood.expects and reach > LONGEST:
            step, factor_of_step = _shortened(
                design, here.information + penalty, gradient, step, move
            )
            if bounds is not None:
                step, active = bounded_step(factor_of_step, bounds, coef, step)
            move = design.predict(step)
        if sure:
            ahead = _derivatives(likelihood, design, penalty, eta + move)
            if ahead is not None:
                coef, eta, value = coef + step, eta + move, None
                before, here = here.information, ahead
                continue
        if value is None:
            value = likelihood.value(eta)
        objective, size = value + 0.5 * coef @ (penalty @ coef), 1.0
        for _ in range(HALVINGS):
            new_coef, new_eta = coef + size * step, eta + size * move
            new_value = likelihood.value(new_eta)
            new_objective = new_value + 0.5 * new_coef @ (penalty @ new_coef)
            if new_objective <= objective + 1e-12 * abs(objective):
                ahead = _derivatives(likelihood, design, penalty, new_eta)
                if ahead is not None:
                    break
            size /= 2
        else:  # nothing is left but rounding, or something is badly wrong
            converged = decrement < np.sqrt(tol)
            break
        coef, eta, value = new_coef, new_eta, new_value
        before, here = here.information, ahead
    value = likelihood.value(eta) if value is None else value
    return NewtonResult(
        *(coef, eta, value, here.information, factor, n_iter),
        converged and not runaway.any(),
        runaway,
        active,
        step,
    )


@dataclass(frozen=True)
class _Derivatives:
    """What is known of the likelihood at one place: its gradient in the coefficients and Hessian.

    The factor is of a positive definite matrix in the Hessian's place where the head knows one.
    """

    gradient: np.ndarray
    information: Symmetric
    factor: Factor


def _derivatives(
    likelihood: Likelihood,
    design: Design,
    penalty: Symmetric,
    eta: np.ndarray,
    information: Symmetric | None = None,
    slopes: np.ndarray | None = None,
) -> _Derivatives | None:
    """Return the derivatives at `eta`; None where one of them is not a finite number."""
    if information is None:
        slopes, information = likelihood.derivatives(eta, design)
    elif slopes is None:
        slopes = likelihood.gradient(eta)
    gradient = design.pull(slopes)
    if not (np.isfinite(gradient).all() and information.is_finite()):
        return None
    factor = Factor(information + penalty)
    if not factor.definite and likelihood.expects:
        expected = likelihood.information(eta, design, definite=True)
        if not expected.is_finite():
            return None
        factor = Factor(expected + penalty)
    return _Derivatives(gradient, information, factor)


def _shortened(
    design: Design,
    hessian: Symmetric,
    gradient: np.ndarray,
    step: np.ndarray,
    move: np.ndarray,
) -> tuple[np.ndarray, Factor]:
    """Return a step that moves no predictor much further than `LONGEST`, and its matrix.

    Levenberg's: with a multiple of ``X'X``, the square of what the predictors move by, added to the
    Hessian. A direction of which little is known (degrees of freedom, a dispersion near 0) then
    waits, and the others take their step.
    """
    squares = design.cross(np.ones((design.n_rows, design.n_predictors)))
    factor = Factor(hessian)
    for _ in range(HALVINGS):
        reach = float(np.abs(move).max())
        if reach <= 2 * LONGEST:
            break
        curvature = max(-float(gradient @ step), 1e-300)
        damping = curvature * (reach / LONGEST - 1) / float(np.vdot(move, move))
        hessian = hessian + squares * damping
        factor = Factor(hessian)
        step = -factor.solve(gradient)
        move = design.predict(step)
    return step, factor


def _rises_for_ever(
    likelihood: Likelihood,
    penalty: Symmetric,
    coef: np.ndarray,
    eta: np.ndarray,
    step: np.ndarray,
    move: np.ndarray,
) -> bool:
    """Return whether the penalised value still falls far along a step, which moves `eta` so."""
    reach = float(np.abs(move).max())
    stretch = FAR / reach
    slope = float(np.vdot(likelihood.gradient(eta + stretch * move), move))
    slope += float((coef + stretch * step) @ (penalty @ step))
    return bool(slope <= ROUNDING * likelihood.n_rows * reach)
