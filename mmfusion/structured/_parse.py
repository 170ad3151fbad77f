"""A formula's text: which terms it has, and which columns they read in which way.

Columns have internal names (``_c0``) before any parser sees them. What stands inside a term is
looked at here before anything evaluates it: a formula can come out of a saved model, and must not
be able to run code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from keyword import kwlist

from mmfusion.structured._algebra import (
    ALLOWED,
    SMOOTHS,
    TRANSFORMS,
    ParsedFactor,
    ParsedTerm,
    parse_terms,
)
from mmfusion.structured._names import internal, shown
from mmfusion.structured._options import SmoothSpec, smooth_spec
from mmfusion.structured._words import CONTRASTS_ELSEWHERE, FUNCTIONS

__all__ = [
    "ParsedFormula",
    "columns_read",
    "expression_columns",
    "parse_formula",
    "reference_of",
    "without_columns",
]

NUMPY = tuple(f"np.{name}" for name in ("log", "log2", "log10", "log1p", "exp", "sqrt", "abs"))
CONTRASTS = ("treatment", "sum", "helmert", "poly", "diff")
_ARGUMENTS = {
    "poly": ("degree", "raw"),
    "bs": ("df", "knots", "degree", "include_intercept"),
    "scale": ("center", "scale", "ddof"),
}

_ARITHMETIC = (
    *(ast.Constant, ast.Load, ast.List, ast.Tuple, ast.keyword, ast.BinOp, ast.UnaryOp),
    *(ast.Compare, ast.unaryop, ast.cmpop, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv),
    *(ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr),
)


@dataclass(frozen=True)
class ParsedFormula:
    """The terms of a formula.

    Attributes
    ----------
    parametric : tuple of ParsedTerm
        The terms without smooths and without the intercept.
    intercept : bool
        Whether the formula leaves the intercept in.
    smooths : tuple of SmoothSpec
    offsets : tuple of str
        Expressions of numbers that are known parts of the predictor: what stands in offset().
    bare : set of str
        Columns that stand alone in a term: numbers or factors, by what the table holds.
    factors : set of str
        Columns inside C().
    numbers : set of str
        Columns inside another expression of a parametric term.
    """

    parametric: tuple[ParsedTerm, ...] = ()
    intercept: bool = False
    smooths: tuple[SmoothSpec, ...] = ()
    offsets: tuple[str, ...] = ()
    bare: set[str] = field(default_factory=set)
    factors: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)


@lru_cache(maxsize=64)
def columns_read(text: str) -> tuple[str, ...]:
    """Return the columns that a formula, or one term of it, reads."""
    parsed = parse_formula(text)
    smooths = [(*smooth.variables, smooth.by) for smooth in parsed.smooths]
    factors = [factor.columns for term in parsed.parametric for factor in term.factors]
    known = [expression_columns(expression)[1] for expression in parsed.offsets]
    names = chain.from_iterable((*factors, *smooths, *known))
    return tuple(dict.fromkeys(name for name in names if name is not None))


def without_columns(text: str, dropped: Collection[str], known: Collection[str]) -> str:
    """Return a formula without the terms that read some columns, or others than the known ones.

    Parameters
    ----------
    text : str
    dropped : collection of str
    known : collection of str
        The columns of the table: effects that vary over time are no terms of it. Offsets are left
        out too: they are of one outcome.
    """
    kept = []
    for term in parse_terms(text):
        label = term.shown(quote=True)
        read = set(columns_read(label)) if term.factors else set()
        apart = any(factor.function in ("tv", "offset") for factor in term.factors)
        if read and not apart and read <= set(known) and read.isdisjoint(dropped):
            kept.append(label)
    return " + ".join(kept) or "1"


def parse_formula(text: str) -> ParsedFormula:
    """Return the terms of a formula.

    Raises
    ------
    ValueError
        If it does not parse, has a left-hand side, or holds what is not allowed.
    """
    parsed = ParsedFormula()
    parametric: list[ParsedTerm] = []
    smooths: dict[tuple[object, ...], SmoothSpec] = {}
    offsets: list[str] = []
    intercept = False
    for term in parse_terms(text):
        if not term.factors:
            intercept = True
            continue
        if any(factor.function == "offset" for factor in term.factors):
            offsets.append(_offset(term, parsed, text))
            continue
        calls = [factor for factor in term.factors if factor.function in SMOOTHS]
        if not calls:
            for factor in term.factors:
                _read_factor(factor, parsed, text)
            parametric.append(term)
            continue
        if len(term.factors) > 1 or term.scale != 1.0:
            raise ValueError(
                f"The term {str(term)!r} multiplies a smooth. Write s(x, by=z) for a smooth effect "
                "of x that varies with z, te(x, z) for a smooth surface, or ti(x, z) for its "
                "interaction alone."
            )
        call = _tree(calls[0].text, calls[0].source, calls[0].columns).body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise _not_allowed(calls[0].text, calls[0].text, text)
        spec = smooth_spec(call, calls[0].text, calls[0].columns)
        same = smooths.setdefault((spec.function, spec.variables, spec.by), spec)
        if same != spec:
            raise ValueError(
                f"The formula {text!r} has the term {spec.label} twice with different options."
            )
    twice = sorted((parsed.bare | parsed.numbers) & parsed.factors)
    if twice:
        raise ValueError(
            f"The formula {text!r} reads {twice[0]!r} as a factor and as a number. Its levels "
            "already hold whatever it does as a number; where both are meant, copy the column."
        )
    labels = [spec.label for spec in smooths.values()]
    alike = next((label for label in labels if labels.count(label) > 1), None)
    if alike is not None:
        raise ValueError(
            f"The formula {text!r} has two terms that are called {alike}: give a column another "
            "name."
        )
    return replace(
        parsed,
        parametric=tuple(parametric),
        intercept=intercept,
        smooths=tuple(smooths.values()),
        offsets=tuple(offsets),
    )


def _offset(term: ParsedTerm, parsed: ParsedFormula, text: str) -> str:
    """Return the expression of offset(expression), checked, and note the columns it reads."""
    factor = term.factors[0]
    call = _tree(factor.text, factor.source, factor.columns).body
    plain = isinstance(call, ast.Call) and len(call.args) == 1 and not call.keywords
    if not plain or len(term.factors) > 1 or term.scale != 1.0 or not factor.columns:
        raise ValueError(
            f"The term {str(term)!r} of the formula {text!r} must be offset(x) alone, with one "
            "expression of columns of numbers: it has the coefficient 1."
        )
    assert isinstance(call, ast.Call)
    _check_expression(call.args[0], factor.text, text, factor.columns)
    parsed.numbers.update(factor.columns)
    return factor.text[factor.text.index("(") + 1 : factor.text.rindex(")")].strip()


def reference_of(factor: ParsedFactor) -> object:
    """Return what C(column, ref=...) names; None where a factor names no reference."""
    if factor.sort == "column":
        return None
    call = _tree(factor.text, factor.source, factor.columns).body
    assert isinstance(call, ast.Call)
    given = [keyword.value for keyword in call.keywords if keyword.arg == "ref"]
    return given[0].value if given and isinstance(given[0], ast.Constant) else None


def _read_factor(factor: ParsedFactor, parsed: ParsedFormula, text: str) -> None:
    """Note how a factor reads its columns; raise ValueError unless all in it is allowed."""
    if factor.sort == "column":
        parsed.bare.update(factor.columns)
        return
    call = _tree(factor.text, factor.source, factor.columns).body
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "C":
        parsed.factors.add(_categorical(call, factor))
        return
    _check_expression(call, factor.text, text, factor.columns)
    if not factor.columns:
        raise ValueError(
            f"The term {factor.text!r} of the formula {text!r} reads no column. {ALLOWED}"
        )
    parsed.numbers.update(factor.columns)


def expression_columns(term: str) -> tuple[str, tuple[str, ...]]:
    """Return an expression of numbers with internal names, and the columns that it reads.

    Parameters
    ----------
    term : str
        The expression.

    Raises
    ------
    ValueError
        Unless all in it is allowed: what this function lets pass can be evaluated.
    """
    source, columns = internal(term)
    _check_expression(_tree(term, source, columns).body, term, term, columns)
    return source, columns


def _check_expression(node: ast.AST, term: str, text: str, columns: Sequence[str]) -> None:
    """Raise ValueError unless all in an expression is allowed."""
    children: Iterator[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.Name):
        return
    if isinstance(node, ast.Call):
        function = ast.unparse(node.func)
        if function not in TRANSFORMS and function not in NUMPY:
            raise _not_allowed(shown(function, columns), term, text)
        _check_arguments(node, function, term, columns)
        children = chain(node.args, node.keywords)
    elif isinstance(node, ast.BitXor):
        raise ValueError(
            f"The term {term!r} of the formula {text!r} holds '^', which is not allowed. Write ** "
            f"for a power: I(x ** 2). {ALLOWED}"
        )
    elif not isinstance(node, _ARITHMETIC) or _is_text(node):
        raise _not_allowed(shown(ast.unparse(node), columns), term, text)
    for child in children:
        _check_expression(child, term, text, columns)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _check_arguments(call: ast.Call, function: str, term: str, columns: Sequence[str]) -> None:
    """Raise ValueError unless a function is given what it takes."""
    options = _ARGUMENTS.get(function, ())
    named = [keyword.arg for keyword in call.keywords]
    wrong = [name for name in named if name not in options]
    values = call.args[1:] + [keyword.value for keyword in call.keywords]
    good = 1 <= len(call.args) <= 1 + len(options) and not wrong
    if not good or any(isinstance(part, ast.Name) for value in values for part in ast.walk(value)):
        takes = f"{function}(x{''.join(f', {name}=...' for name in options)})"
        raise ValueError(
            f"The term {term!r} must call {takes}, with one expression of columns first and then "
            f"numbers. Got {shown(ast.unparse(call), columns)!r}."
        )


def _categorical(call: ast.Call, factor: ParsedFactor) -> str:
    """Return the column of C(column), C(column, ref=level) or C(column, contr.name(...))."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    column, contrasts = given[0] if given else None, given[1:]
    named = [keyword.arg for keyword in call.keywords]
    known = named in ([], ["contrasts"], ["ref"])
    good = isinstance(column, ast.Name) and len(contrasts) <= 1 and known
    if good and named == ["ref"]:
        good = isinstance(contrasts[0], ast.Constant)
    elif good and contrasts:
        made = contrasts[0]
        chosen = made.func if isinstance(made, ast.Call) else made
        arguments: list[ast.expr | ast.keyword] = []
        if isinstance(made, ast.Call):
            arguments = [*made.args, *made.keywords]
        values = [a.value if isinstance(a, ast.keyword) else a for a in arguments]
        good = (
            isinstance(chosen, ast.Attribute)
            and isinstance(chosen.value, ast.Name)
            and chosen.value.id == "contr"
            and chosen.attr in CONTRASTS
            and all(isinstance(value, ast.Constant | ast.List) for value in values)
        )
    if not good:
        names = ", ".join(f"contr.{name}" for name in CONTRASTS)
        raise ValueError(
            f"The term {factor.text!r} must be C(column), C(column, ref='level') or C(column, "
            f"contrast), with one of {names}. The order of the levels is that of the column's "
            f"categories (pandas.Categorical). {CONTRASTS_ELSEWHERE}"
        )
    assert isinstance(column, ast.Name)
    (name,) = factor.columns
    return name


def _not_allowed(found: str, term: str, text: str) -> ValueError:
    hint = f"{FUNCTIONS[found]} " if found in FUNCTIONS else ""
    return ValueError(
        f"The term {term!r} of the formula {text!r} holds {found!r}, which is not allowed. "
        f"{hint}{ALLOWED}"
    )


def _tree(text: str, source: str, columns: Sequence[str]) -> ast.Expression:
    """Return the syntax tree of a factor."""
    try:
        return ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        words = re.findall(r"\w+", source)
        reserved = next((word for word in words if word in kwlist), None)
        what = (
            f"{reserved!r} is a word of Python. If it is a column, write it in `backticks`."
            if reserved is not None
            else "it must be a call such as log(x), s(x, k=5) or I(x / 10), with commas between "
            "what it is given and an operator between two columns."
        )
        raise ValueError(f"The term {text!r} does not parse: {what} {ALLOWED}") from None
