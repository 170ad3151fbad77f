"""Multi-task logistic regression: masses whose logits are sums of the predictors."""

from __future__ import annotations

from torch import Tensor

from mmfusion.heads.discrete.mass import PMF
from mmfusion.heads.discrete.target import DiscreteTimeTarget

__all__ = ["MTLR"]


class MTLR(PMF):
    """The likelihood of `PMF`, the logit of each mass being the sum of the predictors from it on.

    Yu, Greiner, Lin & Baracos 2011 (NeurIPS 24:1845-1853); Fotso 2018 (arXiv:1801.05512).
    """

    kind = "mtlr"

    def losses(self, eta: Tensor, target: DiscreteTimeTarget) -> Tensor:
        return super().losses(_sums(eta), target)

    def gradient(self, eta: Tensor, target: DiscreteTimeTarget) -> Tensor:
        return super().gradient(_sums(eta), target).cumsum(1)

    def derivatives(self, eta: Tensor, target: DiscreteTimeTarget) -> tuple[Tensor, Tensor]:
        gradient, curvature = super().derivatives(_sums(eta), target)
        return gradient.cumsum(1), curvature.cumsum_(1).cumsum_(2)


def _sums(eta: Tensor) -> Tensor:
    return eta.flip(1).cumsum(1).flip(1)
