"""Internal names: what stands in a formula for a column, so that no parser reads its own name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from keyword import iskeyword

__all__ = ["internal", "quoted", "shown", "unquoted"]

_TOKEN = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"|(?P<quoted>`(?:[^`]|``)+`)"
    r"|(?P<number>\.?\d[\w.]*)"
    r"|(?P<word>[^\W\d]\w*)",
    re.DOTALL,
)
_ALIAS = re.compile(r"\b_c(\d+)\b")


def quoted(name: str) -> str:
    """Return a column's name in backticks, those in it doubled."""
    return f"`{name.replace('`', '``')}`"


def unquoted(text: str) -> str:
    """Return the name that stands in backticks."""
    return text[1:-1].replace("``", "`")


def internal(text: str, columns: Sequence[str] = ()) -> tuple[str, tuple[str, ...]]:
    """Return an expression with ``_c0``, ``_c1``, ... for its columns, and the columns.

    Names of functions, of keyword arguments and of attributes stay, and Python's own words.

    Parameters
    ----------
    text : str
    columns : sequence of str
        That come first.

    Examples
    --------
    >>> internal("I(log(`a b`) + log / age)")
    ('I(log(_c0) + _c1 / _c2)', ('a b', 'log', 'age'))
    """
    found = dict.fromkeys(columns)

    def alias(match: re.Match[str]) -> str:
        token = match[0]
        if match["quoted"]:
            name = unquoted(token)
        elif match["word"] and not _is_python(text, match):
            name = token
        else:
            return token
        found.setdefault(name)
        return f"_c{list(found).index(name)}"

    source = _TOKEN.sub(alias, text)
    return source, tuple(found)


def shown(source: str, columns: Sequence[str]) -> str:
    """Return an expression with the columns' own names, in backticks where they are needed."""

    def name(match: re.Match[str]) -> str:
        place = int(match[1])
        if place >= len(columns):
            return match[0]
        own = columns[place]
        plain = own.isascii() and own.isidentifier() and not iskeyword(own)
        return own if plain else quoted(own)

    return _ALIAS.sub(name, source)


def _is_python(text: str, match: re.Match[str]) -> bool:
    """Return whether a word is a function, an attribute, an argument's name or a Python word."""
    before, after = text[: match.start()].rstrip(), text[match.end() :].lstrip()
    argument = after.startswith("=") and not after.startswith("==")
    attribute = before.endswith(".") or after.startswith(".")
    return argument or attribute or after.startswith("(") or iskeyword(match[0])
