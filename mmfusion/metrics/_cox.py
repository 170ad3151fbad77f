"""A Cox model of a few columns with the influence of each row: what calibration is read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from mmfusion.survival import Survival

__all__ = ["SmallCox"]

MAX_STEPS = 50
#: Information that falls to this share of that of a null model: coefficients run to infinity.
LOST = 1e-8


@dataclass(frozen=True, eq=False)
class SmallCox:
    """Cox regression with Efron's ties, and its cumulative baseline hazard after the last time.

    Attributes
    ----------
    coef : ndarray, shape (p,)
        NaN where the likelihood has no finite maximum.
    log_hazard : float
        The log of the cumulative hazard, at the last event time, of a row of zeros.
    influence : ndarray, shape (n, 1 + p)
        What each row moves `log_hazard` and the coefficients by (Lin & Wei 1989; Reid & Crepeau
        1985).
    """

    coef: np.ndarray
    log_hazard: float
    influence: np.ndarray

    @classmethod
    def fit(cls, y: Survival, columns: np.ndarray, offset: Any = 0.0) -> Self:
        """Fit by Newton's method.

        Parameters
        ----------
        y : Survival, n rows
        columns : ndarray, shape (n, p)
            Perhaps none, then the baseline alone is learned beside `offset`.
        offset : ndarray, shape (n,)
        """
        sets = _RiskSets(y)
        centre, spread = columns.mean(axis=0), columns.std(axis=0)
        x = (columns - centre) / spread
        p = x.shape[1]
        coef, value, step = np.zeros(p), -np.inf, np.zeros(p)
        unknown = cls(np.full(p, np.nan), np.nan, np.full((len(x), 1 + p), np.nan))
        known = sets.at(x, coef, offset).information
        for _ in range(MAX_STEPS):
            with np.errstate(divide="ignore", invalid="ignore"):  # a step too far is halved
                found = sets.at(x, coef, offset)
            slack = 1e-9 * (1 + abs(value)) if np.isfinite(value) else 0.0
            if not found.log_likelihood >= value - slack:  # too far, or not a number
                step = step / 2
                coef = coef - step
                continue
            value = found.log_likelihood
            step = np.linalg.lstsq(found.information, found.gradient, rcond=None)[0]
            coef = coef + step
            if np.abs(step).max(initial=0.0) < 1e-10:
                break
        else:
            return unknown
        found = sets.at(x, coef, offset)
        if _lost(known, found.information):
            return unknown
        scores = found.scores(x)
        own = scores @ np.linalg.pinv(found.information) if p else scores
        hazard = found.hazard
        baseline = (found.hazard_influence() - own @ found.hazard_slope) / hazard
        coef, own = coef / spread, own / spread
        log_hazard = float(np.log(hazard) - centre @ coef)
        return cls(coef, log_hazard, np.column_stack([baseline - own @ centre, own]))


def _lost(known: np.ndarray, information: np.ndarray) -> bool:
    """Return whether some direction of the columns has lost the information it had.

    A direction that had none, of collinear columns, has none to lose.
    """
    squares, axes = np.linalg.eigh(known)
    kept = squares > 1e-10 * squares.max(initial=0.0)
    scaled = axes[:, kept] / np.sqrt(squares[kept])
    return bool((np.linalg.eigvalsh(scaled.T @ information @ scaled) < LOST).any())


class _RiskSets:
    """Who is at risk at each event; tied events have a slot each (Efron 1977)."""

    def __init__(self, y: Survival) -> None:
        self.y = y
        self.by_time = np.argsort(y.time, kind="stable")
        self.by_entry = np.argsort(y.entry, kind="stable")
        self.events = np.flatnonzero(y.event)[np.argsort(y.time[y.event], kind="stable")]
        time = y.time[self.events]
        self.time = time
        first = np.searchsorted(time, time, side="left")
        count = np.searchsorted(time, time, side="right") - first
        #: How much of the tied events has left the risk set in each slot.
        self.gone = (np.arange(len(time)) - first) / count
        self.first, self.count = first, count

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of `values`, (n, ...), over who is at risk in each slot."""
        later = np.cumsum(values[self.by_time][::-1], axis=0)[::-1]
        at_risk = later[np.searchsorted(self.y.time[self.by_time], self.time, side="left")]
        if self.y.delayed:
            padded = np.concatenate([values[self.by_entry], np.zeros_like(values[:1])])
            later = np.cumsum(padded[::-1], axis=0)[::-1]
            entry = self.y.entry[self.by_entry]
            at_risk = at_risk - later[np.searchsorted(entry, self.time, side="left")]
        tied = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values[self.events], axis=0)])
        tied = tied[self.first + self.count] - tied[self.first]
        return at_risk - tied * self.gone.reshape(-1, *[1] * (values.ndim - 1))

    def passed(self, slots: np.ndarray) -> np.ndarray:
        """Return the sum of `slots`, (m, ...), over the slots that each row was at risk in."""
        running = np.concatenate([np.zeros_like(slots[:1]), np.cumsum(slots, axis=0)])
        until = np.searchsorted(self.time, self.y.time, side="right")
        total = running[until]
        if self.y.delayed:
            total = total - running[np.searchsorted(self.time, self.y.entry, side="right")]
        total[self.events] -= self.of_event(slots * self.gone.reshape(-1, *[1] * (slots.ndim - 1)))
        return total

    def of_event(self, slots: np.ndarray) -> np.ndarray:
        """Return the sum of `slots` over the slots tied with each event, in the events' order."""
        running = np.concatenate([np.zeros_like(slots[:1]), np.cumsum(slots, axis=0)])
        return running[self.first + self.count] - running[self.first]

    def at(self, x: np.ndarray, coef: np.ndarray, offset: Any) -> _At:
        eta = x @ coef + offset
        top = eta.max()
        risk = np.exp(eta - top)
        total = self.sums(risk)
        mean = self.sums(risk[:, None] * x) / total[:, None]
        products = (x[:, :, None] * x[:, None, :]) * risk[:, None, None]
        second = self.sums(products) / total[:, None, None]
        information = (second - mean[:, :, None] * mean[:, None, :]).sum(axis=0)
        gradient = (x[self.events] - mean).sum(axis=0)
        value = float(eta[self.events].sum() - (np.log(total) + top).sum())
        return _At(self, risk, total, np.exp(-top), mean, information, gradient, value)


@dataclass(frozen=True, eq=False)
class _At:
    """The likelihood at some coefficients."""

    sets: _RiskSets
    risk: np.ndarray  # exp(eta), a factor apart
    total: np.ndarray  # its sum over each slot
    factor: float
    mean: np.ndarray
    information: np.ndarray
    gradient: np.ndarray
    log_likelihood: float

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Return the score residual of each row, (n, p)."""
        sets, jumps = self.sets, 1 / self.total
        result = -self.risk[:, None] * (
            x * sets.passed(jumps)[:, None] - sets.passed(jumps[:, None] * self.mean)
        )
        tied = sets.of_event(self.mean) / sets.count[:, None]
        result[sets.events] += x[sets.events] - tied
        return result

    @property
    def hazard(self) -> float:
        return float((1 / self.total).sum() * self.factor)

    @property
    def hazard_slope(self) -> np.ndarray:
        """Minus the derivative of the hazard in the coefficients."""
        return (self.mean / self.total[:, None]).sum(axis=0) * self.factor

    def hazard_influence(self) -> np.ndarray:
        """Return what each row moves the hazard by, the coefficients given."""
        sets = self.sets
        result = -self.risk * sets.passed(1 / self.total**2)
        result[sets.events] += sets.of_event(1 / self.total) / sets.count
        return result * self.factor
