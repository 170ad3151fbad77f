"""What the exact fit needs of a likelihood, and how a head gives it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmfusion.structured.design import Design, as_design
from mmfusion.structured.symmetric import Symmetric

__all__ = ["Likelihood"]

Array = NDArray[np.float64]

#: Second derivatives of one piece of rows: 2 MB, of which a head has some copies.
PIECE = 1 << 18


class Likelihood:
    """The negative log-likelihood of a head at an outcome, in float64 NumPy.

    Predictors have the shape (n, K).

    Parameters
    ----------
    head : mmfusion.heads.Head
        Its likelihood; rooms do not import each other, so it is known by its methods alone.
    target : mmfusion.heads.Target
        The outcome it encoded.

    Attributes
    ----------
    shape : tuple of int
        n, K.
    n_rows : int
        Rows with a weight above 0.
    multinomial : bool
        Whether a row's Hessian is that of the probabilities of more than two classes.
    has_intercept : bool
        Whether a constant in eta changes the likelihood: in a Cox model it does not.
    has_scale : bool
        Whether there is a residual variance; `value` is then that of variance 1, half a weighted
        sum of squares.
    ratio : str or None
        What exp(coefficient) is called.
    shift_invariant : bool
        Whether a number added to all K predictors of a row says nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from mmfusion.heads import CategoricalHead
    >>> from mmfusion.structured import Likelihood, fit_structured
    >>> head = CategoricalHead()
    >>> target = head.fit_outcome(["no", "no", "yes", "no", "yes", "yes"])
    >>> design = np.column_stack([np.ones(6), [0.0, 0, 0, 1, 1, 1]])
    >>> fit = fit_structured(Likelihood(head, target), design)
    >>> fit.coef.round(4)  # log odds 1/2, log odds ratio 4
    array([-0.6931,  1.3863])
    """

    def __init__(self, head: Any, target: Any) -> None:
        self._head, self._target = head, target
        self._total = head.total(target)
        self._unit = head.dispersion_unit
        self._last_value: tuple[Array | None, float] = None, np.nan
        self.shape = len(target), len(head.grid)
        self.n_rows = int((target.weight > 0).sum())
        self.multinomial: bool = head.multinomial
        self.has_intercept = len(head.constants) > 0
        self.has_scale: bool = head.has_dispersion
        self.ratio: str | None = head.ratio
        self.shift_invariant: bool = head.shift_invariant

    @property
    def interacts(self) -> bool:
        """Whether rows have no likelihood of their own, so that information needs them all."""
        return bool(self._head.interacts)

    @property
    def expects(self) -> bool:
        """Whether the head knows expected second derivatives, of which none is indefinite."""
        return bool(self._head.knows_expected)

    @cached_property
    def initial(self) -> Array:
        """Where the predictors of a model with constants alone start, shape (K,)."""
        return self._head.initial(self._target).double().numpy()

    def parts_of_sums(self) -> Any:
        """Return the likelihood of predictors ``a_i + b_k`` in a and b, where the head knows it."""
        return self._head.separable(self._target)

    def _tensor(self, eta: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(eta, dtype=np.float64).reshape(self.shape))

    def take(self, rows: slice | NDArray[np.intp]) -> Likelihood:
        """Return the likelihood of some rows, which do not interact."""
        some = rows if isinstance(rows, slice) else torch.from_numpy(rows)
        return Likelihood(self._head, self._target.take(some))

    def value(self, eta: Array) -> float:
        """Return the negative log-likelihood of all rows; what was asked for last is known."""
        known, found = self._last_value
        if known is None or not np.array_equal(known, eta):
            with torch.no_grad():
                loss = float(self._head.loss(self._tensor(eta), self._target))
            found = loss * self._total * self._unit
            self._last_value = np.array(eta), found
        return found

    def gradient(self, eta: Array) -> Array:
        """Return its gradient in eta, shape (n, K)."""
        gradient = self._head.gradient(self._tensor(eta), self._target)
        return gradient.numpy() * (self._total * self._unit)

    def evaluate(self, eta: Array) -> tuple[float, Array]:
        """Return `value` and `gradient`."""
        loss, gradient = self._head.evaluate(self._tensor(eta), self._target)
        factor, found = self._total * self._unit, gradient.numpy()
        if factor != 1.0:
            found *= factor
        return float(loss) * factor, found

    def information(
        self, eta: Array, design: Design | Array, *, definite: bool = False
    ) -> Symmetric:
        """Return ``X' H X``, shape (p, p), with the Hessian H in eta.

        Where it is asked to be `definite`, that of a row which is not is replaced by its size, or
        by what the head expects: far from the solution a likelihood may not be concave, and says
        then all the same which coefficients it tells apart.
        """
        design = as_design(design, self.shape[1])
        if not self.interacts:
            return self.derivatives(eta, design, definite=definite)[1]
        columns = torch.from_numpy(design.dense())
        found = self._head.information(self._tensor(eta), self._target, columns)
        return Symmetric.of(found.numpy() * (self._total * self._unit))

    def derivatives(
        self, eta: Array, design: Design, *, definite: bool = False
    ) -> tuple[Array, Symmetric]:
        """Return `gradient` and `information`, together where one pass over the rows has both."""
        if self.interacts:
            return self.gradient(eta), self.information(eta, design)
        if self.multinomial and design.apart is None:
            return self._multinomial(eta, design)
        gradient, information = np.empty(self.shape), Symmetric.zeros(design.layout)
        n, k = self.shape
        scaled = self._tensor(eta)
        start, step = 0, max(PIECE // k**2, 1)
        while start < n:
            rows = slice(start, min(start + step, n))
            part = self._target
            if rows.stop - rows.start < n:
                part = part.take(rows)
            total = self._head.total(part) * self._unit
            first, second = self._head.derivatives(scaled[rows], part)
            np.multiply(first.numpy(), total, out=gradient[rows])
            curvature = second.numpy() * total
            if definite:
                expected = self._head.expected(scaled[rows], part)
                curvature = _size(curvature) if expected is None else expected.numpy() * total
            information = information + design.take(rows).cross(curvature)
            start = rows.stop
            if curvature.ndim == 2:  # there is room for more rows than was known before
                step = max(PIECE // k, 1)
        return gradient, information

    def trace_slopes(
        self, eta: Array, moves: Sequence[Array], design: Design, matrix: Symmetric
    ) -> Array:
        """Return the slope along each move (n, K) of the trace of a matrix times the information.

        By a difference of two informations.
        """
        slopes = np.zeros(len(moves))
        for j, move in enumerate(moves):
            reach = float(np.abs(move).max())
            if reach < 1e-12:
                continue
            size = 1e-4 / reach
            ahead = self.information(eta + size * move, design)
            behind = self.information(eta - size * move, design)
            slopes[j] = matrix.product_diagonal(ahead - behind).sum() / (2 * size)
        return slopes

    def working(self, eta: Array, basis: Array) -> tuple[Array, Array]:
        """Return gradient and curvature along a basis (K, F) of the predictors, each (n, F).

        The curvature is the diagonal one of each function, as of rows that do not interact.
        """
        curvature = self._head.curvature(self._tensor(eta), self._target).numpy()
        if curvature.ndim == 2:
            weight = curvature @ basis**2
        else:
            weight = np.einsum("kf,nkl,lf->nf", basis, curvature, basis)
        unit = self._total * self._unit
        return self.gradient(eta) @ basis, np.maximum(weight * unit, 0.0)

    def curvatures(self, eta: Array) -> Array:
        """Return the curvature in each predictor by itself, not below 0, shape (n, K)."""
        curvature = self._head.curvature(self._tensor(eta), self._target).numpy()
        if curvature.ndim == 3:
            curvature = np.diagonal(curvature, axis1=1, axis2=2)
        return np.maximum(curvature, 0.0)

    def informations(self, eta: Array, design: Design, code: NDArray[np.intp]) -> Array:
        """Return the share of the information of each group of rows, shape (G, p, p).

        Parameters
        ----------
        code : ndarray of int, shape (n,)
            The group of each row, from 0.
        """
        n_groups = int(code.max()) + 1
        if self.interacts:
            columns = torch.from_numpy(design.dense())
            found = self._head.informations(
                self._tensor(eta), self._target, columns, torch.from_numpy(code), n_groups
            )
            return found.numpy() * (self._total * self._unit)
        _, second = self._head.derivatives(self._tensor(eta), self._target)
        curvature = second.numpy() * (self._total * self._unit)
        order = np.argsort(code, kind="stable")
        parts = np.split(order, np.searchsorted(code[order], np.arange(1, n_groups)))
        return np.stack([design.take(rows).cross(curvature[rows]).dense() for rows in parts])

    def _multinomial(self, eta: Array, design: Design) -> tuple[Array, Symmetric]:
        """Return the same where a row's Hessian is ``diag(w p) - w p p'``, w its weight.

        With ``z_i = sqrt(w_i) X_i' p_i``, ``X'HX`` is ``X' diag(w p) X - Z'Z``: one product of
        matrices in the place of one for each pair of classes.
        """
        chance = self._head.chances(self._tensor(eta)).numpy()
        weight = self._target.weight.numpy()[:, None] * self._unit
        gradient = weight * chance
        gradient[np.arange(len(gradient)), self._target.code.numpy()] -= weight[:, 0]
        if (chance == chance[0]).all():  # the model of constants alone
            alike = design.cross_alike(weight, np.diag(chance[0]) - np.outer(chance[0], chance[0]))
            return gradient, Symmetric.of(alike)
        information = np.asarray(design.cross(weight * chance))
        root = np.sqrt(weight) * chance
        step = max(PIECE // max(design.n_columns, 1), design.n_columns)
        for start in range(0, len(root), step):
            rows = slice(start, start + step)
            pulled = design.take(rows).scores(root[rows])
            information -= pulled.T @ pulled
        return gradient, Symmetric.of(information)

    def scores(self, eta: Array, design: Design | Array) -> Array:
        """Return each row's share of the gradient in the coefficients, shape (n, p)."""
        design = as_design(design, self.shape[1])
        if not self.interacts:
            return design.scores(self.gradient(eta))
        columns = torch.from_numpy(design.dense())
        scores = self._head.scores(self._tensor(eta), self._target, columns)
        return scores.numpy() * (self._total * self._unit)

    def log_likelihood(self, value: float) -> float:
        """Return the log-likelihood of a `value`, its largest over the scale where there is one."""
        if not self.has_scale:
            return -value
        weight = self._target.weight.numpy()
        variance = 2 * value / self.n_rows
        logs = np.log(weight[weight > 0]).sum()
        with np.errstate(divide="ignore"):  # a fit without any residual is infinitely likely
            log_variance = np.log(2 * np.pi * variance)
        return float(0.5 * logs - 0.5 * self.n_rows * (log_variance + 1))


def _size(curvature: Array) -> Array:
    """Return each row's curvature, (n, K) or (n, K, K), with the sizes of its eigenvalues."""
    if curvature.ndim == 2:
        return np.abs(curvature)
    values, vectors = np.linalg.eigh(curvature)
    return np.asarray((vectors * np.abs(values)[:, None]) @ vectors.transpose(0, 2, 1))
