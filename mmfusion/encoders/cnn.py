"""A small convolutional network for small images."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["SmallCNN"]


class SmallCNN(nn.Sequential):
    """Convolution blocks and global average pooling: the encoder ``"cnn"``.

    Each block is a 3 x 3 convolution, group normalisation, SiLU and 2 x 2 max-pooling (as long as
    more than 2 pixels are left). Group normalisation (Wu & He, 2018) and not batch normalisation:
    a row's output does not depend on the rest of its batch, which the risk sets of a survival
    likelihood and exact gradients of chunked batches need.

    Parameters
    ----------
    n_channels : int
    size : (height, width)
        Any; made for 8 to 64 pixels. Three blocks below 32 pixels, else four.

    Examples
    --------
    >>> import torch
    >>> SmallCNN(1, (28, 28))(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 128])
    """

    def __init__(self, n_channels: int, size: tuple[int, int]) -> None:
        side = min(size)
        widths = (32, 64, 128) if side < 32 else (32, 64, 128, 128)
        blocks = []
        for width in widths:
            # The group normalisation that follows has the bias.
            layers = [
                nn.Conv2d(n_channels, width, 3, padding=1, bias=False),
                nn.GroupNorm(8, width),
                nn.SiLU(),
            ]
            if side > 2:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
                side = -(-side // 2)
            blocks.append(nn.Sequential(*layers))
            n_channels = width
        super().__init__(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the feature maps before pooling, (k, channels, height, width)."""
        for block in list(self)[:-2]:  # all but pooling
            images = block(images)
        return images
