"""Smoothing parameters by restricted maximum likelihood, and by degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from mmfusion.structured.design import Design
from mmfusion.structured.likelihood import Likelihood
from mmfusion.structured.linalg import Factor
from mmfusion.structured.newton import NewtonResult, newton
from mmfusion.structured.penalty import DiagonalPenalty, MatrixPenalty, Penalties
from mmfusion.structured.symmetric import Symmetric

__all__ = ["Problem", "Smoothed", "fit_df", "fit_reml"]

#: A term is as good as without its penalised part once that has this many degrees of freedom.
#: With eigenvalues s of a penalty relative to the information it has ``sum 1 / (1 + lambda s)``,
#: less than this at ``lambda = sum(1 / s) / STRAIGHT``.
STRAIGHT = 1e-4

#: A penalty this small beside the information is none.
LOOSE = 1e-9

#: Where a term that ended on its straight line starts again, beside the information, and by how
#: much the criterion must be better there.
RESTART, GAIN = 1e-3, 1e-4

#: How closely degrees of freedom are matched.
EDF_TOL = 1e-6

#: Smoothing parameters are looked for within this distance of where they start, in logs.
WIDEST = 24.0

#: Largest change of a log smoothing parameter in one step.
MAX_STEP = 4.0


@dataclass(frozen=True)
class Problem:
    """A penalised likelihood: what stays the same while smoothing parameters change."""

    likelihood: Likelihood
    design: Design
    penalties: Penalties
    offset: np.ndarray
    max_iter: int
    tol: float

    def fit(
        self,
        sp: np.ndarray,
        coef: np.ndarray,
        information: Symmetric | None = None,
        slopes: np.ndarray | None = None,
        bounds: np.ndarray | None = None,
    ) -> NewtonResult:
        """Return the coefficients that these smoothing parameters lead to, from `coef`."""
        return newton(
            self.likelihood,
            self.design,
            self.penalties.matrix(sp),
            coef,
            self.offset,
            information=information,
            slopes=slopes,
            bounds=bounds,
            max_iter=self.max_iter,
            tol=self.tol,
        )

    def scale(self, fit: NewtonResult, sp: np.ndarray) -> float:
        """Return the REML estimate of the residual variance, 1 where there is none."""
        if not self.likelihood.has_scale:
            return 1.0
        free = self.likelihood.n_rows - (len(fit.coef) - self.penalties.rank)
        return max(2 * _penalised(fit, self.penalties, sp), 1e-300) / max(free, 1)

    def criterion(self, fit: NewtonResult, sp: np.ndarray) -> float:
        """Return minus the Laplace-approximate restricted log-likelihood, up to a constant.

        Wood, Pya & Saefken (2016, JASA 111:1548-1575, eq. 5); a residual variance is profiled out.
        """
        value = _penalised(fit, self.penalties, sp)
        if self.likelihood.has_scale:
            free = self.likelihood.n_rows - (len(fit.coef) - self.penalties.rank)
            value = 0.5 * free * np.log(max(value, 1e-300))
        return value + 0.5 * (fit.factor.log_det - self.penalties.log_det(sp))


@dataclass(frozen=True)
class Smoothed:
    """Smoothing parameters and the fit they lead to."""

    sp: np.ndarray
    fit: NewtonResult
    converged: bool
    n_iter: int


def _penalised(fit: NewtonResult, penalties: Penalties, sp: np.ndarray) -> float:
    return fit.value + 0.5 * float(sp @ (penalties.applied(fit.coef) @ fit.coef))


def fit_reml(
    problem: Problem,
    sp: np.ndarray,
    free: np.ndarray,
    coef: np.ndarray,
    information: Symmetric | None = None,
    slopes: np.ndarray | None = None,
    *,
    max_iter: int = 200,
    tol: float = 1e-5,
) -> Smoothed:
    r"""Maximise the Laplace-approximate restricted likelihood over some smoothing parameters.

    The generalised Fellner-Schall update (Wood & Fasiolo 2017, Biometrics 73:1071-1081, eq. 6)

    .. math:: \lambda_j \leftarrow \lambda_j \phi
        \frac{\mathrm{tr}(S_\lambda^- S_j) - \mathrm{tr}(V S_j) - d_j}{\hat\beta' S_j \hat\beta},
        \quad V = (X'HX + S_\lambda)^{-1}.

    Theirs has ``d_j = 0``: it neglects that H changes with the smoothing parameter. Here ``d_j =
    tr(V dH/d log lambda_j) / lambda_j``, by a difference of informations along ``d beta / d log
    lambda_j = -lambda_j V S_j beta``, so that the fixed point is the maximum of the criterion
    itself, mgcv's ``method="REML"``. The update gives the first step and the first scaling of a
    quasi-Newton method (BFGS), which needs a few steps where the update alone creeps. A step that
    the criterion does not like is halved.

    A smoothing parameter that grows without bound (a straight line) stops where less than 1e-4
    degrees of freedom are left of the penalised part. The criterion may have a second maximum there
    (a wave that a line does not see): such terms start once more, as good as without a penalty,
    and the better of the two ends counts.

    Parameters
    ----------
    problem : Problem
    sp : ndarray, shape (m,)
        All above 0: where to start, and the values of those that are not free.
    free : ndarray of bool, shape (m,)
    coef : ndarray, shape (p,)
    information : Symmetric, shape (p, p), optional
        At `coef`, if it is known.
    tol : float
        Largest derivative of the criterion in a free log smoothing parameter.
    """
    first = _descend(problem, sp, free, coef, information, max_iter, tol, slopes)
    balance = problem.penalties.balance(first.fit.information)
    straight = free & (first.sp >= 0.99 * _straight(problem, first.fit, sp))
    if not straight.any():
        return first
    start = np.where(straight, RESTART * balance, first.sp)
    second = _descend(problem, start, free, first.fit.coef, None, max_iter, tol)
    gain = problem.criterion(first.fit, first.sp) - problem.criterion(second.fit, second.sp)
    n_iter = first.n_iter + second.n_iter
    return replace(second if second.converged and gain > GAIN else first, n_iter=n_iter)


def _straight(problem: Problem, fit: NewtonResult, sp: np.ndarray) -> np.ndarray:
    """Return the smoothing parameters beyond which a term is as good as a straight line."""
    return np.maximum(problem.penalties.inverse_traces(fit.information) / STRAIGHT, sp)


def _descend(
    problem: Problem,
    sp: np.ndarray,
    free: np.ndarray,
    coef: np.ndarray,
    information: Symmetric | None,
    max_iter: int,
    tol: float,
    slopes: np.ndarray | None = None,
) -> Smoothed:
    """Return the maximum that `fit_reml` comes to from these smoothing parameters."""
    penalties = problem.penalties
    given, log_sp = sp, np.log(sp)

    def back(log_sp: np.ndarray) -> np.ndarray:
        return np.where(free, np.exp(log_sp), given)

    fit = problem.fit(sp, coef, information, slopes)
    if not free.any():
        return Smoothed(sp, fit, fit.converged, fit.n_iter)
    value = problem.criterion(fit, sp)
    high = np.log(_straight(problem, fit, sp))
    low = np.log(np.minimum(LOOSE * penalties.balance(fit.information), sp))
    n_iter = fit.n_iter
    slope, update = _direction(problem, fit, back(log_sp))
    inverse = _scaling(slope, update)
    was_moving = free
    for _ in range(max_iter):
        stuck = ((log_sp >= high) & (slope < 0)) | ((log_sp <= low) & (slope > 0))
        moving = free & ~stuck
        if np.abs(slope[moving]).max(initial=0.0) < tol:
            return Smoothed(back(log_sp), fit, fit.converged, n_iter)
        step = np.where(moving, -inverse @ np.where(moving, slope, 0.0), 0.0)
        if (moving != was_moving).any() or step @ slope >= 0:
            step = np.where(moving, update, 0.0)
            inverse = _scaling(slope, update)
        was_moving = moving
        step *= min(1.0, MAX_STEP / np.abs(step).max())
        for _ in range(20):
            new_log_sp = np.clip(log_sp + step, low, high)
            new_fit = problem.fit(back(new_log_sp), fit.coef, fit.information)
            n_iter += new_fit.n_iter
            new_value = problem.criterion(new_fit, back(new_log_sp))
            new_slope, new_update = _direction(problem, new_fit, back(new_log_sp))
            falls = new_value <= value + 1e-4 * (slope @ (new_log_sp - log_sp))
            flat = abs(new_value - value) <= 1e-10 * (1 + abs(value))
            if falls or (flat and np.abs(new_slope[moving]).max() < np.abs(slope[moving]).max()):
                break
            step = step / 2
        else:  # the criterion is flat to rounding
            flat_enough = bool(np.abs(slope[moving]).max() < 100 * tol)
            return Smoothed(back(log_sp), fit, fit.converged and flat_enough, n_iter)
        inverse = _bfgs(inverse, new_log_sp - log_sp, new_slope - slope)
        log_sp, fit, value = new_log_sp, new_fit, new_value
        slope, update = new_slope, new_update
    return Smoothed(back(log_sp), fit, False, n_iter)


def _scaling(slope: np.ndarray, update: np.ndarray) -> np.ndarray:
    """Return the diagonal matrix that makes the update of the slope, downhill."""
    return np.diag(np.maximum(-update * slope, 1e-12) / np.maximum(slope**2, 1e-12))


def _bfgs(inverse: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Return the approximate inverse Hessian after a step that changed the slope."""
    curvature = float(step @ change)
    if curvature <= 1e-10 * np.linalg.norm(step) * np.linalg.norm(change):
        return inverse
    left = np.eye(len(step)) - np.outer(step, change) / curvature
    return left @ inverse @ left.T + np.outer(step, step) / curvature


def _direction(
    problem: Problem, fit: NewtonResult, sp: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the criterion's slope in the log smoothing parameters, and the update of them."""
    penalties = problem.penalties
    inverse = fit.factor.inverse()
    scale = problem.scale(fit, sp)
    applied = penalties.applied(fit.coef)
    size = sp * (applied @ fit.coef) / scale
    wanted = penalties.shares(sp) - sp * penalties.traces(inverse)
    if not problem.likelihood.has_scale:  # a quadratic has one information
        moves = [
            problem.design.predict(-sp[j] * fit.factor.solve(applied[j]))
            for j in range(penalties.size)
        ]
        wanted -= problem.likelihood.trace_slopes(fit.eta, moves, problem.design, inverse)
    ratio = np.maximum(wanted, 1e-300) / np.maximum(size, 1e-300)
    return 0.5 * (size - wanted), np.clip(np.log(ratio), -MAX_STEP, MAX_STEP)


def fit_df(
    problem: Problem,
    sp: np.ndarray,
    wanted: dict[int, float],
    fit: NewtonResult,
    *,
    max_iter: int = 30,
    tol: float = 1e-6,
) -> Smoothed:
    """Find the smoothing parameters at which some terms have the degrees of freedom wanted.

    Root-finding at the working weights of the fit, term by term, and a new fit, in turn. The
    penalties of a term with several keep the proportions they start with.

    Parameters
    ----------
    wanted : dict of int to float
        Degrees of freedom by the number of the penalised term.
    """
    n_iter = 0
    for _ in range(max_iter):
        before = sp
        for number, df in wanted.items():
            term = problem.penalties.terms[number]
            sp = _match(problem.penalties, term, sp, fit.information, df)
        fit = problem.fit(sp, fit.coef)
        n_iter += fit.n_iter
        if np.abs(np.log(sp / before)).max() < tol:
            return Smoothed(sp, fit, fit.converged, n_iter)
    return Smoothed(sp, fit, False, n_iter)


def _match(
    penalties: Penalties,
    term: MatrixPenalty | DiagonalPenalty,
    sp: np.ndarray,
    information: Symmetric,
    df: float,
) -> np.ndarray:
    """Scale the smoothing parameters of one term so that its trace is `df`."""

    def scaled(log_factor: float) -> np.ndarray:
        result = sp.copy()
        result[term.position] *= np.exp(log_factor)
        return result

    def surplus(log_factor: float) -> float:
        at = scaled(log_factor)
        inverse = Factor(information + penalties.matrix(at)).inverse()
        spent = at[term.position] @ term.traces(inverse)
        return term.columns.stop - term.columns.start - float(spent) - df

    low = high = 0.0
    while surplus(low) < -EDF_TOL and low > -WIDEST:
        low -= MAX_STEP
    while surplus(high) > EDF_TOL and high < WIDEST:
        high += MAX_STEP
    for end in (low, high):  # also where only the limit, a straight line or no penalty, has this df
        if abs(surplus(end)) <= EDF_TOL:
            return scaled(end)
    if surplus(low) < 0 or surplus(high) > 0:
        raise ValueError(
            f"The df of {term.label!r} cannot be reached: got df={df:g}, but with these data the "
            f"term has between {surplus(WIDEST) + df:.4g} and {surplus(-WIDEST) + df:.4g}."
        )
    return scaled(brentq(surplus, low, high, xtol=1e-10))
