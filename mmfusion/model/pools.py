"""How the predictors of several networks become one: a small class a way of pooling."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize

from mmfusion.heads.base import Head, Target
from mmfusion.inputs.rounding import nothing_but_rounding
from mmfusion.model.pool_rows import SLOPE, PoolRows, average, stacked

__all__ = ["Centred", "Mean", "OutOfFold", "Pool", "Single", "Stack", "Weighted", "on_simplex"]

#: Of up to so many members every set has a regression of its own; of more, the sets that rows have.
ALL_SETS = 5


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Predictors of rows by members that did not see them.

    Attributes
    ----------
    etas : ndarray, shape (n, n_members, K)
        NaN where absent.
    present : ndarray of bool, shape (n, n_members)
    offset : Tensor of float64, shape (n, K)
        The structured predictor, from fits that did not see the row either.
    """

    etas: np.ndarray
    present: np.ndarray
    offset: torch.Tensor


class Pool(ABC):
    """Combines the predictors of the networks, its members.

    Parameters
    ----------
    names : sequence of str
        Of the members.
    """

    #: What the shown numbers are.
    shown_as = "weight"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)

    def look(self, etas: np.ndarray, present: np.ndarray, head: Head) -> None:
        """Look at the members' predictors of the training rows, before anything is learned."""

    @abstractmethod
    def fit(self, rows: PoolRows, *, unseen: bool) -> None:
        """Learn from rows that the members were trained on, or from rows `unseen` by them."""

    def standardised(self, etas: np.ndarray) -> np.ndarray:
        """Return predictors as the pool learns from them."""
        return etas

    def unit(self, etas: np.ndarray) -> np.ndarray:
        """Return predictors of mean 0 and standard deviation 1, where both are arbitrary."""
        return etas

    @abstractmethod
    def combine(self, etas: np.ndarray, present: np.ndarray, head: Head) -> np.ndarray:
        """Return one predictor a row, (n, K), of standardised ones, (n, n_members, K).

        Each row has a member; NaN where one is absent.
        """

    def pooled(self, etas: np.ndarray, present: np.ndarray, head: Head) -> np.ndarray:
        """Return one predictor a row, (n, K), of standardised ones; nothing where none is there."""
        some = present.any(axis=1)
        eta = self.nothing(len(etas), etas.shape[2])
        if etas.shape[1]:
            eta[some] = self.combine(etas[some], present[some], head)
        return eta

    def nothing(self, n_rows: int, n_predictors: int) -> np.ndarray:
        """Return the predictors of rows without members."""
        return np.zeros((n_rows, n_predictors))

    def finish(self, head: Head, eta: torch.Tensor, target: Target) -> Any:
        """Return what predicts from the pooled predictors: the head, finished."""
        head.finish(eta, target)
        return head

    def predicting(self, head: Head, state: dict[str, np.ndarray]) -> Any:
        """Return what `finish` returned, from its saved state."""
        head.load_state(state)
        return head

    def weights_shown(self) -> np.ndarray:
        """Return a number a member, for ``fusion_weights_``."""
        raise AttributeError("There are no weights: the networks were not fused late.")

    def shown(self) -> pd.Series:
        """Return the weights, or the coefficients of the stack of all members."""
        values = self.weights_shown()
        return pd.Series(values, index=pd.Index(self.names, name="modality"), name=self.shown_as)

    def state(self) -> dict[str, Any]:
        """Return what saving writes: plain Python and arrays."""
        return {name: value for name, value in vars(self).items() if name != "names"}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        vars(self).update(state)


class Single(Pool):
    """One network, or none: there is nothing to combine."""

    def fit(self, rows: PoolRows, *, unseen: bool) -> None:
        """Learn nothing."""

    def combine(self, etas: np.ndarray, present: np.ndarray, head: Head) -> np.ndarray:
        return etas[:, 0]


class Centred(Pool):
    """Members whose zero, and for pools out of fold whose unit, may be arbitrary.

    Where the likelihood does not see a constant, each member's predictors are taken less their mean
    over the training rows that have it.
    """

    center: np.ndarray
    spread: np.ndarray

    def look(self, etas: np.ndarray, present: np.ndarray, head: Head) -> None:
        """Learn the members' means and spreads over the training rows, each (n_members, K)."""
        self.center, self.spread = np.zeros(etas.shape[1:]), np.ones(etas.shape[1:])
        if len(head.constants):
            return
        shown = np.where(present[:, :, None], etas, 0.0)
        count = np.maximum(present.sum(0), 1)[:, None]
        self.center = shown.sum(0) / count
        square = np.where(present[:, :, None], (etas - self.center) ** 2, 0.0)
        spread = np.sqrt(square.sum(0) / count)
        size = np.abs(np.where(present[:, :, None], etas, 0.0)).max(0, initial=0.0)
        same = nothing_but_rounding(spread, size, np.float32)  # networks compute in float32
        self.spread = np.where(same, 1.0, spread)

    def standardised(self, etas: np.ndarray) -> np.ndarray:
        return self.unit(etas)

    def unit(self, etas: np.ndarray) -> np.ndarray:
        return (etas - self.center) / self.spread


class Sloped(Centred):
    """A weighted mean; of log-hazards each set of members has a slope that it is multiplied by.

    The mean of few members and that of many are not of one size: what independent members say adds
    up, so that the mean of all needs a larger slope than one alone.

    Attributes
    ----------
    slopes : dict of str to float
        For each set of members ("101" is the first and the third), and "" for any other.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.slopes: dict[str, float] = {"": 1.0}

    @abstractmethod
    def shares(self, present: np.ndarray) -> np.ndarray:
        """Return the weights of the members that are present, (n, n_members)."""

    def fit_slopes(self, rows: PoolRows, highest: Callable[[int], float]) -> None:
        """Learn the slope of each set that the rows tell enough of, at most `highest` of its size.

        Rows that have more members than the set teach it too, without these.
        """
        for members in _sets(rows.present):
            part = rows.having(members)
            if part.enough(1):
                pooled = average(part.head, part.etas, self.shares(part.present))
                self.slopes[key(members)] = part.slope(pooled, highest(int(members.sum())))

    def slope_of(self, members: np.ndarray) -> float:
        """Return the slope of a set of members, "" standing for what was not seen."""
        return self.slopes.get(key(members), self.slopes[""])

    def combine(self, etas: np.ndarray, present: np.ndarray, head: Head) -> np.ndarray:
        slopes = np.array([self.slope_of(row) for row in present])
        return slopes[:, None] * average(head, etas, self.shares(present))


class Mean(Sloped):
    """All members alike; of log-hazards with slopes that the training rows teach."""

    def standardised(self, etas: np.ndarray) -> np.ndarray:
        return etas - self.center

    def shares(self, present: np.ndarray) -> np.ndarray:
        return present.astype(float)

    def fit(self, rows: PoolRows, *, unseen: bool) -> None:
        if len(self.names) > 1 and not len(rows.head.constants):
            self.fit_slopes(rows, float)  # members that know all there is add up, and no more

    def slope_of(self, members: np.ndarray) -> float:
        """Return the slope of a set; of one that was not seen, that of sets of its size."""
        seen = {name: slope for name, slope in self.slopes.items() if name}
        if key(members) in seen or not seen:
            return super().slope_of(members)
        sizes = np.array([name.count("1") for name in seen])
        known = np.unique(sizes)
        slopes = [np.mean(np.array(list(seen.values()))[sizes == size]) for size in known]
        return float(np.interp(members.sum(), known, slopes))

    def weights_shown(self) -> np.ndarray:
        return np.full(len(self.names), 1.0 / len(self.names))


class Weighted(Sloped):
    """Weights of sum 1 that minimise the loss of rows that the members did not see.

    Attributes
    ----------
    weights : ndarray, shape (n_members,)
    """

    weights: np.ndarray

    def fit(self, rows: PoolRows, *, unseen: bool) -> None:
        """Find the weights (and, of log-hazards, slopes) of the lowest loss."""
        has_slope = not len(rows.head.constants)
        m = len(self.names)

        def loss(x: np.ndarray) -> float:
            pooled = average(rows.head, rows.etas, _shares(rows.present, x[:m]))
            return rows.loss(x[-1] * pooled if has_slope else pooled)

        start, bounds = np.full(m, 1.0 / m), [(0.0, 1.0)] * m
        if has_slope:
            alike = average(rows.head, rows.etas, rows.present * start)
            start = np.append(start, rows.slope(alike))
            bounds += [(0.0, SLOPE)]
        sum_to_one = {"type": "eq", "fun": lambda x: x[:m].sum() - 1.0}
        options = {"ftol": 1e-12, "maxiter": 500}
        found = minimize(
            loss, start, method="SLSQP", bounds=bounds, constraints=sum_to_one, options=options
        ).x
        self.weights = on_simplex(found[:m])
        if has_slope:
            self.slopes[""] = float(found[-1])
            self.fit_slopes(rows, lambda _: SLOPE)

    def shares(self, present: np.ndarray) -> np.ndarray:
        return _shares(present, self.weights)

    def weights_shown(self) -> np.ndarray:
        return self.weights


class Stack(Centred):
    """A regression of the outcome on the members' predictors, one for each set of members.

    Attributes
    ----------
    stacks : dict of str to ndarray, shape (n_members + K,)
        Coefficients of the members, and constants, for each set of members.
    """

    shown_as = "coefficient"

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.stacks: dict[str, np.ndarray] = {}

    def fit(self, rows: PoolRows, *, unseen: bool) -> None:
        for members in _sets(rows.present):
            part = rows.having(members)
            if part.enough(int(members.sum())):
                self.stacks[key(members)] = part.stack(members)

    def combine(self, etas: np.ndarray, present: np.ndarray, head: Head) -> np.ndarray:
        m, k = etas.shape[1:]
        result = np.empty((len(etas), k))
        columns = stacked(head, np.where(present[:, :, None], etas, 0.0))
        patterns, which = np.unique(present, axis=0, return_inverse=True)
        for number, members in enumerate(patterns):
            rows = which.ravel() == number
            known = [self.stacks[name] for name in self._keys(members) if name in self.stacks]
            # A set that too few training rows had: the mean of what its members say alone.
            coef = np.mean(known, axis=0) if known else _untaught(members, k, head)
            result[rows] = np.tensordot(columns[rows], coef[:m], axes=(1, 0)) + coef[m:]
        return result

    def _keys(self, members: np.ndarray) -> list[str]:
        if key(members) in self.stacks:
            return [key(members)]
        return [key(alone) for alone in np.eye(len(members), dtype=bool)[members]]

    def weights_shown(self) -> np.ndarray:
        m = len(self.names)
        return self.stacks.get("1" * m, np.full(m, np.nan))[:m]


def _untaught(members: np.ndarray, k: int, head: Head) -> np.ndarray:
    """Return the mean of the members as they are; of standardised log-hazards, nothing."""
    share = members / members.sum() if len(head.constants) else 0.0 * members
    return np.concatenate([share, np.zeros(k)])


def _sets(present: np.ndarray) -> list[np.ndarray]:
    """Return the sets of members that have a regression of their own."""
    m = present.shape[1]
    if m <= ALL_SETS:
        every = itertools.product([False, True], repeat=m)
        return [np.array(members) for members in every if any(members)]
    return list(np.unique(np.vstack([present, np.eye(m, dtype=bool)]), axis=0))


def _shares(present: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weights of the members that are present; alike where these are all 0."""
    shares = present * weights.clip(min=0.0)
    nothing = shares.sum(1, keepdims=True) <= 0
    return np.where(nothing, present, shares)


def key(members: np.ndarray) -> str:
    """Return the name of a set of members: "101" is the first and the third."""
    return "".join("01"[int(there)] for there in members)


def on_simplex(weights: np.ndarray) -> np.ndarray:
    """Return weights of sum 1, without those that are nothing but rounding."""
    weights = np.where(weights > 1e-6, weights, 0.0)
    return weights / weights.sum()
