"""A modality as one vector of features, reduced before any network sees it: early fusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mmfusion.encoders.base import Encoder
from mmfusion.encoders.scaler import FeatureScaler
from mmfusion.inputs.rounding import is_constant

__all__ = ["OneHotEncoder", "ReducedEncoder"]


class OneHotEncoder(Encoder):
    """Numbers beside a column 0/1 for each known category: a table without anything to train.

    Parameters
    ----------
    n_numeric : int
    cardinalities : sequence of int
        Number of codes of each category; code 0 ("unknown or missing") is all zeros.
    """

    frozen = True

    def __init__(self, n_numeric: int, cardinalities: Sequence[int]) -> None:
        super().__init__()
        self.cardinalities = tuple(cardinalities)
        self.feature_width = n_numeric + sum(codes - 1 for codes in cardinalities)
        self.width = self.feature_width

    def features(self, numeric: Tensor, categories: Tensor | None = None) -> Tensor:  # type: ignore[override]
        if categories is None:
            return numeric
        bits = [
            functional.one_hot(categories[:, i], codes)[:, 1:].to(numeric.dtype)
            for i, codes in enumerate(self.cardinalities)
        ]
        return torch.cat([numeric, *bits], dim=1)


class ReducedEncoder(Encoder):
    """The features of a frozen encoder, standardised, then their components or the best of them.

    Parameters
    ----------
    source : Encoder
        Frozen; its own scale and components come first.
    reduce : {"pca", "features"}
        Principal components (of the standardised features, the largest loading of each positive,
        all divided by the standard deviation of the first), or the features that say most of the
        outcome by `relevance`.
    n_components : int or float
        That many, or all where there are fewer; in (0, 1) as many components as explain that share
        of the variance, or that share of the features.

    Attributes
    ----------
    width : int
        0 until `fit_features`, or until weights are loaded.
    chosen : Tensor of int64, shape (width,)
        Positions of the features that are kept, ascending; all of them with "pca".

    Notes
    -----
    All is learned by `fit_features` from the training rows that have the modality, and nothing is
    trained.
    """

    frozen = True
    chosen: Tensor

    def __init__(self, source: Encoder, reduce: str, n_components: int | float) -> None:
        super().__init__()
        self.source = source
        self.reduce = reduce
        self.n_components = n_components
        self.feature_width = source.feature_width
        self.width = 0
        self.register_buffer("chosen", torch.zeros(0, dtype=torch.int64))
        self.scaler: FeatureScaler | None = None

    def features(self, *inputs: Tensor) -> Tensor:
        return self.source.features(*inputs)

    def fit_features(
        self, features: Tensor, relevance: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Learn scale, and components or choice, from the training rows' features.

        Parameters
        ----------
        features : Tensor, shape (n_rows, feature_width)
        relevance : callable (Tensor of shape (n_rows, p)) -> Tensor of shape (p,)
            How much each feature says of the outcome; for "features".
        """
        self.source.fit_features(features)
        values = self.source.project(features)
        self.chosen = torch.arange(values.shape[1])
        if self.reduce == "features":
            assert relevance is not None
            scores = relevance(values)
            best = torch.argsort(scores, descending=True, stable=True)
            self.chosen = best[: self._count(values.shape[1])].sort().values
        values = values[:, self.chosen]
        varies = not is_constant(
            values.cpu().float().numpy()
        ).all()  # of one row there are no directions
        if not varies:
            self.chosen = self.chosen[:1]
            values = values[:, :1]
        self._scale(values.shape[1], min(values.shape) if varies else 0)
        assert self.scaler is not None
        self.scaler.fit(values)
        self._measure()

    def _count(self, n_features: int) -> int:
        if isinstance(self.n_components, Integral):
            return min(int(self.n_components), n_features)
        return max(1, round(self.n_components * n_features))

    def _scale(self, n_features: int, most: int) -> None:
        wished = None
        if self.reduce == "pca" and most > 0:
            whole = isinstance(self.n_components, Integral)
            wished = min(int(self.n_components), most) if whole else self.n_components
        self.scaler = FeatureScaler(n_features, wished)

    def _measure(self) -> None:
        assert self.scaler is not None
        components = self.scaler.components
        self.width = len(self.chosen) if components is None else components.shape[1]

    def project(self, features: Tensor) -> Tensor:
        if self.scaler is None:
            raise RuntimeError("fit_features must see the training rows before project is called.")
        return self.scaler(self.source.project(features)[:, self.chosen])

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # Called before the children load: how many features there are is known by what is stored.
        chosen = state_dict[f"{prefix}chosen"]
        self.chosen = torch.empty_like(chosen)
        stored = state_dict.get(f"{prefix}scaler.components")
        self._scale(len(chosen), 0 if stored is None else len(chosen))
        self.width = len(chosen) if stored is None else stored.shape[1]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
