"""Similarity: a patient's modalities are to be more alike than those of different patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmfusion.inputs.parameters import check_choice
from mmfusion.objectives.base import Objective, ObjectiveModule, Source, zero

__all__ = ["CosineMargin", "Similarity", "VarianceRatio"]


@dataclass(eq=False, repr=False)
class Similarity(Objective):
    """Modalities of one row are to be more alike than those of two rows.

    Parameters
    ----------
    weight : float or (float, float), default=0.1
        What the loss is multiplied by; a pair is the weight in the pretraining epochs and after.
    margin : float, default=0.1
        By how much, in cosines ("cosine_margin").
    kind : {"cosine_margin", "variance_ratio"}, default="cosine_margin"
        "cosine_margin" is the loss of Cheerla & Gevaert (2019, Bioinformatics 35:i446);
        "variance_ratio" is what their published code computes instead.
    pretrain_epochs : int, default=0
        First epochs, in which the auxiliary losses are trained without the likelihood.

    See Also
    --------
    CosineMargin, VarianceRatio : The formulas.

    Examples
    --------
    >>> Similarity(weight=0.3)
    Similarity(weight=0.3)
    """

    name: ClassVar[str] = "similarity"

    weight: float | tuple[float, float] = 0.1
    margin: float = 0.1
    kind: str = "cosine_margin"
    pretrain_epochs: int = 0

    def check(self, *, pretraining: bool = False) -> None:
        super().check(pretraining=pretraining)
        check_choice("kind", self.kind, ("cosine_margin", "variance_ratio"), "Similarity")
        self._check_number("margin", 0, 2)

    def check_sources(self, sources: Sequence[Source], batch_rows: int) -> None:
        super().check_sources(sources, batch_rows)
        self._check_one_width(sources)

    def build(self, sources: Sequence[Source], encoders: Sequence[nn.Module]) -> ObjectiveModule:
        return VarianceRatio() if self.kind == "variance_ratio" else CosineMargin(self.margin)


class CosineMargin(ObjectiveModule):
    """``mean over k != l, i != j of max(0, M - cos(h_i^k, h_i^l) + cos(h_i^k, h_j^l))``.

    Over rows i that have modalities k and l, and rows j that have l (Cheerla & Gevaert 2019; they
    sum: a mean lets the weight mean the same in a batch of any size).

    Parameters
    ----------
    margin : float
        M.
    """

    def __init__(self, margin: float = 0.1) -> None:
        super().__init__()
        self.margin = margin

    def forward(
        self,
        embeddings: Sequence[Tensor],
        present: Tensor,
        targets: Mapping[str, Tensor],
        labels: Tensor | None = None,
    ) -> Tensor:
        total, count = zero(embeddings), 0
        rows = [torch.nonzero(column)[:, 0] for column in present.unbind(1)]
        units = [normalize(h[mine], dim=1) for h, mine in zip(embeddings, rows, strict=True)]
        for k, mine in enumerate(units):
            for other, theirs in enumerate(units):
                has_both = present[rows[k], other]
                if k == other or not len(theirs):
                    continue
                cosines = mine[has_both] @ theirs.T
                same = rows[k][has_both][:, None] == rows[other][None, :]
                matched = cosines[same][:, None]  # one a row: both are in the rows' order
                terms = (self.margin - matched + cosines).relu().masked_fill(same, 0.0)
                total = total + terms.sum()
                count += terms.numel() - len(terms)
        return total / max(count, 1)


class VarianceRatio(ObjectiveModule):
    """Spread of a row's modalities about their mean over the spread about the mean of all.

    ``mean_i,d Var_k(h_id^k) / mean_d mean_i,k (h_id^k - mean_i,k h_id^k)^2``, held within 0.02 and
    1, over the rows with at least two modalities (the code of Cheerla & Gevaert 2019, there of
    rows with all).
    """

    def forward(
        self,
        embeddings: Sequence[Tensor],
        present: Tensor,
        targets: Mapping[str, Tensor],
        labels: Tensor | None = None,
    ) -> Tensor:
        several = present.sum(1) >= 2
        if int(several.sum()) < 2:
            return zero(embeddings)
        has = present[several][:, :, None]
        views = torch.stack([h[several] for h in embeddings], dim=1).masked_fill(~has, 0.0)
        counts = has.sum(1)
        own = views.sum(1) / counts
        within = ((views - own[:, None]) ** 2 * has).sum(1) / counts
        everyone = views.sum((0, 1)) / counts.sum()
        total = ((views - everyone) ** 2 * has).sum((0, 1)) / counts.sum()
        tiny = torch.finfo(views.dtype).tiny
        return (within.mean() / total.mean().clamp_min(tiny)).clamp(0.02, 1.0)
