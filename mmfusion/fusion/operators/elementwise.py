"""Feature by feature: sum, mean, maximum, product."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfusion.fusion.base import FusionOperator, Part, register
from mmfusion.fusion.operators._masks import apply, neutral, product

__all__ = ["Max", "Mean", "Product", "Sum"]


class _Projected(FusionOperator):
    """Of embeddings projected to one width, ``h_k = W_k u_k + b_k``."""

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__(widths, dim)
        self.projections = nn.ModuleList(nn.Linear(width, dim) for width in widths)
        self.width = dim

    def project(self, embeddings: Sequence[Part], present: Tensor | None) -> list[Tensor]:
        return apply(self.projections, neutral(embeddings, present))


@register("sum")
class Sum(_Projected):
    """Sum of the projected embeddings of the present modalities: ``sum_k m_k (W_k u_k + b_k)``."""

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        first, *rest = neutral(self.project(embeddings, present), present)
        for part in rest:
            first = first + part
        return first


@register("mean")
class Mean(Sum):
    """Mean of the projected embeddings of the present modalities: the sum over their number.

    The masked mean of Cheerla & Gevaert (2019). Zeros where nothing is present.
    """

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        total = super().forward(embeddings, present)
        if present is None:
            return total / len(self.projections)
        return total / present.sum(dim=1, keepdim=True).clamp_min(1)


@register("max")
class Max(_Projected):
    """Largest of the present modalities' projected embeddings, feature by feature.

    ``max {(W_k u_k + b_k)_j : m_k = 1}``, as in MultiSurv (Vale-Silva & Rohr 2021), there with
    zero vectors for absent modalities. Zeros where nothing is present.
    """

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        parts = torch.stack(self.project(embeddings, present), dim=1)
        if present is None:
            return parts.amax(dim=1)
        largest = parts.masked_fill(~present[:, :, None], -torch.inf).amax(dim=1)
        return largest.masked_fill(~present.any(dim=1, keepdim=True), 0.0)


@register("product")
class Product(_Projected):
    """Product of the present modalities' projected embeddings: ``prod_k (W_k u_k + b_k)^{m_k}``.

    Constants start at one: the product is then about ``1 + sum_k W_k u_k`` and its gradient does
    not vanish with the number of modalities. Ones where nothing is present.
    """

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__(widths, dim)
        for layer in self.projections:
            nn.init.ones_(layer.bias)  # type: ignore[arg-type]

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        return product(self.project(embeddings, present), present)
