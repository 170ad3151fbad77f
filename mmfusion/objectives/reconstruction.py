"""Reconstruction: an embedding is to tell what the modality held, its own or every other's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy

from mmfusion.inputs.parameters import check_hidden
from mmfusion.objectives.base import Objective, ObjectiveModule, Source, scatter, zero

__all__ = ["Decoders", "Reconstruction"]

#: Side of what is reconstructed of an image: a mean over each field of a grid.
IMAGE_SIDE = 16


@dataclass(eq=False, repr=False)
class Reconstruction(Objective):
    """A decoder a modality tells its inputs from its embedding, or from those of all others.

    What is reconstructed is what the encoder reads: standardised numbers (an imputed one as
    imputed) and indicators by squared error, categories by cross-entropy (an unknown one is left
    out), the scaled features or components of a frozen image encoder; of an image whose encoder is
    trained, its pixels in [-1, 1], averaged over a grid of at most 16 x 16 fields and over the
    images of a row.

    Parameters
    ----------
    weight : float or (float, float), default=0.1
        What the loss is multiplied by; a pair is the weight in the pretraining epochs and after.
    cross : bool, default=False
        Each modality also from the embedding of every other one, by the same decoder: CrossAE of
        Tong, Mitchel, Chatlin & Wang (2020). False is their ConcatAE.
    hidden : tuple of int, default=(64,)
        Widths of the layers (SiLU) of each decoder.
    pretrain_epochs : int, default=0
        First epochs, in which the auxiliary losses are trained without the likelihood.

    See Also
    --------
    Decoders : The formula.

    Examples
    --------
    >>> Reconstruction(cross=True, pretrain_epochs=10)
    Reconstruction(cross=True, pretrain_epochs=10)
    """

    name: ClassVar[str] = "reconstruction"

    weight: float | tuple[float, float] = 0.1
    cross: bool = False
    hidden: Sequence[int] = (64,)
    pretrain_epochs: int = 0

    @property
    def fewest(self) -> int:
        return 2 if self.cross else 1

    def check(self, *, pretraining: bool = False) -> None:
        super().check(pretraining=pretraining)
        if not isinstance(self.cross, bool):
            raise ValueError(
                f"The cross parameter of Reconstruction must be True or False. Got {self.cross!r}."
            )
        check_hidden("Reconstruction", self.hidden)

    def check_sources(self, sources: Sequence[Source], batch_rows: int) -> None:
        super().check_sources(sources, batch_rows)
        others = [s.name for s in sources if not _n_numbers(s) and not s.cardinalities]
        if others:
            raise ValueError(
                f"{self!r} reconstructs tables and images. Got modalities of another kind: "
                f"{others}."
            )
        if self.cross:
            self._check_one_width(sources)

    def build(self, sources: Sequence[Source], encoders: Sequence[nn.Module]) -> ObjectiveModule:
        return Decoders(sources, self.hidden, self.cross)


class Decoders(ObjectiveModule):
    """``mean over (k, l) of mean_i error(p_k(z_i^l), x_i^k)``, for l = k, or with `cross` all l.

    Over the rows i that have both. The error of a row is the mean over the columns of x of the
    squared error of a number and the cross-entropy of a category. (Tong et al. 2020 sum over
    (k, l); a mean lets the weight mean the same for any number of modalities.)

    Parameters
    ----------
    sources : sequence of Source
    hidden : sequence of int
    cross : bool
    """

    def __init__(self, sources: Sequence[Source], hidden: Sequence[int], cross: bool) -> None:
        super().__init__()
        self.sources = tuple(sources)
        self.cross = cross
        self.decoders = nn.ModuleList(
            _decoder(s.width, hidden, _n_numbers(s) + sum(s.cardinalities)) for s in sources
        )

    @torch.no_grad()
    def targets(
        self, inputs: Mapping[str, tuple[Tensor, ...]], present: Tensor
    ) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for k, source in enumerate(self.sources):
            mine = inputs.get(source.name)
            if mine is None:
                shape = (len(present), _n_numbers(source))
                found[f"{k}/numbers"] = torch.zeros(shape, device=present.device)
            else:
                found[f"{k}/numbers"] = scatter(_numbers(source, mine), present[:, k])
            if source.cardinalities:
                codes = present.new_zeros(0, len(source.cardinalities)).long()
                there = present[:, k] if mine is not None else torch.zeros_like(present[:, k])
                found[f"{k}/codes"] = scatter(codes if mine is None else mine[1], there)
        return found

    def forward(
        self,
        embeddings: Sequence[Tensor],
        present: Tensor,
        targets: Mapping[str, Tensor],
        labels: Tensor | None = None,
    ) -> Tensor:
        total, count = zero(embeddings), 0
        for k in range(len(self.sources)):
            for other, embedding in enumerate(embeddings):
                rows = present[:, k] & present[:, other]
                if (k == other or self.cross) and bool(rows.any()):
                    of_rows = {key: value[rows] for key, value in targets.items()}
                    total = total + self._error(k, self.decoders[k](embedding[rows]), of_rows)
                    count += 1
        return total / max(count, 1)

    def _error(self, k: int, decoded: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        cardinalities = self.sources[k].cardinalities
        numbers = targets[f"{k}/numbers"].to(decoded.dtype)
        n = numbers.shape[1]
        wrong = ((decoded[:, :n] - numbers) ** 2).sum()
        if cardinalities:
            codes = targets[f"{k}/codes"]
            for column, logits in enumerate(decoded[:, n:].split(cardinalities, dim=1)):
                wrong = wrong + cross_entropy(
                    logits, codes[:, column], ignore_index=0, reduction="sum"
                )
        return wrong / (len(decoded) * (n + len(cardinalities)))


def _decoder(width: int, hidden: Sequence[int], n_outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for following in hidden:
        layers += [nn.Linear(width, following), nn.SiLU()]
        width = following
    return nn.Sequential(*layers, nn.Linear(width, n_outputs))


def _grid(source: Source) -> tuple[int, int]:
    assert source.image is not None
    return min(source.image[1], IMAGE_SIDE), min(source.image[2], IMAGE_SIDE)


def _n_numbers(source: Source) -> int:
    if source.image is None:
        return source.n_numeric
    height, width = _grid(source)
    return source.image[0] * height * width


def _numbers(source: Source, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return the numbers to reconstruct of the rows that have the modality."""
    if source.scale is not None:
        return source.scale(inputs[0])
    if source.image is None:
        return inputs[0]
    pixels = inputs[0].float() / (255.0 if inputs[0].dtype == torch.uint8 else 1.0)
    small = 2.0 * adaptive_avg_pool2d(pixels, _grid(source)).flatten(1) - 1.0
    if len(inputs) == 1:
        return small
    owner = inputs[1]
    counts = torch.bincount(owner)
    total = small.new_zeros(len(counts), small.shape[1]).index_add(0, owner, small)
    return total / counts[:, None]
