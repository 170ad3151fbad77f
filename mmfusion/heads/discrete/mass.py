"""A probability mass an interval and cause: the softmax of the predictors."""

from __future__ import annotations

import torch
from torch import Tensor

from mmfusion.heads.discrete.likelihood import DiscreteLikelihood
from mmfusion.heads.discrete.masses import Kind
from mmfusion.heads.discrete.target import DiscreteTimeTarget

__all__ = ["PMF", "with_survivors"]


class PMF(DiscreteLikelihood):
    r"""Masses ``p = softmax([eta, 0])``, the last one that of no event within the grid.

    .. math:: \ell = -\log \sum_{c \in O} p_c + \log \sum_{c \in R} p_c

    where O is the mass of the event, or all masses after a censoring, and R all masses after entry
    (Kvamme & Borgan 2021, eq. 12; Lee et al. 2018, AAAI, eq. 4). pycox's functions sum
    exponentials and add 1e-7 before the logarithm, so that an improbable censoring has no
    gradient; here both sums stay logarithms, and no row has a loss with an end.
    """

    kind: Kind = "mass"

    def losses(self, eta: Tensor, target: DiscreteTimeTarget) -> Tensor:
        at_risk, observed = self._conditioned(eta, target)
        return at_risk.logsumexp(1) - observed.logsumexp(1)

    def gradient(self, eta: Tensor, target: DiscreteTimeTarget) -> Tensor:
        at_risk, observed = self._conditioned(eta, target)
        return (at_risk.softmax(1) - observed.softmax(1))[:, :-1]

    def derivatives(self, eta: Tensor, target: DiscreteTimeTarget) -> tuple[Tensor, Tensor]:
        at_risk, observed = (x.softmax(1)[:, :-1] for x in self._conditioned(eta, target))
        gradient = at_risk - observed
        # The covariance of the masses at risk, less that of the masses observed.
        curvature = torch.stack([observed, -at_risk], 2) @ torch.stack([observed, at_risk], 1)
        curvature.diagonal(dim1=1, dim2=2).add_(gradient)
        return gradient, curvature

    def _conditioned(self, eta: Tensor, target: DiscreteTimeTarget) -> tuple[Tensor, Tensor]:
        """Return the logits (n, K + 1), -inf for what is not in R, and for what is not in O."""
        interval = torch.arange(1, target.n_intervals + 1, device=eta.device)
        cause = torch.arange(1, target.n_causes + 1, device=eta.device)
        interval, cause = interval.repeat(len(cause)), cause.repeat_interleave(len(interval))
        logits = with_survivors(eta)
        interval = torch.cat([interval, interval[-1:] + 1])
        cause = torch.cat([cause, torch.zeros_like(cause[:1])])
        stop, found = target.stop[:, None], target.cause[:, None]
        observed = torch.where(found > 0, (interval == stop) & (cause == found), interval > stop)
        at_risk = interval > target.start[:, None]
        return logits.masked_fill(~at_risk, -torch.inf), logits.masked_fill(~observed, -torch.inf)


def with_survivors(eta: Tensor) -> Tensor:
    """Return the logits of all masses, shape (n, K + 1): that of no event is 0."""
    return torch.cat([eta, eta.new_zeros(len(eta), 1)], dim=1)
