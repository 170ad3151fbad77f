"""A formula's text: which terms it has, and which columns they read in which way.

formulaic does the algebra of the operators. What stands inside a term is looked at here before
anything evaluates it: a formula can come out of a saved model, and must not be able to run code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain

from formulaic.errors import FormulaicError
from formulaic.parser import DefaultFormulaParser
from formulaic.parser.types import Factor, Term
from formulaic.utils.structured import Structured

from mmfusion.structured._options import SmoothSpec, smooth_spec

__all__ = ["ParsedFormula", "columns_read", "expression_columns", "parse_formula"]

SMOOTHS = ("s", "te", "ti", "tv", "re")
TRANSFORMS = ("poly", "bs", "center", "scale", "I", "log", "log2", "log10", "log1p", "exp", "sqrt")
NUMPY = tuple(f"np.{name}" for name in ("log", "log2", "log10", "log1p", "exp", "sqrt", "abs"))
CONTRASTS = ("treatment", "sum", "helmert", "poly", "diff")
ALLOWED = (
    "Allowed are columns (`with backticks` where the name is no Python name), C(column), "
    f"{', '.join(f'{name}(...)' for name in TRANSFORMS)}, s(x), te(x, z), ti(x, z), tv(x), "
    "re(column), joined by +, -, :, * and **."
)

_ARITHMETIC = (
    *(ast.Constant, ast.Load, ast.List, ast.Tuple, ast.keyword, ast.BinOp, ast.UnaryOp),
    *(ast.Compare, ast.operator, ast.unaryop, ast.cmpop),
)


@dataclass(frozen=True)
class ParsedFormula:
    """The terms of a formula.

    Attributes
    ----------
    parametric : dict of formulaic Term to dict of str to tuple of str
        The terms without smooths and without the intercept, each with the columns that each of its
        factors reads.
    intercept : bool
        Whether the formula leaves the intercept in.
    smooths : tuple of SmoothSpec
    bare : set of str
        Columns that stand alone in a term: numbers or factors, by what the table holds.
    factors : set of str
        Columns inside C().
    numbers : set of str
        Columns inside another expression of a parametric term.
    """

    parametric: dict[Term, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    intercept: bool = False
    smooths: tuple[SmoothSpec, ...] = ()
    bare: set[str] = field(default_factory=set)
    factors: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)


@lru_cache(maxsize=64)
def columns_read(text: str) -> tuple[str, ...]:
    """Return the columns that a formula, or one term of it, reads."""
    parsed = parse_formula(text)
    smooths = [(*smooth.variables, smooth.by) for smooth in parsed.smooths]
    factors = chain.from_iterable(read.values() for read in parsed.parametric.values())
    names = chain.from_iterable((*factors, *smooths))
    return tuple(dict.fromkeys(name for name in names if name is not None))


def parse_formula(text: str) -> ParsedFormula:
    """Return the terms of a formula.

    Raises
    ------
    ValueError
        If it does not parse, has a left-hand side, or holds what is not allowed.
    """
    parsed = ParsedFormula()
    smooths: dict[str, SmoothSpec] = {}
    intercept = False
    for term in _terms(text):
        if term.degree == 0:
            intercept = True
            continue
        calls = [call for call in (_smooth_call(factor) for factor in term.factors) if call]
        if not calls:
            parsed.parametric[term] = {
                factor.expr: tuple(dict.fromkeys(_read_factor(factor, parsed, text)))
                for factor in term.factors
            }
            continue
        if len(term.factors) > 1:
            raise ValueError(
                f"The term {str(term)!r} multiplies a smooth. Write s(x, by=z) for a smooth effect "
                "of x that varies with z, te(x, z) for a smooth surface, or ti(x, z) for its "
                "interaction alone."
            )
        spec = smooth_spec(*calls[0])
        if spec.label in smooths:
            raise ValueError(
                f"The formula {text!r} has the term {spec.label} twice with different options."
            )
        smooths[spec.label] = spec
    twice = sorted((parsed.bare | parsed.numbers) & parsed.factors)
    if twice:
        raise ValueError(
            f"The formula {text!r} reads {twice[0]!r} as a factor and as a number. Its levels "
            "already hold whatever it does as a number; where both are meant, copy the column."
        )
    return replace(parsed, intercept=intercept, smooths=tuple(smooths.values()))


def _terms(text: str) -> Iterator[Term]:
    try:
        parsed = DefaultFormulaParser(include_intercept=True).get_terms(text)
    except FormulaicError as error:
        reason = re.sub(r"\x1b\[[0-9;]*m|[⧛⧚]", "", str(error)).split("\n")[0]
        raise ValueError(f"The formula {text!r} does not parse: {reason} {ALLOWED}") from error
    terms = parsed._simplify() if isinstance(parsed, Structured) else parsed
    if isinstance(terms, Structured | tuple):
        raise ValueError(
            f"The formula {text!r} must be the right-hand side alone, without '~' and '|': the "
            f"outcome is given to fit. {ALLOWED}"
        )
    yield from terms


def _smooth_call(factor: Factor) -> tuple[ast.Call, str, Mapping[str, str]] | None:
    """Return the call, its text and the names behind its backticks if a factor is a smooth."""
    if factor.eval_method is not Factor.EvalMethod.PYTHON:
        return None
    tree, aliases = _tree(factor.expr)
    call = tree.body
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in SMOOTHS:
        return call, factor.expr, aliases
    return None


def _read_factor(factor: Factor, parsed: ParsedFormula, text: str) -> list[str]:
    """Return the columns of a factor; raise ValueError unless all in it is allowed."""
    if factor.eval_method is Factor.EvalMethod.LITERAL:
        return []
    if factor.eval_method is Factor.EvalMethod.LOOKUP:
        parsed.bare.add(factor.expr)
        return [factor.expr]
    tree, aliases = _tree(factor.expr)
    call = tree.body
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "C":
        column = _categorical(call, aliases, factor.expr)
        parsed.factors.add(column)
        return [column]
    names = expression_columns(factor.expr, text)
    parsed.numbers.update(names)
    return names


def expression_columns(term: str, text: str | None = None) -> list[str]:
    """Return the columns that an expression of numbers reads.

    Parameters
    ----------
    term : str
        The expression.
    text : str, optional
        The formula it stands in.

    Raises
    ------
    ValueError
        Unless all in it is allowed: what this function lets pass can be evaluated.
    """
    tree, aliases = _tree(term)
    names = _expression_names(tree.body, term, term if text is None else text)
    return [aliases.get(name, name) for name in names]


def _expression_names(node: ast.AST, term: str, text: str) -> Iterator[str]:
    """Yield the names in an expression that are no functions."""
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Call):
        function = ast.unparse(node.func)
        if function not in TRANSFORMS and function not in NUMPY:
            raise _not_allowed(function, term, text)
        children = chain(node.args, node.keywords)
    elif not isinstance(node, _ARITHMETIC):
        raise _not_allowed(ast.unparse(node), term, text)
    for child in children:
        yield from _expression_names(child, term, text)


def _categorical(call: ast.Call, aliases: Mapping[str, str], text: str) -> str:
    """Return the column of C(column) or C(column, contr.name(...))."""
    column, *contrasts = [*call.args, *(keyword.value for keyword in call.keywords)]
    named = [keyword.arg for keyword in call.keywords]
    good = isinstance(column, ast.Name) and len(contrasts) <= 1 and named in ([], ["contrasts"])
    if good and contrasts:
        made = contrasts[0]
        chosen = made.func if isinstance(made, ast.Call) else made
        arguments = [*made.args, *made.keywords] if isinstance(made, ast.Call) else []
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
            f"The term {text!r} must be C(column) or C(column, contrast), with one of {names}. The "
            "order of the levels is that of the column's categories (pandas.Categorical)."
        )
    assert isinstance(column, ast.Name)
    return aliases.get(column.id, column.id)


def _not_allowed(found: str, term: str, text: str) -> ValueError:
    return ValueError(
        f"The term {term!r} of the formula {text!r} holds {found!r}, which is not allowed. "
        f"{ALLOWED}"
    )


def _tree(expression: str) -> tuple[ast.Expression, dict[str, str]]:
    """Return the syntax tree of a factor, and the names that stood in backticks by their alias."""
    aliases: dict[str, str] = {}

    def alias(match: re.Match[str]) -> str:
        name = f"_column_{len(aliases)}"
        aliases[name] = match[1]
        return name

    source = re.sub(r"`([^`]*)`", alias, expression)
    try:
        return ast.parse(source, mode="eval"), aliases
    except SyntaxError as error:
        raise ValueError(
            f"The term {expression!r} does not parse: {error.msg}. {ALLOWED}"
        ) from error
