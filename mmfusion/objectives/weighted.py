"""All auxiliary losses of one training, weighted by the epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mmfusion.objectives.base import Objective, ObjectiveModule, Source, zero

__all__ = ["WeightedObjectives"]


class WeightedObjectives(nn.Module):
    """The auxiliary losses of one training.

    Parameters
    ----------
    objectives : sequence of Objective
        Checked.
    sources : sequence of Source
        The modalities, in the order of the columns of `present`.
    encoders : sequence of Encoder
    alone : bool
        Whether there is no likelihood: all epochs are then pretraining epochs.

    Attributes
    ----------
    names : list of str
        Of the objectives; a second one of a kind is numbered.
    pretrain_epochs : int
        In this many first epochs there is no likelihood.
    needs_labels : bool
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        sources: Sequence[Source],
        encoders: Sequence[nn.Module],
        *,
        alone: bool = False,
    ) -> None:
        super().__init__()
        self.objectives = tuple(objectives)
        self.alone = alone
        self.built = nn.ModuleList(o.build(sources, encoders) for o in objectives)
        self.names = _names(objectives)
        self.pretrain_epochs = 0 if alone else max(o.pretrain_epochs for o in objectives)
        self.needs_labels = any(o.needs_labels for o in objectives)

    def weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of each objective in `epoch` (from 1), those of weight 0 left out."""
        found = [o.weight_at(epoch, pretraining=self.alone) for o in self.objectives]
        return {n: weight for n, weight in zip(self.names, found, strict=True) if weight}

    def targets(
        self, epoch: int, inputs: Mapping[str, tuple[Tensor, ...]], present: Tensor
    ) -> dict[str, Tensor]:
        """Return what the objectives need of the encoders' inputs; see `ObjectiveModule`."""
        return {
            f"{number}/{key}": value
            for number, module in self._at_work(epoch)
            for key, value in module.targets(inputs, present).items()
        }

    def forward(
        self,
        epoch: int,
        embeddings: Sequence[Tensor],
        present: Tensor,
        targets: Mapping[str, Tensor],
        labels: Tensor | None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the weighted sum and the losses, those of weight 0 left out."""
        total, losses = zero(embeddings).double(), []
        weights = self.weights(epoch)
        for number, module in self._at_work(epoch):
            loss = module(embeddings, present, _of(number, targets), labels).double()
            total = total + weights[self.names[number]] * loss
            losses.append(loss.detach())
        return total, losses

    def after_step(self, encoders: Sequence[nn.Module]) -> None:
        """Follow a step of the optimiser."""
        for module in self.built:
            module.after_step(encoders)  # type: ignore[operator]

    def _at_work(self, epoch: int) -> list[tuple[int, ObjectiveModule]]:
        weights = self.weights(epoch)
        numbered: Any = enumerate(self.built)
        return [(number, module) for number, module in numbered if self.names[number] in weights]


def _names(objectives: Sequence[Objective]) -> list[str]:
    met: Counter[str] = Counter()
    names = []
    for objective in objectives:
        met[objective.name] += 1
        number = met[objective.name]
        names.append(objective.name if number == 1 else f"{objective.name}_{number}")
    return names


def _of(number: int, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{number}/"
    return {
        key.removeprefix(prefix): value for key, value in targets.items() if key.startswith(prefix)
    }
