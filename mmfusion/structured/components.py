"""Variances of several ridge penalties by restricted maximum likelihood, in the smaller space."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

__all__ = ["kernels_of", "restricted_variances"]

Array = NDArray[np.float64]

#: Variances that a block of unit size adds to a predictor are looked for between these. Relative to
#: a residual variance there is hardly an upper end. Of a log hazard or logit there is: a standard
#: deviation of 5 tells any rows apart.
LOWEST, HIGHEST, HIGHEST_RELATIVE = 1e-7, 25.0, 1e6
#: Largest change of a log variance in one step, and the change at which the search ends.
MAX_STEP, TOL = 3.0, 1e-2
#: A block of fewer degrees of freedom, whose variance still falls, is of no use.
NOTHING = 3e-2
#: Weights below this share of the largest belong to rows that say nothing.
TINY = 1e-10


class Moments(NamedTuple):
    """What the restricted likelihood of ``z = X b + sum_m Z_m u_m + e`` is made of, at some tau.

    With ``V = W^-1 + sum_m tau_m Z_m Z_m'`` and the P of REML, ``P z = V^-1 (z - X b)``.
    """

    log_det: float  #: of V W and of X'V^-1 X
    quadratic: float  #: z'Pz
    pulled: Array  #: z'P Z_m Z_m' P z, (M,)
    traces: Array  #: tr(P Z_m Z_m'), (M,)
    average: Array  #: z'P Z_m Z_m' P Z_l Z_l' P z, (M, M)


class Space(Protocol):
    """Where the algebra is done: over the columns or over the rows."""

    def level(self, tau: Array) -> tuple[float, float]:
        """Return the first two moments at the variances tau, (M,): what the likelihood needs."""

    def at(self, tau: Array) -> Moments:
        """Return the moments at the variances tau: its derivatives need them all."""

    def predicted(self, tau: Array) -> Array:
        """Return the best linear unbiased prediction of ``sum_m Z_m u_m``, (n,)."""


class OverColumns:
    """The algebra in the p columns of all blocks, after one pass over the rows."""

    def __init__(self, z: Array, weight: Array, fixed: Array, blocks: Sequence[Array]) -> None:
        self.sizes = [block.shape[1] for block in blocks]
        self.values = np.hstack(blocks)
        half = np.sqrt(weight)
        inner, root = _orthonormal(fixed, weight)
        weighted, rest = self.values * half[:, None], z * half
        crossed, own = inner.T @ weighted, inner.T @ rest
        self.gram = weighted.T @ weighted - crossed.T @ crossed
        self.pull = weighted.T @ rest - crossed.T @ own
        self.total = float(rest @ rest - own @ own)
        self.root = root
        self.last: tuple[Array, tuple[Array, Array, Array]] | None = None

    def level(self, tau: Array) -> tuple[float, float]:
        _, low, solved = self._factor(tau)
        log_det = float(2 * np.log(np.diag(low)).sum() + self.root)
        return log_det, float(self.total - solved @ solved)

    def at(self, tau: Array) -> Moments:
        each, low, solved = self._factor(tau)
        # Z'PZ is the Gram matrix less half' half.
        half = linalg.solve_triangular(low, each[:, None] * self.gram, lower=True)
        u = self.pull - half.T @ solved  # Z'Pz
        edges = itertools.pairwise(np.cumsum([0, *self.sizes]))
        parts = [slice(a, b) for a, b in edges]
        moved = [self.gram[:, p] @ u[p] - half.T @ (half[:, p] @ u[p]) for p in parts]
        squares = np.diag(self.gram) - np.einsum("ij,ij->j", half, half)
        return Moments(
            *self.level(tau),
            np.array([u[part] @ u[part] for part in parts]),
            np.array([squares[part].sum() for part in parts]),
            np.array([[u[left] @ there[left] for there in moved] for left in parts]),
        )

    def _factor(self, tau: Array) -> tuple[Array, Array, Array]:
        """Return the roots of the variances, the factor beside them, and what it makes of z."""
        if self.last is None or not np.array_equal(self.last[0], tau):
            each = np.sqrt(np.repeat(tau, self.sizes))
            inner = np.eye(len(each)) + each[:, None] * self.gram * each
            low = linalg.cholesky(inner, lower=True, overwrite_a=True, check_finite=False)
            solved = linalg.solve_triangular(low, each * self.pull, lower=True)
            self.last = tau, (each, low, solved)
        return self.last[1]

    def predicted(self, tau: Array) -> Array:
        each, low, solved = self._factor(tau)
        back = linalg.solve_triangular(low, solved, lower=True, trans="T")
        return np.asarray(self.values @ (each * back))


class _Factor(NamedTuple):
    """What the algebra over the rows needs at some tau, in units of ``W^-1/2``."""

    low: Array  #: the Cholesky factor of ``A = W^1/2 V W^1/2``
    across: Array  #: A^-1 X
    gram: Array  #: X'A^-1 X
    pulled: Array  #: P z


class OverRows:
    """The algebra in the n rows, where these are fewer than the columns."""

    def __init__(self, z: Array, weight: Array, fixed: Array, kernels: Sequence[Array]) -> None:
        self.half = np.sqrt(weight)
        self.z, self.kernels = z * self.half, kernels
        self.inner, self.root = _orthonormal(fixed, weight)
        self.last: tuple[Array, _Factor] | None = None

    def level(self, tau: Array) -> tuple[float, float]:
        found = self._factor(tau)
        log_det = 2 * np.log(np.diag(found.low)).sum() + np.linalg.slogdet(found.gram)[1]
        return float(log_det + self.root), float(self.z @ found.pulled)

    def at(self, tau: Array) -> Moments:
        found = self._factor(tau)
        inverse, _ = linalg.lapack.dpotri(found.low, lower=True)  # of A; its lower triangle
        taken = np.linalg.solve(found.gram, found.across.T).T
        moved = [self._moved(kernel, found.pulled[:, None])[:, 0] for kernel in self.kernels]
        after = [_projected(found, one) for one in moved]
        traces = []
        for kernel in self.kernels:
            triangle = self.half @ (inverse * kernel.T) @ self.half
            diagonal = self.half**2 @ (np.diag(inverse) * np.diag(kernel))
            fixed = np.vdot(taken, self._moved(kernel, found.across))
            traces.append(2 * triangle - diagonal - fixed)
        return Moments(
            *self.level(tau),
            np.array([found.pulled @ one for one in moved]),
            np.array(traces),
            np.array([[left @ right for right in after] for left in moved]),
        )

    def _factor(self, tau: Array) -> _Factor:
        if self.last is None or not np.array_equal(self.last[0], tau):
            inner = self._total(tau)
            inner *= self.half[:, None]
            inner *= self.half
            inner[np.diag_indices(len(inner))] += 1.0
            # It is symmetric, and its transpose in the order of LAPACK: no copy is made.
            low, _ = linalg.lapack.dpotrf(inner.T, lower=True, overwrite_a=True)
            across = linalg.cho_solve((low, True), self.inner, check_finite=False)
            found = _Factor(low, across, self.inner.T @ across, self.z)
            self.last = tau, found._replace(pulled=_projected(found, self.z))
        return self.last[1]

    def _total(self, tau: Array) -> Array:
        return np.asarray(sum(t * kernel for t, kernel in zip(tau, self.kernels, strict=True)))

    def _moved(self, kernel: Array, right: Array) -> Array:
        """Return a kernel times columns."""
        return np.asarray(self.half[:, None] * (kernel @ (self.half[:, None] * right)))

    def predicted(self, tau: Array) -> Array:
        return np.asarray(self._total(tau) @ (self.half * self._factor(tau).pulled))


def _projected(found: _Factor, right: Array) -> Array:
    """Return P times a vector."""
    solved = linalg.cho_solve((found.low, True), right, check_finite=False)
    return np.asarray(solved - found.across @ np.linalg.solve(found.gram, found.across.T @ right))


def _orthonormal(fixed: Array, weight: Array) -> tuple[Array, float]:
    """Return an orthonormal basis of ``W^1/2 X`` and the log determinant of X'WX in its span."""
    basis, sizes, _ = np.linalg.svd(fixed * np.sqrt(weight)[:, None], full_matrices=False)
    kept = sizes > 1e-9 * sizes.max(initial=0.0)
    return basis[:, kept], float(2 * np.log(sizes[kept]).sum())


def kernels_of(blocks: Sequence[Array], n_rows: int | None = None) -> list[Array]:
    """Return ``Z_m Z_m'`` of each block, each of shape (n, n), for fits of so many of the rows.

    None where these, by default all, are more than the columns.
    """
    n_rows = len(blocks[0]) if n_rows is None else n_rows
    wide = sum(block.shape[1] for block in blocks) > n_rows
    return [block @ block.T for block in blocks] if wide else []


def restricted_variances(
    response: Array,
    weight: Array,
    fixed: Sequence[Array],
    blocks: Sequence[Array],
    start: Array,
    *,
    kernels: Sequence[Array] | None = None,
    has_scale: bool = False,
    max_iter: int = 50,
) -> tuple[Array, Array]:
    """Return the variances tau_m of ``z_f = X_f b_f + sum_m Z_m u_mf + e_f`` by REML.

    Newton's method in their logarithms with the average information (Gilmour, Thompson & Cullis
    1995, Biometrics 51:1440-1450), a step halved until the restricted likelihood rises. The
    functions f share the variances. A variance that is of no use ends at the lowest one.

    Parameters
    ----------
    response, weight : ndarray, shape (n, F)
        Working responses and the inverse variances of their errors.
    fixed : sequence of ndarray, one a function, each of shape (n, q_f)
    blocks : sequence of ndarray, each of shape (n, p_m)
        Scaled so that a variance of 1 adds about 1 to that of a row.
    start : ndarray, shape (M,)
    kernels : sequence of ndarray, optional
        As `kernels_of` gives them, where they are known.
    has_scale : bool
        Whether errors have a further factor of variance, which the result is relative to.

    Returns
    -------
    tau : ndarray, shape (M,)
    fitted : ndarray, shape (n, F)
        ``X_f b_f + sum_m Z_m u_mf`` at these.
    """
    kernels = kernels_of(blocks) if kernels is None else kernels
    spaces: list[Space] = []
    free = 0
    for z, w, x in zip(response.T, weight.T, fixed, strict=True):
        w = np.where(w > TINY * w.max(), w, 0.0)
        free += int((w > 0).sum()) - x.shape[1]
        spaces.append(OverRows(z, w, x, kernels) if kernels else OverColumns(z, w, x, blocks))

    def level(log_tau: Array) -> float:
        found = [space.level(np.exp(log_tau)) for space in spaces]
        value, quadratic = np.sum(found, axis=0)
        scale = max(quadratic / max(free, 1), 1e-300)
        return 0.5 * float(value + (free * np.log(scale) if has_scale else quadratic))

    def slopes(log_tau: Array) -> tuple[Array, Array, Array]:
        """Return slope and average information in the logarithms, and the traces."""
        tau = np.exp(log_tau)
        found = [space.at(tau) for space in spaces]
        quadratic = sum(one.quadratic for one in found)
        scale = max(quadratic / max(free, 1), 1e-300) if has_scale else 1.0
        pulled = sum(one.pulled for one in found) / scale
        traces = np.sum([one.traces for one in found], axis=0)
        average = 0.5 * np.outer(tau, tau) * sum(one.average for one in found) / scale
        if has_scale:  # the profiled scale follows
            own = 0.5 * tau * pulled
            average = average - np.outer(own, own) * 2 / max(free, 1)
        return 0.5 * tau * (traces - pulled), average, traces

    low, high = np.log(LOWEST), np.log(HIGHEST_RELATIVE if has_scale else HIGHEST)
    log_tau = np.clip(np.log(start), low, high)
    value = level(log_tau)
    for _ in range(max_iter):
        slope, average, traces = slopes(log_tau)
        useless = (slope > 0) & (np.exp(log_tau) * traces < NOTHING)
        log_tau = np.where(useless, low, log_tau)
        moving = ~(((log_tau <= low) & (slope > 0)) | ((log_tau >= high) & (slope < 0)))
        if not moving.any():
            break
        values, axes = np.linalg.eigh(average[np.ix_(moving, moving)])
        values = np.maximum(values, 1e-2 * max(values.max(), 1e-8))
        step = np.zeros_like(log_tau)
        step[moving] = -axes @ ((axes.T @ slope[moving]) / values)
        step *= min(1.0, MAX_STEP / max(np.abs(step).max(), 1e-300))
        for _ in range(10):
            new = np.clip(log_tau + step, low, high)
            found = level(new)
            if found <= value + 1e-9 * (1 + abs(value)):
                break
            step = step / 2
        else:
            break
        change, gain = np.abs(new - log_tau).max(), value - found
        log_tau, value = new, found
        if change < TOL or gain < 1e-6:
            break
    fitted = np.empty_like(response)
    for f, (space, x) in enumerate(zip(spaces, fixed, strict=True)):
        random = space.predicted(np.exp(log_tau))
        root = np.sqrt(weight[:, f])
        rest = root * (response[:, f] - random)
        fitted[:, f] = random + x @ np.linalg.lstsq(x * root[:, None], rest, rcond=None)[0]
    return np.exp(log_tau), fitted
