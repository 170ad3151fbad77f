"""Logarithms of distribution functions that hold in the tails, with two derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor
from torch.nn.functional import softplus

__all__ = [
    "capped_exp",
    "log_add",
    "log_beta_cdf",
    "log_exp_gap",
    "log_gamma_cdf",
    "log_minus_expm1",
    "log_ndtr",
    "log_t_cdf",
    "stirling_gap",
]

Array = np.ndarray
ROOT2, LOG_ROOT_2PI = 2.0**0.5, 0.5 * float(np.log(2 * np.pi))
#: Beyond this a normal tail is its asymptotic series, to 14 digits.
FAR = 30.0
#: A probability below this is found by the first terms of an expansion, as a logarithm.
SMALL = 1e-280
#: Exponents up to here: their squares are still numbers.
LARGEST = 300.0
#: Step of differences, in units over which a function bends.
STEP = 1e-3


def _split(where: Tensor, value: Tensor, safe: float) -> Tensor:
    """Return values, `safe` in their place elsewhere: no gradient of there is then NaN."""
    return torch.where(where, value, safe)


def capped_exp(x: Tensor) -> Tensor:
    """Return ``exp(x)``, straight on where that would overflow: it never loses its slope."""
    held = x.clamp(max=LARGEST)
    return held.exp() * (1 + (x - held))


def log_minus_expm1(x: Tensor) -> Tensor:
    """Return ``log(1 - exp(-x))`` of x > 0; -inf at 0 and below."""
    small = x < 0.7
    low = torch.log(-torch.expm1(-_split(small & (x > 0), x, 0.5)))
    high = torch.log1p(-torch.exp(-_split(~small, x, 1.0)))
    return torch.where(small, torch.where(x > 0, low, -torch.inf), high)


def log_add(a: Tensor, b: Tensor) -> Tensor:
    """Return ``log(exp(a) + exp(b))``; second derivatives of torch's own overflow."""
    return torch.where(a > b, a + softplus(b - a), b + softplus(a - b))


def log_exp_gap(z: Tensor) -> Tensor:
    """Return ``log(1 - exp(-exp(z)))``, which is z far below 0."""
    far = z < -FAR
    return torch.where(far, z, log_minus_expm1(capped_exp(_split(~far, z, 0.0))))


def log_ndtr(z: Tensor) -> Tensor:
    """Return the logarithm of the normal distribution function."""
    low, high = z < -FAR, z > 1.0
    x = _split(low, z, -FAR)
    u = 1 / x**2
    series = torch.log1p(-u * (1 - u * (3 - u * (15 - u * (105 - 945 * u)))))
    tail = -0.5 * x**2 - LOG_ROOT_2PI - torch.log(-x) + series
    x = _split(~low & ~high, z, 0.0)
    middle = torch.log(0.5 * torch.special.erfcx(-x / ROOT2)) - 0.5 * x**2
    upper = torch.log1p(-0.5 * torch.erfc(_split(high, z, 1.0) / ROOT2))
    return torch.where(low, tail, torch.where(high, upper, middle))


def stirling_gap(x: Tensor) -> Tensor:
    """Return ``lgamma(x) - (x - 1/2) log x + x - log(2 pi) / 2``, which is small for large x."""
    large = x > 50
    if not bool(large.any()):
        return torch.lgamma(x) - (x - 0.5) * x.log() + x - LOG_ROOT_2PI
    u = 1 / _split(large, x, 50.0)
    series = u * (1 / 12 - u**2 * (1 / 360 - u**2 / 1260))
    y = _split(~large, x, 1.0)
    return torch.where(large, series, torch.lgamma(y) - (y - 0.5) * y.log() + y - LOG_ROOT_2PI)


class _Numeric(torch.autograd.Function):
    """A function of NumPy with derivatives by differences."""

    @staticmethod
    def forward(ctx: Any, f: Callable[..., Array], steps: list[Array], *args: Tensor) -> Tensor:
        ctx.f, ctx.steps = f, steps
        ctx.save_for_backward(*args)
        return torch.from_numpy(f(*(a.numpy() for a in args)))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        args = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        return (
            None,
            None,
            *(
                grad * _Slope.apply(ctx.f, ctx.steps, i, *args) if needed else None
                for i, needed in enumerate(wanted)
            ),
        )


class _Slope(torch.autograd.Function):
    """A first derivative, of fourth order; its own derivatives are second differences."""

    @staticmethod
    def forward(
        ctx: Any, f: Callable[..., Array], steps: list[Array], i: int, *args: Tensor
    ) -> Tensor:
        ctx.f, ctx.steps, ctx.i = f, steps, i
        ctx.save_for_backward(*args)
        at, h = _shifted(f, steps, args), steps[i]
        near = at({i: 1}) - at({i: -1})
        return torch.from_numpy((8 * near - (at({i: 2}) - at({i: -2}))) / (12 * h))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        args, i, steps = ctx.saved_tensors, ctx.i, ctx.steps
        at = _shifted(ctx.f, steps, args)
        found: list[Tensor | None] = []
        for j, needed in enumerate(ctx.needs_input_grad[3:]):
            if not needed:
                found.append(None)
            elif j == i:
                second = 16 * (at({i: 1}) + at({i: -1})) - at({i: 2}) - at({i: -2}) - 30 * at({})
                found.append(grad * torch.from_numpy(second / (12 * steps[i] ** 2)))
            else:
                mixed = at({i: 1, j: 1}) - at({i: 1, j: -1}) - at({i: -1, j: 1})
                mixed = (mixed + at({i: -1, j: -1})) / (4 * steps[i] * steps[j])
                found.append(grad * torch.from_numpy(mixed))
        return None, None, None, *found


def _shifted(
    f: Callable[..., Array], steps: list[Array], args: Sequence[Tensor]
) -> Callable[[dict[int, int]], Array]:
    def at(moves: dict[int, int]) -> Array:
        return f(*(a.numpy() + moves.get(k, 0) * steps[k] for k, a in enumerate(args)))

    return at


def _numeric(f: Callable[..., Array], steps: Sequence[Array | float], *args: Tensor) -> Tensor:
    given = torch.broadcast_tensors(*args)
    shape = given[0].shape
    steps = [np.broadcast_to(STEP * np.asarray(s), shape) for s in steps]
    return _Numeric.apply(f, steps, *(a.contiguous() for a in given))


def _log_tail(chance: Array, expansion: Callable[[], Array]) -> Array:
    """Return the logarithm of a probability, by its expansion where it is no number any more."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found = np.log(chance)
        if (chance < SMALL).any():
            found = np.where(chance < SMALL, expansion(), found)
    return np.asarray(np.minimum(found, 0.0))


def log_gamma_cdf(log_ratio: Tensor, log_shape: Tensor, *, upper: bool = False) -> Tensor:
    """Return the log of a gamma distribution function at a multiple of its mean.

    Parameters
    ----------
    log_ratio : Tensor
        Logarithm of the value over the mean.
    log_shape : Tensor
    upper : bool
        Whether the probability beyond the value is meant.
    """

    def value(u: Array, v: Array) -> Array:
        a = np.exp(v)
        with np.errstate(over="ignore"):
            x = np.exp(u + v)
        chance = special.gammaincc(a, x) if upper else special.gammainc(a, x)

        def expansion() -> Array:
            density = a * (u - np.expm1(u)) + 0.5 * v - LOG_ROOT_2PI
            return np.asarray(density - np.log(np.maximum(np.abs(x - a), 1.0)))

        # Of large shapes -lgamma(a) is its Stirling series; of small ones the tail is a power.
        small = (a < 1) & (not upper)
        power = a * (u + v) - special.gammaln(a + 1)
        return _log_tail(chance, lambda: np.where(small, power, expansion()))

    width = np.minimum(1.0, 1 / np.sqrt(log_shape.detach().exp().numpy()))
    return _numeric(value, (width, 1.0), log_ratio, log_shape)


def log_beta_cdf(
    logit: Tensor, log_a: Tensor, log_b: Tensor, width: Array | float = 1.0, *, upper: bool = False
) -> Tensor:
    """Return the log of the beta distribution function at ``1 / (1 + exp(-logit))``.

    Parameters
    ----------
    logit, log_a, log_b : Tensor
    width : array-like
        Over how much of its arguments it bends, 1 or less.
    upper : bool
        Whether the probability beyond the value is meant.
    """

    def value(t: Array, u: Array, v: Array) -> Array:
        if upper:
            t, u, v = -t, v, u
        a, b = np.exp(u), np.exp(v)
        x, rest = special.expit(t), special.expit(-t)
        chance = np.where(t < 0, special.betainc(a, b, x), special.betaincc(b, a, rest))

        def expansion() -> Array:
            front = a * special.log_expit(t) + b * special.log_expit(-t) - special.betaln(a, b) - u
            return np.asarray(front - np.log(np.maximum(1 - x * (a + b) / (a + 1), 1e-8)))

        return _log_tail(chance, expansion)

    return _numeric(value, (width, width, width), logit, log_a, log_b)


def log_t_cdf(z: Tensor, log_df: Tensor) -> Tensor:
    """Return the log of Student's distribution function."""

    def value(z: Array, v: Array) -> Array:
        df = np.exp(v)

        def expansion() -> Array:
            log_x = -np.log1p(z**2 / df)
            front = 0.5 * df * log_x - special.betaln(0.5 * df, 0.5) - np.log(df)
            rest = 1 - np.exp(log_x) * (df + 1) / (df + 2)
            heavy = front + 0.5 * np.log(-np.expm1(log_x)) - np.log(np.maximum(rest, 1e-300))
            return np.asarray(np.where(df > 1e6, special.log_ndtr(z), heavy))

        light = df > 1e9
        chance = special.stdtr(np.where(light, 1e9, df), z)
        return _log_tail(np.where(light, special.ndtr(z), chance), expansion)

    return _numeric(value, (1 + np.abs(z.detach().numpy()), 1.0), z, log_df)
