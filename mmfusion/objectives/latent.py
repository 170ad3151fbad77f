"""Latent prediction: from one modality, what a slow teacher says of another."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from mmfusion.objectives.base import Objective, ObjectiveModule, Source, scatter, zero

__all__ = ["LatentPrediction", "TeacherPrediction"]


@dataclass(eq=False, repr=False)
class LatentPrediction(Objective):
    """Each modality is to predict a teacher's embedding of every other one; no negatives.

    The teacher is an exponential moving average of the encoders (Grill et al. 2020, BYOL; Baevski
    et al. 2022, data2vec); the other modality of the row is the second view.

    Parameters
    ----------
    weight : float or (float, float), default=0.1
        What the loss is multiplied by; a pair is the weight in the pretraining epochs and after.
    momentum : float in [0, 1], default=0.99
        Share of itself that the teacher keeps in a step.
    hidden : int, default=64
        Width of the hidden layer of each predictor.
    pretrain_epochs : int, default=0
        First epochs, in which the auxiliary losses are trained without the likelihood.

    See Also
    --------
    TeacherPrediction : The formula.
    """

    name: ClassVar[str] = "latent_prediction"

    weight: float | tuple[float, float] = 0.1
    momentum: float = 0.99
    hidden: int = 64
    pretrain_epochs: int = 0

    def check(self, *, pretraining: bool = False) -> None:
        super().check(pretraining=pretraining)
        self._check_number("momentum", 0, 1)
        self._check_number("hidden", 1, integer=True)

    def build(self, sources: Sequence[Source], encoders: Sequence[nn.Module]) -> ObjectiveModule:
        return TeacherPrediction(sources, encoders, self.momentum, self.hidden)


class TeacherPrediction(ObjectiveModule):
    """``mean over k != l, i of 2 - 2 cos(q_kl(z_i^k), sg(z'_i^l))``, z' a teacher's embedding.

    Over the rows i that have modalities k and l (Grill et al. 2020, eq. 2, symmetrised); sg lets no
    gradient through. After each step of the optimiser the teacher's weights x follow the encoders'
    weights w: ``x <- m x + (1 - m) w``. It is in evaluation mode: no dropout. A predictor q_kl has
    one hidden layer (SiLU).

    Parameters
    ----------
    sources : sequence of Source
    encoders : sequence of Encoder
        The teacher starts as a copy of them.
    momentum : float
        m.
    hidden : int
        Width of the predictors' hidden layer.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        encoders: Sequence[nn.Module],
        momentum: float,
        hidden: int,
    ) -> None:
        super().__init__()
        self.sources = tuple(sources)
        self.momentum = momentum
        self.teachers: Any = nn.ModuleList(_follower(encoder) for encoder in encoders).eval()
        n = len(self.sources)
        self.directions = [(k, other) for k in range(n) for other in range(n) if k != other]
        self.predictors = nn.ModuleList(
            nn.Sequential(
                nn.Linear(sources[k].width, hidden),
                nn.SiLU(),
                nn.Linear(hidden, sources[other].width),
            )
            for k, other in self.directions
        )

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.teachers.eval()
        return self

    @torch.no_grad()
    def targets(
        self, inputs: Mapping[str, tuple[Tensor, ...]], present: Tensor
    ) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for k, (source, teacher) in enumerate(zip(self.sources, self.teachers, strict=True)):
            if source.name not in inputs:
                found[str(k)] = present.new_zeros(len(present), source.width, dtype=torch.float32)
                continue
            frozen = source.scale is not None
            told = (teacher.project if frozen else teacher)(*inputs[source.name])
            found[str(k)] = scatter(told, present[:, k])
        return found

    def forward(
        self,
        embeddings: Sequence[Tensor],
        present: Tensor,
        targets: Mapping[str, Tensor],
        labels: Tensor | None = None,
    ) -> Tensor:
        total, count = zero(embeddings), 0
        for (k, other), predict in zip(self.directions, self.predictors, strict=True):
            rows = present[:, k] & present[:, other]
            if int(rows.sum()) < 2:
                continue
            guess = predict(embeddings[k][rows])
            told = targets[str(other)][rows].to(guess.dtype)
            total = total + (2.0 - 2.0 * cosine_similarity(guess, told, dim=1)).mean()
            count += 1
        return total / max(count, 1)

    @torch.no_grad()
    def after_step(self, encoders: Sequence[nn.Module]) -> None:
        for teacher, encoder in zip(self.teachers, encoders, strict=True):
            for kept, now in zip(teacher.parameters(), encoder.parameters(), strict=True):
                if now.requires_grad:
                    kept.lerp_(now, 1.0 - self.momentum)
            for held, newest in zip(teacher.buffers(), encoder.buffers(), strict=True):
                held.copy_(newest)


def _follower(encoder: nn.Module) -> nn.Module:
    """Return a copy without gradients that shares what is frozen (a large backbone)."""
    shared = {id(p): p for p in encoder.parameters() if not p.requires_grad}
    return copy.deepcopy(encoder, shared).requires_grad_(False)
