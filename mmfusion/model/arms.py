"""Two arms whose means are compared: values of rows, intervals, and the guard of bad models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import special, stats

__all__ = ["SCALES", "Arms", "Contrast", "Sampling", "Scale", "guard"]

#: Draws of the multiplier bootstrap of simultaneous bands.
DRAWS = 2000
#: What models add has no variance below this share of that of the unadjusted comparison.
NOTHING = 1e-16


class Scale(NamedTuple):
    """On which scale means are compared: a function, its slope, and back."""

    value: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]


SCALES = {
    "difference": Scale(lambda m: m, np.ones_like, lambda v: v),
    "ratio": Scale(np.log, lambda m: 1 / m, np.exp),
    "odds ratio": Scale(special.logit, lambda m: 1 / (m * (1 - m)), np.exp),
}


@dataclass(frozen=True, eq=False)
class Sampling:
    """Which rows were treated, and which are independent of each other.

    Attributes
    ----------
    treated : ndarray of bool, shape (n,)
    cluster : ndarray of int, shape (n,), or None
        Rows of a cluster count as one, weighed as the rows they are.
    estimated : int
        Numbers that were estimated in each arm: its mean; after `guard` the slope too.
    """

    treated: np.ndarray
    cluster: np.ndarray | None
    estimated: int = 1

    @cached_property
    def _by_arm(self) -> bool:
        """Whether whole clusters were treated."""
        assert self.cluster is not None
        share = np.bincount(self.cluster, self.treated) / np.bincount(self.cluster)
        return bool(np.isin(share, (0.0, 1.0)).all())

    @cached_property
    def _inflation(self) -> np.ndarray:
        """Factor of each independent unit for what was estimated, for a mean the root of n/(n-1).

        In each arm, so that the unadjusted difference has Welch's variance.
        """
        if self.cluster is None:
            sizes = np.bincount(self.treated, minlength=2)
            return np.sqrt(sizes / (sizes - self.estimated))[self.treated.astype(int)]
        n_clusters = int(self.cluster.max()) + 1
        if not self._by_arm:
            return np.full(n_clusters, np.sqrt(n_clusters / (n_clusters - self.estimated)))
        arm = np.zeros(n_clusters, dtype=int)
        arm[self.cluster] = self.treated
        sizes = np.bincount(arm, minlength=2)
        return np.sqrt(sizes / np.maximum(sizes - self.estimated, 1))[arm]

    @property
    def df(self) -> int:
        """Degrees of freedom of the variance, of Student's t."""
        if self.cluster is None:
            return len(self.treated) - 2
        return int(self.cluster.max()) + 1 - (2 if self._by_arm else 1)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return independent contributions to a sum over rows, (units, m), of mean 0.

        Their squares sum to its variance.
        """
        centred = values - values.mean(axis=0)
        if self.cluster is not None:
            total = np.zeros((int(self.cluster.max()) + 1, values.shape[1]))
            np.add.at(total, self.cluster, centred)
            centred = total
        return centred * self._inflation[:, None]


class Contrast(NamedTuple):
    """Comparisons of the two arms, m of each, on some scale.

    Attributes
    ----------
    estimate, se : ndarray, shape (m,)
        Of the treated less the control, on the scale; NaN where a mean has no value on it.
    """

    estimate: np.ndarray
    se: np.ndarray


@dataclass(frozen=True, eq=False)
class Arms:
    """Values of rows, whose means are what the two arms would have had.

    Attributes
    ----------
    values : ndarray, shape (n_splits, 2, n, m)
        The control's and the treated's, of m quantities; of each split of the rows into folds.
    sampling : Sampling
    """

    values: np.ndarray
    sampling: Sampling

    @property
    def means(self) -> np.ndarray:
        """What the arms have, shape (2, m)."""
        return self.values.mean(axis=(0, 2))

    def contrast(self, scale: Scale) -> Contrast:
        """Compare the arms, and give the standard error (the delta method).

        Over several splits the estimates are averaged; the variance is the mean of theirs and that
        between them (Chernozhukov et al. 2018, section 3.4).
        """
        n = self.values.shape[2]
        found, variances = [], []
        with np.errstate(divide="ignore", invalid="ignore"):
            for values in self.values:
                means = values.mean(axis=1)
                control, treated = scale.value(means)
                slopes = scale.slope(means)
                found.append(treated - control)
                shares = slopes[1] * values[1] - slopes[0] * values[0]
                variances.append(np.square(self.sampling.sums(shares)).sum(axis=0) / n**2)
            estimate = np.mean(found, axis=0)
            variance = np.mean(variances, axis=0) + np.var(found, axis=0)
        known = np.isfinite(estimate) & np.isfinite(variance)
        return Contrast(
            np.where(known, estimate, np.nan), np.where(known, np.sqrt(variance), np.nan)
        )

    def errors(self) -> np.ndarray:
        """Return the standard errors of control, treated and difference, shape (3, m)."""
        both = (self.values[:, 0], self.values[:, 1], self.values[:, 1] - self.values[:, 0])
        n = self.values.shape[2]
        variances = [
            np.mean([np.square(self.sampling.sums(v)).sum(0) / n**2 for v in of], axis=0)
            + np.var(of.mean(axis=1), axis=0)
            for of in both
        ]
        return np.sqrt(variances)

    def critical(self, errors: np.ndarray, level: float, seed: int) -> np.ndarray:
        """Return how many standard errors a band over all m quantities spans, for each of three.

        The quantile of the largest studentised deviation, by the multiplier bootstrap (Lin, Wei &
        Ying 1993; Chernozhukov, Chetverikov & Kato 2013).

        Parameters
        ----------
        errors : ndarray, shape (3, m)
            As `errors` has them.
        """
        values, n = self.values.mean(axis=0), self.values.shape[2]
        rng = np.random.default_rng(seed)
        spans = []
        for of, se in zip((values[0], values[1], values[1] - values[0]), errors, strict=True):
            known = se > 0
            sums = self.sampling.sums(of[:, known]) / n
            own = np.sqrt(np.square(sums).sum(axis=0))
            largest = [0.0]
            if known.any():
                noise = rng.standard_normal((DRAWS, len(sums)))
                largest = np.abs(noise @ (sums / own)).max(axis=1)
            pointwise = stats.norm.ppf(0.5 + level / 2)
            spans.append(max(float(np.quantile(largest, level)), pointwise))
        return np.array(spans)


def guard(values: np.ndarray, plain: np.ndarray, sampling: Sampling) -> np.ndarray:
    r"""Return the values that models gave, kept only so far as they narrow the difference.

    Both have the same mean in a randomised study, so that any :math:`d^0 + g (d - d^0)` has, d the
    difference of the arms; with :math:`g = -cov(d^0, x)/var(x)`, :math:`x = d - d^0`, its variance
    is least: asymptotically never above that without models, however bad these are.

    Parameters
    ----------
    values : ndarray, shape (2, n, m)
        Augmented by models.
    plain : ndarray, shape (2, n, m)
        Unadjusted.
    sampling : Sampling
    """
    unadjusted = sampling.sums(plain[1] - plain[0])
    added = sampling.sums((values[1] - values[0]) - (plain[1] - plain[0]))
    size, all_of = np.square(added).sum(axis=0), np.square(unadjusted).sum(axis=0)
    says = size > NOTHING * all_of
    slope = np.divide(-(unadjusted * added).sum(axis=0), size, out=np.zeros_like(size), where=says)
    guarded: np.ndarray = plain + slope * (values - plain)
    return guarded
