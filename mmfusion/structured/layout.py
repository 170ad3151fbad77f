"""What the coefficients of a model are, from its formulas and the parameters of its head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmfusion.structured._table import FormulaRows
from mmfusion.structured.baseline import with_baseline
from mmfusion.structured.blocks import Block, row_pieces
from mmfusion.structured.columns import TermColumns
from mmfusion.structured.design import Design
from mmfusion.structured.formula import Formula
from mmfusion.structured.levels import LevelsOfFactor
from mmfusion.structured.rows import Dense
from mmfusion.structured.terms import Product, Term
from mmfusion.structured.terms.base import product_of_columns

__all__ = ["Layout"]

Array = NDArray[np.float64]


class _Placed(NamedTuple):
    """A term with the coefficients of one parameter, from `start` on in the vector of all."""

    term: Term
    parameter: str
    start: int
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Part:
    """A formula, and which parameters have it."""

    formula: Formula
    parameters: tuple[int, ...]


class Cells(NamedTuple):
    """The cells of n rows that each formula reads."""

    n: int
    parts: tuple[FormulaRows, ...]


class Layout:
    """The formulas of a model: one for all parameters of its head, or one a parameter.

    A head has K predictors a row, F parameters of which a formula has its coefficients, and
    constants (`mmfusion.heads.Head`). Constants that are parameters are the intercepts of these
    parameters' formulas. Others, such as the baseline of hazards in intervals, have coefficients
    beside the formulas. Those come first; then, parameter by parameter, the terms of its formula.

    Parameters
    ----------
    formulas : str, mapping of str to str, or None
        One formula for all parameters, or one for each by its name: a parameter that has none has
        its constant alone. None says that nothing is structured: there are no coefficients then.

    Attributes
    ----------
    parameters : tuple of str
        Names of the F parameters.
    constants : tuple of str
        Names of the coefficients of constants beside the formulas.
    names : tuple of str
        Of all coefficients: "age", with several parameters "age [scale]".
    terms : tuple of TermColumns
        The terms of each parameter, with their places in the vector of all coefficients. A diagonal
        penalty is given by its diagonal.
    columns : tuple of str
        The columns of the table that are read.

    Examples
    --------
    >>> import pandas as pd
    >>> from mmfusion.heads import CategoricalHead
    >>> head = CategoricalHead()
    >>> target = head.fit_outcome(["a", "b", "c", "a"])
    >>> layout = Layout("x").fit(pd.DataFrame({"x": [1.0, 2.0, 3.0, 5.0]}), head)
    >>> layout.names
    ('Intercept [b]', 'x [b]', 'Intercept [c]', 'x [c]')
    """

    parameters: tuple[str, ...]
    constants: tuple[str, ...]

    def __init__(self, formulas: str | Mapping[str, str] | None) -> None:
        self.formulas = formulas

    def fit(self, frame: pd.DataFrame, head: Any) -> Self:
        """Fix the formulas on the training rows and the head's grid.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)
        head : Head
            Its `grid`, `parameters` and `constants` are read.

        Returns
        -------
        Layout

        Raises
        ------
        ValueError
            If a formula is of an unknown parameter, or as `Formula.fit`.
        """
        self.learn(frame, head)
        return self

    def learn(self, frame: pd.DataFrame, head: Any) -> Cells:
        """Do what `fit` does, and return the cells of the training rows, as `read` does."""
        self.parameters = tuple(head.parameters.names)
        self._matrix = np.asarray(head.parameters.matrix, dtype=np.float64)
        constants = np.asarray(head.constants.matrix, dtype=np.float64)
        columns = dict(zip(self.parameters, self._matrix.T, strict=True))
        known = zip(head.constants.names, constants.T, strict=True)
        own = [name for name, c in known if name in columns and np.array_equal(c, columns[name])]
        inside = len(own) == len(head.constants)
        baseline = not inside and np.linalg.matrix_rank(constants) == len(constants)
        parts, cells = [], []
        for text, places in self._texts():
            intercept = inside and all(self.parameters[place] in own for place in places)
            if intercept and head.baseline is not None:
                text = with_baseline(text, head.baseline, frame, head.grid.coordinates)
            formula = Formula(text)
            parts.append(_Part(formula, places))
            cells.append(formula.learn(frame, head.grid, intercept=intercept, baseline=baseline))
        self._parts = tuple(parts)
        beside = 0 if inside or not parts else constants.shape[1]
        self.constants = tuple(head.constants.names)[:beside]
        self._baseline = constants[:, :beside]
        return Cells(len(frame), tuple(cells))

    def _texts(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield each formula and the parameters that have it."""
        if isinstance(self.formulas, Mapping):
            for name in self.formulas:
                if name not in self.parameters:
                    (nearest,) = get_close_matches(str(name), self.parameters, 1, cutoff=0.0)
                    raise ValueError(
                        f"A formula must be of one of the parameters {list(self.parameters)}. "
                        f"Got {name!r}. Nearest to {name!r}: {nearest!r}."
                    )
            for place, name in enumerate(self.parameters):
                yield self.formulas.get(name, "1"), (place,)
        elif self.formulas is not None:
            yield self.formulas, tuple(range(len(self.parameters)))

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(chain.from_iterable(p.formula.columns_ for p in self._parts)))

    @property
    def names(self) -> tuple[str, ...]:
        return (
            *self.constants,
            *(self.name(own, p) for _, p, _, names in self._placed() for own in names),
        )

    @property
    def terms(self) -> tuple[TermColumns, ...]:
        return tuple(
            TermColumns(
                self.name(term.label, parameter),
                slice(start, start + len(names)),
                "parametric" if term.by_coefficient else "smooth" if term.tested else "random",
                term.penalties,
                term.sp,
                term.df,
                term.variables,
                term.bounds,
            )
            for term, parameter, start, names in self._placed()
        )

    @property
    def references(self) -> dict[str, Any]:
        """The level that the others are compared with, of each factor by its label."""
        return {label: level for p in self._parts for label, level in p.formula.references_.items()}

    def read(self, frame: pd.DataFrame | Cells) -> Cells:
        """Return the cells of some rows, to be read once; cells are returned as they are."""
        if isinstance(frame, Cells):
            return frame
        return Cells(len(frame), tuple(part.formula.read(frame) for part in self._parts))

    def factors(self, frame: pd.DataFrame | Cells) -> list[LevelsOfFactor]:
        """Return the levels of each factor with their rows, as `Formula.factors` does."""
        parts = zip(self._parts, self.read(frame).parts, strict=True)
        known = [factor for part, rows in parts for factor in part.formula.factors(rows)]
        return list({factor.label: factor for factor in known}.values())

    @property
    def offsets(self) -> tuple[str, ...]:
        """The known parts of the predictors, as they stand in the formulas."""
        return tuple(
            f"offset({known.names[0]})" for p in self._parts for known in p.formula.offsets
        )

    def name(self, label: str, parameter: str) -> str:
        """Return the name of a term or coefficient of one parameter."""
        return label if len(self.parameters) == 1 else f"{label} [{parameter}]"

    def index(self, shown: Sequence[str]) -> pd.Index:
        """Return the index of a table: by term, with several parameters by term and parameter.

        Parameters
        ----------
        shown : sequence of str
            Coefficients of `names` and labels of `terms`; others are of no parameter.
        """
        if len(self.parameters) == 1:
            return pd.Index(shown, name="term")
        pairs = {name: (name, "") for name in self.constants} | {
            self.name(label, parameter): (label, parameter)
            for term, parameter, _, names in self._placed()
            for label in (*names, term.label)
        }
        return pd.MultiIndex.from_tuples(
            [pairs.get(name, (name, "")) for name in shown], names=["term", "parameter"]
        )

    @property
    def smooths(self) -> list[tuple[str, str]]:
        """The label and the parameter of each smooth term that a figure can show."""
        return [
            (t.label, parameter) for t, parameter, _, _ in self._placed() if 0 < len(t.ranges) < 3
        ]

    def typical(self, frame: pd.DataFrame | Cells) -> dict[str, Any]:
        """Return a cell for each column that is read: the mean, or the commonest level."""
        parts = zip(self._parts, self.read(frame).parts, strict=True)
        return {k: v for part, rows in parts for k, v in part.formula.typical(rows).items()}

    @property
    def offset_columns(self) -> tuple[str, ...]:
        """The columns of the table that the known parts of the predictors read."""
        return tuple(dict.fromkeys(c for p in self._parts for c in p.formula.offset_columns()))

    def ranges(self, label: str) -> dict[str, tuple[float, float]]:
        """Return where each variable of a smooth term lay in the training rows, by its label.

        Raises
        ------
        ValueError
            For a term that is no smooth.
        """
        found = {t.label: dict(t.ranges) for t, *_ in self._placed() if t.ranges}
        if label not in found:
            raise ValueError(f"The term must be a smooth, of {list(found)}. Got {label!r}.")
        return found[label]

    def formula(self, parameter: str) -> Formula:
        """Return the fitted formula of a parameter."""
        place = self.parameters.index(parameter)
        return next(part.formula for part in self._parts if place in part.parameters)

    def transform(self, frame: pd.DataFrame | Cells) -> Design:
        """Return the design of some rows.

        Columns of numbers with the same basis over the predictors are one block; an indicator of
        levels stays one.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns), or Cells
            With `columns`; others are not read.

        Returns
        -------
        Design

        Raises
        ------
        ValueError
            As `Formula.read`, or if a term is not finite.
        """
        return self._design(self.read(frame), self._matrix, self._baseline)

    def profiles(self, frame: pd.DataFrame) -> Design:
        """Return the design that has the F parameters themselves in the place of the predictors.

        Raises
        ------
        ValueError
            If a term reads the grid: its effect is another one at each predictor.
        """
        for term, *_ in self._placed():
            if term.coordinates:
                raise ValueError(
                    f"The term {term.label!r} has another effect at each predictor, since it reads "
                    f"{term.coordinates[0]!r}: no number is its effect on a parameter."
                )
        size = len(self.parameters)
        nothing = np.zeros((size, len(self.constants)))
        return self._design(self.read(frame), np.eye(size), nothing)

    def _design(self, cells: Cells, matrix: Array, baseline: Array) -> Design:
        blocks, known = [], None
        if self.constants:
            ones = Dense(np.ones((cells.n, 1)))
            blocks.append(Block(ones, baseline, np.arange(len(self.constants))[:, None]))
        widths = [len(self.formula(name).names_) for name in self.parameters if self._parts]
        starts = len(self.constants) + np.cumsum([0, *widths])
        for part, rows in zip(self._parts, cells.parts, strict=True):
            points = part.formula.points
            chosen = list(part.parameters)
            if part.formula.offsets:
                own = part.formula.known(rows)[:, None] * matrix[:, chosen].sum(axis=1)
                known = own if known is None else known + own
            first = starts[chosen]
            for term in part.formula.terms:
                products = term.products(rows, points)
                blocks += [_block(product, matrix[:, chosen], first) for product in products]
                first = first + len(term.names)
        return Design(cells.n, len(matrix), int(starts[-1]), tuple(_merged(blocks)), known=known)

    def _placed(self) -> Iterator[_Placed]:
        """Yield the terms in the order of their coefficients."""
        start = len(self.constants)
        for parameter in self.parameters if self._parts else ():
            for term in self.formula(parameter).terms:
                names = term.names
                yield _Placed(term, parameter, start, names)
                start += len(names)

    def coefficients_of(self, labels: Sequence[str]) -> NDArray[np.bool_]:
        """Return which coefficients belong to some terms, shape (p,).

        Parameters
        ----------
        labels : sequence of str
            As formulas and tables call them; each stands for its effects on all parameters.

        Raises
        ------
        ValueError
            For an unknown term.
        """
        found = np.zeros(len(self.names), dtype=bool)
        known = list(dict.fromkeys(term.label for term, *_ in self._placed()))
        for label in labels:
            if label not in known:
                raise ValueError(f"No term {label!r}. The terms are {known}.")
        for term, _, start, names in self._placed():
            found[start : start + len(names)] |= term.label in labels
        return found

    def unseen(self, frame: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_], Array]]:
        """Yield each random intercept, the rows whose level is new, and what it moves, (K,)."""
        for part in self._parts:
            random = [term for term in part.formula.terms if not term.tested]
            rows = part.formula.read(frame) if random else None
            for term in random:
                assert rows is not None
                new = rows.codes[term.variables[0]] < 0
                for place in part.parameters:
                    yield self.name(term.label, self.parameters[place]), new, self._matrix[:, place]

    def state(self) -> dict[str, Any]:
        """Return the fitted layout as plain Python and NumPy objects."""
        parts = [{**vars(part), "formula": part.formula.state()} for part in self._parts]
        formulas = self.formulas
        return {
            "formulas": dict(formulas) if isinstance(formulas, Mapping) else formulas,
            "parameters": list(self.parameters),
            "constants": list(self.constants),
            "matrix": self._matrix,
            "baseline": self._baseline,
            "parts": parts,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild what `state` returned; nothing in it is executed."""
        self = cls(state["formulas"])
        self.parameters, self.constants = tuple(state["parameters"]), tuple(state["constants"])
        self._matrix, self._baseline = state["matrix"], state["baseline"]
        self._parts = tuple(
            _Part(Formula.from_state(part["formula"]), tuple(part["parameters"]))
            for part in state["parts"]
        )
        return self


def _block(product: Product, matrix: Array, starts: NDArray[np.intp]) -> Block:
    """Return a product with coefficients for each of some parameters (columns of `matrix`).

    The parameters vary last over the columns of the block's basis.
    """
    basis = matrix if product.basis is None else product_of_columns(matrix, product.basis)
    columns = [np.where(product.places < 0, -1, product.places + start) for start in starts]
    return Block(product.rows, basis, np.concatenate(columns))


def _merged(blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks with columns of numbers of the same basis side by side in one."""
    alike: list[list[Block]] = []
    for block in blocks:
        for group in alike:
            same = np.array_equal(group[0].basis, block.basis)
            if same and isinstance(block.rows, Dense) and isinstance(group[0].rows, Dense):
                group.append(block)
                break
        else:
            alike.append([block])
    return [_beside(group) for group in alike]


def _beside(blocks: Sequence[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    parts = [block.rows.dense() for block in blocks]
    values = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)))
    # In pieces: of long columns each row would be fetched anew.
    for rows in row_pieces(len(values), values.shape[1]):
        np.concatenate([part[rows] for part in parts], axis=1, out=values[rows])
    columns = np.concatenate([block.columns for block in blocks], axis=1)
    return Block(Dense(values), blocks[0].basis, columns)
