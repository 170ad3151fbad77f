"""The options of s(), te(), ti(), tv() and re(), read from the formula and checked."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mmfusion.inputs.parameters import is_count, is_number
from mmfusion.structured._names import shown

__all__ = ["TIME", "SmoothSpec", "smooth_spec"]

#: What tv() varies over.
TIME = "t"

_OPTIONS = {
    "s": ("k", "bs", "m", "by", "sp", "df", "monotone"),
    "te": ("k", "bs", "m", "by", "sp", "df"),
    "ti": ("k", "bs", "m", "by", "sp", "df"),
    "tv": ("k", "bs", "m", "sp", "df", "monotone"),
    "re": ("sp", "df"),
}


@dataclass(frozen=True)
class SmoothSpec:
    """A smooth or random term as the formula states it.

    Attributes
    ----------
    function : {"s", "te", "ti", "tv", "re"}
    label : str
    variables : tuple of str
        That it runs over; of tv() the time.
    k : tuple of int
        Basis dimension a variable, before the constraint.
    bs : {"ps", "cr"}
    m : tuple of int
        Of a P-spline: its degree less one, and the order of the difference penalty.
    by : str or None
    sp : tuple of float or None
    df : float or None
    monotone : {"up", "down"} or None
    """

    function: Literal["s", "te", "ti", "tv", "re"]
    label: str
    variables: tuple[str, ...]
    k: tuple[int, ...] = ()
    bs: str = "ps"
    m: tuple[int, int] = (2, 2)
    by: str | None = None
    sp: tuple[float, ...] | None = None
    df: float | None = None
    monotone: Literal["up", "down"] | None = None


def smooth_spec(call: ast.Call, text: str, columns: Sequence[str]) -> SmoothSpec:
    """Return what a call of s, te, ti, tv or re in a formula asks for.

    Parameters
    ----------
    call : ast.Call
    text : str
        The term as the user wrote it, for messages.
    columns : sequence of str
        Those behind the internal names ``_c0``, ``_c1``, ...

    Raises
    ------
    ValueError
        If a variable is no column name, an option is unknown, or its value is out of range.
    """
    assert isinstance(call.func, ast.Name)
    function: Any = call.func.id
    variables = tuple(_column(node, text, columns) for node in call.args)
    least = 2 if function in ("te", "ti") else 1
    most = 1 if function in ("re", "tv") else len(variables)
    if not least <= len(variables) <= most:
        wanted = "one column" if least == 1 else "two columns or more"
        raise ValueError(
            f"The term {text!r} must name {wanted} before its options. Got {len(variables)}."
        )
    tensor = len(variables) > 1
    if len(set(variables)) < len(variables):
        raise ValueError(f"The term {text!r} must name different columns.")
    options: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg not in _OPTIONS[function]:
            if keyword.arg == "monotone":
                raise ValueError(
                    f"The term {text!r} has the option 'monotone', which s() and tv() of one "
                    f"variable take; {function}() has none."
                )
            raise ValueError(
                f"The term {text!r} has the unknown option {keyword.arg!r}. "
                f"{function}() takes {', '.join(_OPTIONS[function])}."
            )
        if keyword.arg == "by":
            options["by"] = _column(keyword.value, text, columns)
        else:
            options[keyword.arg] = _literal(keyword, text, columns)
    label = f"{function}({', '.join(variables)})"
    if "by" in options:
        if options["by"] in variables:
            raise ValueError(f"The term {text!r} must have a by= other than its own variable.")
        label += f":{options['by']}"
    if function == "tv":
        if variables == (TIME,):
            raise ValueError(f"The term {text!r} must name another column than the time {TIME!r}.")
        (options["by"],), variables = variables, (TIME,)
    if "sp" in options and "df" in options:
        raise ValueError(f"The term {text!r} must have one of sp= and df=, not both.")
    if function == "re":
        return SmoothSpec(
            function, label, variables, sp=_sp(options, 1, text), df=_df(options, text)
        )
    bs = options.get("bs", "cr" if tensor else "ps")
    if bs not in ("ps", "cr"):
        raise ValueError(f"The bs option of {text!r} must be 'ps' or 'cr'. Got {bs!r}.")
    m = _orders(options, bs, text)
    return SmoothSpec(
        function=function,
        label=label,
        variables=variables,
        k=_sizes(options.get("k", 5 if tensor else 10), len(variables), bs, m, text),
        bs=bs,
        m=m,
        by=options.get("by"),
        sp=_sp(options, len(variables), text),
        df=_df(options, text),
        monotone=_monotone(options, bs, tensor, text),
    )


def _monotone(
    options: Mapping[str, Any], bs: str, tensor: bool, text: str
) -> Literal["up", "down"] | None:
    direction = options.get("monotone")
    if direction is None:
        return None
    if direction not in ("up", "down"):
        raise ValueError(
            f"The monotone option of {text!r} must be 'up' or 'down'. Got {direction!r}."
        )
    if tensor or bs != "ps":
        found = "runs over several variables" if tensor else f"has bs={bs!r}"
        raise ValueError(
            f"The term {text!r} {found}: the monotone option is for P-splines (bs='ps') of one "
            "variable, s(x) and tv(x)."
        )
    return direction


def _column(node: ast.expr, text: str, columns: Sequence[str]) -> str:
    if not isinstance(node, ast.Name):
        raise ValueError(
            f"The term {text!r} must name columns of the table. Got "
            f"{shown(ast.unparse(node), columns)!r}: make it a column first, and put a name that "
            "is no Python name in `backticks`."
        )
    return columns[int(node.id.removeprefix("_c"))]


def _literal(keyword: ast.keyword, text: str, columns: Sequence[str]) -> Any:
    try:
        return ast.literal_eval(keyword.value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"The {keyword.arg} option of {text!r} must be a number or text. "
            f"Got {shown(ast.unparse(keyword.value), columns)!r}."
        ) from error


def _orders(options: Mapping[str, Any], bs: str, text: str) -> tuple[int, int]:
    """Return spline and penalty order; one number stands for both, as in mgcv."""
    if "m" not in options:
        return 2, 2
    m = options["m"]
    pair = (m, m) if is_count(m, least=0) else m
    good = isinstance(pair, tuple) and len(pair) == 2 and all(is_count(part, 0) for part in pair)
    if bs == "cr" or not good or pair[1] < 1:
        raise ValueError(
            f"The m option of {text!r} must be the order of the P-spline (degree less one, 0 or "
            "more) and of its difference penalty (1 or more), one number or a pair; a bs='cr' "
            f"spline has none. Got {m!r}."
        )
    return pair


def _sizes(k: Any, count: int, bs: str, m: tuple[int, int], text: str) -> tuple[int, ...]:
    least = 3 if bs == "cr" else max(m[0] + 2, m[1] + 1)
    sizes = (k,) * count if is_count(k) else k
    good = isinstance(sizes, tuple) and len(sizes) == count
    if not good or not all(is_count(size, least) for size in sizes):
        each = " (or one for each column)" if count > 1 else ""
        raise ValueError(
            f"The k option of {text!r} must be an integer{each} of at least {least}. Got {k!r}."
        )
    return sizes


def _sp(options: Mapping[str, Any], count: int, text: str) -> tuple[float, ...] | None:
    """Return the fixed smoothing parameters, one a penalty."""
    sp = options.get("sp")
    if sp is None:
        return None
    values = (sp,) * count if is_number(sp) else sp
    good = isinstance(values, tuple) and len(values) == count
    if not good or not all(is_number(part) and 0 <= part < float("inf") for part in values):
        each = f" or {count} of them" if count > 1 else ""
        raise ValueError(
            f"The sp option of {text!r} must be a finite number, 0 or more{each}. Got {sp!r}."
        )
    return tuple(float(part) for part in values)


def _df(options: Mapping[str, Any], text: str) -> float | None:
    """Return the fixed degrees of freedom; their range is known once the basis is."""
    df = options.get("df")
    if df is None:
        return None
    if not is_number(df) or not 0 < df < float("inf"):
        raise ValueError(f"The df option of {text!r} must be a finite number above 0. Got {df!r}.")
    return float(df)
