"""The exact fit of the structured part: coefficients, smoothing parameters, covariance."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from mmfusion.structured.blocks import Block
from mmfusion.structured.columns import TermColumns
from mmfusion.structured.design import Design, as_design
from mmfusion.structured.errors import CollinearityError, SeparationWarning
from mmfusion.structured.identifiability import check_identified
from mmfusion.structured.likelihood import Likelihood
from mmfusion.structured.near import near_start
from mmfusion.structured.penalty import Penalties, penalty_matrix
from mmfusion.structured.rows import Indicator
from mmfusion.structured.scaling import Scaled, scale_design
from mmfusion.structured.smoothing import Problem, Smoothed, fit_df, fit_reml
from mmfusion.structured.symmetric import Symmetric

__all__ = ["StructuredFit", "fit_structured"]

#: Coefficients that move at least this share of the fastest run to infinity with it.
RUNS = 0.05

#: Which attributes of a fit are matrices over all coefficients.
MATRICES = ("bread", "information", "penalty")

#: Rounds between terms with fixed degrees of freedom and those with REML.
MAX_ROUNDS = 20


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
        return free - self.bread.product_diagonal(self.penalty)

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
        across = unit - self.penalty @ (self.bread @ unit)  # and its rows, transposed
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
            self, names=self.names[:count], coef=self.coef[:count], n_beside=beside, **parts
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


def fit_structured(
    likelihood: Likelihood,
    design: Design | np.ndarray,
    terms: Sequence[TermColumns] = (),
    offset: np.ndarray | None = None,
    *,
    names: Sequence[str] | None = None,
    saturated: bool = False,
    max_iter: int = 50,
    tol: float = 1e-9,
) -> StructuredFit:
    r"""Fit ``eta = X beta + offset`` by penalised maximum likelihood.

    Minimises ``-log L(eta) + sum_j sp_j beta' S_j beta / 2`` by Newton's method, for a residual
    variance of 1 where there is one (so that `sp` is mgcv's). Smoothing parameters that a term
    does not fix (``sp``, ``df``) maximise the Laplace-approximate restricted likelihood: see
    `mmfusion.structured.smoothing.fit_reml`. Nothing is added to the information: what the data
    do not determine is an error.

    Parameters
    ----------
    likelihood : Likelihood
        Of a head and an outcome.
    design : Design, or ndarray of shape (n K, p)
        In full a row's K predictors together.
    terms : sequence of TermColumns
        Columns outside every term are parametric.
    offset : ndarray, shape (n, K) or (n K,), optional
        In the units of `likelihood`.
    names : sequence of str, length p, optional
        By default made of the terms' labels.
    saturated : bool
        Whether a fit that leaves no residual degree of freedom is returned, whose scale means
        nothing.
    max_iter : int
        Newton steps for one set of smoothing parameters.
    tol : float
        Newton's method stops when a step is shorter than this many standard errors.

    Returns
    -------
    StructuredFit

    Raises
    ------
    CollinearityError
        A ValueError that names the columns that are redundant, or constant and not the intercept.
    ValueError
        For values that are not finite, shapes that do not fit, degrees of freedom that a term
        cannot have, and coefficients that leave none for a residual variance.

    Warns
    -----
    SeparationWarning
        Where coefficients run to infinity; it names them.
    sklearn.exceptions.ConvergenceWarning
        Where the iterations ran out.

    Examples
    --------
    >>> import numpy as np
    >>> from mmfusion.heads import CoxHead
    >>> from mmfusion.structured import Likelihood, effects_table, fit_structured
    >>> head = CoxHead()
    >>> target = head.fit_outcome(([5.0, 4, 3, 2, 1], [True, True, False, True, True]))
    >>> dose = np.array([[0.0], [1], [0], [1], [0]])
    >>> fit = fit_structured(Likelihood(head, target), dose, names=["dose"])
    >>> table = effects_table(fit)[["coef", "exp(coef)", "se", "p"]]
    >>> table.round(3)  # doctest: +NORMALIZE_WHITESPACE
           coef  exp(coef)    se      p
    term
    dose  0.834      2.303  1.23  0.498
    """
    design = as_design(design, likelihood.shape[1])
    offset = _check(likelihood, design, offset)
    if design.known is not None:
        offset, design = offset + design.known, design.linear
    p = design.n_columns
    terms = tuple(terms)
    names = _names(p, terms) if names is None else tuple(names)
    if len(names) != p:
        raise ValueError(f"The names parameter must have {p} entries, as the design. Got {names}.")

    penalised = np.zeros(p, dtype=bool)
    labels = list(names)
    for term in terms:
        if term.penalties and _is_penalised(term):
            penalised[term.columns] = True
            labels[term.columns] = [term.label] * int(penalised[term.columns].sum())
    if not likelihood.interacts:
        design = replace(design, apart=_largest_indicator(design, terms))
    scaled = scale_design(
        design, names, has_intercept=likelihood.has_intercept, penalised=penalised
    )
    penalties, active = _penalties(terms, scaled)
    problem = Problem(likelihood, scaled.design, penalties, offset, max_iter, tol)
    start = scaled.start(likelihood.initial, offset, shift_invariant=likelihood.shift_invariant)
    start = near_start(problem, start)
    information = _identified(problem, start, labels, _open(p, terms))
    balance = penalties.balance(information)
    n_free = p - penalties.rank
    if likelihood.has_scale and n_free >= likelihood.n_rows and not saturated:
        raise ValueError(
            f"The structured part must leave degrees of freedom for the residual variance. Got "
            f"{n_free} coefficients without a penalty for {likelihood.n_rows} rows. Drop columns "
            "or use penalised terms, s() or re()."
        )
    smoothed = _smooth(problem, active, balance, start, information)
    return _finish(problem, scaled, terms, names, active, smoothed)


def _check(likelihood: Likelihood, design: Design, offset: np.ndarray | None) -> np.ndarray:
    """Return the offset, (n, K)."""
    shape = (n, k) = likelihood.shape
    if (design.n_rows, design.n_predictors) != shape:
        raise ValueError(f"The design parameter must have shape ({n * k}, p). Got {design.shape}.")
    offset = np.zeros(shape) if offset is None else np.asarray(offset, dtype=np.float64)
    if offset.shape not in (shape, (n * k,)):
        raise ValueError(f"The offset parameter must have shape ({n * k},). Got {offset.shape}.")
    for name, values in [
        *(("design", block.numbers) for block in design.blocks),
        ("offset", offset),
    ]:
        if not np.isfinite(values).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
            raise ValueError(
                f"The {name} parameter must hold finite numbers. Got {values[where]} at {where}."
            )
    return offset.reshape(shape)


def _open(p: int, terms: Sequence[TermColumns]) -> int:
    """Return how many coefficients come before a last term that its given ridge identifies."""
    if not terms or terms[-1].sp is None or range(p)[terms[-1].columns].stop != p:
        return p
    ridges = [m for m, sp in zip(terms[-1].penalties, terms[-1].sp, strict=True) if sp > 0]
    sure = any(matrix.ndim == 1 and bool((matrix > 0).all()) for matrix in ridges)
    return range(p)[terms[-1].columns].start if sure else p


def _identified(problem: Problem, start: np.ndarray, labels: list[str], n_open: int) -> Symmetric:
    """Return the information at the start, which identifies the first coefficients, or raise.

    Where it is not positive definite, because the likelihood is not concave there, the sizes of
    the rows' curvatures decide.
    """
    likelihood, design, penalties = problem.likelihood, problem.design, problem.penalties
    eta = design.predict(start) + problem.offset

    def checked(*, definite: bool) -> Symmetric:
        information = likelihood.information(eta, design, definite=definite)
        whole = information + penalties.matrix(penalties.balance(information))
        if n_open < len(labels):
            whole = whole.leading(n_open)
        check_identified(whole, labels[:n_open], likelihood.n_rows)
        return information

    try:
        return checked(definite=False)
    except CollinearityError:
        if likelihood.interacts:
            raise
    return checked(definite=True)


def _largest_indicator(design: Design, terms: Sequence[TermColumns]) -> int | None:
    """Return the largest block of indicators with penalties that are diagonal, if any."""
    ridged, uses = np.zeros(design.n_columns + 1, dtype=bool), np.zeros(design.n_columns + 1)
    for term in terms:
        if term.penalties and _is_penalised(term):
            ridged[term.columns] = len(term.penalties) == 1 and term.penalties[0].ndim == 1
    for block in design.blocks:
        uses += np.bincount(block.columns.ravel() + 1, minlength=len(uses))
    ridged[:-1] &= uses[1:] == 1
    found = [
        (block.rows.size, number)
        for number, block in enumerate(design.blocks)
        if isinstance(block, Block)
        and isinstance(block.rows, Indicator)
        and ridged[block.columns].all()
    ]
    return max(found)[1] if found else None


def _names(p: int, terms: Sequence[TermColumns]) -> tuple[str, ...]:
    names = [f"x{j}" for j in range(p)]
    for term in terms:
        columns = range(p)[term.columns]
        for number, j in enumerate(columns, start=1):
            names[j] = term.label if len(columns) == 1 else f"{term.label}.{number}"
    return tuple(names)


def _is_penalised(term: TermColumns) -> bool:
    """Return whether a term's penalties count: ``sp=0`` and full degrees of freedom drop them."""
    width = len(term.penalties[0])
    if term.df is not None and term.df >= width:
        if term.df > width:
            raise ValueError(
                f"The df of {term.label!r} must be at most {width}, its number of coefficients. "
                f"Got {term.df:g}."
            )
        return False
    if term.sp is None:
        return True
    if len(term.sp) != len(term.penalties) or min(term.sp) < 0:
        raise ValueError(
            f"The sp of {term.label!r} must have {len(term.penalties)} entries, one a penalty, "
            f"none negative. Got {term.sp}."
        )
    return any(value > 0 for value in term.sp)


def _penalties(
    terms: Sequence[TermColumns], scaled: Scaled
) -> tuple[Penalties, list[tuple[TermColumns, list[int]]]]:
    """Return the penalties that count, and for each block its term and which of its penalties."""
    entries, active = [], []
    for term in terms:
        if not term.penalties or not _is_penalised(term):
            continue
        used = [j for j in range(len(term.penalties)) if term.sp is None or term.sp[j] > 0]
        matrices = [scaled.penalty(term.penalties[j], term.columns) for j in used]
        entries.append((term.label, term.columns, matrices))
        active.append((term, used))
    return Penalties(scaled.design.layout, entries), active


def _smooth(
    problem: Problem,
    active: list[tuple[TermColumns, list[int]]],
    balance: np.ndarray,
    start: np.ndarray,
    information: Symmetric,
) -> Smoothed:
    """Return the smoothing parameters, each found as its term says, and the fit."""
    sp = balance.copy()
    free = np.ones(len(sp), dtype=bool)
    wanted: dict[int, float] = {}
    for number, (term, used) in enumerate(active):
        position = problem.penalties.terms[number].position
        if term.sp is not None:
            sp[position] = [term.sp[j] for j in used]
            free[position] = False
        elif term.df is not None:
            wanted[number] = term.df
            free[position] = False
    result = fit_reml(problem, sp, free, start, information)
    if not wanted:
        return result
    for _ in range(MAX_ROUNDS):
        before = result.sp
        matched = fit_df(problem, result.sp, wanted, result.fit)
        result = fit_reml(problem, matched.sp, free, matched.fit.coef)
        settled = np.abs(np.log(result.sp / before)).max() < 1e-4
        if not free.any() or settled:
            return Smoothed(
                result.sp, result.fit, result.converged and matched.converged, result.n_iter
            )
    return Smoothed(result.sp, result.fit, False, result.n_iter)


def _finish(
    problem: Problem,
    scaled: Scaled,
    terms: tuple[TermColumns, ...],
    names: tuple[str, ...],
    active: list[tuple[TermColumns, list[int]]],
    smoothed: Smoothed,
) -> StructuredFit:
    fit, likelihood = smoothed.fit, problem.likelihood
    # In units of the columns' spread; the intercept as it is for columns that are not centred.
    speed = np.abs(scaled.coefficients(fit.runaway) * scaled.spread)
    runs = (speed > 0) & (speed >= RUNS * speed.max(initial=0.0))
    runaway = tuple(name for name, is_running in zip(names, runs, strict=True) if is_running)
    if runaway:
        warnings.warn(
            f"The likelihood rises for ever as the coefficients of {', '.join(runaway)} go to "
            "infinity: these columns separate the events (or classes) from the others. Their "
            "estimates are where the iteration stopped, their standard errors mean nothing; test "
            "them by likelihood ratio, drop them, or penalise them.",
            SeparationWarning,
            stacklevel=3,
        )
    elif not smoothed.converged:
        warnings.warn(
            f"The structured fit did not converge in {smoothed.n_iter} Newton steps.",
            ConvergenceWarning,
            stacklevel=3,
        )
    pieces: list[tuple[slice, np.ndarray]] = []
    sp = {term.label: [0.0] * len(term.penalties) for term in terms if term.penalties}
    for part, (term, used) in zip(problem.penalties.terms, active, strict=True):
        for j, value in zip(used, smoothed.sp[part.position], strict=True):
            pieces.append((term.columns, value * term.penalties[j]))
            sp[term.label][j] = float(value)
    penalty = penalty_matrix(scaled.design.layout, pieces)
    bread = fit.factor.inverse().mapped(scaled.back.T, scaled.forward.T)
    scale = 1.0
    if likelihood.has_scale:
        edf = len(names) - float(bread.product_diagonal(penalty).sum())
        scale = 2 * fit.value / max(likelihood.n_rows - edf, 1e-300)
    return StructuredFit(
        names=names,
        terms=terms,
        coef=scaled.coefficients(fit.coef),
        bread=bread,
        information=fit.information.mapped(scaled.forward, scaled.back),
        penalty=penalty,
        sp={label: tuple(values) for label, values in sp.items()},
        scale=scale,
        log_likelihood=likelihood.log_likelihood(fit.eta),
        has_scale=likelihood.has_scale,
        ratio=likelihood.ratio,
        n_rows=likelihood.n_rows,
        n_iter=smoothed.n_iter,
        converged=smoothed.converged,
        runaway=runaway,
    )
