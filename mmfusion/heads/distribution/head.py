"""The distribution head: a predictor a parameter of a family, and what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from scipy.special import logit
from torch import Tensor

from mmfusion.heads.base import Head
from mmfusion.heads.distribution.likelihood import (
    closed_derivatives,
    constant_model,
    log_likelihood,
)
from mmfusion.heads.distribution.target import (
    EXACT,
    NOTHING,
    RIGHT,
    DistributionTarget,
    Limits,
    encode,
    read,
)
from mmfusion.heads.families import Distribution, Family
from mmfusion.heads.families.base import Link
from mmfusion.heads.families.real import moments
from mmfusion.heads.grid import Basis, Grid
from mmfusion.heads.groups import event_time_groups
from mmfusion.heads.weights import check_weights
from mmfusion.survival import Survival, episode_share
from mmfusion.survival.curves import follow_up_of

__all__ = ["DistributionHead"]

#: Rows, evenly spread, that say where the constant model is about.
SOME = 5000
#: A discrete outcome of no more values than this is dealt into parts value by value.
FEW = 10
#: The constant model is not looked for further from a first guess, in predictors.
REACH = 8.0
#: Standard deviation of what `widening` is expected to be, in predictors: a factor of 1.6.
WIDENS = 0.5
#: Times of curves for which no times are asked.
N_TIMES = 100
#: Values of a row over which its expected information is a mean.
QUANTILES = 24


class DistributionHead(Head[DistributionTarget]):
    """The likelihood of a family of distributions whose parameters all have predictors.

    Values, censored values (right, left, in an interval) and values seen only beyond an entry
    (delayed entry, left truncation). A parameter's predictor is its link; one of the identity link
    is in standard deviations of y (or of its logarithm) inside, in units of y to the user, so that
    the fit does not depend on the unit of y.

    Parameters
    ----------
    family : Family
    deep : sequence of str, or mapping of str to sequence of str or None, optional
        The parameters that networks and features move; by default the location alone. A mapping
        has the modalities that each reads, None of all.

    Attributes
    ----------
    unit_ : float
        What a predictor of the identity link is in units of.
    survival_ : bool
        Whether the outcome was one of survival, so that its predictions are curves too.
    times_ : ndarray
        Times of curves for which no times are asked.

    Examples
    --------
    >>> import numpy as np
    >>> from mmfusion.heads.distribution import DistributionHead
    >>> from mmfusion.heads.families import check_family
    >>> head = DistributionHead(check_family("normal"))
    >>> target = head.fit_outcome(np.array([1.0, 2.0, 3.0, 6.0]))
    >>> constant = head.initial(target)[None].numpy()
    >>> {name: value.round(3) for name, value in head.distribution(constant).parameters.items()}
    {'loc': array([3.]), 'scale': array([1.871])}
    """

    knows_expected = True

    def __init__(
        self,
        family: Family,
        deep: Sequence[str] | Mapping[str, Sequence[str] | None] | None = None,
    ) -> None:
        self.family = family
        self.deep = deep
        self.ratio = family.ratio
        self.unit_ = 1.0
        self.survival_ = False

    @property
    def grid(self) -> Grid:
        """A predictor a parameter."""
        return Grid(tuple(self.family.parameters))

    @property
    def parameters(self) -> Basis:
        return self.family.formulas(self.unit_)

    @property
    def constants(self) -> Basis:
        return self.family.constants(self.unit_)

    @property
    def linear_basis(self) -> Basis:
        # Of one penalty, they are of no unit.
        return self.deep_basis

    @property
    def deep_basis(self) -> Basis:
        """An output of a network for each of the parameters that it moves."""
        return self.family.formulas(1.0).take(self._deep_places())

    @property
    def has_linear(self) -> bool:  # type: ignore[override]
        """Whether all outputs read the same, so that features can have one linear part."""
        return all(own is None for own in self.deep_reads or ())

    @property
    def deep_reads(self) -> Sequence[Sequence[str] | None] | None:
        if not isinstance(self.deep, Mapping):
            return None
        names = self.parameters.names
        return [self.deep[names[place]] for place in self._deep_places()]

    @property
    def deep_groups(self) -> tuple[int, ...]:
        """A share of the networks a parameter."""
        k = len(self.grid)
        return tuple(range(k)) if len(self.parameters) == k else (0,) * k

    def _deep_places(self) -> list[int]:
        names = self.parameters.names
        if self.deep is None:
            return [0]
        for name in self.deep:
            if name not in names:
                (nearest,) = get_close_matches(str(name), names, 1, cutoff=0.0)
                raise ValueError(
                    f"The deep parameter must name parameters of the family, {list(names)}. "
                    f"Got {name!r}. Nearest to {name!r}: {nearest!r}."
                )
        return [place for place, name in enumerate(names) if name in self.deep]

    # --- outcomes ----------------------------------------------------------------------------

    def fit_outcome(
        self, y: Any, sample_weight: np.ndarray | None = None, index: Any = None, **context: Any
    ) -> DistributionTarget:
        """Learn the unit (and levels) of `y` and return it encoded.

        Parameters
        ----------
        y : array-like, DataFrame or survival outcome
            See `mmfusion.heads.distribution.target.read`.
        sample_weight : array-like, shape (n,), optional
        index : sequence, optional
            Labels of the rows for messages.

        Raises
        ------
        ValueError, TypeError
            For a value outside the support, naming its row; where no value is known at all; for one
            value in every row, of a family with a scale.
        """
        self.family = self.family.learn(y)
        self._deep_places()
        limits = read(y, self.family, index)
        target = encode(limits, self.family, check_weights(sample_weight, len(limits.lower)))
        if not self.informative(target):
            raise ValueError(
                "The outcome y must have a row with a weight above 0 of which more is known than a "
                "lower limit. Got none."
            )
        self.survival_ = limits.survival and not self.family.discrete
        self.times_ = self._times(limits) if self.survival_ else np.zeros(0)
        values, weight = self._some(target)
        spreads = not self.family.discrete and len(self.family.parameters) > 1
        if spreads and target.exact and not _varies(values):
            raise ValueError(
                "The outcome y must vary: a distribution of one value has no scale. Got "
                f"{float(values[0]):g} in every row."
            )
        if self.family.units is not None:
            self.unit_ = moments(values.log() if self.family.units == "log y" else values, weight)[
                1
            ]
        return target

    def encode(
        self, y: Any, sample_weight: np.ndarray | None = None, index: Any = None, **context: Any
    ) -> DistributionTarget:
        limits = read(y, self.family, index)
        return encode(limits, self.family, check_weights(sample_weight, len(limits.lower)))

    @staticmethod
    def _times(limits: Limits) -> np.ndarray:
        finite = np.where(np.isfinite(limits.upper), limits.upper, limits.lower)
        known = np.unique(finite[finite > 0])
        if len(known) <= N_TIMES:
            return known
        return np.unique(np.quantile(known, np.linspace(0, 1, N_TIMES), method="nearest"))

    def _some(self, target: DistributionTarget) -> tuple[Tensor, Tensor]:
        """Return a value of the support and the weight of each row that has both."""
        value = target.middle()
        inside = torch.from_numpy(self.family.allowed(value.cpu().numpy()))
        if self.family.discrete:  # limits lie between whole numbers
            value = value.ceil()
            inside = torch.from_numpy(self.family.allowed(value.cpu().numpy()))
        rows = inside & (target.weight.cpu() > 0)
        if bool(rows.all()):
            return value.cpu(), target.weight.cpu()
        return value.cpu()[rows], target.weight.cpu()[rows]

    def initial(self, target: DistributionTarget) -> Tensor:
        """Return the constant model's predictors, shape (K,): of some rows where there are many."""
        target = target.to(torch.device("cpu"))
        start = self.family.eta(self.family.start(*self._some(target)), self.unit_)
        if len(target) > SOME:
            target = target.take(torch.linspace(0, len(target) - 1, SOME).long())

        def derivatives(at: Tensor) -> tuple[float, Tensor, Tensor]:
            eta = at.expand(len(target), len(at))
            gradient, curvature = self.derivatives(eta, target)
            if curvature.ndim == 2:
                curvature = curvature[:, :, None]
            with torch.no_grad():
                loss = float(self.loss(eta, target))
            return loss, gradient.sum(0), curvature.sum(0)

        # Where it has no end (degrees of freedom of light tails) nothing is known of it there.
        found = constant_model(derivatives, start)
        return torch.minimum(torch.maximum(found, start - REACH), start + REACH)

    def loss(self, eta: Tensor, target: DistributionTarget) -> Tensor:
        theta = self.family.theta(eta.double(), self.unit_)
        return target.mean(-log_likelihood(self.family, theta, target))

    def derivatives(self, eta: Tensor, target: DistributionTarget) -> tuple[Tensor, Tensor]:
        eta = eta.detach().double()
        found = closed_derivatives(self.family, eta, self.unit_, target)
        if found is None:
            return super().derivatives(eta, target)
        first, second = found
        shares = -target.shares
        first, second = first.mul_(shares[:, None]), second.mul_(shares[:, None, None])
        return first, second[:, 0] if len(self.grid) == 1 else second

    def gradient(self, eta: Tensor, target: DistributionTarget) -> Tensor:
        found = closed_derivatives(self.family, eta.detach().double(), self.unit_, target)
        if found is None:
            return super().gradient(eta, target)
        return -target.shares[:, None] * found[0]

    def widening(self, eta: Tensor, target: DistributionTarget) -> Tensor:
        """Return constants of all parameters but the location (a scale, a dispersion), (K,).

        Those of the highest likelihood of rows that were not fitted, with a prior around 0 that
        counts where rows are few.
        """
        target, eta = target.to(torch.device("cpu")), eta.detach().double().cpu()
        k = eta.shape[1]
        found = torch.zeros(k, dtype=torch.float64)
        if k == 1 or len(self.parameters) < k:
            return found
        prior = 1.0 / (self.total(target) * WIDENS**2)  # the loss is a mean

        def derivatives(at: Tensor) -> tuple[float, Tensor, Tensor]:
            there = eta.clone()
            there[:, 1:] += at
            gradient, curvature = self.derivatives(there, target)
            with torch.no_grad():
                loss = float(self.loss(there, target)) + 0.5 * prior * float(at @ at)
            hessian = curvature.sum(0)[1:, 1:] + prior * torch.eye(k - 1, dtype=torch.float64)
            return loss, gradient.sum(0)[1:] + prior * at, hessian

        found[1:] = constant_model(derivatives, found[1:].clone())
        return found

    def expected(self, eta: Tensor, target: DistributionTarget) -> Tensor:
        """Return the expected outer products of the score, (n, K, K), at values known exactly.

        The mean over quantiles at the nodes of Gauss and Legendre's rule.
        """
        eta = eta.detach().double()
        n, k = eta.shape
        nodes, weights = np.polynomial.legendre.leggauss(QUANTILES)
        p = torch.from_numpy(0.5 * (nodes + 1)).expand(n, -1)
        with torch.no_grad():
            theta = tuple(t[:, None].expand(p.shape) for t in self.family.theta(eta, self.unit_))
            y = self.family.within(self.family.quantile(p.contiguous(), *theta).flatten())
        at = eta.repeat_interleave(QUANTILES, 0).requires_grad_()
        total = self.family.log_prob(y, *self.family.theta(at, self.unit_)).sum()
        (scores,) = torch.autograd.grad(total, at)
        scores = scores.view(n, QUANTILES, k)
        share = torch.from_numpy(0.5 * weights)[:, None] * target.shares[:, None, None]
        return (share * scores).transpose(1, 2) @ scores

    def informative(self, target: DistributionTarget) -> bool:
        known = (target.kind != RIGHT) & (target.kind != NOTHING)
        return bool((known & (target.weight > 0)).any())

    def enough(self, target: DistributionTarget, n_coefficients: int) -> bool:
        values = target.middle()[target.weight > 0]
        return _varies(values) and super().enough(target, n_coefficients)

    def stratify(self, target: DistributionTarget) -> np.ndarray:
        # Events and censored rows apart; else each value of few, or fifths of the outcome.
        kind, value = target.kind.cpu().numpy(), target.middle().cpu().numpy()
        if (kind != EXACT).any():
            return (kind != RIGHT).astype(np.int64)
        known = np.unique(value)
        if len(known) <= FEW:
            return np.searchsorted(known, value)
        return np.searchsorted(np.quantile(value, [0.2, 0.4, 0.6, 0.8]), value)

    def groups(self, target: DistributionTarget) -> np.ndarray:
        """Return the fourth of the outcome in which each row lies; see `event_time_groups`."""
        if self.survival_:
            seen = (target.kind != RIGHT).cpu().numpy()
            return event_time_groups(target.middle().cpu().numpy(), seen)
        return self.stratify(target)

    def events(self, target: DistributionTarget) -> Tensor | None:
        """Return which rows have an event, of a survival outcome."""
        return target.kind != RIGHT if self.survival_ else None

    def n_events(self, target: DistributionTarget) -> int | None:
        events = self.events(target)
        return None if events is None else int((events & (target.weight > 0)).sum())

    def median_follow_up(self, target: DistributionTarget) -> float | None:
        if not self.survival_:
            return None
        return follow_up_of(Survival(*self._as_survival(target)), target.weight.cpu().numpy())

    def _as_survival(self, target: DistributionTarget) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        entry = torch.where(target.late, target.entry, -torch.inf)
        event = (target.kind != RIGHT).long()
        return target.middle().cpu().numpy(), event.cpu().numpy(), entry.cpu().numpy()

    def episodes(self, target: DistributionTarget) -> float:
        if not self.survival_:
            return 0.0
        time, _, entry = self._as_survival(target)
        return episode_share(time, entry)

    def has_entry(self, target: DistributionTarget) -> bool:
        return bool(target.late.any())

    # --- predictions -------------------------------------------------------------------------

    def distribution(self, eta: np.ndarray) -> Distribution:
        """Return the distributions that predictors (n, K) mean."""
        theta = self.family.theta(torch.from_numpy(np.asarray(eta, np.float64)), self.unit_)
        names = self.family.parameters
        return Distribution(self.family, {n: t.numpy() for n, t in zip(names, theta, strict=True)})

    def log_scores(self, eta: np.ndarray, target: DistributionTarget) -> np.ndarray:
        """Return the log-likelihood of each row, shape (n,)."""
        theta = self.family.theta(torch.from_numpy(np.asarray(eta, np.float64)), self.unit_)
        with torch.no_grad():
            return log_likelihood(self.family, theta, target).numpy()

    def value_and_slope(
        self, eta: np.ndarray, what: str, q: float = 0.5
    ) -> tuple[np.ndarray, np.ndarray, Link]:
        """Return what predictors (n, K) say of something, and its derivatives in them.

        Parameters
        ----------
        eta : ndarray, shape (n, K)
        what : str
            "mean", "quantile", or a parameter.
        q : float
            Of a quantile, which.

        Returns
        -------
        value : ndarray, shape (n,)
            On the scale of the link that is returned, on which bands are symmetric.
        slope : ndarray, shape (n, K)
        link : {"identity", "log", "logit"}
        """
        names = list(self.family.parameters)
        if what in names:
            place = names.index(what)
            link = self.family.parameters[what]
            size = self.unit_ if link == "identity" else 1.0
            slope = np.zeros_like(eta)
            slope[:, place] = size
            return size * eta[:, place], slope, link
        at = torch.from_numpy(np.array(eta, dtype=np.float64)).requires_grad_()
        theta = self.family.theta(at, self.unit_)
        if what == "mean":
            value = self.family.mean(*theta)
            (slope_,) = torch.autograd.grad(value.sum(), at)
        else:
            known = tuple(t.detach() for t in theta)
            value = self.family.quantile(torch.full((len(at),), q, dtype=torch.float64), *known)
            # F(y, theta) stays q: dy = -dF / density.
            chance = self.family.log_cdf(value, *theta)
            (moved,) = torch.autograd.grad(chance.sum(), at)
            density = (self.family.log_prob(value, *known) - chance.detach()).exp()
            slope_ = -moved / density[:, None]
        found, slope = value.detach().numpy(), slope_.numpy()
        if self.family.support == (0.0, np.inf):
            return np.log(found), slope / found[:, None], "log"
        if self.family.support == (0.0, 1.0):
            return logit(found), slope / (found * (1 - found))[:, None], "logit"
        return found, slope, "identity"

    def survival(self, eta: np.ndarray, times: Any) -> np.ndarray:
        """Return the probability of more than each time, shape (n, m)."""
        found = self.distribution(eta)
        return found.sf(
            np.broadcast_to(np.asarray(times, dtype=np.float64), (len(found), len(times)))
        )

    def state(self) -> dict[str, np.ndarray]:
        own = {"unit": np.array(self.unit_), "survival": np.array(self.survival_)}
        levels = {f"family_{k}": v for k, v in self.family.state().items()}
        return own | {"times": self.times_} | levels

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.unit_, self.survival_ = float(state["unit"]), bool(state["survival"])
        self.times_ = state["times"]
        prefix = "family_"
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        self.family = self.family.load_state(own)


def _varies(values: Tensor) -> bool:
    """Return whether numbers are not all the same."""
    return len(values) > 0 and bool(values.min() < values.max())
