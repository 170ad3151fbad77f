"""The operators of a formula: which products of factors it is the sum of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from itertools import product
from typing import Literal, NamedTuple

from mmfusion.structured._names import internal, quoted, unquoted
from mmfusion.structured._words import FUNCTIONS, OPERATORS

__all__ = ["ALLOWED", "SMOOTHS", "TRANSFORMS", "ParsedFactor", "ParsedTerm", "parse_terms"]

SMOOTHS = ("s", "te", "ti", "tv", "re")
TRANSFORMS = ("poly", "bs", "center", "scale", "I", "log", "log2", "log10", "log1p", "exp", "sqrt")
ALLOWED = (
    "Allowed are columns (`with backticks` where the name is no Python name), C(column), "
    f"{', '.join(f'{name}(...)' for name in TRANSFORMS)}, s(x), te(x, z), ti(x, z), tv(x), "
    "re(column), offset(x), joined by +, -, :, * and **."
)

_TOKEN = re.compile(
    r"\s*(?:(?P<column>`(?:[^`]|``)*`)|(?P<word>[\w.]+)|(?P<operator>\*\*|%\w+%|[-+*/:^~|()]))",
    re.DOTALL,
)
_INSIDE = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`]|``)*`|(?P<bracket>[()\[\]{}])""", re.DOTALL
)


@dataclass(frozen=True)
class ParsedFactor:
    """One factor of a term.

    Attributes
    ----------
    source : str
        The factor with internal names for its columns.
    columns : tuple of str
        The columns behind ``_c0``, ``_c1``, ...
    sort : {"column", "call"}
    text : str
        What it is called: the column's name, or the call as the user wrote it.
    """

    source: str
    columns: tuple[str, ...]
    sort: Literal["column", "call"]
    text: str = field(compare=False)

    @property
    def function(self) -> str | None:
        """The name of the function that is called."""
        return None if self.sort == "column" else self.source.split("(")[0].strip()

    def shown(self, *, quote: bool = False) -> str:
        """Return what it is called; if `quote`, a column whose name says more in backticks."""
        plain = self.text.isidentifier() and self.text != "Intercept"
        return quoted(self.text) if quote and self.sort == "column" and not plain else self.text


@dataclass(frozen=True)
class ParsedTerm:
    """A product of factors and a number; without factors the intercept.

    Attributes
    ----------
    factors : tuple of ParsedFactor
    scale : float
    """

    factors: tuple[ParsedFactor, ...] = ()
    scale: float = 1.0

    @property
    def key(self) -> frozenset[ParsedFactor]:
        """What a term is, whatever the order of its factors."""
        return frozenset(self.factors)

    def __str__(self) -> str:
        return self.shown()

    def shown(self, *, quote: bool = False) -> str:
        """Return the term's label; columns stand in backticks if `quote`."""
        scale = [] if self.scale == 1.0 else [f"{self.scale:.15g}"]
        return ":".join([*scale, *(factor.shown(quote=quote) for factor in self.factors)])

    def times(self, other: ParsedTerm) -> ParsedTerm:
        """Return the product; a factor counts once."""
        factors = dict.fromkeys([*self.factors, *other.factors])
        return ParsedTerm(tuple(factors), self.scale * other.scale)


class _Token(NamedTuple):
    kind: Literal["number", "factor", "operator", "end"]
    text: str
    factor: ParsedFactor | None = None


def parse_terms(text: str) -> list[ParsedTerm]:
    """Return the terms of a formula, each once, the intercept among them.

    Raises
    ------
    ValueError
        If the text is no sum of products of factors.
    """
    return _Parser(text).terms()


_Terms = dict[frozenset[ParsedFactor], ParsedTerm]


class _Parser:
    """Reads by falling binding: ``**``, then ``:``, then ``*`` and ``/``, then ``+`` and ``-``."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [*_tokens(text), _Token("end", "the end")]
        self._place = 0

    def terms(self) -> list[ParsedTerm]:
        intercept = ParsedTerm()
        found = {intercept.key: intercept}
        if self._next.kind != "end":
            self._sum(found, nested=False)
        if self._next.kind != "end":
            raise self._unexpected("an operator")
        for term in found.values():
            if not term.factors and term.scale != 1.0:
                raise _does_not_parse(
                    self._text,
                    f"the number {term.scale:.15g} stands alone. 1 is the intercept, 0 or -1 takes "
                    "it away; a number multiplies a term as in 10:x or I(10 * x).",
                )
            if term.scale == 0.0:
                raise _does_not_parse(self._text, f"the term {term} is zero everywhere.")
        return list(found.values())

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self, *operators: str) -> str | None:
        """Return the next token's text and go on if it is one of some operators."""
        token = self._next
        if token.kind != "operator" or token.text not in operators:
            return None
        self._place += 1
        return token.text

    def _sum(self, found: _Terms, *, nested: bool) -> None:
        """Add the terms of a sum to those before, or take them away."""
        sign = self._sign("+")
        while True:
            zero = self._next == _Token("number", "0")
            terms = self._product()
            if zero and list(terms) == [frozenset()]:
                terms = {frozenset(): ParsedTerm()}
                sign = "-" if sign == "+" else "+"
            for key, term in terms.items():
                if sign == "+":
                    self._add(found, term)
                elif term.scale == 1.0 and (key in found or not (key or nested)):
                    found.pop(key, None)
                else:
                    what = str(term) or "the intercept"
                    raise _does_not_parse(
                        self._text, f"it takes away {what}, which no term before it holds."
                    )
            operator = self._take("+", "-")
            if operator is None:
                return
            sign = self._sign(operator)

    def _sign(self, sign: str) -> str:
        """Return the sign that a row of signs makes."""
        while (more := self._take("+", "-")) is not None:
            if more == "-":
                sign = "-" if sign == "+" else "+"
        return sign

    def _product(self) -> _Terms:
        left = self._interaction()
        while (operator := self._take("*", "/")) is not None:
            right = self._interaction()
            for terms in (left, right):
                if frozenset() in terms:
                    raise _does_not_parse(
                        self._text,
                        f"{operator!r} joins a number. Write 10:x or I(10 * x), I(x / 10).",
                    )
            parents = (
                [reduce(ParsedTerm.times, left.values())] if operator == "/" else left.values()
            )
            made = [one.times(other) for one, other in product(list(parents), right.values())]
            both = [*left.values(), *(right.values() if operator == "*" else ())]
            left = self._union([*both, *made])
        return left

    def _interaction(self) -> _Terms:
        left = self._power()
        while self._take(":") is not None:
            right = self._power()
            left = self._union([a.times(b) for a, b in product(left.values(), right.values())])
        return left

    def _power(self) -> _Terms:
        base = self._operand()
        if (operator := self._take("**", "^")) is None:
            return base
        token = self._next
        if token.kind != "number" or not token.text.isdecimal() or not 1 <= int(token.text) <= 20:
            raise _does_not_parse(
                self._text,
                f"after {operator!r} must stand a whole number from 1 to 20, the order of the "
                f"interactions. Got {token.text!r}.",
            )
        self._place += 1
        terms = base
        for _ in range(int(token.text) - 1):
            terms = self._union([a.times(b) for a, b in product(terms.values(), base.values())])
        if self._take("**", "^") is not None:
            raise _does_not_parse(self._text, "a power has a power. Put it in parentheses.")
        return terms

    def _operand(self) -> _Terms:
        token = self._next
        if token.factor is not None:
            self._place += 1
            return self._union([ParsedTerm((token.factor,))])
        if token.kind == "number":
            self._place += 1
            try:
                number = float(token.text)
            except ValueError:
                raise _does_not_parse(self._text, f"{token.text!r} is no number.") from None
            return self._union([ParsedTerm((), number)])
        if self._take("(") is not None:
            inner: _Terms = {}
            self._sum(inner, nested=True)
            if self._take(")") is None:
                raise self._unexpected("an operator or ')'")
            return inner
        raise self._unexpected("a column, a function or '('")

    def _union(self, terms: list[ParsedTerm]) -> _Terms:
        found: _Terms = {}
        for term in terms:
            self._add(found, term)
        return found

    def _add(self, found: _Terms, term: ParsedTerm) -> None:
        same = found.setdefault(term.key, term)
        if same.scale != term.scale and term.factors:
            raise _does_not_parse(
                self._text, f"it holds {same} and {term}, one term times two numbers."
            )
        if same.scale != term.scale:  # the intercept and another number
            found[term.key] = term if same.scale == 1.0 else same

    def _unexpected(self, wanted: str) -> ValueError:
        token = self._next
        found = token.text if token.kind == "end" else repr(token.text)
        return _does_not_parse(self._text, f"{wanted} must stand where {found} does.")


def _tokens(text: str) -> Iterator[_Token]:
    end = len(text.rstrip())
    place = end - len(text[:end].lstrip().removeprefix("~"))
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None:
            rest = text[place:].lstrip()
            what = "backticks are not closed" if rest[0] == "`" else f"{rest[0]!r} has no meaning"
            hint = " Write I(...) for arithmetic." if rest[0] in "{[<>=&" else ""
            raise _does_not_parse(text, f"{what} at {rest[:20]!r}.{hint}")
        place = match.end()
        if match["operator"]:
            found = match["operator"]
            if found in OPERATORS and found != "^":
                raise _does_not_parse(text, OPERATORS[found])
            yield _Token("operator", found)
        elif match["column"]:
            if match["column"] == "``":
                raise _does_not_parse(text, "`` holds no name: a column's stands between.")
            name = unquoted(match["column"])
            yield _Token("factor", match["column"], ParsedFactor("_c0", (name,), "column", name))
        else:
            word = match["word"]
            opening = re.compile(r"\s*\(").match(text, place)
            if re.fullmatch(r"[0-9.]*[0-9][0-9.]*", word):
                yield _Token("number", word)
            elif not word.strip("."):
                raise _does_not_parse(text, OPERATORS["."])
            elif opening:
                place = _closing(text, match.start("word"), opening.end())
                call = text[match.start("word") : place]
                if word in FUNCTIONS:
                    raise ValueError(
                        f"The term {call!r} of the formula {text!r} holds {word!r}, which is not "
                        f"allowed. {FUNCTIONS[word]} {ALLOWED}"
                    )
                yield _Token("factor", call, ParsedFactor(*internal(call), "call", call))
            else:
                yield _Token("factor", word, ParsedFactor("_c0", (word,), "column", word))


def _closing(text: str, start: int, place: int) -> int:
    """Return where a call ends whose opening parenthesis lies just before a place."""
    depth = 1
    for match in _INSIDE.finditer(text, place):
        if match["bracket"]:
            depth += 1 if match["bracket"] in "([{" else -1
        if depth == 0:
            return match.end()
    raise _does_not_parse(text, f"the parenthesis of {text[start:]!r} is not closed.")


def _does_not_parse(text: str, reason: str) -> ValueError:
    return ValueError(f"The formula {text!r} does not parse: {reason} {ALLOWED}")
