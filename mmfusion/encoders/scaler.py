"""Frozen features: standardised, clipped and reduced to principal components."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmfusion.inputs.parameters import is_count, is_number
from mmfusion.inputs.rounding import rounding_of
from mmfusion.modalities._moments import column_moments

__all__ = ["FeatureScaler"]

#: In standard deviations: one image unlike all others does not rule a component.
_CLIP = 5.0
#: Of more rows and columns, the leading components are found by a randomised solver.
LARGE = 1000


class FeatureScaler(nn.Module):
    """Features to mean 0 and standard deviation 1, clipped at 5; then components, if wished.

    Components are divided by one number, the standard deviation of the first, so that their
    relative size is kept (they are not whitened). The largest loading of each is positive.

    Parameters
    ----------
    n_features : int
    n_components : int, float in (0, 1) or None
        That many principal components, or as many as explain that share of the variance.

    Attributes
    ----------
    mean, factor : Tensor, shape (n_features,)
        What is subtracted and what is multiplied by: 0 and 1 until `fit`. The factor of a constant
        feature is 0. All buffers are finite, so that weights can be averaged over steps.
    components : Tensor, shape (n_features, k), or None
        None without components, and before `fit`.

    Raises
    ------
    ValueError
        If `n_components` is not a positive integer, a number in (0, 1) or None.
    """

    mean: Tensor
    factor: Tensor
    components: Tensor | None

    def __init__(self, n_features: int, n_components: int | float | None = None) -> None:
        super().__init__()
        _check_n_components(n_components)
        self.n_components = n_components
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("factor", torch.ones(n_features))
        self.register_buffer("components", None)

    def fit(self, features: Tensor) -> None:
        """Learn centre, spread and components from the training rows' features.

        Parameters
        ----------
        features : Tensor, shape (n_rows, n_features)

        Raises
        ------
        ValueError
            If there are fewer rows or features than components.
        """
        from sklearn.decomposition import PCA  # slow to import, and few need it

        values = features.detach().cpu().double()
        moments = column_moments(values.numpy(), rounding=rounding_of(np.float32))
        sd = torch.from_numpy(moments.sd)
        sd[torch.from_numpy(moments.constant)] = torch.inf
        sd[sd < torch.finfo(torch.float32).tiny] = torch.inf
        self.mean.copy_(torch.from_numpy(moments.mean))
        self.factor.copy_(1.0 / sd)
        if self.n_components is None:
            return
        n_rows, n_features = values.shape
        most = min(n_rows, n_features)
        if isinstance(self.n_components, Integral) and self.n_components > most:
            raise ValueError(
                f"The n_components parameter of Image must be at most {most}, the smaller of the "
                f"training rows with images ({n_rows}) and the encoder's features "
                f"({n_features}). Got {self.n_components}."
            )
        standard = ((values - self.mean.cpu()) * self.factor.cpu()).clamp(-_CLIP, _CLIP)
        # The covariance is the smaller matrix where rows are many; both solvers are exact, but take
        # minutes of thousands of rows and columns.
        solver = "covariance_eigh" if n_rows > n_features else "full"
        if most > LARGE and isinstance(self.n_components, Integral):
            solver = "randomized"
        pca = PCA(self.n_components, svd_solver=solver, random_state=0).fit(standard.numpy())
        first = max(float(pca.explained_variance_[0]) ** 0.5, torch.finfo(torch.float32).tiny)
        loadings = torch.from_numpy(pca.components_.T.copy()) / first
        self.components = loadings.to(self.mean)

    def silence(self) -> None:
        """Say 0 from now on, whatever the features are."""
        self.factor.zero_()

    def forward(self, features: Tensor) -> Tensor:
        """Return the scaled features, shape (batch, n_features) or (batch, k)."""
        scaled = (features - self.mean).mul_(self.factor).clamp_(-_CLIP, _CLIP)
        if self.n_components is None:
            return scaled
        if self.components is None:
            raise RuntimeError("fit_features must see the training rows before project is called.")
        return scaled @ self.components

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        stored = state_dict.get(f"{prefix}components")
        if stored is not None and self.n_components is not None:
            self.components = torch.empty_like(stored, device=self.mean.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _check_n_components(n_components: Any) -> None:
    if n_components is None:
        return
    share = is_number(n_components) and 0 < float(n_components) < 1
    if not is_count(n_components) and not share:
        raise ValueError(
            "The n_components parameter of Image must be a positive integer, a share in (0, 1) or "
            f"None. Got {n_components!r}."
        )
