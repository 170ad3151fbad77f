"""What an encoder promises: one modality's tensors in, an embedding out."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["Encoder"]


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
    """

    feature_width: int
    width: int
    frozen: bool = False

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
