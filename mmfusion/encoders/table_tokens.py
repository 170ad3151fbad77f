"""A table as tokens: one a column."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmfusion.encoders.base import TokenEncoder

__all__ = ["TableTokenEncoder"]

#: Columns of numbers beyond these share tokens: attention's cost grows with their square.
MAX_TOKENS = 64


class TableTokenEncoder(TokenEncoder):
    """One token a column, ``x_j w_j + b_j`` or ``e_j[code] + b_j``: the encoder ``"tokens"``.

    The feature tokeniser of Gorishniy, Rubachev, Khrulkov & Babenko (2021, section 3.3). More
    than 64 columns of numbers are taken in groups of equal size, in their order, each group a
    token: the sum of its columns' and one constant. The embedding is the mean of the tokens,
    linear in the numbers.

    Parameters
    ----------
    n_numeric : int
        Columns of numbers; may be 0.
    cardinalities : sequence of int
        Number of codes of each category, code 0 ("unknown or missing") included.
    width : int
        Of a token.
    """

    def __init__(self, n_numeric: int, cardinalities: Sequence[int], width: int) -> None:
        super().__init__()
        self.group = -(-n_numeric // MAX_TOKENS)  # columns a token
        n_groups = -(-n_numeric // self.group) if n_numeric else 0
        self.padding = n_groups * self.group - n_numeric
        self.weight: nn.Parameter | None = None
        if n_numeric:
            weight = torch.randn(n_groups, self.group, width)
            self.weight = nn.Parameter(weight * self.group**-0.5)
        self.bias = nn.Parameter(torch.randn(n_groups + len(cardinalities), width))
        tables = [nn.Embedding(codes, width) for codes in cardinalities]
        for table in tables:
            nn.init.zeros_(table.weight[0])  # a category first met at prediction is neutral
        self.embeddings = nn.ModuleList(tables)
        self.feature_width = self.width = width

    def tokens(  # type: ignore[override]
        self, numeric: Tensor, categories: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        parts = []
        if self.weight is not None:
            groups = F.pad(numeric, (0, self.padding)).unflatten(1, (-1, self.group))
            parts.append(torch.einsum("bgs,gsw->bgw", groups, self.weight))
        if categories is not None:
            found = [table(categories[:, i]) for i, table in enumerate(self.embeddings)]
            parts.append(torch.stack(found, dim=1))
        return torch.cat(parts, dim=1) + self.bias, None
