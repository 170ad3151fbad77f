"""Smooths that hold the same effect, which no penalty tells apart as a reader would."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations

from mmfusion.structured._options import SmoothSpec

__all__ = ["check_overlap"]

Effect = frozenset[str]


def check_overlap(smooths: Sequence[SmoothSpec], factors: Collection[str]) -> None:
    """Raise ValueError if two smooths hold the same main effect or interaction.

    s(x) holds the effect of x, te(x, z) those of x and of z and their interaction, ti(x, z) the
    interaction alone. What two terms both hold can be moved from one to the other: where the
    penalties leave it alone the fit is singular, and elsewhere how it is shared out is theirs to
    say and not the data's. (R's mgcv drops columns of the later term instead.)

    Parameters
    ----------
    smooths : sequence of SmoothSpec
        Without random intercepts.
    factors : collection of str
        The ``by`` columns that are factors: their smooths add up to one without ``by``. With a
        numeric ``by`` two terms overlap only if both have the same.
    """
    for number, later in enumerate(smooths):
        for earlier in smooths[:number]:
            shared = _effects(earlier) & _effects(later)
            if shared and _same_rows(earlier, later, factors):
                raise ValueError(_message(earlier, later, min(shared, key=_order)))


def _effects(spec: SmoothSpec) -> set[Effect]:
    if spec.function == "ti":
        return {frozenset(spec.variables)}
    sizes = range(1, len(spec.variables) + 1)
    return {frozenset(some) for size in sizes for some in combinations(spec.variables, size)}


def _same_rows(one: SmoothSpec, other: SmoothSpec, factors: Collection[str]) -> bool:
    """Return whether neither term is multiplied by something that the other is not."""
    return one.by == other.by or all(s.by is None or s.by in factors for s in (one, other))


def _order(effect: Effect) -> tuple[int, list[str]]:
    return len(effect), sorted(effect)


def _message(earlier: SmoothSpec, later: SmoothSpec, shared: Effect) -> str:
    names = sorted(shared)
    what = f"effect of {names[0]}" if len(names) == 1 else f"interaction of {', '.join(names)}"
    told = (
        f"The terms {earlier.label} and {later.label} both hold the smooth {what}: the data cannot "
        "say which of them it belongs to. "
    )
    if earlier.by != later.by:
        return (
            f"{told}The smooths of a factor's levels add up to one without by=: leave one of the "
            "two terms out."
        )
    by = "" if later.by is None else f", by={later.by}"
    effects = sorted(_effects(earlier) | _effects(later), key=_order)
    split = [f"{'s' if len(e) == 1 else 'ti'}({', '.join(sorted(e))}{by})" for e in effects]
    return f"{told}Leave one of the two out, or write each effect once: {' + '.join(split)}."
