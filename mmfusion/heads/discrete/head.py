"""The discrete-time head: outcome on a grid, losses, and the law that predictors mean."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmfusion.heads.base import ENOUGH, Head, Monitor
from mmfusion.heads.discrete.curves import (
    Interpolation,
    log_survival_at,
    quantile,
    restricted_mean,
    split_fall,
)
from mmfusion.heads.discrete.grid import Scheme, check_cuts, end_with, last_times, make_cuts
from mmfusion.heads.discrete.masses import (
    constant_masses,
    log_masses,
    log_survival,
    predictors_of,
)
from mmfusion.heads.discrete.registry import LIKELIHOODS, DiscreteLoss
from mmfusion.heads.discrete.target import DiscreteTimeTarget
from mmfusion.heads.grid import Basis, Grid
from mmfusion.heads.groups import event_time_groups
from mmfusion.heads.weights import check_weights
from mmfusion.inputs.times import as_times, check_clock
from mmfusion.metrics import concordance_index
from mmfusion.survival import Survival, check_survival, episode_share
from mmfusion.survival.curves import follow_up_of
from mmfusion.survival.outcome import snap

__all__ = ["DiscreteTimeHead"]


class Law(NamedTuple):
    """Log-masses (n, K + 1) and log S at the cuts (n, n_intervals + 1)."""

    masses: np.ndarray
    knots: np.ndarray


class DiscreteTimeHead(Head[DiscreteTimeTarget]):
    """Discrete-time likelihoods, with delayed entry and case weights; DeepHit's with causes.

    One predictor a cause and interval, cause by cause. The loss is the mean over case weights of
    the likelihood's, each of which is a class with a file of its own, known by its name
    (`mmfusion.heads.discrete.registry`).

    Parameters
    ----------
    loss : {"logistic_hazard", "pmf", "deephit", "mtlr", "pc_hazard", "multisurv"}
    cuts : array-like of float, optional
        Bounds of the intervals; None makes `n_intervals` by `scheme` (`make_cuts`).
    n_intervals : int, default=10
    scheme : {"quantiles", "equidistant"}, default="quantiles"
    interpolation : {"constant_density", "constant_hazard"}, optional
        Between the bounds. None is constant hazards for ``"pc_hazard"``, whose likelihood says so,
        and constant density for the others.
    alpha, sigma : float, default=0.2, 0.1
        DeepHit's: the share of the likelihood, and the scale of the ranking loss.

    Attributes
    ----------
    likelihood : DiscreteLikelihood
    cuts_ : ndarray, shape (n_intervals + 1,)
        From 0 on.
    causes_ : ndarray of int64
        The causes of events, sorted; ``[1]`` where there is one.

    Examples
    --------
    >>> import torch
    >>> from mmfusion.heads.discrete import DiscreteTimeHead
    >>> head = DiscreteTimeHead(cuts=[1.0, 2.0, 3.0])
    >>> target = head.fit_outcome(([1.0, 2.0, 3.0], [True, True, True]))
    >>> constant = head.initial(target)[None]
    >>> head.survival(constant, [0.0, 0.5, 1.0, 2.0]).round(3)
    array([[1.   , 0.833, 0.667, 0.333]])
    """

    law_is_log = True
    marginal = "survival"
    cuts_: np.ndarray
    causes_: np.ndarray
    last_: float

    def __init__(
        self,
        loss: DiscreteLoss = "logistic_hazard",
        *,
        cuts: Any = None,
        n_intervals: int = 10,
        scheme: Scheme = "quantiles",
        interpolation: Interpolation | None = None,
        alpha: float = 0.2,
        sigma: float = 0.1,
    ) -> None:
        self.likelihood = LIKELIHOODS[loss](alpha=alpha, sigma=sigma)
        own = self.likelihood.interpolation
        if interpolation is not None and own not in (None, interpolation):
            raise ValueError(
                f"The interpolation parameter must be {own!r} or None with loss={loss!r}, whose "
                f"likelihood says what lies between the bounds. Got {interpolation!r}."
            )
        self.cuts = None if cuts is None else check_cuts(cuts)
        self.n_intervals = n_intervals
        self.scheme = scheme
        self.interpolation: Interpolation = interpolation or own or "constant_density"
        self.interacts = self.likelihood.interacts
        self.has_linear = self.likelihood.shares_effects and not self.interacts
        self.ratio = self.likelihood.ratio
        self.scale_note = self.likelihood.scale_note

    @property
    def grid(self) -> Grid:
        """A predictor an interval, with its start, end and midpoint (t), for each cause."""
        n = len(self.causes_)
        start, end = np.tile(self.cuts_[:-1], n), np.tile(self.cuts_[1:], n)
        coordinates = {"t": 0.5 * (start + end), "start": start, "end": end}
        names = [f"interval_{number}" for number in range(1, len(self.cuts_))]
        if n > 1:
            names = [f"cause_{cause}_{name}" for cause in self.causes_ for name in names]
            coordinates["cause"] = np.repeat(self.causes_, len(start) // n).astype(np.float64)
        return Grid(tuple(names), coordinates)

    @property
    def parameters(self) -> Basis:
        """One effect on all hazards (Cox 1972, of grouped times); an effect a mass."""
        names = self.grid.names
        if not self.likelihood.shares_effects:
            return Basis.identity(names)
        return Basis(("hazard",), np.ones((len(names), 1)))

    @property
    def constants(self) -> Basis:
        """A constant a predictor: where effects are shared, the baseline."""
        if not self.likelihood.shares_effects:
            return self.parameters
        ends = itertools.pairwise(self.cuts_)
        return Basis.identity([f"baseline ({first:g}, {last:g}]" for first, last in ends])

    @property
    def deep_basis(self) -> Basis:
        """An output of a network an interval and cause."""
        return Basis.identity(self.grid.names)

    @property
    def stack_constants(self) -> Basis:
        """One: an interval's own would have no end where it has no events."""
        return Basis(("constant",), np.ones((len(self.grid), 1)))

    def fit_outcome(
        self, y: Any, sample_weight: np.ndarray | None = None, index: Any = None, **context: Any
    ) -> DiscreteTimeTarget:
        """Check the training outcome, learn its causes and the grid, and return it encoded.

        Raises
        ------
        ValueError, TypeError
            As `mmfusion.survival.check_survival`; for weights that are negative, or zero for every
            event; for a grid that ends before the first event.
        """
        outcome = self._check(y, index, require_events=True)
        weight = check_weights(sample_weight, len(outcome))
        self.causes_ = np.unique(outcome.event[outcome.event > 0])
        if self.causes_.tolist() == [1, 2] and (outcome.event > 0).all():
            warnings.warn(
                "The outcome y has the events 1 and 2 and no censored row (0): they are read as "
                "two competing causes. If 1 is censored and 2 is dead, as in R's Surv, give "
                "event - 1.",
                UserWarning,
                stacklevel=2,
            )
        if not (weight.numpy()[outcome.event > 0] > 0).any():
            raise ValueError(
                "The sample_weight parameter must give at least one event a weight above 0. "
                f"Got 0 for all {int((outcome.event > 0).sum())} events."
            )
        self.cuts_ = self._bounds(outcome, weight.numpy(), index)
        end, seen = float(self.cuts_[-1]), float(last_times(outcome).max())
        self.last_ = max(end, seen) if self.cuts is None else min(end, seen)
        target = self._encode(outcome, weight, index)
        if not self.informative(target):
            first = outcome.time[(outcome.event > 0) & (weight.numpy() > 0)].min()
            raise ValueError(
                f"The cuts parameter must reach the first event, at {first:g}: events beyond the "
                f"last cut are censored there. Got {self.cuts_[-1]:g} for the last cut."
            )
        return target

    def encode(
        self, y: Any, sample_weight: np.ndarray | None = None, index: Any = None, **context: Any
    ) -> DiscreteTimeTarget:
        """Return a further outcome on the grid; it may have no events.

        Raises
        ------
        ValueError, TypeError
            As `fit_outcome`, and for a cause that `fit_outcome` did not see.
        """
        outcome = self._check(y, index, require_events=False)
        return self._encode(outcome, check_weights(sample_weight, len(outcome)), index)

    def _check(self, y: Any, index: Any, *, require_events: bool) -> Survival:
        outcome = check_survival(
            y,
            allow_competing=self.likelihood.competing,
            allow_intervals=self.likelihood.intervals,
            require_events=require_events,
            index=index,
        )
        return replace(outcome, event=outcome.event.astype(np.int64))

    def _bounds(self, outcome: Survival, weight: np.ndarray, index: Any) -> np.ndarray:
        """Return the bounds of the intervals."""
        if self.cuts is None:
            return make_cuts(outcome, self.n_intervals, self.scheme, weight)
        return end_with(self.cuts, float(outcome.time.max()))

    def _encode(self, outcome: Survival, weight: Tensor, index: Any) -> DiscreteTimeTarget:
        code = np.searchsorted(self.causes_, outcome.event).clip(max=len(self.causes_) - 1)
        unseen = (self.causes_[code] != outcome.event) & (outcome.event > 0)
        if unseen.any():
            row = int(np.flatnonzero(unseen)[0])
            label = row if index is None else list(index)[row]
            raise ValueError(
                f"Events in y must be 0 or a cause seen in training: {self.causes_.tolist()}. "
                f"Got row {label!r} ({outcome.event[row]})."
            )
        event = np.where(outcome.event > 0, code + 1, 0)
        # A time that is a cut but for rounding lies on it.
        time, entry = (snap(values, self.cuts_) for values in (outcome.time, outcome.entry))
        first, last = self.cuts_[[0, -1]]
        cause = np.where((time <= last) & ((time > first) | (first == 0)), event, 0)
        on_grid = Survival(time, cause, entry)
        places = self.likelihood.place(on_grid, self.cuts_)
        arrays = (outcome.time, outcome.entry, event, cause, *places)
        tensors = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
        return DiscreteTimeTarget(weight, len(self.causes_), len(self.cuts_) - 1, *tensors)

    def initial(self, target: DiscreteTimeTarget) -> Tensor:
        """Return the constant model, shape (K,): the Kaplan-Meier hazards of the grid.

        With causes they are those of each (Aalen & Johansen 1978), for PC-hazard events over
        exposure. An interval without events starts at half an event, so that a logit is finite.
        """
        weight, cause, interval = (
            getattr(target, name).cpu().numpy() for name in ("weight", "cause", "interval")
        )
        exposure = weight @ target.exposure().cpu().numpy()
        events = np.zeros((len(self.causes_), len(exposure)))
        seen = cause > 0
        np.add.at(events, (cause[seen] - 1, interval[seen]), weight[seen])
        rates = np.divide(events, exposure, out=np.zeros_like(events), where=exposure > 0)
        masses = constant_masses(self.likelihood.hazard(rates), 0.5 / (len(target) + 1))
        return torch.from_numpy(self.from_law(masses))

    def loss(self, eta: Tensor, target: DiscreteTimeTarget) -> Tensor:
        return self.likelihood.loss(eta.double(), target)

    def gradient(self, eta: Tensor, target: DiscreteTimeTarget) -> Tensor:
        if self.interacts:
            return super().gradient(eta, target)
        return self.likelihood.gradient(eta.detach().double(), target) * target.shares[:, None]

    def derivatives(self, eta: Tensor, target: DiscreteTimeTarget) -> tuple[Tensor, Tensor]:
        if self.interacts:
            return super().derivatives(eta, target)
        gradient, curvature = self.likelihood.derivatives(eta.detach().double(), target)
        if eta.shape[1] == 1:
            curvature = curvature.view(-1, 1)
        gradient *= target.shares[:, None]
        curvature *= target.shares.view(-1, *[1] * (curvature.ndim - 1))
        return gradient, curvature

    def informative(self, target: DiscreteTimeTarget) -> bool:
        return bool(((target.cause > 0) & (target.weight > 0)).any())

    def enough(self, target: DiscreteTimeTarget, n_coefficients: int) -> bool:
        known = int((target.cause > 0).sum())
        return self.informative(target) and known >= ENOUGH * n_coefficients

    def events(self, target: DiscreteTimeTarget) -> Tensor:
        """Return which rows have an event, of any cause, within the grid."""
        return target.cause > 0

    def n_events(self, target: DiscreteTimeTarget) -> int:
        """Return how many rows have an event, those beyond the grid among them."""
        return int(torch.count_nonzero((target.event > 0) & (target.weight > 0)))

    def median_follow_up(self, target: DiscreteTimeTarget) -> float:
        fields = (target.time, target.event, target.entry, target.weight)
        *outcome, weight = (field.cpu().numpy() for field in fields)
        return follow_up_of(Survival(*outcome), weight)

    def episodes(self, target: DiscreteTimeTarget) -> float:
        return episode_share(target.time.cpu().numpy(), target.entry.cpu().numpy())

    def has_entry(self, target: DiscreteTimeTarget) -> bool:
        return bool((target.entry > 0).any())

    def required(self, target: DiscreteTimeTarget) -> dict[str, np.ndarray]:
        event, causes = target.event.cpu().numpy(), self.causes_.tolist()
        own = {f"cause {cause!r}": event == code for code, cause in enumerate(causes, start=1)}
        return (own if len(causes) > 1 else {}) | super().required(target)

    def stratify(self, target: DiscreteTimeTarget) -> np.ndarray:
        return target.cause.cpu().numpy()

    def groups(self, target: DiscreteTimeTarget) -> np.ndarray:
        """Return the fourth of the times of events, of any cause; see `event_time_groups`."""
        return event_time_groups(target.time.cpu().numpy(), target.event.cpu().numpy() > 0)

    def monitor(self, eta: Tensor, target: DiscreteTimeTarget) -> Monitor | None:
        """Return Harrell's C of the time to any event, None where no two rows are comparable."""
        time, event, entry, weight = (
            getattr(target, name).cpu().numpy() for name in ("time", "event", "entry", "weight")
        )
        try:
            value = concordance_index(
                Survival(time, event > 0, entry),
                self.risk(eta.detach().cpu()),
                sample_weight=None if (weight == 1).all() else weight,
            )
        except ValueError:
            return None
        return Monitor("c_index", value, higher_is_better=True)

    def law(self, eta: np.ndarray) -> np.ndarray:
        """Return log-masses, shape (..., K + 1): their mean is the mean of curves and incidences.

        The last one is that of no event within the grid.
        """
        return log_masses(eta, self.likelihood.kind)

    def from_law(self, law: np.ndarray) -> np.ndarray:
        return predictors_of(law, self.likelihood.kind)

    def _law(self, eta: Any) -> Law:
        masses = self.law(np.asarray(eta, dtype=np.float64))
        return Law(masses, log_survival(masses, len(self.cuts_) - 1))

    def risk(self, eta: Any) -> np.ndarray:
        """Return minus the mean event-free time within the grid, shape (n,); higher is worse."""
        return -self.restricted_mean(eta, self.cuts_[-1])

    def cumulative_hazard(self, eta: Any, times: Any) -> np.ndarray:
        """Return minus the logarithm of the survival of each row at each time, shape (n, m)."""
        knots = self._law(eta).knots
        return 0.0 - log_survival_at(
            knots, self.cuts_, as_times("times", times), self.interpolation
        )

    def survival(self, eta: Any, times: Any) -> np.ndarray:
        """Return the probability of no event of each row until each time, shape (n, m)."""
        return np.exp(-self.cumulative_hazard(eta, times))

    def cumulative_incidence(self, eta: Any, times: Any, cause: int = 1) -> np.ndarray:
        """Return the probability of an event of `cause` until each time, shape (n, m).

        Raises
        ------
        ValueError
            For a cause that no training row had.
        """
        place = self.position(cause)
        masses, knots = self._law(eta)
        times = as_times("times", times)
        survival = np.exp(log_survival_at(knots, self.cuts_, times, self.interpolation))
        by_cause = masses[:, :-1].reshape(len(masses), len(self.causes_), -1)
        incidence = split_fall(by_cause, knots, survival, self.cuts_, times)
        return incidence[:, place]

    def position(self, cause: int) -> int:
        """Return the place of a cause, or raise ValueError for one that no training row had."""
        if cause not in self.causes_:
            raise ValueError(
                f"The cause parameter must be one of {self.causes_.tolist()}. Got {cause!r}."
            )
        return int(np.searchsorted(self.causes_, cause))

    def quantile(self, eta: Any, q: float) -> np.ndarray:
        """Return the time by which a share `q` has had an event, shape (n,); inf where none."""
        return quantile(self._law(eta).knots, self.cuts_, q, self.interpolation)

    def restricted_mean(self, eta: Any, horizon: float) -> np.ndarray:
        """Return the mean event-free time up to `horizon`, shape (n,)."""
        check_clock("horizon", horizon)
        return restricted_mean(self._law(eta).knots, self.cuts_, horizon, self.interpolation)

    def follow_up(self, n: int) -> np.ndarray:
        """Return where the curves of each of n rows end: at the last cut, or the last time known.

        Between the last event, where cuts that are learned end, and the last censored time they
        are flat, as Kaplan and Meier's is.
        """
        return np.full(n, self.last_)

    def state(self) -> dict[str, np.ndarray]:
        return {"cuts": self.cuts_, "causes": self.causes_, "last": np.array(self.last_)}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.cuts_ = state["cuts"]
        self.last_ = float(state["last"])
        self.causes_ = state["causes"]
