"""The Cox head: outcome, loss, batches, baseline and predictions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmfusion.heads.base import Head, Monitor, Target
from mmfusion.heads.cox.baseline import Baseline, as_times, as_vector
from mmfusion.heads.cox.information import cox_information, cox_informations
from mmfusion.heads.cox.loss import (
    TiesMethod,
    cox_gradient,
    cox_log_hazard,
    cox_loss,
)
from mmfusion.heads.cox.plan import CoxPlan
from mmfusion.heads.cox.residuals import cox_score_residuals
from mmfusion.heads.cox.strata import encode_strata, learn_strata
from mmfusion.heads.grid import Basis, Grid
from mmfusion.heads.groups import event_time_groups
from mmfusion.heads.weights import check_weights
from mmfusion.inputs.times import check_clock
from mmfusion.metrics import concordance_index
from mmfusion.survival import Survival, check_survival, episode_share
from mmfusion.survival.curves import follow_up_of
from mmfusion.survival.outcome import snap

__all__ = ["CoxHead", "CoxTarget"]

#: Batches are balanced over strata up to this many; more would leave labels of a few rows.
MAX_BALANCED_STRATA = 20


@dataclass
class CoxTarget(Target):
    """A survival outcome as tensors; what the likelihood needs of its times is planned once.

    Attributes
    ----------
    time : Tensor of float64, shape (n,)
    event : Tensor of bool, shape (n,)
    entry : Tensor of float64, shape (n,)
        ``-inf`` where the row is observed from the start.
    stratum : Tensor of int64, shape (n,)
    """

    time: Tensor
    event: Tensor
    entry: Tensor
    stratum: Tensor
    _plan: CoxPlan | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def plan(self) -> CoxPlan:
        """The plan of these rows, made at the first use and kept."""
        if self._plan is None:
            self._plan = CoxPlan.from_outcome(
                self.time, self.event, self.weight, self.entry, self.stratum
            )
        return self._plan

    def _map(self, change: Any) -> CoxTarget:
        # By hand: a plan belongs to its rows and its device.
        values = (self.weight, self.time, self.event, self.entry, self.stratum)
        return CoxTarget(*(change(value) for value in values))


class CoxHead(Head[CoxTarget]):
    """Cox's partial likelihood with strata, delayed entry and case weights.

    The predictor is the log-hazard relative to the stratum's baseline, so a constant in it is of no
    consequence. The baseline is estimated by `finish`.

    Parameters
    ----------
    ties : {"efron", "breslow"}, default "efron"
        Approximation for tied event times, in the likelihood and in the baseline.

    Attributes
    ----------
    strata_ : ndarray or None
        Known labels of strata, sorted; None where the model has none.
    baseline_ : Baseline
        After `finish`.

    Examples
    --------
    >>> import torch
    >>> from mmfusion.heads.cox import CoxHead
    >>> head = CoxHead()
    >>> target = head.fit_outcome(([1.0, 2.0, 3.0], [True, True, False]))
    >>> eta = torch.zeros(3, 1)
    >>> head.finish(eta, target)
    >>> head.survival([0.0], [0.0, 1.0, 2.5]).round(4)
    array([[1.    , 0.7165, 0.4346]])
    """

    interacts = True
    mixes_curves = True
    ratio = "hazard ratio"
    marginal = "survival"

    def __init__(self, ties: TiesMethod = "efron") -> None:
        if ties not in ("efron", "breslow"):
            raise ValueError(f"The ties parameter must be 'efron' or 'breslow'. Got {ties!r}.")
        self.ties = ties

    @property
    def grid(self) -> Grid:
        """One predictor, the log-hazard."""
        return Grid(("log_hazard",))

    @property
    def parameters(self) -> Basis:
        """The log-hazard."""
        return Basis.identity(self.grid.names)

    @property
    def constants(self) -> Basis:
        """None: a constant is part of the baseline."""
        return self.parameters.take(())

    @property
    def deep_basis(self) -> Basis:
        """One output of a network, the log-hazard."""
        return Basis.identity(self.grid.names)

    def fit_outcome(
        self,
        y: Any,
        sample_weight: np.ndarray | None = None,
        strata: Any = None,
        index: Any = None,
        **context: Any,
    ) -> CoxTarget:
        """Check the training outcome, learn its strata and return it encoded.

        Parameters
        ----------
        y : outcome
            See `mmfusion.survival.check_survival`.
        sample_weight : array-like of float, shape (n,), optional
        strata : array-like, shape (n,), optional
            Labels, all text or all numbers.
        index : sequence, optional
            Names of the rows for messages.

        Raises
        ------
        ValueError, TypeError
            As `check_survival`; for weights that are negative, or zero for every event; for
            missing labels of strata.
        """
        outcome = check_survival(y, index=index)
        self.strata_ = None if strata is None else learn_strata(strata, len(outcome), index)
        target = self._encode(outcome, sample_weight, strata, index)
        if not self.informative(target):
            raise ValueError(
                "The sample_weight parameter must give at least one event a weight above 0. "
                f"Got 0 for all {int(target.event.sum())} events."
            )
        return target

    def encode(
        self,
        y: Any,
        sample_weight: np.ndarray | None = None,
        strata: Any = None,
        index: Any = None,
        **context: Any,
    ) -> CoxTarget:
        """Return a further outcome encoded; it may have no events.

        Raises
        ------
        ValueError, TypeError
            As `fit_outcome`, and for a stratum that `fit_outcome` did not see.
        """
        outcome = check_survival(y, require_events=False, index=index)
        return self._encode(outcome, sample_weight, strata, index)

    def _encode(self, outcome: Survival, sample_weight: Any, strata: Any, index: Any) -> CoxTarget:
        n = len(outcome)
        return CoxTarget(
            check_weights(sample_weight, n),
            torch.from_numpy(np.ascontiguousarray(outcome.time)),
            torch.from_numpy(np.ascontiguousarray(outcome.event)),
            torch.from_numpy(np.ascontiguousarray(outcome.entry)),
            torch.from_numpy(self._codes(strata, n, index)),
        )

    def _codes(self, strata: Any, n: int, index: Any = None) -> np.ndarray:
        if self.strata_ is None:
            if strata is not None:
                raise ValueError(
                    "The strata parameter must be None: the model was fitted without strata."
                )
            return np.zeros(n, dtype=np.int64)
        if strata is None:
            raise ValueError(
                "The strata parameter must be given, one label a row: the model was fitted with "
                f"{len(self.strata_)} strata."
            )
        return encode_strata(strata, n, self.strata_, index)

    def loss(self, eta: Tensor, target: CoxTarget) -> Tensor:
        return cox_loss(eta, target.plan, self.ties)

    def gradient(self, eta: Tensor, target: CoxTarget) -> Tensor:
        return cox_gradient(eta, target.plan, self.ties)

    def curvature(self, eta: Tensor, target: CoxTarget) -> Tensor:
        """Return each row's cumulative hazard, the curvature of the mean loss where it is Poisson.

        With the baseline hazard given, the rows' likelihood is that of Poisson counts (Holford
        1980; Whitehead 1980): the gradient is the cumulative hazard less the event.
        """
        counts = target.weight * target.event / max(self.total(target), 1e-300)
        return self.gradient(eta, target) + counts[:, None]

    def information(self, eta: Tensor, target: CoxTarget, design: Tensor) -> Tensor:
        """Return the information of the mean loss about the coefficients of `design`, (p, p)."""
        return cox_information(eta, target.plan, design, self.ties)

    def informations(
        self, eta: Tensor, target: CoxTarget, design: Tensor, code: Tensor, n_groups: int
    ) -> Tensor:
        """Return the predictable variation of each group's score, of the mean loss, (G, p, p)."""
        return cox_informations(eta, target.plan, design, code, n_groups, self.ties)

    def total(self, target: CoxTarget) -> float:
        """Return the sum of the weights of events."""
        return target.plan.total

    def scores(self, eta: Tensor, target: CoxTarget, design: Tensor) -> Tensor:
        """Return minus the weighted score residuals (Lin & Wei 1989), of the mean loss, (n, p)."""
        residuals = cox_score_residuals(eta, target.plan, design, self.ties)
        return residuals * (-target.weight / max(self.total(target), 1e-300))[:, None]

    def informative(self, target: CoxTarget) -> bool:
        return bool((target.event & (target.weight > 0)).any())

    def events(self, target: CoxTarget) -> Tensor:
        return target.event

    def n_events(self, target: CoxTarget) -> int:
        return int((target.event & (target.weight > 0)).sum())

    def median_follow_up(self, target: CoxTarget) -> float:
        fields = (target.time, target.event, target.entry, target.weight)
        *outcome, weight = (field.cpu().numpy() for field in fields)
        return follow_up_of(Survival(*outcome), weight)

    def episodes(self, target: CoxTarget) -> float:
        return episode_share(target.time.cpu().numpy(), target.entry.cpu().numpy())

    def has_entry(self, target: CoxTarget) -> bool:
        return bool((target.entry > 0).any())

    def stratify(self, target: CoxTarget) -> np.ndarray:
        labels = target.event.long()
        if self.strata_ is not None and len(self.strata_) <= MAX_BALANCED_STRATA:
            labels = labels + 2 * target.stratum
        return labels.cpu().numpy()

    def groups(self, target: CoxTarget) -> np.ndarray:
        return event_time_groups(target.time.cpu().numpy(), target.event.cpu().numpy())

    def batches(
        self, target: CoxTarget, rows: Sequence[Tensor]
    ) -> Iterator[tuple[Tensor, CoxTarget]]:
        """Yield each batch's rows in plan order, and their outcome with its plan made.

        Batches of one size are sorted and planned together: a few operations an epoch instead of
        a few dozen a step.
        """
        events = int(target.event.sum())
        if events < len(rows):  # the same words each epoch: Python shows them once
            warnings.warn(
                f"{events} events are dealt over {len(rows)} batches: a batch without events "
                "teaches nothing. Raise batch_size.",
                UserWarning,
                stacklevel=2,
            )
        of_size: dict[int, list[int]] = {}
        for number, chosen in enumerate(rows):
            of_size.setdefault(len(chosen), []).append(number)
        batches: dict[int, tuple[Tensor, CoxTarget]] = {}
        for size, numbers in of_size.items():
            ordered, plans = target.plan.cut(torch.stack([rows[number] for number in numbers]))
            taken = target.take(ordered.flatten())
            fields = (taken.weight, taken.time, taken.event, taken.entry, taken.stratum)
            columns = zip(*(value.split(size) for value in fields), strict=True)
            for number, chosen, plan, values in zip(
                numbers, ordered.unbind(), plans, columns, strict=True
            ):
                batch = CoxTarget(*values)
                batch._plan = plan
                batches[number] = chosen, batch
        for number in range(len(rows)):
            yield batches.pop(number)

    def monitor(self, eta: Tensor, target: CoxTarget) -> Monitor | None:
        """Return Harrell's C within strata, None where no two rows are comparable."""
        arrays = [
            value.cpu().numpy()
            for value in (target.time, target.event, target.entry, target.stratum, target.weight)
        ]
        time, event, entry, stratum, weight = arrays
        try:
            value = concordance_index(
                Survival(time, event, entry),
                as_vector(eta.detach().cpu().double()),
                strata=None if self.strata_ is None else stratum,
                sample_weight=None if (weight == 1).all() else weight,
            )
        except ValueError:
            return None
        return Monitor("c_index", value, higher_is_better=True)

    def risk(self, eta: Any) -> np.ndarray:
        """Return the log-hazard of each row relative to the mean of the training rows, (n,)."""
        return as_vector(eta) - self.baseline_.center

    def finish(self, eta: Tensor, target: CoxTarget) -> None:
        """Estimate the baseline hazard (Breslow 1974 or Efron 1977, as `ties`) of each stratum.

        It is that of a row whose eta is the mean of the training rows'.
        """
        eta = torch.from_numpy(as_vector(eta.detach().cpu().double()))
        target = target.to(torch.device("cpu"))
        self.follow_up_ = self._last_times(target)
        plan = target.plan
        center = float(eta.mean())
        # `last` finds each block's time and stratum; its first entry is the dummy.
        rows = plan.last[1:].long()
        rows = rows if plan.order is None else plan.order[rows].long()
        self.baseline_ = Baseline.from_jumps(
            target.time[rows].numpy(),
            cox_log_hazard(eta - center, plan, self.ties).numpy(),
            target.stratum[rows].numpy(),
            1 if self.strata_ is None else len(self.strata_),
            center,
        )

    def _last_times(self, target: CoxTarget) -> np.ndarray:
        """Return the last time at which a row of each stratum was observed, shape (n_strata,)."""
        seen = (target.weight > 0).numpy()
        last = np.zeros(1 if self.strata_ is None else len(self.strata_))
        np.maximum.at(last, target.stratum.numpy()[seen], target.time.numpy()[seen])
        return last

    def follow_up(self, n: int, strata: Any = None) -> np.ndarray:
        """Return the last time at which a training row of the stratum of each row was observed.

        Parameters
        ----------
        n : int
        strata : array-like, shape (n,), optional
            Needed where the model was fitted with strata.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        return self.follow_up_[self.stratum_codes(n, strata)]

    def stratum_codes(self, n: int, strata: Any = None) -> np.ndarray:
        """Return the number of the stratum of each of n rows; zeros without strata."""
        return self._codes(strata, n)

    @property
    def event_times_(self) -> np.ndarray:
        """All distinct event times of the training rows, ascending: the default ``times``."""
        return self.baseline_.event_times

    def cumulative_hazard(self, eta: Any, times: Any = None, strata: Any = None) -> np.ndarray:
        """Return the cumulative hazard of each row at each time.

        Parameters
        ----------
        eta : array-like of float, shape (n,) or (n, 1)
        times : array-like of float, shape (k,), optional
            In any order; by default `event_times_`. Before the first event the hazard is 0, beyond
            the last it stays: a convention, no estimate.
        strata : array-like, shape (n,), optional
            Needed where the model was fitted with strata.

        Returns
        -------
        ndarray of float64, shape (n, k)
            Beside it only small pieces are in memory.

        Raises
        ------
        ValueError
            For times that are NaN or not one-dimensional, and for strata as `encode`.
        """
        eta, times = as_vector(eta), self._at(times)
        return self.baseline_.cumulative_hazard(eta, times, self._codes(strata, len(eta)))

    def survival(self, eta: Any, times: Any = None, strata: Any = None) -> np.ndarray:
        """Return the survival probability of each row at each time; see `cumulative_hazard`."""
        eta, times = as_vector(eta), self._at(times)
        return self.baseline_.survival(eta, times, self._codes(strata, len(eta)))

    def _at(self, times: Any) -> np.ndarray:
        """Return the times of curves; one that is an event time but for rounding is that one."""
        known = self.event_times_
        return known if times is None else snap(as_times(times), known)

    def quantile(self, eta: Any, q: float | Sequence[float], strata: Any = None) -> np.ndarray:
        """Return the time by which a share `q` of rows like this have the event.

        Parameters
        ----------
        q : float or sequence of float
            Between 0 and 1, exclusive; 0.5 is the median.

        Returns
        -------
        ndarray of float64, shape (n,), or (n, len(q)) for a sequence
            The first event time with ``S(t) <= 1 - q``; inf where there is none.

        Raises
        ------
        ValueError
            For a `q` out of range, and for strata as `encode`.
        """
        shares = np.atleast_1d(np.asarray(q, dtype=np.float64))
        if shares.ndim != 1 or not ((shares > 0) & (shares < 1)).all():
            raise ValueError(f"The q parameter must lie between 0 and 1, exclusive. Got {q!r}.")
        eta = as_vector(eta)
        result = self.baseline_.quantile(eta, shares, self._codes(strata, len(eta)))
        return result[:, 0] if np.ndim(q) == 0 else result

    def restricted_mean(self, eta: Any, horizon: float, strata: Any = None) -> np.ndarray:
        """Return the mean survival time up to `horizon`: the area under the curve, shape (n,).

        Raises
        ------
        ValueError
            For a horizon that is not a finite number above 0, and for strata as `encode`.
        """
        check_clock("horizon", horizon)
        if not (np.ndim(horizon) == 0 and np.isfinite(horizon) and horizon > 0):
            raise ValueError(
                f"The horizon parameter must be a finite number above 0. Got {horizon!r}."
            )
        eta = as_vector(eta)
        return self.baseline_.restricted_mean(eta, float(horizon), self._codes(strata, len(eta)))

    def state(self) -> dict[str, np.ndarray]:
        state = {f"baseline_{name}": value for name, value in self.baseline_.state().items()}
        if self.strata_ is not None:
            state["strata"] = self.strata_
        return state | {"follow_up": self.follow_up_}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.strata_, self.follow_up_ = state.get("strata"), state["follow_up"]
        prefix = "baseline_"
        self.baseline_ = Baseline.from_state(
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        )
