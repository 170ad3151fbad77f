"""How many rows a regression of so many parameters needs: the criteria of Riley et al. (2019)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scipy import stats

__all__ = ["Needed", "sample_size_classes", "sample_size_numbers", "sample_size_survival"]

#: Least shrinkage of effects; most optimism in R2; half the width of the overall risk's interval.
SHRINKAGE, OPTIMISM, MARGIN = 0.9, 0.05, 0.05
Z = float(stats.norm.ppf(0.975))
#: More rows than these are not looked for.
MOST = 10**8


@dataclass(frozen=True)
class Needed:
    """Rows that each criterion asks for.

    Attributes
    ----------
    rows : dict of str to int
        By criterion.
    events : int or None
        As many as come with the largest of them.
    """

    rows: Mapping[str, int]
    events: int | None = None

    @property
    def n(self) -> int:
        """The largest."""
        return max(self.rows.values())


def sample_size_survival(
    n_parameters: int, r2: float, rate: float, mean_follow_up: float, time: float
) -> Needed:
    """Return the rows that a model of a time to an event needs.

    Riley et al. 2019, Stat. Med. 38:1276-1296: effects shrink by at most a tenth (eq. 11);
    Nagelkerke's R2 is at most .05 too large; the risk by `time` is known to within .05.

    Parameters
    ----------
    n_parameters : int
        Candidate parameters: of a factor a level less, of a curve its columns.
    r2 : float
        The Cox-Snell R2 that is expected in new rows.
    rate : float
        Events by unit of time at risk.
    mean_follow_up : float
    time : float
        At which risks are predicted.
    """
    share = rate * mean_follow_up  # events by row
    most = 1 - math.exp(2 * share * (math.log(share) - 1))
    risk = 1 - math.exp(-rate * time)

    def precise(n: int) -> bool:
        half = Z * math.sqrt(rate / (n * mean_follow_up))
        low, high = (1 - math.exp(-max(rate + side * half, 0) * time) for side in (-1, 1))
        return max(risk - low, high - risk) <= MARGIN

    rows = {**_of_effects(n_parameters, r2, most), "overall risk": _least(precise, 1)}
    return Needed(rows, math.ceil(max(rows.values()) * share))


def sample_size_classes(n_parameters: int, r2: float, prevalence: float) -> Needed:
    """Return the rows that a model of two classes needs (Riley et al. 2019, part II).

    Parameters
    ----------
    n_parameters, r2
        As of `sample_size_survival`.
    prevalence : float
        Of the class that is predicted.
    """
    entropy = prevalence * math.log(prevalence) + (1 - prevalence) * math.log(1 - prevalence)
    most = 1 - math.exp(2 * entropy)
    precise = (Z / MARGIN) ** 2 * prevalence * (1 - prevalence)
    rows = {**_of_effects(n_parameters, r2, most), "overall risk": math.ceil(precise)}
    return Needed(rows, math.ceil(max(rows.values()) * prevalence))


def sample_size_numbers(n_parameters: int, r2: float, mean: float, sd: float) -> Needed:
    """Return the rows that a model of numbers needs.

    Riley et al. 2019, Stat. Med. 38:1262-1275: effects shrink by at most a tenth; R2 is at most .05
    too large; the residual standard deviation is known to within a tenth, and so is the mean.

    Parameters
    ----------
    n_parameters : int
    r2 : float
        The share of the variance that is expected to be explained in new rows.
    mean, sd : float
        Of the outcome.
    """
    p = n_parameters

    def shrinks_little(n: int) -> bool:
        apparent = 1 - (1 - r2) * (n - p - 1) / (n - 1)
        return 1 + (p - 2) / (n * math.log(1 - apparent)) >= SHRINKAGE

    def mean_is_known(n: int) -> bool:
        half = stats.t.ppf(0.975, n - p - 1) * sd * math.sqrt((1 - r2) / n)
        return bool(half <= 0.1 * abs(mean))

    rows = {
        "shrinkage": _least(shrinks_little, p + 2),
        "optimism": math.ceil(1 + p * (1 - r2) / OPTIMISM),
        "residual spread": 234 + p,
    }
    if mean:
        rows["mean"] = _least(mean_is_known, p + 2)
    return Needed(rows)


def _of_effects(n_parameters: int, r2: float, most: float) -> dict[str, int]:
    """Return the rows for little shrinkage, and for little optimism of Nagelkerke's R2."""
    if r2 <= 0:
        return {"shrinkage": MOST, "optimism": MOST}

    def rows(shrinkage: float) -> int:
        inside = 1 - r2 / shrinkage
        if inside <= 0:  # more is explained than shrinks: any number is enough
            return n_parameters
        if inside == 1:
            return MOST
        return math.ceil(n_parameters / ((shrinkage - 1) * math.log(inside)))

    return {"shrinkage": rows(SHRINKAGE), "optimism": rows(r2 / (r2 + OPTIMISM * most))}


def _least(enough: Callable[[int], bool], start: int) -> int:
    """Return the smallest number of rows that is enough, by bisection."""
    low, high = start - 1, start
    while not enough(high):
        low, high = high, 2 * high
        if high > MOST:
            return MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
