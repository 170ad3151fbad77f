"""Feature by feature: sum, mean, maximum, product."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfusion.fusion.base import FusionOperator, Part, register
from mmfusion.fusion.operators._masks import apply, neutral, product

__all__ = ["Max", "Mean", "Product", "Sum"]


class _Elementwise(FusionOperator):
    """Of embeddings of one width, ``h_k = W_k u_k + b_k``, or ``h_k = u_k`` if not projected."""

    def __init__(self, widths: Sequence[int], dim: int, *, project: bool = True) -> None:
        super().__init__(widths, dim)
        if not isinstance(project, bool):
            raise ValueError(f"The project option of JointFusion must be a bool. Got {project!r}.")
        if not project and len(set(widths)) > 1:
            raise ValueError(
                "The project option of JointFusion may be False only where the embeddings of all "
                f"modalities have one width. Got widths {tuple(widths)}."
            )
        self.projections = (
            nn.ModuleList(nn.Linear(width, dim) for width in widths) if project else None
        )
        self.width = dim if project else widths[0]

    def project(self, embeddings: Sequence[Part], present: Tensor | None) -> list[Tensor]:
        parts = neutral(embeddings, present)
        return parts if self.projections is None else apply(self.projections, parts)


@register("sum")
class Sum(_Elementwise):
    """Sum of the embeddings of the present modalities: ``sum_k m_k h_k``, ``h_k = W_k u_k + b_k``.

    Parameters
    ----------
    widths, dim
        See `FusionOperator`.
    project : bool, default=True
        False: ``h_k = u_k``; the embeddings must have one width, and `dim` is not used.
    """

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        first, *rest = neutral(self.project(embeddings, present), present)
        for part in rest:
            first = first + part
        return first


@register("mean")
class Mean(Sum):
    """Mean of the embeddings of the present modalities: the sum over their number.

    The masked mean of Cheerla & Gevaert (2019), theirs with ``project=False`` (see `Sum`). Zeros
    where nothing is present.
    """

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        total = super().forward(embeddings, present)
        if present is None:
            return total / len(embeddings)
        return total / present.sum(dim=1, keepdim=True).clamp_min(1)


@register("max")
class Max(_Elementwise):
    """Largest of the present modalities' embeddings, feature by feature.

    ``max {h_kj : m_k = 1}`` (`Sum` has the option), as in MultiSurv (Vale-Silva & Rohr 2021), there
    with zero vectors for absent modalities. Zeros where nothing is present.
    """

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        parts = torch.stack(self.project(embeddings, present), dim=1)
        if present is None:
            return parts.amax(dim=1)
        largest = parts.masked_fill(~present[:, :, None], -torch.inf).amax(dim=1)
        return largest.masked_fill(~present.any(dim=1, keepdim=True), 0.0)


@register("product")
class Product(_Elementwise):
    """Product of the present modalities' embeddings: ``prod_k h_k^{m_k}`` (`Sum` has the option).

    Constants of projections start at one: the product is then about ``1 + sum_k W_k u_k`` and its
    gradient does not vanish with the number of modalities. Ones where nothing is present.
    """

    def __init__(self, widths: Sequence[int], dim: int, *, project: bool = True) -> None:
        super().__init__(widths, dim, project=project)
        for layer in self.projections or ():
            nn.init.ones_(layer.bias)  # type: ignore[arg-type]

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        return product(self.project(embeddings, present), present)
