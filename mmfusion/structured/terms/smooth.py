"""Fitted smooths: bases, constraint and penalties of s(), te(), ti() and tv() terms.

A smooth sums to zero over the training rows, over the points of the grid, or over both where it
reads both: its coefficients live in the null space of the column sums of its design (Wood 2017,
section 5.4.1). In ti() each margin does before the product, which then holds no main effect
(section 5.6.3). A penalty is scaled to the size of its design as R's mgcv scales it, so that
smoothing parameters mean the same in both.

A smooth over the table and the grid, ``s(x, t)``, has the design ``R (x) C`` of the rows' and the
points' bases, the coefficients of the points varying first. Its column sums are a Kronecker product
too, so that its constraint needs no array with a row a row and point: both bases are turned until
their first columns alone have a sum, and the product of these two has no coefficient.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np

from mmfusion.inputs.rounding import distinct, is_constant
from mmfusion.structured._options import SmoothSpec
from mmfusion.structured._table import FormulaRows, Training
from mmfusion.structured.rows import Dense
from mmfusion.structured.splines import BSplineBasis, CubicBasis, SplineBasis
from mmfusion.structured.terms.base import Array, Product, Term, check_df, product_of_columns

__all__ = ["Smooth", "sum_to_zero"]

#: Condition number beyond which a basis is not parametrised by its values, as in mgcv.
_UNSTABLE = float(np.finfo(np.float64).eps ** -0.66)


@dataclass(frozen=True, eq=False)
class Margins:
    """The variables of a smooth on one side, the table or the grid: the product of their bases.

    Attributes
    ----------
    variables : tuple of str
        None on a side that the smooth does not run over: its one column is 1.
    bases : tuple of SplineBasis
    maps : tuple of ndarray or None
        What a basis is multiplied by before the product (a tensor product's B-splines are
        parametrised by their values; the margins of ti() sum to zero).
    turn : ndarray of shape (k, j) or None
        What the product is multiplied by, for the constraint.
    """

    variables: tuple[str, ...] = ()
    bases: tuple[SplineBasis, ...] = ()
    maps: tuple[Array | None, ...] = ()
    turn: Array | None = None

    def design(self, rows: FormulaRows) -> Array:
        """Return the columns, shape (n, j)."""
        design = np.ones((rows.n, 1))
        for name, basis, mapping in zip(self.variables, self.bases, self.maps, strict=True):
            margin = basis.evaluate(rows.numbers[name])
            design = product_of_columns(design, margin if mapping is None else margin @ mapping)
        return design if self.turn is None else design @ self.turn

    def state(self) -> dict[str, Any]:
        """Return all of it as plain Python and NumPy objects."""
        bases = [{"kind": _KINDS[type(basis)], **asdict(basis)} for basis in self.bases]
        return {**vars(self), "bases": bases}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild what `state` returned."""
        bases = tuple(
            _CLASSES[basis["kind"]](**{name: basis[name] for name in basis if name != "kind"})
            for basis in state["bases"]
        )
        return cls(**{**state, "bases": bases})


@dataclass(frozen=True, eq=False)
class Smooth(Term):
    """A smooth of one variable, or a tensor product of several.

    Attributes
    ----------
    table, grid : Margins
        The variables smoothed over, of the table and of the grid.
    penalties : tuple of ndarray
        Over the coefficients, constraint and scale included.
    by : str or None
        What the smooth is multiplied by.
    level : object or None
        The level of the factor `by` this smooth is for; None for a numeric `by`.
    code : int
        The level's place in the factor's levels.
    monotone : {"up", "down"} or None
        Of one variable's B-splines: whether the effect may fall, or rise.
    corner : int
        1 where the product of the two sides' first columns has no coefficient, else 0.
    """

    label: str
    variables: tuple[str, ...]
    coordinates: tuple[str, ...]
    table: Margins
    grid: Margins
    penalties: tuple[Array, ...]
    by: str | None = None
    level: Hashable | None = None
    code: int = 0
    corner: int = 0
    sp: tuple[float, ...] | None = None
    df: float | None = None
    monotone: str | None = None

    by_coefficient = False
    tested = True

    @classmethod
    def fit(cls, spec: SmoothSpec, training: Training) -> list[Self]:
        """Place the knots on the training rows or the grid, and fix constraint and penalties.

        Returns
        -------
        list of Smooth
            One, or one for each level of a factor `by`.
        """
        for name, k in zip(spec.variables, spec.k, strict=True):
            _check_distinct(spec, name, k, training)
        levels: Sequence[Hashable | None] = [None]
        if spec.by is not None:
            side = training.side(spec.by)
            if side.columns.is_factor(spec.by):
                levels = side.columns.levels[spec.by]
            elif is_constant(side.rows.numbers[spec.by]):
                raise ValueError(
                    f"Column {spec.by!r}, by= of {spec.label}, is constant in the training rows."
                )
        shape = _fit_shape(spec, training, constrained=spec.by is None or levels[0] is not None)
        variables = (*spec.variables, *([spec.by] if spec.by is not None else []))
        smooths = [
            cls(
                label=spec.label if level is None else f"{spec.label}[{level}]",
                variables=variables,
                coordinates=tuple(name for name in variables if name in training.grid),
                table=shape.table,
                grid=shape.grid,
                penalties=shape.penalties,
                by=spec.by,
                level=level,
                code=code,
                corner=shape.corner,
                sp=spec.sp,
                df=spec.df,
                monotone=spec.monotone,
            )
            for code, level in enumerate(levels)
        ]
        if training.baseline and len(levels) > 1 and not shape.table.variables:
            smooths = smooths[1:]  # their sum is a function of the grid alone
        check_df(smooths[0].label, spec.df, shape.null_dimension, len(smooths[0].penalties[0]))
        return smooths

    @property
    def names(self) -> tuple[str, ...]:
        size = len(self.penalties[0])
        return tuple(f"{self.label}.{number}" for number in range(1, size + 1))

    @property
    def bounds(self) -> Array | None:
        """Differences of neighbouring B-splines' coefficients, up or down.

        A spline whose coefficients do not fall does not fall, beyond its range either (Pya & Wood
        2015, Stat. Comput. 25:543-559, section 2.1).
        """
        if self.monotone is None:
            return None
        (side,) = (side for side in (self.table, self.grid) if side.variables)
        differences = np.diff(np.eye(side.bases[0].size), axis=0)
        rises = differences if side.turn is None else differences @ side.turn
        return rises if self.monotone == "up" else -rises

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        return {
            name: (basis.lower, basis.upper)
            for side in (self.table, self.grid)
            for name, basis in zip(side.variables, side.bases, strict=True)
        }

    def products(self, rows: FormulaRows, points: FormulaRows) -> tuple[Product, ...]:
        of_rows = self._times_by(self.table.design(rows), rows)
        basis = self._times_by(self.grid.design(points), points) if self.coordinates else None
        r, b = of_rows.shape[1], 1 if basis is None else basis.shape[1]
        places = np.arange(r * b).reshape(r, b).T - self.corner
        return (Product(Dense(of_rows), basis, places),)

    def _times_by(self, design: Array, side: FormulaRows) -> Array:
        """Return a design times the smooth's `by`, if that is of this side and in the rows."""
        if self.by is None:
            return design
        if self.level is None:
            factor = side.numbers.get(self.by)
        else:
            codes = side.codes.get(self.by)
            factor = None if codes is None else (codes == self.code).astype(np.float64)
        return design if factor is None else design * factor[:, None]

    def state(self) -> dict[str, Any]:
        return {**vars(self), "table": self.table.state(), "grid": self.grid.state()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        sides = {side: Margins.from_state(state[side]) for side in ("table", "grid")}
        return cls(**{**state, **sides})


_KINDS: dict[type, str] = {BSplineBasis: "ps", CubicBasis: "cr"}
_CLASSES: dict[str, Any] = {kind: cls for cls, kind in _KINDS.items()}


class _Margin(NamedTuple):
    """One variable: its basis, map and penalty, and the dimension of what that does not reach."""

    basis: SplineBasis
    mapping: Array | None
    penalty: Array
    null_dimension: int


class _Shape(NamedTuple):
    """What the smooths of a term have in common, whatever the level of their `by`."""

    table: Margins
    grid: Margins
    penalties: tuple[Array, ...]
    corner: int
    null_dimension: int


def _fit_shape(spec: SmoothSpec, training: Training, *, constrained: bool) -> _Shape:
    """Fit bases, constraint and penalties of a term."""
    # Rows first: of the coefficients of a product with the grid, the grid's vary first.
    order = sorted(range(len(spec.variables)), key=lambda j: spec.variables[j] in training.grid)
    margins = [_fit_margin(spec, training.numbers(spec.variables[j]), spec.k[j]) for j in order]
    null_dimension = int(np.prod([margin.null_dimension for margin in margins]))
    penalties = [margin.penalty for margin in margins]
    if len(margins) > 1:
        products = _tensor_penalties(penalties)
        penalties = [products[order.index(j)] for j in range(len(order))]
    count = sum(name not in training.grid for name in spec.variables)
    table, grid = (
        Margins(
            tuple(spec.variables[j] for j in order[part]),
            tuple(margin.basis for margin in margins[part]),
            tuple(margin.mapping for margin in margins[part]),
        )
        for part in (slice(count), slice(count, None))
    )
    designs = table.design(training.table.rows), grid.design(training.grid.rows)
    largest = np.prod([np.abs(design).sum(axis=1).max() for design in designs]) ** 2
    penalties = [penalty * (largest / np.linalg.norm(penalty, 1)) for penalty in penalties]
    corner = 0
    if constrained and spec.function != "ti":
        null_dimension -= 1
        if table.variables and grid.variables:
            corner = 1
            table, grid = (
                replace(side, turn=_rotation(design))
                for side, design in zip((table, grid), designs, strict=True)
            )
        elif table.variables:
            table = replace(table, turn=sum_to_zero(designs[0]))
        else:
            grid = replace(grid, turn=sum_to_zero(designs[1]))
        turns = [np.eye(1) if side.turn is None else side.turn for side in (table, grid)]
        constraint = np.kron(*turns)[:, corner:]
        penalties = [constraint.T @ penalty @ constraint for penalty in penalties]
    symmetric = tuple((penalty + penalty.T) / 2 for penalty in penalties)
    return _Shape(table, grid, symmetric, corner, null_dimension)


def sum_to_zero(design: Array) -> Array:
    """Return an orthonormal basis Z of the coefficients whose effect sums to zero.

    ``(design @ Z).sum(axis=0)`` is 0: QR of the column sums (Wood 2017, section 5.4.1).

    Examples
    --------
    >>> import numpy as np
    >>> design = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 2.0]])
    >>> Z = sum_to_zero(design)
    >>> Z.shape, bool(abs((design @ Z).sum()) < 1e-12)
    ((2, 1), True)
    """
    return _rotation(design)[:, 1:]


def _rotation(design: Array) -> Array:
    """Return an orthogonal Q: of the columns of ``design @ Q`` the first alone has a sum."""
    q, _ = np.linalg.qr(design.sum(axis=0)[:, None], mode="complete")
    return q


def _fit_margin(spec: SmoothSpec, x: Array, k: int) -> _Margin:
    basis: SplineBasis
    if spec.bs == "cr":
        basis = cubic = CubicBasis.at_quantiles(x, k)
        penalty, null_dimension = cubic.curvature_penalty(), 2
    else:
        order, null_dimension = spec.m
        basis = splines = BSplineBasis.evenly(x, k, degree=order + 1)
        penalty = splines.difference_penalty(null_dimension)
    mapping = None
    if spec.function == "ti":
        mapping = sum_to_zero(basis.evaluate(x))
        null_dimension -= 1
    if spec.bs == "ps" and len(spec.variables) > 1:
        mapping = _by_values(basis, x, np.eye(k) if mapping is None else mapping)
    if mapping is not None:
        penalty = mapping.T @ penalty @ mapping
    return _Margin(basis, mapping, penalty, null_dimension)


def _by_values(basis: SplineBasis, x: Array, mapping: Array) -> Array:
    """Return the map after which coefficients are values of the function, at even points.

    Only then has the identity in a tensor product's penalty a meaning (Wood 2017, section 5.6.2).
    Values that do not determine the function (under a constraint, over evenly spaced data, they
    may not) leave `mapping` as it is, as in mgcv.
    """
    points = np.linspace(x.min(), x.max(), mapping.shape[1])
    values = basis.evaluate(points) @ mapping
    if np.linalg.cond(values) > _UNSTABLE:
        return mapping
    return np.asarray(mapping @ np.linalg.inv(values), dtype=np.float64)


def _tensor_penalties(penalties: Sequence[Array]) -> list[Array]:
    """Return one penalty a direction: S_j in its place of a Kronecker product of identities."""
    sizes = [len(penalty) for penalty in penalties]
    products = []
    for place, penalty in enumerate(penalties):
        before, after = int(np.prod(sizes[:place])), int(np.prod(sizes[place + 1 :]))
        unit = penalty / np.linalg.eigvalsh(penalty)[-1]
        product = np.kron(np.kron(np.eye(before), unit), np.eye(after))
        products.append(np.asarray(product, dtype=np.float64))
    return products


def _check_distinct(spec: SmoothSpec, name: str, k: int, training: Training) -> None:
    """Raise ValueError unless a variable has the distinct values its basis needs."""
    found = len(distinct(training.numbers(name)))
    needed = max(k if spec.bs == "cr" else spec.m[1] + 1, 2)
    if found < needed:
        has = "is constant" if found == 1 else f"has {found} distinct values"
        what, where = "Column", "in the training rows"
        if name in training.grid:
            what, where = "Coordinate", "over the predictors"
        raise ValueError(
            f"{what} {name!r} {has} {where}; {spec.label} with bs={spec.bs!r} needs "
            f"at least {needed}. Lower k, or use C({name}) or {name} itself."
        )
