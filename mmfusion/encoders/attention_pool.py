"""Pooling of a row's images by learned weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["GatedAttention"]

#: Width of the layer that scores an image.
HIDDEN = 128


class GatedAttention(nn.Module):
    """The weight of each image among those of its row (Ilse, Tomczak & Welling 2018, eq. 9).

    ``softmax_k w' (tanh(V h_k) * sigmoid(U h_k))`` over the images k of a row, of their features h.

    Parameters
    ----------
    n_features : int

    Examples
    --------
    >>> import torch
    >>> pool = GatedAttention(4)
    >>> weights = pool(torch.randn(3, 4), torch.tensor([0, 0, 1]))
    >>> weights[2].item()  # alone in its row
    1.0
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.content = nn.Linear(n_features, HIDDEN)
        self.gate = nn.Linear(n_features, HIDDEN)
        self.score = nn.Linear(HIDDEN, 1, bias=False)

    def forward(self, features: Tensor, owner: Tensor) -> Tensor:
        """Return the weights, shape (k,), which sum to 1 over each row.

        Parameters
        ----------
        features : Tensor, shape (k, n_features)
        owner : Tensor of int64, shape (k,)
            The row of each image: 0, 1, ...
        """
        gated = torch.tanh(self.content(features)) * torch.sigmoid(self.gate(features))
        score = self.score(gated)[:, 0]
        n = int(owner.max()) + 1
        top = score.new_full((n,), -torch.inf).scatter_reduce(0, owner, score.detach(), "amax")
        weight = torch.exp(score - top[owner])
        return weight / weight.new_zeros(n).index_add(0, owner, weight)[owner]
