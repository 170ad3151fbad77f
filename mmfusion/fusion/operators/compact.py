"""The outer product in a sketch of fixed size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmfusion.fusion.base import FusionOperator, Part, register
from mmfusion.fusion.operators._masks import neutral, positive

__all__ = ["CompactBilinear"]

#: Rounds off the square root at zero, where its slope is infinite.
_EPS = 1e-3


@register("compact_bilinear")
class CompactBilinear(FusionOperator):
    """Count sketch of the outer product of all modalities, by way of the Fourier transform.

    A count sketch ``Ψ_k(u)_j = sum_{i: h_k(i) = j} s_k(i) u_i`` adds up features with random signs
    in random places; the circular convolution of two sketches is a sketch of the outer product,
    ``irfft(prod_k rfft(Ψ_k(u_k)))`` (Fukui, Park, Yang, Rohrbach, Darrell & Rohrbach 2016,
    algorithm 1), so that inner products of sketches are unbiased for those of outer products:
    ``E <z(u, v), z(u', v')> = <u, u'> <v, v'>``. Then, as there, the signed square root and
    division by the norm; here ``z / sqrt(|z| + 0.001)``, smooth at zero, and times
    ``sqrt(size)``, so that features are of order one. The transform of an absent modality is one
    (its sketch a unit impulse), which leaves the sketch of the others.

    Parameters
    ----------
    widths, dim
        See `FusionOperator`; `dim` is not used.
    size : int, default=256
        Of the sketch.

    Attributes
    ----------
    sketch_0, sketch_1, ... : Tensor, shape (widths[k], size)
        Of each row one entry, ``s_k(i)`` in column ``h_k(i)``, is not zero. Drawn once from
        torch's global generator and kept with the weights.
    """

    def __init__(self, widths: Sequence[int], dim: int = 0, *, size: int = 256) -> None:
        super().__init__(widths, dim)
        self.width = positive("size", size)
        for k, width in enumerate(widths):
            places = torch.randint(self.width, (width, 1))
            signs = torch.randint(2, (width, 1)) * 2.0 - 1.0
            sketch = torch.zeros(width, self.width).scatter_(1, places, signs)
            self.register_buffer(f"sketch_{k}", sketch)

    def sketch(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        """Return the sketch of the outer product of what is present, (batch, size)."""
        parts = neutral(embeddings, present)
        # Fourier transforms know no half precision.
        with torch.autocast(parts[0].device.type, enabled=False):
            transforms = []
            for k, part in enumerate(parts):
                basis = self.get_buffer(f"sketch_{k}")
                transforms.append(torch.fft.rfft(part.to(basis.dtype) @ basis))
            first, *rest = neutral(transforms, present, 1.0)
            for transform in rest:
                first = first * transform
            return torch.fft.irfft(first, n=self.width)

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        sketch = self.sketch(embeddings, present)
        root = sketch * (sketch.abs() + _EPS).rsqrt()
        return root * ((root * root).mean(dim=1, keepdim=True) + _EPS).rsqrt()
