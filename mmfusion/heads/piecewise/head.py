"""The piecewise exponential head: log-hazards of causes in intervals, and what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from mmfusion.heads.discrete.grid import Scheme, check_cuts, last_times
from mmfusion.heads.discrete.head import DiscreteTimeHead, Law
from mmfusion.heads.discrete.target import DiscreteTimeTarget
from mmfusion.heads.grid import Basis
from mmfusion.heads.piecewise.cuts import given_cuts, learned_cuts, merge_empty
from mmfusion.heads.piecewise.derivatives import Curve, curve_and_derivatives
from mmfusion.heads.piecewise.likelihood import (
    PiecewiseExponential,
    PiecewiseExponentialTarget,
    overlap,
)
from mmfusion.heads.piecewise.proportional import ProportionalHazards
from mmfusion.inputs.messages import name_rows
from mmfusion.inputs.times import as_times
from mmfusion.survival import Survival
from mmfusion.survival.outcome import snap

__all__ = ["SHARED", "PiecewiseExponentialHead"]

#: The parameter whose effects all causes have in common.
SHARED = "shared"

#: Fewer intervals than these have a constant each instead of a smooth baseline.
FEWEST = 4

#: The largest power of a network's effect over time.
DEGREE = 3


#: A log-hazard beyond this is no longer told from nothing, or from at once.
LARGEST = 300.0


class PiecewiseExponentialHead(DiscreteTimeHead):
    """Hazards that are constant within intervals, of one cause or several (Friedman 1982).

    A predictor a cause and interval: its log-hazard. With delayed entry and case weights.

    Parameters
    ----------
    cuts : array-like of float, optional
        Bounds of the intervals; None makes `n_intervals` by `scheme`.
    n_intervals : int, default=50
        The most intervals where `cuts` is None.
    scheme : {"quantiles", "equidistant"}, default="quantiles"
        Quantiles of the event times, or intervals of one length.
    baseline : str, optional
        Formula of the log-hazard over time. None is a constant an interval and cause.
    time_varying : bool, default=False
        Whether a network's effect may vary over the intervals.
    shared : bool, default=False
        Whether a formula may have effects that all causes have in common.

    Attributes
    ----------
    cuts_ : ndarray, shape (n_intervals + 1,)
    causes_ : ndarray of int64

    Examples
    --------
    >>> import torch
    >>> from mmfusion.heads.piecewise import PiecewiseExponentialHead
    >>> head = PiecewiseExponentialHead(cuts=[1.0, 2.0])
    >>> target = head.fit_outcome(([0.5, 1.0, 2.0], [True, False, True]))
    >>> target.exposure().tolist()
    [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0]]
    >>> constant = head.initial(target)[None]  # events over exposure: 1 / 2.5, 1 / 1
    >>> head.survival(constant, [1.0, 1.5]).round(3)
    array([[0.67 , 0.407]])
    """

    def __init__(
        self,
        *,
        cuts: Any = None,
        n_intervals: int = 50,
        scheme: Scheme = "quantiles",
        baseline: str | None = "s(t)",
        time_varying: bool = False,
        shared: bool = False,
    ) -> None:
        self.likelihood = PiecewiseExponential()
        self.cuts = None if cuts is None else check_cuts(cuts)
        self.n_intervals = n_intervals
        self.scheme = scheme
        self.interpolation = "constant_hazard"
        self.ratio = self.likelihood.ratio
        self.time_varying = time_varying
        self.shared = shared
        self._baseline = baseline

    @property
    def n_causes(self) -> int:
        """How many causes of events there are."""
        return len(self.causes_)

    @property
    def baseline(self) -> str | None:
        return self._baseline if len(self.cuts_) > FEWEST else None

    @property
    def parameters(self) -> Basis:
        """The log-hazard; with several causes that of each, and what they have in common."""
        if self.n_causes == 1:
            return Basis(("hazard",), np.ones((len(self.cuts_) - 1, 1)))
        of_causes = self._by_cause(np.ones((len(self.cuts_) - 1, 1)))
        names = [f"cause_{cause}" for cause in self.causes_]
        if self.shared:
            of_causes = np.column_stack([of_causes, np.ones(len(of_causes))])
            names.append(SHARED)
        return Basis(tuple(names), of_causes)

    @property
    def constants(self) -> Basis:
        """One a cause, beside a baseline that is a formula; else a constant a predictor."""
        if self.baseline is not None:
            return self.parameters.take(range(self.n_causes))
        start, end = self.cuts_[:-1], self.cuts_[1:]
        names = [f"baseline ({a:g}, {b:g}]" for a, b in zip(start, end, strict=True)]
        if self.n_causes > 1:
            names = [f"cause_{cause} {name}" for cause in self.causes_ for name in names]
        return Basis.identity(names)

    @property
    def deep_basis(self) -> Basis:
        """An output a cause; where it varies over time, one each for powers of it.

        Those are Legendre's, of the number of the interval, of mean square 1.
        """
        j = len(self.cuts_) - 1
        powers: np.ndarray = np.ones((j, 1))
        if self.time_varying and j > 1:
            degree = min(DEGREE, j - 1)
            place = (2 * np.arange(j) + 1) / j - 1
            powers = np.polynomial.legendre.legvander(place, degree)
            powers = powers / np.sqrt(np.square(powers).mean(0))
        names = [f"power_{number}" for number in range(powers.shape[1])]
        causes = [""] if self.n_causes == 1 else [f"cause_{cause}_" for cause in self.causes_]
        return Basis(tuple(c + name for c in causes for name in names), self._by_cause(powers))

    @property
    def deep_groups(self) -> tuple[int, ...]:
        """A share of the networks a cause."""
        return tuple(np.repeat(np.arange(self.n_causes), len(self.cuts_) - 1).tolist())

    def _by_cause(self, columns: np.ndarray) -> np.ndarray:
        """Return columns over the intervals, (J, f), for each cause by itself."""
        return np.kron(np.eye(self.n_causes), columns)

    def _bounds(self, outcome: Survival, weight: np.ndarray, index: Any) -> np.ndarray:
        if self.cuts is None:
            cuts = learned_cuts(outcome, weight, self.n_intervals, self.scheme)
            if self.scheme == "quantiles" and outcome.upper is None:
                return cuts  # each interval ends with an event
        else:
            cuts = given_cuts(self.cuts, outcome, index)
        return merge_empty(cuts, outcome, weight)

    def _encode(self, outcome: Survival, weight: Tensor, index: Any) -> PiecewiseExponentialTarget:
        if outcome.upper is not None and self.n_causes > 1:
            raise ValueError(
                "Events that lie in an interval of time (upper=) must be of one cause. Got the "
                f"causes {self.causes_.tolist()}, and an upper limit in row "
                f"{name_rows(index, outcome.between)}."
            )
        # An event by a time beyond the grid is censored, as one at such a time.
        upper = last_times(outcome)
        known = outcome.between & (upper <= self.cuts_[-1]) & (upper > self.cuts_[0])
        event = np.where(outcome.between & ~known, 0, outcome.event)
        target = super()._encode(replace(outcome, event=event), weight, index)
        between = torch.zeros(len(outcome), 0, dtype=torch.float64)
        if known.any():
            rows = torch.from_numpy(known)
            between = overlap(target.time, torch.from_numpy(upper), self.cuts_) * rows[:, None]
            target = replace(target, interval=torch.where(rows, -1, target.interval))
        return PiecewiseExponentialTarget(**vars(target), cuts=self.cuts_, between=between)

    def batches(
        self, target: DiscreteTimeTarget, rows: Sequence[Tensor]
    ) -> Iterator[tuple[Tensor, DiscreteTimeTarget]]:
        target.exposure()  # once, and cut with the rest
        yield from super().batches(target, rows)

    def check_subjects(self, target: Any, owner: np.ndarray, index: Any) -> None:
        """Raise ValueError if rows of one subject overlap, where some row starts late.

        Rows that all start at 0 are gaps between recurrent events, each with a clock of its own.
        """
        if not self.has_entry(target):
            return
        time, entry = target.time.cpu().numpy(), target.entry.cpu().numpy().clip(min=0.0)
        order = np.lexsort((time, entry, owner))
        same = owner[order][1:] == owner[order][:-1]
        overlap = same & (entry[order][1:] < time[order][:-1])
        if overlap.any():
            place = int(np.flatnonzero(overlap)[0])
            first, second = order[place], order[place + 1]
            raise ValueError(
                "Rows of one subject (id=) must not overlap: it would be at risk twice. Got rows "
                f"{name_rows(index, [first, second])}, on ({entry[first]:g}, {time[first]:g}] and "
                f"({entry[second]:g}, {time[second]:g}]."
            )

    def initial(self, target: Any) -> Tensor:
        """Return the constant model: the logarithm of events over time at risk, shape (K,).

        An interval without events of a cause starts at half an event.
        """
        weight = target.weight
        exposure = torch.from_numpy(target.in_sums.exposure()).to(weight.device)
        exposure = exposure.repeat(self.n_causes)
        events = torch.zeros(len(exposure), dtype=torch.float64)
        if target.between.shape[1]:  # as if halfway, with an event spread over its interval
            rows = target.between.sum(1) > 0
            half = weight[rows, None] * target.between[rows]
            exposure = exposure + 0.5 * half.sum(0)
            events = events + (half / target.between[rows].sum(1, keepdim=True)).sum(0)
        at = target.n_intervals * (target.cause - 1) + target.interval
        at = torch.where(target.interval >= 0, at, len(events)).cpu()
        events = events + torch.bincount(at, weight.cpu(), len(events) + 1)[:-1]
        least = 0.5 * weight.mean().cpu()
        known = exposure.cpu() > 0
        rate = torch.where(known, events.clamp_min(least) / exposure.cpu(), 1.0)
        return rate.clamp_min(1e-300).log()

    def separable(self, target: Any) -> ProportionalHazards | None:
        """Return the likelihood of proportional hazards, of one cause and known event times."""
        if self.n_causes > 1 or target.between.shape[1]:
            return None
        return target.in_sums

    def hazards(self, eta: Any) -> np.ndarray:
        """Return the hazards, shape (..., n_causes, n_intervals)."""
        eta = np.asarray(eta, dtype=np.float64)
        return np.exp(eta).reshape(*eta.shape[:-1], self.n_causes, -1)

    def hazard(self, eta: Any, times: Any, cause: int | None = None) -> np.ndarray:
        """Return the hazard of each row at each time, (n, m): of one cause, or of all together.

        An interval holds its end. NaN outside the grid.

        Raises
        ------
        ValueError
            For a cause that no training row had.
        """
        times = snap(as_times("times", times), self.cuts_)
        hazards = self.hazards(eta)
        hazards = hazards.sum(1) if cause is None else hazards[:, self.position(cause)]
        holds = np.searchsorted(self.cuts_[1:], times, side="left")
        inside = (times >= self.cuts_[0]) & (times <= self.cuts_[-1])
        return np.where(inside, hazards[:, holds.clip(max=hazards.shape[1] - 1)], np.nan)

    def predictors_at(self, times: np.ndarray, cause: int | None = None) -> np.ndarray:
        """Return which predictor is the log-hazard at each time, (m,); an interval holds its end.

        Raises
        ------
        ValueError
            For a time outside the grid, a cause that no training row had, or none of several.
        """
        if cause is None and self.n_causes > 1:
            raise ValueError(
                f"The cause parameter must be one of {self.causes_.tolist()}. Got None."
            )
        place = 0 if cause is None else self.position(cause)
        times = snap(as_times("times", times), self.cuts_)
        outside = (times < self.cuts_[0]) | (times > self.cuts_[-1])
        if outside.any():
            raise ValueError(
                f"The times parameter must lie in [{self.cuts_[0]:g}, {self.cuts_[-1]:g}], where "
                f"the hazard is known. Got {times[outside][0]:g}."
            )
        size = len(self.cuts_) - 1
        holds = np.searchsorted(self.cuts_[1:], times, side="left")
        return np.asarray(place * size + holds, dtype=np.intp)

    def curve_and_derivatives(
        self, eta: np.ndarray, times: np.ndarray, curve: Curve, cause: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a curve of one row's predictors (K,), shape (m,), and its derivatives, (m, K).

        Of one cause or, but for an incidence, of all together.

        Raises
        ------
        ValueError
            For a cause that no training row had.
        """
        place = None if cause is None else self.position(cause)
        times = snap(as_times("times", times), self.cuts_)
        return curve_and_derivatives(self.hazards(eta), self.cuts_, times, curve, place)

    def law(self, eta: np.ndarray) -> np.ndarray:
        return self._law(eta).masses

    def from_law(self, law: np.ndarray) -> np.ndarray:
        masses = law[..., :-1].reshape(*law.shape[:-1], self.n_causes, -1)
        by_interval = logsumexp(masses, axis=-2)
        every = np.concatenate([by_interval, law[..., -1:]], axis=-1)
        after = np.logaddexp.accumulate(every[..., ::-1], axis=-1)[..., ::-1]
        chance = np.exp(by_interval - after[..., :-1])
        # A difference of logarithms has no digits of a small chance.
        fall = after[..., :-1] - after[..., 1:]
        fall = np.where(chance < 0.5, -np.log1p(-np.minimum(chance, 0.5)), fall)
        rate = np.log(fall / np.diff(self.cuts_)) - by_interval
        return (masses + rate[..., None, :]).reshape(*law.shape[:-1], -1)

    def _law(self, eta: Any) -> Law:
        """Return log-masses and log S at the cuts, from the cumulative hazards."""
        eta = np.clip(np.asarray(eta, dtype=np.float64), -LARGEST, LARGEST)
        by_cause = eta.reshape(*eta.shape[:-1], self.n_causes, -1)
        rate = logsumexp(by_cause, axis=-2)
        with np.errstate(over="ignore"):
            fall = np.exp(rate + np.log(np.diff(self.cuts_)))
        knots = np.concatenate([np.zeros_like(fall[..., :1]), -np.cumsum(fall, axis=-1)], axis=-1)
        with np.errstate(divide="ignore"):
            in_interval = knots[..., :-1] + np.log(-np.expm1(-fall))
        masses = by_cause - rate[..., None, :] + in_interval[..., None, :]
        masses = np.concatenate([masses.reshape(eta.shape), knots[..., -1:]], axis=-1)
        return Law(masses, knots)
