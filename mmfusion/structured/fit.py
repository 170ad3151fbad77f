"""The exact fit of the structured part: coefficients, smoothing parameters, covariance."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import linalg
from sklearn.exceptions import ConvergenceWarning

from mmfusion.structured.blocks import Block
from mmfusion.structured.bounds import bounded_step, inequalities
from mmfusion.structured.columns import TermColumns
from mmfusion.structured.design import Design, as_design
from mmfusion.structured.errors import CollinearityError, SeparationWarning
from mmfusion.structured.identifiability import check_identified
from mmfusion.structured.likelihood import Likelihood
from mmfusion.structured.linalg import Factor
from mmfusion.structured.near import near_start
from mmfusion.structured.penalty import Penalties, penalty_matrix
from mmfusion.structured.result import StructuredFit
from mmfusion.structured.rows import Indicator
from mmfusion.structured.scaling import Scaled, scale_design
from mmfusion.structured.separated import separated
from mmfusion.structured.smoothing import Problem, Smoothed, fit_df, fit_reml
from mmfusion.structured.symmetric import Symmetric

__all__ = ["fit_structured"]

#: Coefficients that move at least this share of the fastest run to infinity with it.
RUNS = 0.05

#: Coefficients that the last step moved at least this share of the fastest are named.
FASTEST = 0.5

#: What an outcome says less of than this share of what exact values would, it is silent of.
SILENT = 1e-6

#: Rounds between terms with fixed degrees of freedom and those with REML.
MAX_ROUNDS = 20


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
    `mmfusion.structured.smoothing.fit_reml`. Where a term has inequalities (``bounds``) the
    coefficients are fitted under them at the smoothing parameters found without. Nothing is added
    to the information: what the data do not determine is an error.

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

    penalised = np.zeros(p, dtype=np.intp)
    labels = list(names)
    for number, term in enumerate(terms, start=1):
        if term.penalties and _is_penalised(term):
            penalised[term.columns] = number
            labels[term.columns] = [term.label] * len(penalised[term.columns])
    if not likelihood.interacts:
        design = replace(design, apart=_largest_indicator(design, terms))
    scaled = scale_design(
        design, names, has_intercept=likelihood.has_intercept, penalised=penalised
    )
    penalties, active = _penalties(terms, scaled)
    start = scaled.start(likelihood.initial, offset, shift_invariant=likelihood.shift_invariant)
    whole = likelihood, scaled.design, offset
    solved, columns, shift = separated(*whole) or whole
    problem = Problem(solved, columns, penalties, shift, max_iter, tol)
    if solved is likelihood:
        start = near_start(problem, start)
    slopes, information = _identified(problem, start, labels, _open(p, terms))
    balance = penalties.balance(information)
    n_free = p - penalties.rank
    if likelihood.has_scale and n_free >= likelihood.n_rows and not saturated:
        raise ValueError(
            f"The structured part must leave degrees of freedom for the residual variance. Got "
            f"{n_free} coefficients without a penalty for {likelihood.n_rows} rows. Drop columns "
            "or use penalised terms, s() or re()."
        )
    smoothed = _smooth(problem, active, balance, start, information, slopes)
    bounds = inequalities(
        p, [(term.columns, term.bounds) for term in terms if term.bounds is not None]
    )
    if bounds is None:
        return _finish(problem, scaled, terms, names, active, smoothed)
    smoothed = _within(problem, smoothed, bounds / scaled.spread)
    return _finish(problem, scaled, terms, names, active, smoothed, bounds[smoothed.fit.active])


def _check(likelihood: Likelihood, design: Design, offset: np.ndarray | None) -> np.ndarray:
    """Return the offset, (n, K); where none is given (n, 1), a zero for all predictors of a row."""
    shape = (n, k) = likelihood.shape
    if (design.n_rows, design.n_predictors) != shape:
        raise ValueError(f"The design parameter must have shape ({n * k}, p). Got {design.shape}.")
    given = np.zeros((n, 1)) if offset is None else np.asarray(offset, dtype=np.float64)
    if offset is not None and given.shape not in (shape, (n * k,)):
        raise ValueError(f"The offset parameter must have shape ({n * k},). Got {given.shape}.")
    for name, values in [
        *(("design", block.numbers) for block in design.blocks),
        ("offset", given),
    ]:
        if not np.isfinite(values).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
            raise ValueError(
                f"The {name} parameter must hold finite numbers. Got {values[where]} at {where}."
            )
    return given if offset is None else given.reshape(shape)


def _open(p: int, terms: Sequence[TermColumns]) -> int:
    """Return how many coefficients come before a last term that its given ridge identifies."""
    if not terms or terms[-1].sp is None or range(p)[terms[-1].columns].stop != p:
        return p
    ridges = [m for m, sp in zip(terms[-1].penalties, terms[-1].sp, strict=True) if sp > 0]
    sure = any(matrix.ndim == 1 and bool((matrix > 0).all()) for matrix in ridges)
    return range(p)[terms[-1].columns].start if sure else p


def _identified(
    problem: Problem, start: np.ndarray, labels: list[str], n_open: int
) -> tuple[np.ndarray | None, Symmetric]:
    """Return slopes and information at the start, which identifies some coefficients, or raise.

    Where it is not positive definite, because the likelihood is not concave there, the sizes of
    the rows' curvatures decide.
    """
    likelihood, design, penalties = problem.likelihood, problem.design, problem.penalties
    eta = design.predicted(start) + problem.offset

    def checked(*, definite: bool) -> tuple[np.ndarray | None, Symmetric]:
        slopes: np.ndarray | None = None
        if likelihood.interacts:
            information = likelihood.information(eta, design, definite=definite)
        else:
            slopes, information = likelihood.derivatives(eta, design, definite=definite)
        if not information.is_finite():
            wrong = dict.fromkeys(np.array(labels)[~np.isfinite(np.diag(information.dense()))])
            raise ValueError(
                "The likelihood has no finite derivatives where its fit starts"
                + (f", in the coefficients of {', '.join(wrong)}." if wrong else ".")
                + " Check the columns and the outcome for numbers of very different sizes."
            )
        whole = information + penalties.matrix(penalties.balance(information))
        if n_open < len(labels):
            whole = whole.leading(n_open)
        check_identified(whole, labels[:n_open], likelihood.n_rows)
        return slopes, information

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
    slopes: np.ndarray | None,
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
    result = fit_reml(problem, sp, free, start, information, slopes)
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


def _within(problem: Problem, smoothed: Smoothed, bounds: np.ndarray) -> Smoothed:
    """Return the fit of the same smoothing parameters under inequalities.

    It starts at the point that they allow next to the one without them, in the metric of the
    penalised likelihood: of a quadratic that is the solution.
    """
    free = smoothed.fit
    step, held = bounded_step(free.factor, bounds, free.coef, np.zeros(len(free.coef)))
    if not held.any():
        return replace(smoothed, fit=replace(free, active=held))
    fit = problem.fit(smoothed.sp, free.coef + step, bounds=bounds)
    converged = smoothed.converged and fit.converged
    return Smoothed(smoothed.sp, fit, converged, smoothed.n_iter + fit.n_iter)


def _finish(
    problem: Problem,
    scaled: Scaled,
    terms: tuple[TermColumns, ...],
    names: tuple[str, ...],
    active: list[tuple[TermColumns, list[int]]],
    smoothed: Smoothed,
    level: np.ndarray | None = None,
) -> StructuredFit:
    """Return the fit in the units of the columns; `level` are its active inequalities."""
    fit, likelihood = smoothed.fit, problem.likelihood
    # In units of the columns' spread; the intercept as it is for columns that are not centred.
    speed = np.abs(scaled.coefficients(fit.runaway) * scaled.spread)
    runs = (speed > 0) & (speed >= RUNS * speed.max(initial=0.0))
    runaway = tuple(name for name, is_running in zip(names, runs, strict=True) if is_running)
    if runaway and set(np.flatnonzero(runs)) <= set(scaled.constants):
        warnings.warn(
            f"The likelihood rises for ever as {', '.join(runaway)} goes to infinity: the outcome "
            "is as if a parameter were at the end of its range (counts that are all 0, or vary no "
            "more than without a dispersion, or have no zeros more; tails as light as a normal's). "
            "The others' estimates hold; a family without that parameter fits as well.",
            SeparationWarning,
            stacklevel=3,
        )
    elif runaway:
        warnings.warn(
            f"The likelihood rises for ever as the coefficients of {', '.join(runaway)} go to "
            "infinity: these columns separate the events (or classes) from the others. Their "
            "estimates are where the iteration stopped, their standard errors mean nothing; test "
            "them by likelihood ratio, drop them, or penalise them.",
            SeparationWarning,
            stacklevel=3,
        )
    elif not smoothed.converged:
        moved = np.abs(scaled.coefficients(fit.last_step) * scaled.spread)
        fastest = (moved > 0) & (moved >= FASTEST * moved.max(initial=0.0))
        moving = [name for name, is_moving in zip(names, fastest, strict=True) if is_moving]
        warnings.warn(
            f"The structured fit did not converge in {smoothed.n_iter} Newton steps."
            + (f" Its last step moved {', '.join(moving[:5])} most." if moving else ""),
            ConvergenceWarning,
            stacklevel=3,
        )
    elif likelihood.expects:
        _warn_of_silence(problem, names, smoothed)
    pieces: list[tuple[slice, np.ndarray]] = []
    sp = {term.label: [0.0] * len(term.penalties) for term in terms if term.penalties}
    for part, (term, used) in zip(problem.penalties.terms, active, strict=True):
        for j, value in zip(used, smoothed.sp[part.position], strict=True):
            pieces.append((term.columns, value * term.penalties[j]))
            sp[term.label][j] = float(value)
    penalty = penalty_matrix(scaled.design.layout, pieces)
    bread = fit.factor.inverse().mapped(scaled.back.T, scaled.forward.T)
    found = StructuredFit(
        names=names,
        terms=terms,
        coef=scaled.coefficients(fit.coef),
        bread=bread,
        information=fit.information.mapped(scaled.forward, scaled.back),
        penalty=penalty,
        sp={label: tuple(values) for label, values in sp.items()},
        scale=1.0,
        log_likelihood=likelihood.log_likelihood(fit.value),
        has_scale=likelihood.has_scale,
        ratio=likelihood.ratio,
        n_rows=likelihood.n_rows,
        n_iter=smoothed.n_iter,
        converged=smoothed.converged,
        runaway=runaway,
        active=level if level is not None and len(level) else None,
    )
    if not likelihood.has_scale:
        return found
    edf = float(found.edf.sum())
    return replace(found, scale=2 * fit.value / max(likelihood.n_rows - edf, 1e-300))


def _warn_of_silence(problem: Problem, names: tuple[str, ...], smoothed: Smoothed) -> None:
    """Warn where the outcome says next to nothing of what values known exactly would tell."""
    fit, likelihood, design = smoothed.fit, problem.likelihood, problem.design
    known = fit.information if fit.n_iter else likelihood.information(fit.eta, design)
    penalty = problem.penalties.matrix(smoothed.sp)
    if Factor(known + penalty).definite:
        return
    exact = likelihood.information(fit.eta, design, definite=True) + penalty
    try:
        sizes, axes = linalg.eigh((known + penalty).dense(), exact.dense())
    except linalg.LinAlgError:
        return
    if len(sizes) and sizes[0] < SILENT:
        moved = np.abs(axes[:, 0])
        which = [names[j] for j in np.flatnonzero(moved >= FASTEST * moved.max())]
        warnings.warn(
            f"The outcome says next to nothing of {', '.join(which[:5])}: its limits are too wide, "
            "or too few. Other estimates are as likely; standard errors are those of values that "
            "are known exactly.",
            ConvergenceWarning,
            stacklevel=4,
        )
