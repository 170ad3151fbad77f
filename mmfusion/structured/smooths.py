"""Fitted smooths: bases, constraint and penalties of s(), te(), ti() and re() terms.

A smooth sums to zero over the training rows: its coefficients live in the null space of the column
sums of its design (Wood 2017, section 5.4.1). In ti() each margin does before the product, which
then holds no main effect (section 5.6.3). A penalty is scaled to the size of its design as R's mgcv
scales it, so that smoothing parameters mean the same in both.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mmfusion.structured._options import SmoothSpec
from mmfusion.structured.splines import BSplineBasis, CubicBasis, SplineBasis

__all__ = ["RandomIntercept", "Smooth"]

Array = NDArray[np.float64]

#: Condition number beyond which a basis is not parametrised by its values, as in mgcv.
_UNSTABLE = float(np.finfo(np.float64).eps ** -0.66)


@dataclass(frozen=True, eq=False)
class Smooth:
    """A smooth of one variable, or a tensor product of several.

    Attributes
    ----------
    label : str
    variables : tuple of str
        The columns smoothed over, one a basis.
    bases : tuple of SplineBasis
    maps : tuple of ndarray or None
        What a basis is multiplied by before the product (a tensor product's B-splines are
        parametrised by their values; the margins of ti() sum to zero).
    constraint : ndarray of shape (k, k - 1) or None
        Basis of the coefficients that meet the sum-to-zero constraint; None for a varying
        coefficient, which has none, and for ti(), whose margins have theirs.
    penalties : tuple of ndarray
        Over the columns of the design, constraint and scale included.
    null_dimension : int
        Dimension of what no penalty reaches.
    by : str or None
    level : object or None
        The level of the factor `by` this smooth is for; None for a numeric `by`.
    """

    label: str
    variables: tuple[str, ...]
    bases: tuple[SplineBasis, ...]
    maps: tuple[Array | None, ...]
    constraint: Array | None
    penalties: tuple[Array, ...]
    null_dimension: int
    by: str | None = None
    level: Hashable | None = None

    @classmethod
    def fit(
        cls, spec: SmoothSpec, numbers: Mapping[str, Array], level: Hashable | None = None
    ) -> Self:
        """Place the knots on the training rows and fix constraint and penalties."""
        parts = [
            _fit_margin(spec, numbers[name], k)
            for name, k in zip(spec.variables, spec.k, strict=True)
        ]
        bases = tuple(part[0] for part in parts)
        maps = tuple(part[1] for part in parts)
        penalties = [part[2] for part in parts]
        null_dimension = int(np.prod([part[3] for part in parts]))
        if len(parts) > 1:
            penalties = _tensor_penalties(penalties)
        design = _tensor_design([numbers[name] for name in spec.variables], bases, maps)
        largest = np.abs(design).sum(axis=1).max() ** 2
        penalties = [penalty * (largest / np.linalg.norm(penalty, 1)) for penalty in penalties]
        constraint = None
        if spec.function != "ti" and (spec.by is None or level is not None):
            constraint = sum_to_zero(design)
            penalties = [constraint.T @ penalty @ constraint for penalty in penalties]
            null_dimension -= 1
        return cls(
            label=spec.label if level is None else f"{spec.label}[{level}]",
            variables=spec.variables,
            bases=bases,
            maps=maps,
            constraint=constraint,
            penalties=tuple((penalty + penalty.T) / 2 for penalty in penalties),
            null_dimension=null_dimension,
            by=spec.by,
            level=level,
        )

    @property
    def size(self) -> int:
        """Number of columns."""
        return self.penalties[0].shape[0]

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [f"{self.label}.{number}" for number in range(1, self.size + 1)]

    def design(self, numbers: Mapping[str, Array], by: Array | None) -> Array:
        """Return the columns of the design.

        Parameters
        ----------
        numbers : mapping of str to ndarray of shape (n,)
        by : ndarray of shape (n,) or None
            What the rows are multiplied by: the numeric `by`, or 1 in rows of the level.
        """
        columns = [numbers[name] for name in self.variables]
        design = _tensor_design(columns, self.bases, self.maps)
        if self.constraint is not None:
            design = design @ self.constraint
        return design if by is None else design * by[:, None]

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


_KINDS: dict[type, str] = {BSplineBasis: "ps", CubicBasis: "cr"}
_CLASSES: dict[str, Any] = {kind: cls for cls, kind in _KINDS.items()}


@dataclass(frozen=True, eq=False)
class RandomIntercept:
    """A random intercept: a column a level of the training rows, identity penalty.

    A level that was not in the training rows has a row of zeros: its effect is the mean, zero.
    """

    label: str
    variable: str
    levels: tuple[Hashable, ...]

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [f"{self.label}[{level}]" for level in self.levels]

    @property
    def penalties(self) -> tuple[Array, ...]:
        """The identity: independent effects of one variance."""
        return (np.eye(len(self.levels)),)

    def design(self, codes: NDArray[np.intp]) -> Array:
        """Return the columns for level codes of shape (n,), -1 for an unseen level."""
        return (codes[:, None] == np.arange(len(self.levels))).astype(np.float64)


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
    q, _ = np.linalg.qr(design.sum(axis=0)[:, None], mode="complete")
    return q[:, 1:]


def _fit_margin(spec: SmoothSpec, x: Array, k: int) -> tuple[SplineBasis, Array | None, Array, int]:
    """Return basis, map, penalty and its null dimension for one variable."""
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
    return basis, mapping, penalty, null_dimension


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


def _tensor_design(
    columns: Sequence[Array], bases: Sequence[SplineBasis], maps: Sequence[Array | None]
) -> Array:
    """Return the row-wise Kronecker product of the marginal designs."""
    design = np.ones((len(columns[0]), 1))
    for x, basis, mapping in zip(columns, bases, maps, strict=True):
        margin = basis.evaluate(x)
        if mapping is not None:
            margin = margin @ mapping
        design = (design[:, :, None] * margin[:, None, :]).reshape(len(x), -1)
    return design
