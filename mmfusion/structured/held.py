"""A fit of some coefficients of a design, the others held at zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmfusion.structured.columns import TermColumns
from mmfusion.structured.design import Design, as_design
from mmfusion.structured.errors import CollinearityError
from mmfusion.structured.fit import fit_structured
from mmfusion.structured.likelihood import Likelihood
from mmfusion.structured.result import StructuredFit

__all__ = ["fit_identified"]


def fit_identified(
    likelihood: Likelihood,
    design: Design | np.ndarray,
    terms: Sequence[TermColumns],
    offset: np.ndarray | None,
    names: Sequence[str],
    may_hold: np.ndarray,
) -> tuple[StructuredFit, np.ndarray]:
    """Fit what the rows identify; hold at zero what only other rows do.

    Of a part of the rows (the training rows, a fold) a rare level may be absent, so that its
    coefficient is not identified although that of all rows is.

    Parameters
    ----------
    likelihood, design, terms, offset, names
        As for `fit_structured`.
    may_hold : ndarray of bool, shape (p,)
        Which coefficients may be held; of a penalised term all, where its design is zero. If any
        may be, the fit may be saturated too.

    Returns
    -------
    fit : StructuredFit
        Of all p columns. A held coefficient has no variance and no information.
    held : ndarray of bool, shape (p,)

    Raises
    ------
    CollinearityError
        Where others than these would have to be.
    """
    design = as_design(design, likelihood.shape[1])
    labels, p = np.asarray(names, dtype=object), design.n_columns
    may_hold, saturated = may_hold.copy(), bool(may_hold.any())
    held = np.zeros(p, dtype=bool)
    penalised = [term for term in terms if term.penalties]
    nonzero = design.nonzero() if penalised else held
    for term in penalised:
        held[term.columns] = may_hold[term.columns].all() and not nonzero[term.columns].any()
        may_hold[term.columns] = False
    while True:
        kept = np.flatnonzero(~held)
        moved = [
            replace(term, columns=slice(start, start + term.columns.stop - term.columns.start))
            for term in penalised
            if not held[term.columns].any()
            for start in [int(np.searchsorted(kept, term.columns.start))]
        ]
        try:
            fit = fit_structured(
                likelihood,
                design.keep(kept),
                moved,
                offset,
                names=labels[kept].tolist(),
                saturated=saturated,
            )
            break
        except CollinearityError as error:
            redundant = ~held & np.isin(labels, error.columns)
            if not redundant.any() or not may_hold[redundant].all():
                raise
            held |= redundant
    coef = np.zeros(p)
    coef[kept] = fit.coef
    fit = replace(
        fit,
        names=tuple(names),
        terms=tuple(terms),
        coef=coef,
        bread=fit.bread.padded(kept, p),
        information=fit.information.padded(kept, p),
        penalty=fit.penalty.padded(kept, p),
        active=_padded(fit.active, kept, p),
    )
    return fit, held


def _padded(rows: np.ndarray | None, kept: np.ndarray, p: int) -> np.ndarray | None:
    """Return inequalities of the coefficients `kept` as ones of all p."""
    if rows is None:
        return None
    result = np.zeros((len(rows), p))
    result[:, kept] = rows
    return result
