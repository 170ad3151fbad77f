"""Late fusion of survival curves: several Cox models of the same subjects, and their mixture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from mmfusion.heads.base import Head
from mmfusion.heads.cox import CoxHead, CoxTarget
from mmfusion.heads.cox.baseline import CHUNK, as_times
from mmfusion.inputs.times import check_clock
from mmfusion.metrics import brier_score
from mmfusion.model.pool_rows import PoolRows
from mmfusion.model.pools import Centred, on_simplex
from mmfusion.survival import Survival

__all__ = ["CoxMixtureHead", "Curves"]

#: Times at which curves are compared with the outcome when they are weighed.
N_TIMES = 50


class CoxMixtureHead(CoxHead):
    """A Cox model a member, each with its own baseline; what is combined are their curves.

    With weights w of sum 1, renormalised over the members a row has, ``S(t) = sum_m w_m S_m(t)``,
    the mixture. Its Brier score is at no time above the weighted mean of the members' (the square
    is convex). It has no proportional hazards. Members are trained one by one, as with `CoxHead`;
    then `finish` and all predictions take their log-hazards side by side, shape (n, n_members), NaN
    where a member's modality is absent.

    Parameters
    ----------
    ties : {"efron", "breslow"}, default "efron"

    Attributes
    ----------
    weights_ : ndarray, shape (n_members,)
    members_ : list of CoxHead
        After `finish`, with their baselines.
    """

    @classmethod
    def like(cls, head: Any) -> CoxMixtureHead:
        """Return an unfitted mixture with the ties and the strata of a Cox head."""
        mixture = cls(head.ties)
        mixture.strata_ = getattr(head, "strata_", None)
        return mixture

    def fit_weights(self, eta: np.ndarray, target: CoxTarget) -> np.ndarray:
        """Return the weights of the lowest Brier score, meaned over times of events.

        Parameters
        ----------
        eta : ndarray, shape (n, n_members)
            Of rows that the members did not see.
        target : CoxTarget

        Raises
        ------
        ValueError
            With delayed entry, which the Brier score does not know.
        """
        self.finish(torch.from_numpy(eta), target)
        time, event, entry, stratum = (
            value.cpu().numpy()
            for value in (target.time, target.event, target.entry, target.stratum)
        )
        # Beyond the last but some times nobody is left to be wrong about.
        grid = np.unique(np.quantile(time[event], np.linspace(0.0, 0.9, N_TIMES)))
        outcome = Survival(time, event, entry)
        strata = None if self.strata_ is None else self.strata_[stratum]
        of_members = self._of_members("cumulative_hazard", eta, grid, strata)
        m = eta.shape[1]

        def score(weights: np.ndarray) -> float:
            shares = self._shares(eta, weights)
            return float(
                np.mean(brier_score(outcome, outcome, self._mix(of_members, shares), grid))
            )

        return minimize(
            score,
            np.full(m, 1.0 / m),
            method="SLSQP",
            bounds=[(0.0, 1.0)] * m,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0},
            options={"ftol": 1e-10},
        ).x

    def finish(self, eta: Tensor, target: CoxTarget) -> None:
        """Estimate the baseline of each member, from the rows that have it."""
        target = target.to(torch.device("cpu"))
        self.follow_up_ = self._last_times(target)
        self.members_ = []
        for column in eta.detach().cpu().double().unbind(1):
            rows = torch.nonzero(~column.isnan())[:, 0]
            member = CoxHead(self.ties)
            member.strata_ = self.strata_
            member.finish(column[rows], target.take(rows))
            self.members_.append(member)

    @property
    def event_times_(self) -> np.ndarray:
        return np.unique(np.concatenate([member.event_times_ for member in self.members_]))

    def _shares(self, eta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return each row's weights, (n, n_members): of those present; alike if these are 0."""
        present = ~np.isnan(eta)
        shares = present * weights.clip(min=0.0)
        shares = np.where(shares.sum(1, keepdims=True) > 0, shares, present)
        return shares / shares.sum(1, keepdims=True)

    def _of_members(self, curve: str, eta: np.ndarray, *args: Any) -> np.ndarray:
        """Return each member's prediction, (n_members, n, ...); that of an absent one is unused."""
        known = np.nan_to_num(eta)
        return np.stack(
            [getattr(member, curve)(known[:, m], *args) for m, member in enumerate(self.members_)]
        )

    def _mix(self, hazards: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Return survival curves from the members' cumulative hazards (n_members, n, n_times)."""
        return (shares.T[:, :, None] * np.exp(-hazards)).sum(0)

    def survival(self, eta: Any, times: Any = None, strata: Any = None) -> np.ndarray:
        """Return the survival probability of each row at each time, shape (n, n_times)."""
        eta = np.asarray(eta, dtype=np.float64)
        times = self.event_times_ if times is None else as_times(times)
        shares = self._shares(eta, self.weights_)
        result = np.empty((len(eta), len(times)))
        size = max(1, CHUNK // max(1, len(times)))
        for start in range(0, len(eta), size):
            rows = slice(start, start + size)
            labels = None if strata is None else np.asarray(strata)[rows]
            hazards = self._of_members("cumulative_hazard", eta[rows], times, labels)
            result[rows] = self._mix(hazards, shares[rows])
        return result

    def cumulative_hazard(self, eta: Any, times: Any = None, strata: Any = None) -> np.ndarray:
        """Return minus the log of `survival`."""
        with np.errstate(divide="ignore"):
            return -np.log(self.survival(eta, times, strata)) + 0.0

    def risk(self, eta: Any) -> np.ndarray:
        """Return the log of the cumulative hazard, meaned over the event times, shape (n,).

        The ensemble mortality by which survival forests rank (Ishwaran et al. 2008); with strata
        that of the first one's baseline, comparable within a stratum.
        """
        eta = np.asarray(eta, dtype=np.float64)
        strata = None if self.strata_ is None else np.full(len(eta), self.strata_[0])
        curves = self.survival(eta, None, strata).clip(min=1e-300)
        return np.log(-np.log(curves).mean(1))

    def quantile(self, eta: Any, q: float | Sequence[float], strata: Any = None) -> np.ndarray:
        """Return the first event time with ``S(t) <= 1 - q``, inf where there is none."""
        shares = np.atleast_1d(np.asarray(q, dtype=np.float64))
        curves = self.survival(eta, None, strata)
        times = np.append(self.event_times_, np.inf)
        # Curves never rise: as many times are before the quantile as are above the level.
        result = times[(curves[:, :, None] > 1 - shares).sum(1)]
        return result[:, 0] if np.ndim(q) == 0 else result

    def restricted_mean(self, eta: Any, horizon: float, strata: Any = None) -> np.ndarray:
        """Return the area under the curve up to `horizon`, shape (n,)."""
        check_clock("horizon", horizon)
        times = self.event_times_
        edges = np.concatenate([[0.0], times[times < horizon], [horizon]])
        return self.survival(eta, edges[:-1], strata) @ np.diff(edges)

    def state(self) -> dict[str, np.ndarray]:
        state = {"weights": self.weights_, "follow_up": self.follow_up_}
        if self.strata_ is not None:
            state["strata"] = self.strata_
        for number, member in enumerate(self.members_):
            state |= {f"member{number}_{k}": v for k, v in member.state().items()}
        return state

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.weights_, self.strata_ = state["weights"], state.get("strata")
        self.follow_up_ = state["follow_up"]
        self.members_ = []
        for number in range(len(self.weights_)):
            prefix = f"member{number}_"
            member = CoxHead(self.ties)
            member.load_state(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
            self.members_.append(member)


class Curves(Centred):
    """Members whose survival curves are averaged.

    Attributes
    ----------
    weights : ndarray, shape (n_members,)
    slopes : ndarray, shape (n_members,)
        What each member's log-hazard is multiplied by.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.weights = np.full(len(names), 1.0 / len(names))
        self.slopes = np.ones(len(names))
        self.learned = False

    def standardised(self, etas: np.ndarray) -> np.ndarray:
        return self.unit(etas) if self.learned else etas - self.center

    def fit(self, rows: PoolRows, *, unseen: bool) -> None:
        """Calibrate each member's log-hazard, and weigh their curves."""
        if not unseen:
            return
        self.learned = True
        for number, alone in enumerate(np.eye(len(self.names), dtype=bool)):
            part = rows.having(alone)
            self.slopes[number] = part.slope(part.etas[:, number])
        calibrated = self.combine(rows.etas, rows.present, rows.head)
        self.weights = on_simplex(
            CoxMixtureHead.like(rows.head).fit_weights(calibrated, rows.target)  # type: ignore[arg-type]
        )

    def combine(self, etas: np.ndarray, present: np.ndarray, head: Head) -> np.ndarray:
        """Return the calibrated log-hazard of each member, (n, n_members), NaN where absent."""
        return np.where(present, etas[:, :, 0] * self.slopes, np.nan)

    def nothing(self, n_rows: int, n_predictors: int) -> np.ndarray:
        """Return what a row has without members: no curve."""
        return np.full((n_rows, len(self.names)), np.nan)

    def finish(self, head: Head[Any], eta: Tensor, target: Any) -> CoxMixtureHead:
        mixture = CoxMixtureHead.like(head)
        mixture.weights_ = self.weights
        mixture.finish(eta, target)
        return mixture

    def predicting(self, head: Head, state: dict[str, np.ndarray]) -> CoxMixtureHead:
        mixture = CoxMixtureHead.like(head)
        mixture.load_state(state)
        return mixture

    def weights_shown(self) -> np.ndarray:
        return self.weights
