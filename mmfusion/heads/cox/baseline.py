"""The baseline cumulative hazard and what it predicts, in the log domain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from mmfusion.heads.cox.risk_sets import MAX_SPREAD
from mmfusion.inputs.times import as_times as as_numbers

__all__ = ["CHUNK", "Baseline", "as_times", "as_vector"]

#: Numbers in the largest intermediate beside the result.
CHUNK = 1 << 18


@dataclass(frozen=True, eq=False)
class Baseline:
    """Cumulative hazards of a row with ``eta = center``, a step function a stratum.

    Logarithms are kept, and `center` lies amid the training rows: a hazard is computed as
    ``exp(log_cumulative + eta - center)``, which neither overflows nor vanishes for rows like the
    training rows however large their eta. Every curve is right-continuous, starts at a hazard of 0
    and stays at its last value beyond the last event time: a convention, no estimate. A stratum
    without events has a hazard of 0.

    Attributes
    ----------
    center : float
    times : tuple of ndarray, a stratum each
        Distinct event times, ascending.
    log_cumulative : tuple of ndarray, a stratum each
        Log of the cumulative hazard at them.
    """

    center: float
    times: tuple[np.ndarray, ...]
    log_cumulative: tuple[np.ndarray, ...]

    @classmethod
    def from_jumps(
        cls,
        time: np.ndarray,
        log_jump: np.ndarray,
        stratum: np.ndarray,
        n_strata: int,
        center: float,
    ) -> Self:
        """Accumulate log-jumps at ascending (stratum, time) of a row with eta = center."""
        edges = np.searchsorted(stratum, np.arange(1, n_strata))
        return cls(
            center,
            tuple(np.split(time, edges)),
            tuple(_log_cumsum(jumps) for jumps in np.split(log_jump, edges)),
        )

    @property
    def event_times(self) -> np.ndarray:
        """All distinct event times, ascending."""
        return np.unique(np.concatenate(self.times))

    def cumulative_hazard(
        self, eta: np.ndarray, times: np.ndarray, codes: np.ndarray
    ) -> np.ndarray:
        """Return the cumulative hazard of each row at each time, shape (n, len(times))."""
        result = np.empty((len(eta), len(times)))
        for code, rows in _by_stratum(codes):
            steps = np.searchsorted(self.times[code], times, side="right")
            log_baseline = np.concatenate([[-np.inf], self.log_cumulative[code]])[steps]
            size = max(1, CHUNK // max(1, len(times)))
            for part in _parts(rows, size):
                result[part] = _exp(log_baseline + (eta[part] - self.center)[:, None])
        return result

    def survival(self, eta: np.ndarray, times: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the survival probability of each row at each time, shape (n, len(times))."""
        result = self.cumulative_hazard(eta, times, codes)
        np.negative(result, out=result)
        return np.exp(result, out=result)

    def quantile(self, eta: np.ndarray, shares: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the first event time with ``S(t) <= 1 - share``, inf if none: (n, len(shares))."""
        result = np.empty((len(eta), len(shares)))
        needed = np.log(-np.log1p(-shares)) - (eta - self.center)[:, None]
        for code, rows in _by_stratum(codes):
            times = np.append(self.times[code], np.inf)
            result[rows] = times[np.searchsorted(self.log_cumulative[code], needed[rows])]
        return result

    def restricted_mean(self, eta: np.ndarray, horizon: float, codes: np.ndarray) -> np.ndarray:
        """Return the integral of the survival curve from 0 to `horizon`, exactly, shape (n,)."""
        result = np.empty(len(eta))
        for code, rows in _by_stratum(codes):
            steps = int(np.searchsorted(self.times[code], horizon))
            edges = np.concatenate([[0.0], self.times[code][:steps], [horizon]])
            log_baseline = np.concatenate([[-np.inf], self.log_cumulative[code][:steps]])
            widths = np.diff(edges)
            for part in _parts(rows, max(1, CHUNK // len(widths))):
                hazard = _exp(log_baseline + (eta[part] - self.center)[:, None])
                result[part] = np.exp(-hazard) @ widths
        return result

    def state(self) -> dict[str, np.ndarray]:
        """Return the baseline as arrays."""
        return {
            "center": np.array(self.center),
            "times": np.concatenate(self.times),
            "log_cumulative": np.concatenate(self.log_cumulative),
            "n_times": np.array([len(times) for times in self.times], dtype=np.int64),
        }

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """Take back what `state` returned."""
        edges = np.cumsum(state["n_times"])[:-1]
        return cls(
            float(state["center"]),
            tuple(np.split(state["times"], edges)),
            tuple(np.split(state["log_cumulative"], edges)),
        )


def _exp(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # a cumulative hazard above 1e308 is inf, its survival 0
        return np.exp(x, out=x)


def _log_cumsum(x: np.ndarray) -> np.ndarray:
    if len(x) == 0:
        return x
    top = x.max()
    if top - x.min() <= MAX_SPREAD:
        return np.log(np.cumsum(np.exp(x - top))) + top
    return np.logaddexp.accumulate(x)


def _by_stratum(codes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    order = np.argsort(codes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        if len(rows):
            yield int(codes[rows[0]]), rows


def _parts(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def as_vector(eta: Any) -> np.ndarray:
    """Return predictors of shape (n,) or (n, 1) as float64 of shape (n,)."""
    eta = np.asarray(eta, dtype=np.float64)
    if eta.ndim == 2 and eta.shape[1] == 1:
        eta = eta[:, 0]
    if eta.ndim != 1:
        raise ValueError(f"The eta parameter must have shape (n,) or (n, 1). Got {eta.shape}.")
    return eta


def as_times(times: Any) -> np.ndarray:
    """Return times of predictions as float64 of shape (k,).

    Raises
    ------
    ValueError
        If they are NaN or not one-dimensional.
    TypeError
        If they are dates or durations.
    """
    times = as_numbers("times", times)
    if times.ndim != 1 or np.isnan(times).any():
        raise ValueError(
            "The times parameter must be one-dimensional, without NaN. "
            f"Got shape {times.shape} with {int(np.isnan(times).sum())} NaN."
        )
    return times
