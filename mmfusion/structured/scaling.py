"""The design as the fit sees it: columns centred where a constant is free, and of one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mmfusion.inputs.rounding import nothing_but_rounding
from mmfusion.structured.blocks import Block, Given, row_pieces
from mmfusion.structured.design import Design
from mmfusion.structured.errors import CollinearityError
from mmfusion.structured.rows import Dense

__all__ = ["Scaled", "scale_design"]

#: A piece of columns that is read more than once is by so much smaller than others.
CACHED = 8
#: A basis of which constants leave less than this share is theirs to move.
SPANNED = 1e-10

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scaled:
    """A design ``Z``, and the map that returns its coefficients to the design given.

    ``X beta = Z gamma`` up to a constant that the likelihood does not see, with ``beta = back
    gamma``. Powers of a year or of an income then lose no digits in the information. What is apart
    in the design's layout is left as it is.

    Attributes
    ----------
    design : Design
    spread : ndarray, shape (p,)
    back, forward : csr_array, shape (a, a)
        Of the coefficients that are not apart; the inverse of it.
    constants : ndarray of int, shape (q,)
        Coefficients that are the same number in every row.
    levels : ndarray, shape (K, q)
        What the coefficients of Z at `constants` move the predictors by.
    """

    design: Design
    spread: Array
    back: sparse.csr_array
    forward: sparse.csr_array
    constants: NDArray[np.intp]
    levels: Array

    def coefficients(self, scaled: Array) -> Array:
        """Return coefficients of Z as those of X."""
        result = scaled.copy()
        first = self.design.layout.first
        result[first] = self.back @ scaled[first]
        return result

    def penalty(self, matrix: Array, columns: slice) -> Array:
        """Return a penalty of the given coefficients, (k, k) or its diagonal, for those of Z."""
        spread = self.spread[columns]
        return matrix / (spread**2 if matrix.ndim == 1 else np.outer(spread, spread))

    def start(self, initial: Array, offset: Array, *, shift_invariant: bool) -> Array:
        """Return coefficients with which the predictors start as near to `initial` as they can.

        Constants alone: by least squares over the rows, whose offsets (n, K) they make up for. A
        number more on all predictors costs nothing where it says nothing (`shift_invariant`).
        """
        coef = np.zeros(len(self.spread))
        wanted = initial - offset.mean(0)
        free = np.ones((len(wanted), int(shift_invariant)))
        found = _nearest(np.hstack([self.levels, free]), wanted[:, None])[:, 0]
        coef[self.constants] = found[: len(self.constants)]
        return coef


def scale_design(
    design: Design, names: Sequence[str], *, has_intercept: bool, penalised: NDArray[np.intp]
) -> Scaled:
    """Centre and scale a design.

    Columns are centred if the likelihood does not see a constant, or if constants among them move
    the same predictors: these then take up the shift. The row columns of a block are copied once.

    Parameters
    ----------
    design : Design
    names : sequence of str, length p
    has_intercept : bool
        Whether the likelihood sees a constant.
    penalised : ndarray of int, shape (p,)
        The number of the term, from 1, whose penalty identifies a coefficient; 0 of the others.

    Raises
    ------
    CollinearityError
        For a column that is constant, where a constant is not identified.
    """
    design, unit = _unit_bases(design, penalised)
    moments = [_Moments.of(block) for block in design.blocks]
    constants, levels = _constants(design, moments, names, has_intercept, penalised)
    p = design.n_columns
    spread, shift = np.ones(p + 1), np.zeros((len(constants), p + 1))
    blocks: list[Block | Given] = []
    for block, found in zip(design.blocks, moments, strict=True):
        center, size = np.zeros(len(found.mean)), found.size()
        multiples = _multiples(block, levels, has_intercept)
        if multiples is not None:
            is_constant = np.isin(block.columns, constants).any(0)
            center = np.where(is_constant, 0.0, found.mean)
            size = np.where(is_constant, found.mean, found.deviation())
            size = _together(block, size, penalised)
            shift[:, block.columns] = multiples[:, :, None] * center
        blocks.append(block.scaled(center, size))
        spread[block.columns] = size
    scaled = replace(design, blocks=tuple(blocks))
    first = scaled.layout.first
    # A constant takes up what the columns were centred by: beside a diagonal its row alone.
    # With E the entries it has, back is (1 - E / size) / size / units, forward (size + E) units.
    size, units, (row, column) = spread[first], unit[first], np.nonzero(shift[:, first])
    moved, place = shift[row, first[column]], np.searchsorted(first, constants)[row]
    every = np.arange(len(size))
    where = np.concatenate([every, place]), np.concatenate([every, column])
    taken = moved / (size[place] * size[column] * units[place])
    back = np.concatenate([1 / (size * units), -taken])
    forward = np.concatenate([size * units, moved * units[column]])
    shape = len(size), len(size)
    return Scaled(
        scaled,
        spread[:-1] * unit,
        sparse.csr_array((back, where), shape=shape),
        sparse.csr_array((forward, where), shape=shape),
        constants,
        levels,
    )


def _unit_bases(design: Design, penalised: NDArray[np.intp]) -> tuple[Design, Array]:
    """Return a design whose bases are of size 1, and what coefficients are divided by, (p,).

    Predictors may have units of their own (a location in units of y). A smooth over predictors is
    taken as one: of columns that are next to nothing the penalty would be next to infinite.
    """
    smooth = np.append(penalised > 0, False)
    unit, uses = np.ones(design.n_columns + 1), np.zeros(design.n_columns + 1, dtype=np.intp)
    for block in design.blocks:
        np.add.at(uses, block.columns, 1)
    blocks: list[Block | Given] = []
    for block in design.blocks:
        alone = (uses[block.columns] <= 1) | (block.columns < 0)
        if isinstance(block, Block) and isinstance(block.rows, Dense) and alone.all():
            size = np.abs(block.basis).max(0)
            if smooth[block.columns].any():
                size = np.full(len(size), size.max())
            size = np.where(size > 0, size, 1.0)
            unit[block.columns] = size[:, None]
            block = replace(block, basis=block.basis / size)
        blocks.append(block)
    return replace(design, blocks=tuple(blocks)), unit[:-1]


def _together(block: Block | Given, size: Array, penalised: NDArray[np.intp]) -> Array:
    """Return one size for all columns of a penalised term, whose penalty ties them.

    Of a B-spline at which a single row lies the penalty would be next to infinite, were its column
    brought to the others' size.
    """
    owner = np.where(block.columns >= 0, penalised[block.columns], 0).max(0, initial=0)
    tied = size.copy()
    for number in np.unique(owner[owner > 0]):
        tied[owner == number] = size[owner == number].max()
    return tied


@dataclass(frozen=True)
class _Moments:
    """Mean, mean square about it, and largest size of each column of a block's rows."""

    mean: Array
    variance: Array
    largest: Array

    @classmethod
    def of(cls, block: Block | Given) -> Self:
        values = block.numbers
        values = values.reshape(-1, values.shape[-1])
        if not len(values):  # an indicator is left as it is
            one = np.ones(values.shape[1])
            return cls(0 * one, one, one)
        n, r = values.shape
        mean, squares, largest = np.zeros(r), np.zeros(r), np.zeros(r)
        # A column of a piece after the other: sums along memory are several times faster. Squares
        # about the means of pieces are those about the mean of all, less what these are apart.
        for rows in row_pieces(n, CACHED * r):
            part = np.array(values[rows].T, order="C")  # a copy, also of one column
            np.maximum(largest, np.maximum(part.max(1), -part.min(1)), out=largest)
            m, own = part.shape[1], part.mean(1)
            part -= own[:, None]
            apart, share = own - mean, m / (rows.start + m)
            squares += np.einsum("ij,ij->i", part, part) + apart**2 * (rows.start * share)
            mean += apart * share
        return cls(mean, squares / n, largest)

    @property
    def constant(self) -> NDArray[np.bool_]:
        return nothing_but_rounding(np.sqrt(self.variance), self.largest)

    def deviation(self) -> Array:
        """Return the standard deviation, 1 of a constant."""
        return np.where(self.constant, 1.0, np.sqrt(self.variance))

    def size(self) -> Array:
        """Return the root of the mean square, 1 of zeros."""
        size = np.sqrt(self.variance + self.mean**2)
        return np.where(size > 0, size, 1.0)


def _constants(
    design: Design,
    moments: Sequence[_Moments],
    names: Sequence[str],
    has_intercept: bool,
    penalised: NDArray[np.intp],
) -> tuple[NDArray[np.intp], Array]:
    """Return the coefficients of the constants, and what they move the predictors by, (K, q)."""
    places: list[int] = []
    bases: list[Array] = []
    always: list[float] = []
    for block, found in zip(design.blocks, moments, strict=True):
        if not (isinstance(block, Block) and isinstance(block.rows, Dense)):
            continue
        for b, a in np.argwhere(found.constant & (block.columns >= 0)):
            if not penalised[block.columns[b, a]]:
                places.append(int(block.columns[b, a]))
                bases.append(block.basis[:, b])
                always.append(float(found.mean[a]) if found.largest[a] else 0.0)
    columns, levels = np.array(places, dtype=np.intp), np.zeros((design.n_predictors, len(bases)))
    levels[:] = np.array(bases).reshape(-1, design.n_predictors).T
    kept = np.array(always) != 0.0
    kept[kept] = _independent(levels[:, kept]) if has_intercept else False
    wrong = {place: always[at] for at, place in enumerate(places) if not kept[at]}
    if wrong:
        reason = (
            "the likelihood does not see a constant (in a Cox model the baseline hazard has it)"
            if not has_intercept
            else "a constant is the intercept's, and zeros say nothing"
        )
        what = ", ".join(f"{names[j]!r} (always {wrong[j]:g})" for j in sorted(wrong))
        raise CollinearityError(
            f"The structured part has constant columns: {what}; {reason}.",
            tuple(names[j] for j in sorted(wrong)),
        )
    return columns, levels


def _independent(levels: Array) -> NDArray[np.bool_]:
    """Return which of the columns (K, q) those before them do not span, by Gram and Schmidt."""
    if _disjoint(levels):
        return np.asarray(levels.any(0))
    axes = np.empty((len(levels), 0))  # orthonormal, of the same span
    kept = np.zeros(levels.shape[1], dtype=bool)
    for at, basis in enumerate(levels.T):
        rest = basis - axes @ (basis @ axes)
        rest -= axes @ (rest @ axes)
        size = float(np.linalg.norm(rest))
        kept[at] = size > SPANNED * np.linalg.norm(basis)
        if kept[at]:
            axes = np.column_stack([axes, rest / size])
    return kept


def _disjoint(levels: Array) -> bool:
    """Return whether no predictor is moved by two of the columns (K, q)."""
    return bool(np.count_nonzero(levels, axis=1).max(initial=0) <= 1)


def _nearest(levels: Array, wanted: Array) -> Array:
    """Return the multiples (q, f) of columns that add up to what is wanted, (K, f), by squares."""
    if _disjoint(levels):  # each column by itself
        squares = np.einsum("kq,kq->q", levels, levels)[:, None]
        return np.asarray(levels.T @ wanted / np.where(squares > 0, squares, 1.0))
    return np.asarray(np.linalg.lstsq(levels, wanted, rcond=None)[0], dtype=np.float64)


def _multiples(block: Block | Given, levels: Array, has_intercept: bool) -> Array | None:
    """Return what constants take up of a block that is centred, (q, f); None where none can."""
    if not (isinstance(block, Block) and isinstance(block.rows, Dense)):
        return None
    found = np.zeros((levels.shape[1], block.basis.shape[1]))
    if not has_intercept:  # the likelihood does not see it
        return found
    used = (block.columns >= 0).any(1)
    taken = _spanned(levels, block.basis[:, used])
    if taken is None:
        return None
    found[:, used] = taken
    return found


def _spanned(levels: Array, basis: Array) -> Array | None:
    """Return the multiples (q, f) of constants that add up to a basis (K, f), if there are any."""
    found = _nearest(levels, basis)
    rest = np.linalg.norm(levels @ found - basis, axis=0)
    return found if (rest <= SPANNED * np.linalg.norm(basis, axis=0)).all() else None
