"""The discrete-time head: outcome on a grid, losses, and the law that predictors mean."""

from __future__ import annotations

import itertools
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from mmfusion.heads.base import Head, Monitor
from mmfusion.heads.discrete.curves import (
    Interpolation,
    log_survival_at,
    quantile,
    restricted_mean,
    split_fall,
)
from mmfusion.heads.discrete.grid import (
    Scheme,
    check_cuts,
    intervals_ended,
    make_cuts,
    place,
    place_exactly,
)
from mmfusion.heads.discrete.loss import (
    deephit_rank_loss,
    mtlr_logits,
    nll_hazard,
    nll_mass,
    nll_pc_hazard,
    pycox_losses,
)
from mmfusion.heads.discrete.masses import (
    constant_masses,
    log_masses,
    log_survival,
    predictors_of,
)
from mmfusion.heads.discrete.target import DiscreteTimeTarget
from mmfusion.heads.groups import event_time_groups
from mmfusion.heads.weights import check_weights
from mmfusion.metrics import concordance_index
from mmfusion.survival import Survival, check_survival

__all__ = ["LOSSES", "DiscreteLoss", "DiscreteTimeHead"]

DiscreteLoss = Literal["logistic_hazard", "pmf", "deephit", "mtlr", "pc_hazard", "multisurv"]
LOSSES: tuple[DiscreteLoss, ...] = get_args(DiscreteLoss)
#: What the predictors of each loss are; see `masses.log_masses`.
KINDS = dict.fromkeys(LOSSES, "hazard") | {"pmf": "mass", "deephit": "mass", "mtlr": "mtlr"}


class _Law(NamedTuple):
    """Log-masses (n, K + 1) and log S at the cuts (n, n_intervals + 1)."""

    masses: np.ndarray
    knots: np.ndarray


class DiscreteTimeHead(Head):
    """Discrete-time likelihoods, with delayed entry and case weights; DeepHit's with causes.

    One predictor a cause and interval, cause by cause. The losses are means over case weights of
    `nll_hazard` (``"logistic_hazard"``, ``"multisurv"``), `nll_mass` (``"pmf"``, ``"mtlr"``,
    ``"deephit"``) and `nll_pc_hazard`; DeepHit's is ``alpha * nll + (1 - alpha) * ranking loss``,
    pycox's convention.

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

    cuts_: np.ndarray
    causes_: np.ndarray

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
        if loss == "pc_hazard" and interpolation == "constant_density":
            raise ValueError(
                "The interpolation parameter must be 'constant_hazard' or None with "
                "loss='pc_hazard', whose likelihood has constant hazards. Got 'constant_density'."
            )
        self.name = loss
        self.cuts = None if cuts is None else check_cuts(cuts)
        self.n_intervals = n_intervals
        self.scheme = scheme
        constant: Interpolation = "constant_hazard" if loss == "pc_hazard" else "constant_density"
        self.interpolation = constant if interpolation is None else interpolation
        self.alpha = alpha
        self.sigma = sigma
        self.ratio = "odds ratio" if loss in ("logistic_hazard", "multisurv") else None

    @property
    def contrasts(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Hazards share the effects of a formula (Cox 1972, of grouped times); masses do not."""
        if KINDS[self.name] != "hazard":
            return super().contrasts
        return ("hazard",), np.ones((len(self.predictors), 1))

    @property
    def baseline(self) -> tuple[str, ...]:
        """The intervals' own constants, where they share the effects."""
        if KINDS[self.name] != "hazard":
            return ()
        ends = itertools.pairwise(self.cuts_)
        return tuple(f"baseline ({first:g}, {last:g}]" for first, last in ends)

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
        if KINDS[self.name] == "hazard":
            pycox_losses()
        outcome = self._check(y, index, require_events=True)
        weight = check_weights(sample_weight, len(outcome))
        self.causes_ = np.unique(outcome.event[outcome.event > 0])
        if not (weight.numpy()[outcome.event > 0] > 0).any():
            raise ValueError(
                "The sample_weight parameter must give at least one event a weight above 0. "
                f"Got 0 for all {int((outcome.event > 0).sum())} events."
            )
        if self.cuts is None:
            self.cuts_ = make_cuts(outcome, self.n_intervals, self.scheme, weight.numpy())
        else:
            self.cuts_ = self.cuts
        self._name_predictors()
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
        competing = self.name == "deephit"
        outcome = check_survival(
            y, allow_competing=competing, require_events=require_events, index=index
        )
        return Survival(outcome.time, outcome.event.astype(np.int64), outcome.entry)

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
        cause = np.where(outcome.time <= self.cuts_[-1], event, 0)
        if self.name == "pc_hazard":
            stop, stop_share = place_exactly(outcome.time, self.cuts_)
            start, start_share = place_exactly(outcome.entry, self.cuts_)
        else:
            middle = self.name == "multisurv"
            stop = place(outcome.time, cause > 0, self.cuts_, from_middle=middle)
            start = intervals_ended(outcome.entry, self.cuts_)
            stop_share = start_share = np.zeros(len(outcome))
        arrays = (outcome.time, outcome.entry, event, cause, stop, start, stop_share, start_share)
        return DiscreteTimeTarget(
            weight, *(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
        )

    def _name_predictors(self) -> None:
        names = [f"interval_{number}" for number in range(1, len(self.cuts_))]
        if len(self.causes_) > 1:
            names = [f"cause_{cause}_{name}" for cause in self.causes_ for name in names]
        self.predictors = tuple(names)

    def initial(self, target: DiscreteTimeTarget) -> Tensor:  # type: ignore[override]
        """Return the constant model, shape (K,): the Kaplan-Meier hazards of the grid.

        With causes they are those of each (Aalen & Johansen 1978), for PC-hazard events over
        exposure. An interval without events starts at half an event, so that a logit is finite.
        """
        interval = np.arange(len(self.cuts_) - 1)
        weight, cause, stop, start, stop_share, start_share = (
            getattr(target, name).cpu().numpy()
            for name in ("weight", "cause", "stop", "start", "stop_share", "start_share")
        )
        exact = self.name == "pc_hazard"
        exposure = weight @ (
            np.clip((stop + stop_share)[:, None] - interval, 0, 1)
            - np.clip((start + start_share)[:, None] - interval, 0, 1)
        )
        holds = stop if exact else stop - 1
        events = np.zeros((len(self.causes_), len(interval)))
        seen = cause > 0
        np.add.at(events, (cause[seen] - 1, holds[seen]), weight[seen])
        hazards = np.divide(events, exposure, out=np.zeros_like(events), where=exposure > 0)
        if exact:
            hazards = -np.expm1(-hazards)
        masses = constant_masses(hazards, 0.5 / (len(target) + 1))
        return torch.from_numpy(predictors_of(masses, KINDS[self.name]))

    def loss(self, eta: Tensor, target: DiscreteTimeTarget) -> Tensor:  # type: ignore[override]
        if self.name == "pc_hazard":
            each = nll_pc_hazard(eta, target)
        elif KINDS[self.name] == "hazard":
            each = nll_hazard(eta, target)
        else:
            logits = mtlr_logits(eta.double()) if self.name == "mtlr" else eta
            each = nll_mass(logits, target, len(self.causes_))
        loss = (each * target.weight).sum() / target.weight.sum().clamp_min(1e-300)
        if self.name == "deephit":
            ranking = deephit_rank_loss(eta, target, self.sigma, len(self.causes_))
            loss = self.alpha * loss + (1.0 - self.alpha) * ranking
        return loss

    def informative(self, target: DiscreteTimeTarget) -> bool:  # type: ignore[override]
        return bool(((target.cause > 0) & (target.weight > 0)).any())

    def stratify(self, target: DiscreteTimeTarget) -> np.ndarray:  # type: ignore[override]
        return target.cause.cpu().numpy()

    def groups(self, target: DiscreteTimeTarget) -> np.ndarray:  # type: ignore[override]
        """Return the fourth of the times of events, of any cause; see `event_time_groups`."""
        return event_time_groups(target.time.cpu().numpy(), target.event.cpu().numpy() > 0)

    def monitor(self, eta: Tensor, target: DiscreteTimeTarget) -> Monitor | None:  # type: ignore[override]
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

    def pool(self, etas: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the predictors of the weighted mean law of the members that are present.

        Their masses are averaged, and so are their survival curves and cumulative incidences.
        """
        there = weights[:, :, None] > 0
        members = log_masses(np.where(there, etas, 0.0), KINDS[self.name])
        with np.errstate(divide="ignore"):
            shares = np.log(weights / weights.sum(1, keepdims=True))
        mean = logsumexp(np.where(there, members, 0.0) + shares[:, :, None], axis=1)
        return predictors_of(mean, KINDS[self.name])

    def _law(self, eta: Any) -> _Law:
        masses = log_masses(np.asarray(eta, dtype=np.float64), KINDS[self.name])
        return _Law(masses, log_survival(masses, len(self.cuts_) - 1))

    def risk(self, eta: Any) -> np.ndarray:
        """Return minus the mean event-free time within the grid, shape (n,); higher is worse."""
        return -self.restricted_mean(eta, self.cuts_[-1])

    def cumulative_hazard(self, eta: Any, times: Any) -> np.ndarray:
        """Return minus the logarithm of the survival of each row at each time, shape (n, m)."""
        knots = self._law(eta).knots
        return 0.0 - log_survival_at(knots, self.cuts_, np.asarray(times), self.interpolation)

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
        if cause not in self.causes_:
            raise ValueError(
                f"The cause parameter must be one of {self.causes_.tolist()}. Got {cause!r}."
            )
        masses, knots = self._law(eta)
        times = np.asarray(times)
        survival = np.exp(log_survival_at(knots, self.cuts_, times, self.interpolation))
        by_cause = masses[:, :-1].reshape(len(masses), len(self.causes_), -1)
        incidence = split_fall(by_cause, knots, survival, self.cuts_, times)
        return incidence[:, int(np.searchsorted(self.causes_, cause))]

    def quantile(self, eta: Any, q: float) -> np.ndarray:
        """Return the time by which a share `q` has had an event, shape (n,); inf where none."""
        return quantile(self._law(eta).knots, self.cuts_, q, self.interpolation)

    def restricted_mean(self, eta: Any, horizon: float) -> np.ndarray:
        """Return the mean event-free time up to `horizon`, shape (n,)."""
        return restricted_mean(self._law(eta).knots, self.cuts_, horizon, self.interpolation)

    def state(self) -> dict[str, np.ndarray]:
        return {"cuts": self.cuts_, "causes": self.causes_}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.cuts_ = state["cuts"]
        self.causes_ = state["causes"]
        self._name_predictors()
