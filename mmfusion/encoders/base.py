"""What an encoder promises: one modality's tensors in, an embedding out."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["Encoder", "TokenEncoder"]


class Encoder(nn.Module):
    """One modality's tensors -> an embedding of each row.

    An encoder has two halves, so that a frozen backbone runs once a row and fit and its features
    are kept: `features` (the backbone, pooled to one vector a row) and `project` (what is always
    trained). ``forward`` is one after the other.

    Attributes
    ----------
    feature_width : int
        Width of what `features` returns.
    width : int
        Width of what `project` and ``forward`` return.
    frozen : bool
        True where no parameter of `features` is trained, so that features can be kept.
    has_tokens : bool
        Whether it is a `TokenEncoder`.
    """

    feature_width: int
    width: int
    frozen: bool = False
    has_tokens: bool = False

    def features(self, *inputs: Tensor) -> Tensor:
        """Return the features of the rows, shape (batch, feature_width)."""
        raise NotImplementedError

    def fit_features(self, features: Tensor) -> None:
        """Learn from the training rows' features (frozen encoders only); nothing by default."""

    def project(self, features: Tensor) -> Tensor:
        """Return the embedding of features, shape (batch, width)."""
        return features

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the embedding of the rows, shape (batch, width)."""
        return self.project(self.features(*inputs))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters in groups; a group may carry ``lr_scale`` (1 if absent)."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]


class TokenEncoder(Encoder):
    """An encoder that makes a set of tokens of each row; their mean is the row's embedding."""

    has_tokens = True

    def tokens(self, *inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the tokens of the rows, and which are there.

        Returns
        -------
        tokens : Tensor, shape (batch, length, width)
        there : Tensor of bool, shape (batch, length), or None
            False where rows have fewer tokens than the longest; None where every token is there.
        """
        raise NotImplementedError

    def pool(self, tokens: Tensor, there: Tensor | None) -> Tensor:
        """Return the mean of the tokens that are there, (batch, width); zeros where none is."""
        if there is None:
            return tokens.mean(dim=1)
        total = tokens.masked_fill(~there[:, :, None], 0.0).sum(dim=1)
        return total / there.sum(dim=1, keepdim=True).clamp_min(1)

    def features(self, *inputs: Tensor) -> Tensor:
        return self.pool(*self.tokens(*inputs))
