"""The Cox likelihood and baseline as the textbook has them, over all pairs, to hold ours to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

NEVER = -torch.inf


@dataclass
class Cohort:
    time: Tensor
    event: Tensor
    weight: Tensor
    entry: Tensor
    stratum: Tensor

    def parts(self) -> tuple[Tensor, ...]:
        return self.time, self.event, self.weight, self.entry, self.stratum

    def take(self, rows: Tensor) -> Cohort:
        return Cohort(*(part[rows] for part in self.parts()))

    def blocks(self):
        """Yield (stratum, time, at risk, dying) of each event time, ascending."""
        counted = self.weight > 0
        for stratum in self.stratum.unique():
            mine = (self.stratum == stratum) & counted
            for time in self.time[mine & self.event].unique():
                at_risk = mine & (self.entry < time) & (self.time >= time)
                yield int(stratum), float(time), at_risk, mine & self.event & (self.time == time)

    def total(self) -> Tensor:
        return (self.weight * self.event).sum()


def draw(
    seed: int,
    n: int,
    *,
    n_times: int = 10,
    weighted: bool = False,
    delayed: bool = False,
    n_strata: int = 1,
    share: float = 0.6,
) -> Cohort:
    rng = np.random.default_rng(seed)
    time = rng.integers(0, n_times, n).astype(float)
    weight = rng.choice([0.0, 0.5, 1.0, 2.0, 3.7], n) if weighted else np.ones(n)
    entry = np.full(n, -np.inf)
    if delayed:
        late = rng.random(n) < 0.7
        entry[late] = np.minimum(time - 1, rng.integers(-2, n_times, n))[late]
    return Cohort(
        torch.from_numpy(time),
        torch.from_numpy(rng.random(n) < share),
        torch.from_numpy(weight),
        torch.from_numpy(entry),
        torch.from_numpy(rng.integers(0, n_strata, n)),
    )


@st.composite
def cohorts(draw_: st.DrawFn) -> Cohort:
    return draw(
        draw_(st.integers(0, 10**6)),
        draw_(st.integers(1, 25)),
        n_times=draw_(st.sampled_from([1, 3, 10, 1000])),
        weighted=draw_(st.booleans()),
        delayed=draw_(st.booleans()),
        n_strata=draw_(st.sampled_from([1, 3, 30])),
        share=draw_(st.sampled_from([0.0, 0.3, 0.7, 1.0])),
    )


def negative_log_likelihood(eta: Tensor, cohort: Cohort, ties: str) -> Tensor:
    """Sum over event times and tied deaths of log sum exp, mean over the weights of events.

    Each denominator is one logsumexp over the risk set in which the dying count ``1 - l / d``.
    """
    loss = -(cohort.weight * cohort.event * eta).sum()
    log_risk = eta + cohort.weight.log()
    for _, _, at_risk, dying in cohort.blocks():
        d = int(dying.sum())
        for number in range(d):
            gone = number / d if ties == "efron" else 0.0
            share = torch.log1p(-gone * dying[at_risk].double())
            term = torch.logsumexp(log_risk[at_risk] + share, 0)
            loss = loss + cohort.weight[dying].sum() / d * term
    return loss / cohort.total() if cohort.total() > 0 else loss


def baseline(eta: Tensor, cohort: Cohort, ties: str) -> list[tuple[int, float, float]]:
    """Return (stratum, time, log of the jump of the cumulative hazard) at each event time."""
    result = []
    log_risk = eta + cohort.weight.log()
    for stratum, time, at_risk, dying in cohort.blocks():
        d = int(dying.sum())
        terms = []
        for number in range(d):
            gone = number / d if ties == "efron" else 0.0
            share = torch.log1p(-gone * dying[at_risk].double())
            omega = (cohort.weight[dying].sum() / d).log()
            terms.append(omega - torch.logsumexp(log_risk[at_risk] + share, 0))
        result.append((stratum, time, float(torch.logsumexp(torch.stack(terms), 0))))
    return result


def hessian(eta: Tensor, cohort: Cohort, ties: str) -> Tensor:
    return torch.autograd.functional.hessian(
        lambda x: negative_log_likelihood(x, cohort, ties), eta
    )
