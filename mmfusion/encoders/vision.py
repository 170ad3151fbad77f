"""Encoders of images: normalisation, a backbone, the mean over a row's images, a projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import torch
from torch import Tensor, nn

from mmfusion.encoders.attention_pool import GatedAttention
from mmfusion.encoders.base import Encoder
from mmfusion.encoders.lone import lone_row
from mmfusion.encoders.own import output_width
from mmfusion.encoders.scaler import FeatureScaler
from mmfusion.encoders.stages import freeze_stages, frozen_parts

__all__ = ["VisionEncoder"]


class VisionEncoder(Encoder):
    """Any backbone that maps images (k, channels, height, width) to (k, f).

    Several images of a row are encoded each and averaged, or weighted by attention. A backbone
    without a trained parameter is frozen: it stays in evaluation mode, its features can be kept,
    and they are standardised (and reduced to `n_components`) as `fit_features` learns from the
    training rows.

    Parameters
    ----------
    backbone : torch.nn.Module
    n_channels : int
    size : (height, width)
    width : int or None
        Width of the embedding; None: features are the embedding, with no projection.
    mean, std : sequence of float
        What the backbone expects its inputs (in [0, 1]) to be normalised by: one value, or one a
        channel. Of three values for grey images the average is taken.
    freeze : None, "all" or int
        See `mmfusion.encoders.stages.freeze_stages`.
    n_components : int, float or None
        Principal components of a frozen backbone's features.
    dropout : float
        After the projection.
    lr_scale : float
        The backbone's learning rate as a multiple of the rest's.
    attention : bool
        Whether a row's images are weighted by `GatedAttention`: features are then learned, and none
        are kept, also of a frozen backbone.

    Attributes
    ----------
    backbone : torch.nn.Module
    mean, std : Tensor, shape (channels, 1, 1)

    Raises
    ------
    TypeError, ValueError
        If the backbone cannot read such images or returns something else than (k, f); if `freeze`
        or `n_components` is none of the above; if `n_components` is given and the backbone is
        trained, or is a share and `width` None (the width must be known beforehand).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        n_channels: int,
        size: tuple[int, int],
        width: int | None,
        *,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.5,),
        freeze: Any = None,
        n_components: int | float | None = None,
        dropout: float = 0.0,
        lr_scale: float = 1.0,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.feature_width = output_width(backbone, (n_channels, *size))
        self.backbone = backbone
        self.register_buffer("mean", _per_channel(mean, n_channels))
        self.register_buffer("std", _per_channel(std, n_channels))
        freeze_stages(backbone, freeze)
        self._held = frozen_parts(backbone)
        self.attention = GatedAttention(self.feature_width) if attention else None
        self.frozen = self._held == [backbone] and not attention
        if n_components is not None and attention:
            raise ValueError(
                "The n_components parameter of Image is of features that are not learned, and "
                f"pool='attention' learns them. Got n_components={n_components!r}."
            )
        if n_components is not None and not self.frozen:
            raise ValueError(
                "The n_components parameter of Image needs freeze='all': components of features "
                f"that go on changing mean nothing. Got n_components={n_components!r}."
            )
        self.scaler = FeatureScaler(self.feature_width, n_components) if self.frozen else None
        self.lr_scale = lr_scale
        self.dropout = dropout
        self.projection: nn.Sequential | None = None
        if width is not None:
            self.width = width
            if n_components is None:  # else its input width is known after fit_features
                self._make_projection(self.feature_width)
        elif n_components is None or isinstance(n_components, Integral):
            self.width = int(n_components or self.feature_width)
        else:
            raise ValueError(
                "The n_components parameter of Image must be an integer for early fusion. "
                f"Got {n_components!r}."
            )
        self._projects = width is not None
        self.train(self.training)

    def _make_projection(self, n_inputs: int) -> None:
        layers: list[nn.Module] = [nn.Linear(n_inputs, self.width), nn.SiLU()]
        if self.dropout:
            layers.append(nn.Dropout(self.dropout))
        self.projection = nn.Sequential(*layers).to(self.mean)
        self.projection.train(self.training)

    def features(self, pixels: Tensor, owner: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return the features of the rows.

        Parameters
        ----------
        pixels : Tensor, shape (k, channels, height, width)
            uint8, or float in [0, 1].
        owner : Tensor of int64, shape (k,), optional
            The row of each image, 0, 1, ..., each with an image at least; by default image i is
            row i.

        Returns
        -------
        Tensor, shape (batch, feature_width)
        """
        wanted = pixels.requires_grad or not self.frozen  # of pixels: what they are worth is asked
        with torch.set_grad_enabled(torch.is_grad_enabled() and wanted):
            # Not in half precision, whatever the backbone ran in: a mean of many images loses bits.
            encoded = self._run(self._normalise(pixels)).to(self.mean.dtype)
            if owner is None:
                return encoded
            counts = torch.bincount(owner)
            total = encoded.new_zeros(len(counts), encoded.shape[1])
            if self.attention is not None:
                weights = self.attention(encoded, owner)
                return total.index_add(0, owner, weights[:, None] * encoded)
            return total.index_add(0, owner, encoded) / counts[:, None]

    def _normalise(self, pixels: Tensor) -> Tensor:
        scale = 255.0 if pixels.dtype == torch.uint8 else 1.0
        return pixels.to(self.mean.dtype).sub(self.mean * scale).div_(self.std * scale)

    def _run(self, images: Tensor) -> Tensor:
        with lone_row(self.backbone, images):
            return self._backbone_output(images)

    def _backbone_output(self, images: Tensor) -> Tensor:
        return self.backbone(images)

    def fit_features(self, features: Tensor) -> None:
        """Learn the scale and the components of the training rows' features (if frozen).

        Parameters
        ----------
        features : Tensor, shape (n_rows, feature_width)
            What `features` returned for the training rows that have the modality.

        Raises
        ------
        ValueError
            If there are fewer rows or features than components.
        """
        if self.scaler is None:
            return
        self.scaler.fit(features)
        if self._projects and self.scaler.components is not None:
            self._make_projection(self.scaler.components.shape[1])

    def project(self, features: Tensor) -> Tensor:
        if self.scaler is not None:
            features = self.scaler(features)
        return features if self.projection is None else self.projection(features)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for part in self._held:
            part.eval()
        return self

    def parameter_groups(self) -> list[dict[str, Any]]:
        mine = [p for p in self.backbone.parameters() if p.requires_grad]
        rest = [] if self.projection is None else list(self.projection.parameters())
        rest += [] if self.attention is None else list(self.attention.parameters())
        groups: list[dict[str, Any]] = [
            {"params": mine, "lr_scale": self.lr_scale},
            {"params": rest},
        ]
        return [group for group in groups if group["params"]]

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # Called before the children load: how many components a share of the variance takes is
        # known only by what is stored.
        stored = state_dict.get(f"{prefix}projection.0.weight")
        if stored is not None and self.scaler is not None and self.scaler.n_components is not None:
            held = None if self.projection is None else self.projection.get_parameter("0.weight")
            if held is None or held.shape != stored.shape:
                self._make_projection(stored.shape[1])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _per_channel(values: Sequence[float], n_channels: int) -> Tensor:
    tensor = torch.tensor(values, dtype=torch.float32)
    if len(tensor) not in (1, n_channels):
        tensor = tensor.mean(0, keepdim=True)
    return tensor.expand(n_channels)[:, None, None].clone()
