"""Wide blocks of columns beside a design: a ridge penalty each, chosen by REML, fitted exactly."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from mmfusion.structured.blocks import Block
from mmfusion.structured.columns import TermColumns
from mmfusion.structured.components import kernels_of, restricted_variances
from mmfusion.structured.design import Design
from mmfusion.structured.errors import CollinearityError
from mmfusion.structured.likelihood import Likelihood
from mmfusion.structured.result import StructuredFit
from mmfusion.structured.rows import Dense

__all__ = ["RidgeFit", "fit_ridge"]

Array = NDArray[np.float64]
Refit = Callable[[Design, tuple[TermColumns, ...], tuple[str, ...]], StructuredFit]

#: Where the search for the variances starts: each block adds so much to the predictor's variance.
START = 0.1
#: The working weights follow the fit: so many rounds at most, each of one step, until the log
#: variances settle.
ROUNDS, SETTLED = 20, 0.03
#: A step of the working model that moves a predictor further is looked at; so many halvings.
FAR, HALVINGS = 3.0, 30
#: Where a likelihood spends more degrees of freedom than this share of its events, the working
#: model is far from it: the variances are divided by so much while that predicts left-out rows
#: better. Where columns outnumber rows and events are fewer than this, it finds variances that are
#: too small (Breslow & Lin 1995, Biometrika 82:81-91): they are multiplied by as much, likewise.
CROWDED, FEW, FACTOR, STEPS = 0.25, 400, 2.0, 8
#: A fit that finds no maximum is tried at smaller variances, so often at most.
HALVED = 20
#: Blocks of fewer degrees of freedom than this say nothing that a larger variance would bring out.
SOMETHING = 0.5
#: Directions of the rows with less than this share of the largest one's variance are none.
RANK_TOL = 1e-12
#: A row that counts for more than this share of its own prediction is taken as one of this share.
LEVERAGE = 0.95
#: Label of the joint term in the fit.
LABEL = "(modalities)"


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """Coefficients of blocks of columns, each block with a ridge penalty of its own.

    Attributes
    ----------
    fit : StructuredFit
        Of the design's coefficients, beside the blocks.
    coef, se : tuple of ndarray, one a block, each of shape (p_m, F)
        Coefficients and their Bayesian standard errors; no errors where they were not asked for.
    variances : ndarray, shape (M,)
        Of a block's coefficients, relative to the residual variance where there is one: 1 over
        the penalty.
    edf : ndarray, shape (M,)
        Effective degrees of freedom of each block.
    predictor : ndarray, shape (n, F)
        Of the rows that were fitted, without the design.
    shift : ndarray, shape (n, F)
        How each row's whole predictor would move had the row not been fitted, to first order.
    """

    fit: StructuredFit
    coef: tuple[Array, ...]
    se: tuple[Array, ...]
    variances: Array
    edf: Array
    predictor: Array
    shift: Array


def fit_ridge(
    likelihood: Likelihood,
    design: Design,
    blocks: Sequence[Array],
    basis: Array,
    refit: Refit,
    offset: Array | None = None,
    start: Array | None = None,
    owner: NDArray[np.intp] | None = None,
    *,
    kernels: Sequence[Array] = (),
    with_errors: bool = True,
) -> RidgeFit:
    r"""Fit ``eta = X beta + sum_m Z_m U_m C' + offset`` with ridge penalties on the U.

    The penalised likelihood subtracts ``sum_m |U_m|^2 / (2 tau_m)``. The tau maximise the
    restricted likelihood of the working linear model at the fit (Breslow & Clayton 1993, JASA
    88:9-25; `mmfusion.structured.components`). Where columns are many and events few the tau may
    run away or stay too small, and one tau for several columns of C fits none: they are then
    divided, or multiplied, as long as rows left out are predicted better. At these the coefficients
    are exact: all blocks together have as many directions as rows or columns, whichever are fewer,
    and Newton's method finds their coefficients with those of the design.

    Parameters
    ----------
    likelihood : Likelihood
    design : Design
    blocks : sequence of ndarray, each of shape (n, p_m)
        Standardised columns.
    basis : ndarray, shape (K, F)
        C: what a coefficient of a column moves.
    refit : callable (Design, terms, names) -> StructuredFit
        Fits the design with further columns, which these terms penalise.
    offset : ndarray, shape (n, K), optional
    start : ndarray, shape (M,), optional
        Variances to start from: those of a fit of almost the same rows.
    owner : ndarray of int, shape (n,), optional
        The subject of each row, numbered from 0; by default each row is its own.
    kernels : sequence of ndarray, each of shape (n, n), optional
        ``Z_m Z_m'``, where they are known; they are used where columns outnumber rows.
    with_errors : bool
        Whether standard errors are asked for: of thousands of columns they take longest.
    """
    owner = np.arange(likelihood.shape[0]) if owner is None else owner
    n, k = likelihood.shape
    offset = np.zeros((n, k)) if offset is None else offset
    sizes = np.array([block.shape[1] for block in blocks], dtype=np.float64)
    if not blocks:
        none, nothing = np.zeros(0), np.zeros((n, basis.shape[1]))
        found = refit(design, (), ())
        eta = design.predict(found.coef) + offset
        shift = _without_itself(design, likelihood, basis, np.asarray(found.bread), eta, owner)
        return RidgeFit(found, (), (), none, none, nothing, shift)
    fixed = [np.hstack([np.ones((n, 1)), *_row_columns(design, one)]) for one in basis.T]
    kernels = kernels if len(kernels) and sizes.sum() > n else kernels_of(blocks)
    scaled = [] if kernels else [b / np.sqrt(size) for b, size in zip(blocks, sizes, strict=True)]
    scaled_kernels = [k / size for k, size in zip(kernels, sizes, strict=False)]
    tau = np.full(len(blocks), START) if start is None else start * sizes
    p, added = design.n_columns, np.zeros((n, basis.shape[1]))
    found = refit(design, (), ())
    eta = fixed_part = design.predict(found.coef) + offset
    for _ in range(ROUNDS):
        gradient, weight = likelihood.working(eta, basis)
        response = added - gradient / np.maximum(weight, max(1e-10 * weight.max(), 1e-300))
        before = tau
        tau, ahead = restricted_variances(
            response,
            weight,
            fixed,
            scaled,
            tau,
            kernels=scaled_kernels,
            has_scale=likelihood.has_scale,
            max_iter=50 if likelihood.has_scale else 1,
        )
        added = added + _downhill(likelihood, eta, ahead - added, basis)
        eta = fixed_part + added @ basis.T
        if likelihood.has_scale or np.abs(np.log(tau / before)).max() < SETTLED:
            break
    at = _Beside(likelihood, design, blocks, kernels, basis, refit, offset, owner)
    fitted = at.fit(tau / sizes)
    if not likelihood.has_scale:
        first, events = fitted, weight.sum()
        # One variance of the coefficients of several functions fits neither, and serves the larger.
        shared = basis.shape[1] > 1 and not likelihood.multinomial
        fitted = at.better(first, 1 / FACTOR, 0.0 if shared else CROWDED * events)
        if fitted is first and kernels and events < FEW:
            fitted = at.better(first, FACTOR, SOMETHING)
    errors = fitted.directions.errors(fitted.own) if with_errors else []
    return RidgeFit(
        fitted.found.leading(p),
        tuple(fitted.coef),
        tuple(error * np.sqrt(fitted.found.scale) for error in errors),
        fitted.tau,
        fitted.edf,
        fitted.added,
        fitted.shift,
    )


def _downhill(likelihood: Likelihood, eta: Array, move: Array, basis: Array) -> Array:
    """Return a step of the working model, (n, F), halved while it goes far and uphill.

    The working model has no penalty on the design's columns: where they separate the events, as a
    smooth's may, its step knows no end.
    """
    if likelihood.has_scale or np.abs(move).max(initial=0.0) <= FAR:
        return move
    value = likelihood.value(eta)
    for _ in range(HALVINGS):
        if likelihood.value(eta + move @ basis.T) <= value:
            break
        move = move / 2
    return move


@dataclass(frozen=True, eq=False)
class _Directions:
    """Columns L with ``L L' = sum_m tau_m Z_m Z_m'``, and the way back to the Z_m.

    With ``eta = L theta`` the coefficients of Z_m are ``A_m theta``,
    ``A_m = tau_m Z_m' L (L'L)^-1``; what A_m does not reach keeps its prior variance.
    """

    blocks: Sequence[Array]
    kernels: Sequence[Array]
    tau: Array
    columns: Array  #: L, (n, r)
    inverse: Array  #: where rows are the fewer L (L'L)^-1, (n, r); else the projector on L's rows

    @classmethod
    def of(cls, blocks: Sequence[Array], kernels: Sequence[Array], tau: Array) -> _Directions:
        if not kernels:
            columns = np.hstack([np.sqrt(t) * z for t, z in zip(tau, blocks, strict=True)])
            root = np.linalg.qr(columns, mode="r")
            return cls(blocks, kernels, tau, columns, np.linalg.pinv(root, rcond=1e-9) @ root)
        total = sum(t * kernel for t, kernel in zip(tau, kernels, strict=True))
        sizes, axes = np.linalg.eigh(total)
        kept = sizes > RANK_TOL * sizes[-1]
        root, axes = np.sqrt(sizes[kept]), axes[:, kept]
        return cls(blocks, kernels, tau, axes * root, axes / root)

    def times(self, factor: float) -> _Directions:
        """Return the directions at so many times the variances."""
        root = np.sqrt(factor)
        inverse = self.inverse / root if self.kernels else self.inverse
        return replace(self, tau=self.tau * factor, columns=self.columns * root, inverse=inverse)

    def coef(self, theta: Array) -> list[Array]:
        """Return the coefficients of each block, (p_m, F), from theta, (F, r)."""
        if not self.kernels:
            return [back @ theta.T for back in self._back()]
        pulled = self.inverse @ theta.T
        return [t * (z.T @ pulled) for t, z in zip(self.tau, self.blocks, strict=True)]

    def edf(self, own: Array) -> Array:
        """Return the degrees of freedom of each block; own: inverse information, (f, r, f, r)."""
        left = sum(self._learned(own))
        if not self.kernels:
            return np.array(
                [np.vdot(b @ left, b) / t for b, t in zip(self._back(), self.tau, strict=True)]
            )
        if len(self.blocks) == 1:
            return np.array([np.trace(left)])
        across = self.inverse @ left @ self.inverse.T
        return np.array(
            [t * np.vdot(across, k) for t, k in zip(self.tau, self.kernels, strict=True)]
        )

    def errors(self, own: Array) -> list[Array]:
        """Return the standard errors of each block's coefficients, (p_m, F), of scale 1."""
        # What the rows say is taken off the prior variance: the diagonal of A_m (1 - own) A_m'.
        learned = self._learned(own)
        if self.kernels:
            across = [self.inverse @ left @ self.inverse.T for left in learned]
            pairs = [(z.T, across, t) for t, z in zip(self.tau, self.blocks, strict=True)]
        else:
            pairs = [(back, learned, 1.0) for back in self._back()]
        found = []
        for t, (left, inner, factor) in zip(self.tau, pairs, strict=True):
            taken = [np.einsum("jr,jr->j", left @ one, left) * factor**2 for one in inner]
            found.append(np.sqrt(np.maximum(t - np.stack(taken, axis=1), 0.0)))
        return found

    def _learned(self, own: Array) -> list[Array]:
        """Return what the rows say of each function's directions, (r, r): 1 less the inverse."""
        return [np.eye(own.shape[1]) - own[g, :, g] for g in range(len(own))]

    def _back(self) -> list[Array]:
        """Return each A_m, (p_m, r), where columns are the fewer."""
        edges = np.cumsum([z.shape[1] for z in self.blocks])[:-1]
        rows = np.split(self.inverse, edges)
        return [np.sqrt(t) * part for t, part in zip(self.tau, rows, strict=True)]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """The exact fit at some variances, and the loss of predictors that did not see the row."""

    tau: Array
    found: StructuredFit
    directions: _Directions
    own: Array
    added: Array
    coef: list[Array]
    edf: Array
    shift: Array
    loss: float


@dataclass(frozen=True, eq=False)
class _Beside:
    """What stays the same while variances change."""

    likelihood: Likelihood
    design: Design
    blocks: Sequence[Array]
    kernels: Sequence[Array]
    basis: Array
    refit: Refit
    offset: Array
    owner: NDArray[np.intp]

    def fit(self, tau: Array) -> _Fitted:
        """Fit the design and all blocks together.

        Beside columns that follow every row a scale has no end: the likelihood has no maximum there
        that the penalty holds. The variances are then divided until it has one.
        """
        directions = _Directions.of(self.blocks, self.kernels, tau)
        for _ in range(HALVED):
            fitted = self._converged(directions)
            if fitted is not None:
                return fitted
            directions = directions.times(1 / FACTOR)
        return self._along(directions)

    def _converged(self, directions: _Directions) -> _Fitted | None:
        """Return the fit along directions; None where it finds no maximum."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                return self._along(directions)
            except (ConvergenceWarning, CollinearityError):
                return None

    def _along(self, directions: _Directions) -> _Fitted:
        p, basis = self.design.n_columns, self.basis
        whole, term = _beside(self.design, directions.columns, basis)
        names = tuple(f"{LABEL}.{j}" for j in range(whole.n_columns - p))
        found = self.refit(whole, (term,), names)
        theta = found.coef[p:].reshape(basis.shape[1], -1)
        added = directions.columns @ theta.T
        eta = self.design.predict(found.coef[:p]) + added @ basis.T + self.offset
        bread = np.asarray(found.bread)
        own = bread[p:, p:].reshape(*theta.shape, *theta.shape)
        shift = _without_itself(whole, self.likelihood, basis, bread, eta, self.owner)
        loss = self.likelihood.value(eta + shift @ basis.T)
        coef, edf = directions.coef(theta), directions.edf(own)
        return _Fitted(directions.tau, found, directions, own, added, coef, edf, shift, loss)

    def better(self, fitted: _Fitted, factor: float, more_than: float) -> _Fitted:
        """Multiply the variances while rows left out are predicted better, of so many freedoms."""
        for _ in range(STEPS):
            if fitted.edf.sum() <= more_than:
                break
            other = self._converged(fitted.directions.times(factor))
            if other is None or other.loss >= fitted.loss:
                break
            fitted = other
        return fitted


def _row_columns(design: Design, moved: Array) -> list[Array]:
    """Return the columns over the rows of what moves some of the same predictors, (K,)."""
    return [
        block.rows.dense()
        for block in design.blocks
        if isinstance(block, Block) and block.basis[moved != 0].any()
    ]


def _beside(design: Design, directions: Array, basis: Array) -> tuple[Design, TermColumns]:
    """Return a design with directions beside it, and their penalty: that of a variance of 1."""
    p, f, r = design.n_columns, basis.shape[1], directions.shape[1]
    columns = np.arange(p, p + f * r).reshape(f, r)
    block = Block(Dense(directions), basis, columns)
    whole = replace(design, n_columns=p + f * r, blocks=(*design.blocks, block), apart=None)
    term = TermColumns(LABEL, slice(p, p + f * r), "random", (np.ones(f * r),), sp=(1.0,))
    return whole, term


def _without_itself(
    whole: Design,
    likelihood: Likelihood,
    basis: Array,
    inverse: Array,
    eta: Array,
    owner: NDArray[np.intp],
) -> Array:
    """Return how the predictor of each row moves where its subject is left out, (n, F).

    One Newton step of all coefficients from the fit of all rows, which is exact for least squares:
    ``x' V x g / (1 - h w)`` with a row's columns x, its leverage ``h = x'Vx``, gradient g and
    curvature w. Leverage across functions is neglected. Where a function moves several predictors,
    x is their mean in proportion to the row's curvature in each: an interval in which the row is
    not at risk says nothing of it. Where rows are told apart perfectly the step may go anywhere: a
    predictor stays between those of the fit.
    """
    gradient, weight = likelihood.working(eta, basis)
    moved = np.zeros_like(gradient)
    for f, column in enumerate(basis.T):
        along = np.broadcast_to(column / (column @ column), (whole.n_rows, len(column)))
        if np.count_nonzero(column) > 1:
            curved = likelihood.curvatures(eta) * column
            total = (curved @ column)[:, None]
            along = np.where(total > 0, curved / np.where(total > 0, total, 1.0), along)
        x = whole.scores(along)
        if not likelihood.has_intercept:  # the baseline takes up a constant
            x = x - (weight[:, f] @ x) / weight[:, f].sum()
        solved = x @ inverse
        leverage = np.einsum("ij,ij->i", solved, x)
        share = np.minimum(np.bincount(owner, leverage * weight[:, f])[owner], LEVERAGE)
        if owner[-1] == len(owner) - 1:  # a row is a subject
            step = leverage * gradient[:, f]
        else:
            pulled = np.zeros((owner.max() + 1, x.shape[1]))
            np.add.at(pulled, owner, x * gradient[:, [f]])
            step = np.einsum("ij,ij->i", solved, pulled[owner])
        along_f = eta @ (column / (column @ column))
        left_out = along_f + step / (1.0 - share)
        moved[:, f] = np.clip(left_out, along_f.min(), along_f.max()) - along_f
    return moved
