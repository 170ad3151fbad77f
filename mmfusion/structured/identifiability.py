"""Whether an outcome determines the coefficients, and if not, which columns are to blame."""

from __future__ import annotations

import numpy as np

from mmfusion.structured.errors import CollinearityError
from mmfusion.structured.linalg import eliminate
from mmfusion.structured.symmetric import Symmetric

__all__ = ["check_identified"]

#: A column of which the others leave less than this share unexplained is redundant (as in R's
#: coxph).
REDUNDANT = 1e-12

#: The same of the columns of a smooth, which are products of decompositions: rounding leaves more.
REDUNDANT_SMOOTH = 1e-9

#: A coefficient this large (of scaled columns) belongs to the redundancy's formula.
INVOLVED = 1e-6


def check_identified(matrix: Symmetric, names: list[str], n_rows: int) -> None:
    """Raise unless every coefficient is identified.

    Columns are taken in their order, each less its projection on those before it in the metric of
    the information (a Cholesky factorisation): the later of two columns is the redundant one, as
    in R's ``lm`` and ``coxph``, which drop it.

    Parameters
    ----------
    matrix : Symmetric, shape (p, p)
        The information of centred and scaled columns, with the penalties, which identify what is
        apart.
    names : sequence of str, length p
        Of each column; columns of one penalised term share the term's label.
    n_rows : int

    Raises
    ------
    CollinearityError
        Naming the redundant columns and what they are made of.
    """
    names = [names[j] for j in matrix.layout.first]
    p = len(names)
    diagonal = np.diag(matrix.first)
    largest = float(diagonal.max(initial=0.0))
    silent = diagonal <= 1e-13 * largest
    scale = np.sqrt(np.where(silent, 1.0, diagonal))
    rest = eliminate(matrix)[0] / np.outer(scale, scale)
    if not silent.any() and _clear(rest):
        return
    kept: list[int] = []
    reasons: list[tuple[int, str]] = []
    scaled = rest.copy()
    for j in range(p):
        if silent[j]:
            reasons.append((j, f"{names[j]!r} does not vary among the rows that are compared"))
            continue
        if rest[j, j] > (REDUNDANT_SMOOTH if names.count(names[j]) > 1 else REDUNDANT):
            kept.append(j)
            rest = rest - np.outer(rest[:, j], rest[j]) / rest[j, j]
            continue
        weights = np.linalg.lstsq(scaled[np.ix_(kept, kept)], scaled[kept, j], rcond=None)[0]
        used = [names[k] for k, w in zip(kept, weights, strict=True) if abs(w) > INVOLVED]
        parts = ", ".join(repr(name) for name in dict.fromkeys(used) if name != names[j])
        text = f"{names[j]!r} is a linear combination of {parts}"
        if names.count(names[j]) > 1:  # a smooth's straight line
            text = f"the part of {names[j]!r} without penalty is in {parts or 'its other columns'}"
        reasons.append((j, text))
    if not reasons:
        return
    redundant = tuple(names[j] for j, _ in reasons)
    if p > n_rows:
        raise CollinearityError(
            f"The structured part has {p} coefficients for {n_rows} rows, without a penalty that "
            "would identify them. Drop columns or use penalised terms, s() or re().",
            redundant,
        )
    what = "; ".join(dict.fromkeys(text for _, text in reasons))
    raise CollinearityError(
        f"The structured part has redundant columns: {what}. Drop them.", redundant
    )


def _clear(matrix: np.ndarray) -> bool:
    """Return whether no column is redundant, by the pivots of one Cholesky factorisation."""
    try:
        pivots = np.diag(np.linalg.cholesky(matrix)) ** 2
    except np.linalg.LinAlgError:
        return False
    return bool((pivots > REDUNDANT).all())
