"""What is not known of curves because their smoothing parameters are estimates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from mmfusion.structured.linalg import eliminate
from mmfusion.structured.penalty import RANK_TOL, Penalties, penalty_matrix
from mmfusion.structured.result import StructuredFit

__all__ = ["smoothing_root"]

Array = NDArray[np.float64]

#: Logarithms of a smoothing parameter over its estimate at which its posterior is looked at.
NODES = np.linspace(-20.0, 20.0, 161)

#: A standard deviation is told from infinity by this many coefficients or more (Gelman 2006).
FEWEST = 3

#: Of matrices whose sizes are about 1.
ROUNDING = 1e-12


def smoothing_root(fit: StructuredFit) -> Array:
    r"""Return L, ``L L'`` being the variance that estimated smoothing parameters add.

    Of one smoothing parameter, the others at their estimates, the posterior given the coefficients'
    quadratic likelihood is summed over nodes with weights :math:`w_k`, and

    .. math:: \sum_k w_k \{V_k + (\beta_k - \hat\beta)(\beta_k - \hat\beta)'\} - V

    is added; it is the law of total variance around the estimate. Wood, Pya & Saefken (2016, JASA
    111:1548-1575, section 4) linearise the same at the estimate; nothing is left of it where this
    runs to infinity, a straight line, though the posterior is widest there. The prior is uniform in
    the standard deviation ``1 / sqrt(sp)`` (Gelman 2006, Bayesian Analysis 1:515-533). Directions
    in which the posterior is narrower than V add nothing. So do penalties of fewer than three
    coefficients, fixed ones, and a large random intercept's; the levels of the latter move with the
    others.

    Parameters
    ----------
    fit : StructuredFit

    Returns
    -------
    ndarray, shape (p, r)
    """
    layout = fit.bread.layout
    runs = np.isin(fit.names, fit.runaway)
    free = (fit.bread.diagonal() > 0) & ~runs
    used = layout.first[free[layout.first]]
    penalties, estimated = _penalties(fit)
    parts = [_part(fit, penalties, used, *one) for one in estimated]
    added = np.zeros((len(fit.coef), sum(part.shape[1] for part in parts)))
    if parts:
        added[used] = np.hstack(parts)
    if parts and layout.split:
        slopes = eliminate(fit.information + fit.penalty)[1]
        added[layout.apart] = -slopes @ added[layout.first]
    return added


def _penalties(fit: StructuredFit) -> tuple[Penalties, list[tuple[int, Array, int, Array]]]:
    """Return the penalties, and of each estimated one: term, sp of the term, place, matrix."""
    apart = set(fit.bread.layout.apart.ravel().tolist())
    entries: list[tuple[str, slice, list[Array]]] = []
    estimated = []
    for term in fit.terms:
        places = [j for j, sp in enumerate(fit.sp.get(term.label, ())) if sp > 0]
        if not places:
            continue
        matrices = [term.penalties[j] for j in places]
        sp = np.array([fit.sp[term.label][j] for j in places])
        given = term.sp is not None or term.df is not None
        if not given and range(len(fit.coef))[term.columns][0] not in apart:
            for place, matrix in enumerate(matrices):
                full = np.diag(matrix) if matrix.ndim == 1 else matrix
                if _rank(full) >= FEWEST:
                    estimated.append((len(entries), sp, place, full))
        entries.append((term.label, term.columns, matrices))
    return Penalties(fit.bread.layout, entries), estimated


def _rank(matrix: Array) -> int:
    return int(np.linalg.matrix_rank(matrix, RANK_TOL * np.linalg.norm(matrix), hermitian=True))


def _part(
    fit: StructuredFit,
    penalties: Penalties,
    used: NDArray[np.intp],
    number: int,
    sp: Array,
    place: int,
    matrix: Array,
) -> Array:
    """Return L of one smoothing parameter, over the coefficients `used`.

    With ``W'H W = diag(h)`` and ``W'S W = diag(s)``, H the information and the other penalties,
    all that follows is diagonal: at the parameter lambda, V is ``W diag(1 / (h + lambda s)) W'``.
    """
    term = penalties.terms[number]
    layout = fit.bread.layout
    own = penalty_matrix(layout, [(term.columns, matrix)])
    here = np.ix_(*[np.searchsorted(layout.first, used)] * 2)
    rest = eliminate(fit.information + fit.penalty - own * sp[place])[0][here]
    inside = own.first[here]
    balanced = rest + np.trace(rest[inside.any(0)][:, inside.any(0)]) / np.trace(inside) * inside
    balanced[np.diag_indices(len(balanced))] *= 1 + ROUNDING
    s, basis = linalg.eigh(inside, balanced)
    s[: len(s) - _rank(inside)] = 0.0  # but for rounding they are
    h = np.maximum(((rest @ basis) * basis).sum(0), ROUNDING)
    coef = basis.T @ balanced @ fit.coef[used]

    weights = np.tile(sp, (len(NODES), 1))
    weights[:, place] *= np.exp(NODES)
    curvature = h + np.outer(weights[:, place], s)  # (nodes, p)
    estimate = h + sp[place] * s
    moved = coef * (estimate / curvature - 1)
    loss = -0.5 * moved @ (estimate * coef)  # less that at the estimate, of a scale of 1
    if fit.has_scale:
        squares = fit.scale * max(fit.n_rows - float(fit.edf.sum()) - fit.n_beside, 0.0)
        squares += float(fit.coef @ (fit.penalty @ fit.coef))
        n_free = fit.n_rows - len(fit.coef) - fit.n_beside + penalties.rank
        loss = 0.5 * n_free * np.log1p(2 * loss / max(squares, 1e-300))
    log_det = np.array([term.log_det(w) for w in weights])
    value = loss + 0.5 * np.log(curvature).sum(1) - 0.5 * log_det
    value += 0.5 * NODES  # the prior's
    chance = np.exp(value.min() - value)
    chance /= chance.sum()
    extra = (moved.T * chance) @ moved
    extra += fit.scale * np.diag(chance @ (1 / curvature) - 1 / estimate)
    # In units of V, so that rounding is told from a size.
    unit = np.sqrt(fit.scale / estimate)
    sizes, directions = np.linalg.eigh(extra / np.outer(unit, unit))
    kept = sizes > ROUNDING
    return np.asarray((basis * unit) @ (directions[:, kept] * np.sqrt(sizes[kept])))
