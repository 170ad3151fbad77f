"""A wide table as its leading components, for an encoder that could not carry its columns."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from mmfusion.encoders.base import Encoder
from mmfusion.encoders.scaler import FeatureScaler

__all__ = ["ComponentsEncoder"]


class ComponentsEncoder(Encoder):
    """The principal components of a table's numbers, in front of another encoder.

    Parameters
    ----------
    source : Encoder
        Of a table whose numbers are the components.
    n_numeric : int
        Numbers of the table.
    n_components : int

    Notes
    -----
    The components are learned by `fit_numbers` from the training rows, and not trained. Where rows
    or columns are fewer, the last components are zeros.
    """

    def __init__(self, source: Encoder, n_numeric: int, n_components: int) -> None:
        super().__init__()
        self.source = source
        self.scaler = FeatureScaler(n_numeric, n_components)
        self.n_components = n_components
        self.feature_width, self.width = source.feature_width, source.width

    def fit_numbers(self, numeric: Tensor) -> None:
        """Learn scale and components from the training rows' numbers, (n_rows, n_numeric)."""
        self.scaler.n_components = min(self.n_components, *numeric.shape)
        self.scaler.fit(numeric)

    def take(self, numeric: Tensor) -> Tensor:
        """Return the components of a table's numbers, (n_rows, n_components)."""
        found = self.scaler(numeric)
        return functional.pad(found, (0, self.n_components - found.shape[1]))

    def features(self, *inputs: Tensor) -> Tensor:
        numeric, *rest = inputs
        # Components that were taken once, for all steps of a training, are as wide as they are.
        taken = numeric.shape[1] == self.n_components
        return self.source.features(numeric if taken else self.take(numeric), *rest)

    def project(self, features: Tensor) -> Tensor:
        return self.source.project(features)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return self.source.parameter_groups()
