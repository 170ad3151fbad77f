"""What the exact fit of the structured part is: coefficients, covariance, degrees of freedom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from mmfusion.structured.bounds import Face
from mmfusion.structured.columns import TermColumns
from mmfusion.structured.symmetric import Symmetric

__all__ = ["StructuredFit"]

#: Which attributes of a fit are matrices over all coefficients.
MATRICES = ("bread", "information", "penalty")


@dataclass(frozen=True, eq=False)
class StructuredFit:
    """A fitted structured part.

    Attributes
    ----------
    names : tuple of str, length p
        The coefficients.
    terms : tuple of TermColumns
    coef : ndarray, shape (p,)
    bread : Symmetric, shape (p, p)
        ``V = (X'HX + S)^-1``.
    information : Symmetric, shape (p, p)
        ``X'HX`` at the fitted predictor, for a residual variance of 1.
    penalty : Symmetric, shape (p, p)
        ``S``, with the smoothing parameters.
    sp : dict of str to tuple of float
        Smoothing parameters of each penalised term, one a penalty.
    scale : float
        Residual variance: the sum of squares over `df_residual`, which at smoothing parameters
        found by REML is the REML estimate. 1 where the outcome has none.
    log_likelihood : float
        Without penalty, at its largest over the scale.
    has_scale : bool
    ratio : str or None
        What exp(coefficient) is called.
    n_rows : int
    n_iter : int
        Newton steps in all.
    converged : bool
    runaway : tuple of str
        Coefficients that run to infinity: their values are where the iteration stopped.
    n_beside : int
        Coefficients that were fitted with these and are left out here; they cost degrees of
        freedom.
    active : ndarray of shape (a, p), or None
        The inequalities that hold as equalities (a monotone smooth where it is level). Degrees of
        freedom are those of coefficients that move along them; covariances are as if there were
        none, so that a band is not a line where a smooth is level.
    """

    names: tuple[str, ...]
    terms: tuple[TermColumns, ...]
    coef: np.ndarray
    bread: Symmetric
    information: Symmetric
    penalty: Symmetric
    sp: dict[str, tuple[float, ...]]
    scale: float
    log_likelihood: float
    has_scale: bool
    ratio: str | None
    n_rows: int
    n_iter: int
    converged: bool
    runaway: tuple[str, ...]
    n_beside: int = 0
    n_clusters: int | None = None
    active: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in MATRICES:
            object.__setattr__(self, name, Symmetric.of(getattr(self, name)))

    def state(self) -> dict[str, Any]:
        """Return what saving writes, all but the terms: plain Python and arrays."""
        state = {name: value for name, value in vars(self).items() if name != "terms"}
        return state | {name: state[name].state() for name in MATRICES}

    @classmethod
    def from_state(cls, state: dict[str, Any], terms: Sequence[TermColumns]) -> Self:
        """Return the fit of these terms that `state` described."""
        matrices = {name: Symmetric.from_state(state[name]) for name in MATRICES}
        return cls(**state | matrices, terms=tuple(terms))

    @property
    def covariance(self) -> Symmetric:
        """Bayesian covariance ``V scale`` (Wood 2006): the inverse information without penalty.

        With penalties its intervals cover across the function (Nychka 1988), bias included.
        """
        return self.bread * self.scale

    @property
    def frequentist_covariance(self) -> np.ndarray:
        """``V X'HX V scale``: the sampling covariance, without the bias of smoothing."""
        return self.bread @ (self.information @ self.bread.dense()) * self.scale

    @property
    def edf(self) -> np.ndarray:
        """Effective degrees of freedom of each coefficient, shape (p,): ``diag(V X'HX)``."""
        free = self.bread.diagonal() != 0.0  # what is held has no degree of freedom
        edf = free - self.bread.product_diagonal(self.penalty)
        face = self.face
        if face is not None:
            rows = face.rows.T
            edf -= (face.across * (rows - self.penalty @ (self.bread @ rows))).sum(1)
        return edf

    @property
    def face(self) -> Face | None:
        """Along which inequalities the coefficients move; None where none is active."""
        return None if self.active is None else Face.of(self.active, self.bread)

    @property
    def edf_alternative(self) -> np.ndarray:
        """``diag(2 F - F F)``, F = V X'HX: reference degrees of freedom of tests (Wood 2013)."""
        return self.edf_alternative_of(slice(None))

    def edf_alternative_of(self, columns: slice) -> np.ndarray:
        """Return `edf_alternative` of some coefficients."""
        free = self.bread.diagonal() != 0.0
        own = np.arange(len(free))[columns]
        unit = np.zeros((len(free), len(own)))
        unit[own, np.arange(len(own))] = free[own]
        down = unit - self.bread @ (self.penalty @ unit)  # F's columns
        face, left = self.face, unit
        if face is not None:
            down, left = face.along(down), face.against(unit)
        across = left - self.penalty @ (self.bread @ left)  # and its rows, transposed
        return 2 * down[own, np.arange(len(own))] - (down * across).sum(0)

    @property
    def df_residual(self) -> float:
        """Rows less effective degrees of freedom; infinite where no scale is estimated.

        With clusters not more than their number less one, which few of them leave of the sandwich.
        """
        if not self.has_scale:
            return np.inf
        rest = self.n_rows - float(self.edf.sum()) - self.n_beside
        return rest if self.n_clusters is None else min(rest, self.n_clusters - 1.0)

    @property
    def aic(self) -> float:
        """``2 (edf - log L)``, a scale counting as a parameter; conditional with smooth terms."""
        n_parameters = float(self.edf.sum()) + self.n_beside + self.has_scale
        return 2 * (n_parameters - self.log_likelihood)

    def leading(self, count: int) -> StructuredFit:
        """Return the fit of the first coefficients, beside the others, which are left out."""
        own = slice(0, count)
        parts = {name: getattr(self, name)[own, own] for name in MATRICES}
        beside = len(self.coef) - count
        return replace(
            self,
            names=self.names[:count],
            coef=self.coef[:count],
            n_beside=beside,
            active=None if self.active is None else self.active[:, own],
            **parts,
        )

    def term_edf(self, label: str) -> float:
        """Return the effective degrees of freedom of a term."""
        return float(self.edf[self.term(label).columns].sum())

    def term(self, label: str) -> TermColumns:
        """Return a term by its label.

        Raises
        ------
        ValueError
            For an unknown label.
        """
        for term in self.terms:
            if term.label == label:
                return term
        raise ValueError(f"No term {label!r}. The terms are {[t.label for t in self.terms]}.")
