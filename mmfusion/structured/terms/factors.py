"""The factors of parametric terms: a number, a factor's coding, an expression of numbers."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import formulaic.parser.types as parsed
import numpy as np
import pandas as pd
from formulaic import ModelMatrix, ModelSpec, SimpleFormula
from formulaic.errors import FormulaicError
from numpy.typing import NDArray

from mmfusion.inputs.messages import did_you_mean, shorten
from mmfusion.structured._algebra import ParsedFactor
from mmfusion.structured._names import internal, shown
from mmfusion.structured._parse import expression_columns, reference_of
from mmfusion.structured._table import FormulaRows, Side
from mmfusion.structured.terms.bsplines import bs_of

__all__ = ["CONSTANT", "Coding", "Expression", "Factor", "Number", "factor_from_state"]

Array = NDArray[np.float64]

CONSTANT = parsed.Term([parsed.Factor("1", eval_method="literal")])


class Factor(ABC):
    """What a parametric term multiplies: columns that are a function of a side's variables.

    Attributes
    ----------
    names : tuple of str
        Of the columns.
    """

    names: tuple[str, ...]

    @abstractmethod
    def columns(self, rows: FormulaRows) -> Array:
        """Return the columns, shape (n, len(names))."""

    def state(self) -> dict[str, Any]:
        """Return all of it as plain Python and NumPy objects."""
        return {"sort": type(self).__name__, **vars(self)}


@dataclass(frozen=True, eq=False)
class Number(Factor):
    """A variable as it is.

    Attributes
    ----------
    names : tuple of str
    column : str or None
        The variable, where its name is another than that of the column of the design.
    """

    names: tuple[str, ...]
    column: str | None = None

    def columns(self, rows: FormulaRows) -> Array:
        return rows.numbers[self.names[0] if self.column is None else self.column][:, None]


@dataclass(frozen=True, eq=False)
class Coding(Factor):
    """A factor: each level has its row of a matrix of contrasts.

    Attributes
    ----------
    name : str
    names : tuple of str
        "C(stage)[T.2]", or "C(stage)[2]" where the levels' mean is not in another term.
    contrasts : ndarray of float64, shape (n_levels, c)
    """

    name: str
    names: tuple[str, ...]
    contrasts: Array

    @classmethod
    def fit(cls, factor: ParsedFactor, text: str, side: Side, *, reduced: bool) -> Self:
        """Code the levels of the training rows; `reduced` beside a constant."""
        (name,) = factor.columns
        known = side.columns.levels[name]
        first, source = reference_of(factor), factor.source
        order = np.arange(len(known))
        if first is not None:
            place = _place_of(first, known, text)
            order, source = np.concatenate([[place], np.delete(order, place)]), "C(_c0)"
        levels = pd.Index([known[place] for place in order], dtype=object)
        each = pd.Categorical.from_codes(np.arange(len(levels)), categories=levels)
        method = "lookup" if factor.sort == "column" else "python"
        coded = parsed.Term([parsed.Factor(source, eval_method=method)])
        terms = [*([CONSTANT] if reduced else []), coded]
        made = _evaluate(terms, pd.DataFrame({"_c0": each}), {}, text, factor.columns)
        start = int(reduced)
        names = _named(made.model_spec.column_names[start:], source, text)
        contrasts = np.ascontiguousarray(made, dtype=np.float64)[:, start:]
        return cls(name, names, np.ascontiguousarray(contrasts[np.argsort(order)]))

    @property
    def reference(self) -> int | None:
        """The place of the level that the others are compared with; None where there is none."""
        zero = np.flatnonzero(~self.contrasts.any(axis=1))
        return int(zero[0]) if len(zero) else None

    def columns(self, rows: FormulaRows) -> Array:
        return self.contrasts[rows.codes[self.name]]


@dataclass(frozen=True, eq=False)
class Expression(Factor):
    """A function of numbers, which formulaic evaluates: log(x), poly(x, 2), I(x / 10).

    Attributes
    ----------
    text : str
    names : tuple of str
        "log(x)"; "poly(x, 2)[1]", "poly(x, 2)[2]".
    memory : dict
        What transforms (poly, bs, center, scale) fixed on the training rows.
    """

    text: str
    names: tuple[str, ...]
    memory: dict[str, Any]

    def __post_init__(self) -> None:
        expression_columns(self.text)  # nothing else is evaluated, whatever a file says

    @classmethod
    def fit(cls, text: str, rows: FormulaRows) -> Self:
        """Evaluate the expression in the training rows, and keep what its transforms fixed."""
        source, columns = expression_columns(text)
        spec = cls(text, (), {})._made(rows).model_spec
        state = _plain(spec.transform_state)
        if not spec.column_names:
            raise ValueError(f"The term {text!r} must have a column at least. Got none.")
        memory = {shown(key, columns): value for key, value in state.items()}
        return cls(text, _named(spec.column_names, source, text), memory)

    def columns(self, rows: FormulaRows) -> Array:
        return np.ascontiguousarray(self._made(rows), dtype=np.float64)

    def _made(self, rows: FormulaRows) -> ModelMatrix:
        source, columns = expression_columns(self.text)
        cells = {f"_c{place}": rows.numbers[name] for place, name in enumerate(columns)}
        frame = pd.DataFrame(cells, index=pd.RangeIndex(rows.n), copy=False)
        term = parsed.Term([parsed.Factor(source, eval_method="python")])
        memory = {internal(key, columns)[0]: value for key, value in self.memory.items()}
        made = _evaluate([term], frame, memory, self.text, columns)
        bad = ~np.isfinite(np.asarray(made, dtype=np.float64))
        if bad.any():
            row, column = np.argwhere(bad)[0]
            name = _named(made.model_spec.column_names, source, self.text)[column]
            raise ValueError(
                f"The column {name!r} of the formula's design must be finite. "
                f"Got {made[row, column]} in {rows.unit} {rows.index[row]!r}."
            )
        return made


def _place_of(level: Any, known: Sequence[Any], text: str) -> int:
    """Return the place of a reference level; of one that is written as it is shown, too."""
    places = [place for place, own in enumerate(known) if own == level]
    places += [place for place, own in enumerate(known) if str(own) == str(level)]
    if not places:
        raise ValueError(
            f"The reference of {text!r} must be a level of the column in the training rows. Got "
            f"{level!r}; there are {shorten(known, 10)}.{did_you_mean(level, known)}"
        )
    return places[0]


def factor_from_state(state: Mapping[str, Any]) -> Factor:
    """Rebuild what `Factor.state` returned."""
    fields = {key: value for key, value in state.items() if key != "sort"}
    fields["names"] = tuple(fields["names"])
    made: Factor = _SORTS[state["sort"]](**fields)
    return made


_SORTS: dict[str, Any] = {cls.__name__: cls for cls in (Number, Coding, Expression)}


def _evaluate(
    terms: list[parsed.Term],
    frame: pd.DataFrame,
    memory: Mapping[str, Any],
    text: str,
    columns: Sequence[str],
) -> ModelMatrix:
    """Return the columns of a factor, `text`, from a table of internal names for `columns`."""
    spec = ModelSpec(
        formula=SimpleFormula(terms),
        output="numpy",
        na_action="ignore",
        transform_state=copy.deepcopy(dict(memory)),
    )
    names = {f"_c{place}": name for place, name in enumerate(columns)}
    context = {"bs": bs_of(names), "sqrt": np.sqrt, "log1p": np.log1p}
    try:
        with np.errstate(all="ignore"):  # found and named where the columns are used
            return spec.get_model_matrix(frame, context=context)
    except Warning:  # that the user made an error
        raise
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause, FormulaicError) and cause.__cause__ is not None:
            cause = cause.__cause__
        reason = shown(str(cause).split("\n")[0], columns)
        raise ValueError(f"The term {text!r} cannot be evaluated: {reason}") from error


def _named(made: Sequence[str], source: str, text: str) -> tuple[str, ...]:
    """Return the names of a factor's columns: how it is called, and what tells them apart."""
    return tuple(text + name.removeprefix(source) for name in made)


def _plain(state: Any) -> Any:
    """Return a transform's state with NumPy scalars made Python numbers."""
    if isinstance(state, Mapping):
        return {key: _plain(value) for key, value in state.items()}
    return state.item() if isinstance(state, np.generic) else state
