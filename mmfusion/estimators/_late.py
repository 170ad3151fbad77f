"""How the members of late fusion become one predictor."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize

from mmfusion.fusion import LateFusion
from mmfusion.heads.base import Head, Target
from mmfusion.heads.cox import CoxMixtureHead

from ._late_rows import SLOPE, LateRows, stacked_columns

__all__ = ["OUT_OF_FOLD", "LatePool", "OutOfFold"]

#: Ways of combining that learn from out-of-fold predictions.
OUT_OF_FOLD = ("weighted", "stack")
#: Up to so many members every set of them has its own regression; else those that rows have.
ALL_SETS = 5


@dataclass(frozen=True)
class OutOfFold:
    """Predictors of rows by members that did not see them.

    Attributes
    ----------
    etas : ndarray, shape (n, n_members, K)
        NaN where absent.
    present : ndarray of bool, shape (n, n_members)
    offset : Tensor of float64, shape (n, 1), or None
        The structured predictor, from fits that did not see the row either.
    """

    etas: np.ndarray
    present: np.ndarray
    offset: torch.Tensor | None


class LatePool:
    """Combines the predictors of late fusion's members as `LateFusion` says.

    Parameters
    ----------
    strategy : LateFusion
    names : list of str
        Of the members.

    Attributes
    ----------
    how : str
        The strategy's; "mean" where there was nothing out of fold to learn from.
    center, spread : ndarray, shape (n_members, K)
        Of the members' predictors over the training rows; 0 and 1 where their zero is not
        arbitrary (the likelihood knows a constant).
    weights : ndarray, shape (n_members,)
        Of sum 1.
    slopes : dict of str to float
        What the weighted mean is multiplied by, for each set of members ("101" is the first and
        the third), and "" for any other.
    stacks : dict of str to ndarray, shape (n_members + K,)
        Coefficients of the members, and constants, for each set of members.
    """

    center: np.ndarray
    spread: np.ndarray
    weights: np.ndarray

    def __init__(self, strategy: LateFusion, names: Sequence[str]) -> None:
        self.how: str = strategy.how
        self.names = list(names)
        self.slopes: dict[str, float] = {"": 1.0}
        self.stacks: dict[str, np.ndarray] = {}

    def fit(
        self,
        etas: np.ndarray,
        present: np.ndarray,
        head: Head,
        target: Target,
        offset: torch.Tensor | None,
        unseen: OutOfFold | None,
    ) -> None:
        """Learn from the training rows, and from what was predicted `unseen`.

        Parameters
        ----------
        etas, present
            Predictors of all rows by the members, (n, n_members, K), NaN where absent.
        offset : Tensor, shape (n, 1), optional
            What the pooled predictor is added to.
        unseen : OutOfFold or None
            For `how` in `OUT_OF_FOLD`.
        """
        m = etas.shape[1]
        self.weights = np.full(m, 1.0 / m)
        self.center, self.spread = np.zeros(etas.shape[1:]), np.ones(etas.shape[1:])
        if not head.has_intercept:
            shown = np.where(present[:, :, None], etas, 0.0)
            count = np.maximum(present.sum(0), 1)[:, None]
            self.center = shown.sum(0) / count
            square = np.where(present[:, :, None], (etas - self.center) ** 2, 0.0)
            spread = np.sqrt(square.sum(0) / count)
            self.spread = np.where(spread > 0, spread, 1.0)
        if unseen is None:
            self.how = "mean" if self.how in OUT_OF_FOLD else self.how
            etas = etas - self.center
        else:
            etas, present, offset = unseen.etas, unseen.present, unseen.offset
        some = np.flatnonzero(present.any(1))
        at = torch.from_numpy(some)
        beside = torch.zeros(len(some), etas.shape[2], dtype=torch.float64)
        if offset is not None:
            beside = offset[at]
        data = LateRows(etas[some], present[some], head, target.take(at), beside)
        if isinstance(head, CoxMixtureHead):
            self._fit_curves(data, head)
        elif self.how == "stack":
            self._fit_stacks(data)
        elif self.how == "weighted":
            self._fit_weights(data)
        elif not head.has_intercept and m > 1:
            pooled = self._alike(data.etas, data.present, head)
            self.slopes[""] = data.slope(pooled, high=float(m))

    def _alike(self, etas: np.ndarray, present: np.ndarray, head: Head) -> np.ndarray:
        if self.how == "vote":
            return head.vote(etas, present)
        return head.pool(etas, present * np.ones(len(self.names)))

    def _fit_weights(self, data: LateRows) -> None:
        """Find the weights (and, of log-hazards, slopes) of the lowest loss."""
        has_slope = not data.head.has_intercept
        m = len(self.names)

        def loss(x: np.ndarray) -> float:
            pooled = data.head.pool(data.etas, self._shares(data.present, x[:m]))
            return data.loss(x[-1] * pooled if has_slope else pooled)

        start, bounds = self.weights, [(0.0, 1.0)] * m
        if has_slope:
            alike = data.head.pool(data.etas, data.present * self.weights)
            start = np.append(start, data.slope(alike))
            bounds += [(0.0, SLOPE)]
        sum_to_one = {"type": "eq", "fun": lambda x: x[:m].sum() - 1.0}
        options = {"ftol": 1e-12, "maxiter": 500}
        found = minimize(
            loss, start, method="SLSQP", bounds=bounds, constraints=sum_to_one, options=options
        ).x
        self.weights = _on_simplex(found[:m])
        if not has_slope:
            return
        self.slopes[""] = float(found[-1])
        for members in self._sets(data):
            part = data.having(members)
            if part.enough(1):
                pooled = part.head.pool(part.etas, self._shares(part.present, self.weights))
                self.slopes[_key(members)] = part.slope(pooled)

    def _fit_stacks(self, data: LateRows) -> None:
        for members in self._sets(data):
            part = data.having(members)
            if part.enough(int(members.sum())):
                self.stacks[_key(members)] = part.stack(members)

    def _fit_curves(self, data: LateRows, head: CoxMixtureHead) -> None:
        """Calibrate each member's log-hazard, and weigh their curves."""
        if self.how == "weighted":
            for number, alone in enumerate(np.eye(len(self.names), dtype=bool)):
                part = data.having(alone)
                self.slopes[_key(alone)] = part.slope(part.etas[:, number])
            calibrated = self._members(data.etas, data.present)
            self.weights = _on_simplex(
                head.fit_weights(calibrated, data.target)  # type: ignore[arg-type]
            )
        head.weights_ = self.weights

    def _members(self, etas: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Return the calibrated log-hazard of each member, (n, n_members), NaN where absent."""
        alone = np.eye(len(self.names), dtype=bool)
        slopes = [self.slopes.get(_key(members), 1.0) for members in alone]
        return np.where(present, etas[:, :, 0] * slopes, np.nan)

    def _sets(self, data: LateRows) -> list[np.ndarray]:
        m = len(self.names)
        if m <= ALL_SETS:
            every = itertools.product([False, True], repeat=m)
            return [np.array(members) for members in every if any(members)]
        return list(np.unique(np.vstack([data.present, np.eye(m, dtype=bool)]), axis=0))

    def _shares(self, present: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the weights of the members that are present; alike where these are all 0."""
        shares = present * weights.clip(min=0.0)
        nothing = shares.sum(1, keepdims=True) <= 0
        return np.where(nothing, present, shares)

    def standardised(self, etas: np.ndarray, head: Head) -> np.ndarray:
        """Return predictors whose zero and unit are those of the training rows, if arbitrary."""
        return etas if head.has_intercept else (etas - self.center) / self.spread

    def pool(
        self, etas: np.ndarray, present: np.ndarray, head: Head, *, standardised: bool = False
    ) -> np.ndarray:
        """Return one predictor a row, (n, K), or for curves one a member, (n, n_members).

        Parameters
        ----------
        etas : ndarray, shape (n, n_members, K)
        present : ndarray of bool, shape (n, n_members)
            Each row has a member.
        standardised : bool
            Whether `etas` are already as `standardised` makes them.
        """
        if self.how in OUT_OF_FOLD and not standardised:
            etas = self.standardised(etas, head)
        elif self.how not in OUT_OF_FOLD:
            etas = etas - self.center
        if isinstance(head, CoxMixtureHead):
            return self._members(etas, present)
        if self.how not in OUT_OF_FOLD:
            return self.slopes[""] * self._alike(etas, present, head)
        if self.how == "stack":
            return self._stacked(etas, present, head)
        slopes = np.array([self.slopes.get(_key(row), self.slopes[""]) for row in present])
        return slopes[:, None] * head.pool(etas, self._shares(present, self.weights))

    def _stacked(self, etas: np.ndarray, present: np.ndarray, head: Head) -> np.ndarray:
        m, k = etas.shape[1:]
        result = np.empty((len(etas), k))
        logits = stacked_columns(np.where(present[:, :, None], etas, 0.0), head)
        patterns, which = np.unique(present, axis=0, return_inverse=True)
        for number, members in enumerate(patterns):
            rows = which.ravel() == number
            known = [self.stacks[key] for key in self._keys(members) if key in self.stacks]
            # A set that too few training rows had: the mean of what its members say alone.
            coef = np.mean(known, axis=0) if known else self._untaught(members, k, head)
            result[rows] = np.tensordot(logits[rows], coef[:m], axes=(1, 0)) + coef[m:]
        return result

    def _untaught(self, members: np.ndarray, k: int, head: Head) -> np.ndarray:
        """Return the mean of the members as they are; of standardised log-hazards, nothing."""
        share = members / members.sum() if head.has_intercept else 0.0 * members
        return np.concatenate([share, np.zeros(k)])

    def _keys(self, members: np.ndarray) -> list[str]:
        if _key(members) in self.stacks:
            return [_key(members)]
        return [_key(alone) for alone in np.eye(len(members), dtype=bool)[members]]

    def shown(self) -> pd.Series:
        """Return the weights, or the coefficients of the stack of all members."""
        values, name = self.weights, "weight"
        everyone = "1" * len(self.names)
        if self.how == "stack":
            name = "coefficient"
            values = self.stacks.get(everyone, np.full(len(self.names), np.nan))[: len(self.names)]
        return pd.Series(values, index=pd.Index(self.names, name="modality"), name=name)

    def state(self) -> dict[str, Any]:
        """Return what saving writes: plain Python and arrays."""
        return {
            "how": self.how,
            "arrays": {
                "center": self.center,
                "spread": self.spread,
                "weights": self.weights,
            },
            "slopes": self.slopes,
            "stacks": self.stacks,
        }

    @classmethod
    def from_state(cls, strategy: LateFusion, names: Sequence[str], state: dict[str, Any]) -> Self:
        """Take back what `state` returned."""
        pool = cls(strategy, names)
        pool.how, pool.slopes, pool.stacks = state["how"], state["slopes"], state["stacks"]
        for name, value in state["arrays"].items():
            setattr(pool, name, value)
        return pool


def _key(members: np.ndarray) -> str:
    return "".join("01"[int(there)] for there in members)


def _on_simplex(weights: np.ndarray) -> np.ndarray:
    weights = np.where(weights > 1e-6, weights, 0.0)
    return weights / weights.sum()
