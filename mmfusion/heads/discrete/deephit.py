"""DeepHit: masses of causes and intervals, and a loss of the order of the rows."""

from __future__ import annotations

import torch
from torch import Tensor

from mmfusion.heads.discrete.mass import PMF, with_survivors
from mmfusion.heads.discrete.target import DiscreteTimeTarget

__all__ = ["DeepHit"]


class DeepHit(PMF):
    """The likelihood of `PMF` beside a ranking loss: ``alpha * nll + (1 - alpha) * ranking``.

    That is pycox's convention; Lee et al. (2018, AAAI) add multiples of the ranking loss.

    Parameters
    ----------
    alpha, sigma : float
        The share of the likelihood, and the scale of the ranking loss.
    """

    competing = True
    interacts = True

    def __init__(self, alpha: float = 0.2, sigma: float = 0.1) -> None:
        self.alpha, self.sigma = alpha, sigma

    def loss(self, eta: Tensor, target: DiscreteTimeTarget) -> Tensor:
        return self.alpha * super().loss(eta, target) + (1.0 - self.alpha) * self.ranking(
            eta, target
        )

    def ranking(self, eta: Tensor, target: DiscreteTimeTarget) -> Tensor:
        r"""Return the ranking loss, a scalar.

        .. math:: \sum_k \frac{\sum_{i,j} w_i w_j A_{ij}^k
                  \exp\{-[F_k(s_i \mid x_i) - F_k(s_i \mid x_j)] / \sigma\}}{(\sum_i w_i)^2}

        over pairs of which i had an event of cause k in interval s_i, when j had entered, and j had
        none until its end (Lee et al. 2018, AAAI, eq. 5); the mean over all pairs is pycox's. The
        exponential of a difference is a product, so that sums over i and over j suffice: memory
        and time grow with n and not with its square, and float64, which pycox refuses, is used.
        """
        mass = with_survivors(eta).softmax(1)[:, :-1].unflatten(1, (target.n_causes, -1))
        incidence = mass.cumsum(2) / self.sigma  # (n, n_causes, n_intervals)
        weight = target.shares[:, None, None]
        interval = torch.arange(1, target.n_intervals + 1, device=eta.device)
        cause = torch.arange(1, target.n_causes + 1, device=eta.device)[:, None]
        stop, start, found = (x[:, None, None] for x in (target.stop, target.start, target.cause))
        first = (stop == interval) & (found == cause)
        second = ((stop > interval) | ((stop == interval) & (found == 0))) & (start < interval)
        firsts = (weight * first * torch.exp(-incidence)).sum(0)
        seconds = (weight * second * torch.exp(incidence)).sum(0)
        return (firsts * seconds).sum()
