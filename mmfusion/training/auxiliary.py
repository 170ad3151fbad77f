"""Auxiliary losses in the training loop: beside a likelihood or alone, in one pass or in two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmfusion.modalities.base import MultimodalData
from mmfusion.objectives.weighted import WeightedObjectives
from mmfusion.training.inference import chunk_size
from mmfusion.training.two_pass import two_pass_backward

__all__ = ["AuxiliaryLosses"]

#: Embeddings, outputs and the objectives' targets of some rows of the data.
_Outputs = tuple[list[Tensor], Tensor, dict[str, Tensor]]


class AuxiliaryLosses:
    """The objectives of one training, on its device.

    Parameters
    ----------
    objectives : WeightedObjectives
    network : FusionNetwork
    device : torch.device
    autocast : callable, optional
        Returns the context in which the network runs.
    labels : ndarray of int, shape (n_rows,), optional
        The group of the outcome of each row of the training data.
    """

    def __init__(
        self,
        objectives: WeightedObjectives,
        network: nn.Module,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]] | None,
        labels: np.ndarray | None,
    ) -> None:
        self.objectives = objectives.to(device).train()
        self.network: Any = network
        self.autocast = autocast or nullcontext
        self.labels = None if labels is None else torch.from_numpy(labels).to(device)

    def joint(self, epoch: int) -> bool:
        """Return whether the likelihood is trained in this epoch."""
        return not self.objectives.alone and epoch > self.objectives.pretrain_epochs

    def columns(self, epoch: int) -> list[str]:
        """Return the names of what `backward` returns in this epoch."""
        first = ["loss"] if self.objectives.alone or self.joint(epoch) else []
        return first + list(self.objectives.weights(epoch))

    def backward(
        self,
        epoch: int,
        data: MultimodalData,
        rows: Tensor,
        present: Tensor | None,
        micro: int | None,
        likelihood: Callable[[Tensor], Tensor],
        gradient: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Add the gradient of all losses of a batch to the parameters; return the losses.

        With `micro`, in two passes: the losses are those of the whole batch, and so is their
        gradient, exactly, as the auxiliary losses too read what the network puts out alone.

        Parameters
        ----------
        epoch : int
        data : MultimodalData
        rows : Tensor of int64, shape (batch,)
            Of the data: a subject each.
        present : Tensor of bool, shape (batch, n_modalities), optional
        micro : int, optional
        likelihood : callable (outputs) -> Tensor
            The head's loss of the network's outputs, shape (batch, D).
        gradient : callable (outputs) -> Tensor of float64, shape (batch, D)
            Its gradient in these.
        """
        labels = None if self.labels is None else self.labels[rows]
        mask = data.present[rows] if present is None else present
        if micro is None or micro >= len(rows):
            embeddings, outputs, targets = self.run(epoch, data, rows, present)
            total, losses = self.objectives(epoch, embeddings, mask, targets, labels)
            if self.joint(epoch):
                loss = likelihood(outputs)
                losses.insert(0, loss.detach())
                total = total + loss
            total.backward()
        else:
            total, losses = self._two_pass(
                epoch, data, rows, present, mask, labels, micro, likelihood, gradient
            )
        if self.objectives.alone:
            losses.insert(0, total.detach())
        return torch.stack(losses)

    def _two_pass(
        self,
        epoch: int,
        data: MultimodalData,
        rows: Tensor,
        present: Tensor | None,
        mask: Tensor,
        labels: Tensor | None,
        micro: int,
        likelihood: Callable[[Tensor], Tensor],
        gradient: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        parts: list[dict[str, Tensor]] = []
        widths: list[int] = []
        found: list[Any] = []

        def forward(first: int, last: int) -> Tensor:
            mine = None if present is None else present[first:last]
            embeddings, outputs, targets = self.run(epoch, data, rows[first:last], mine)
            if not torch.is_grad_enabled():  # the first pass
                parts.append(targets)
                widths[:] = [outputs.shape[1], *(e.shape[1] for e in embeddings)]
            return torch.cat([outputs, *embeddings], dim=1)

        def pull(everything: Tensor) -> Tensor:
            everything = everything.detach().requires_grad_()
            outputs, *embeddings = everything.split(widths, dim=1)
            total, losses = self.objectives(epoch, embeddings, mask, _join(parts), labels)
            total.backward()  # the objectives' own parameters get theirs here
            assert everything.grad is not None
            pulled = everything.grad.double()
            if self.joint(epoch):
                pulled[:, : widths[0]] += gradient(outputs.detach())
                losses.insert(0, likelihood(outputs.detach()))
            found.extend([total.detach(), losses])
            return pulled

        two_pass_backward(self.network, forward, pull, len(rows), micro)
        return found[0], found[1]

    def run(
        self, epoch: int, data: MultimodalData, rows: Tensor, present: Tensor | None
    ) -> _Outputs:
        """Return embeddings and outputs in the weights' precision, and the targets."""
        inputs, mask = data.batch(rows, present)
        with self.autocast():
            embeddings, outputs = self.network.embed_and_predict(inputs, mask)
            mask = data.present[rows] if mask is None else mask
            targets = self.objectives.targets(epoch, inputs, mask)
        return [embedding.to(outputs.dtype) for embedding in embeddings], outputs, targets

    def after_step(self) -> None:
        """Follow a step of the optimiser."""
        self.objectives.after_step(self.network.encoders.values())

    @torch.no_grad()
    def validate(
        self, data: MultimodalData, batch_rows: int | None, micro: int | None
    ) -> dict[str, float]:
        """Return the losses of rows without an outcome, in evaluation mode.

        They depend on how many rows are compared, so the rows are cut into parts of at most
        `batch_rows`, almost equal; a loss is the mean over these.
        """
        self.network.eval()
        self.objectives.eval()
        everyone = torch.arange(len(data), device=data.present.device)
        chunks = everyone.split(micro or chunk_size(data))
        parts = [self.run(1, data, rows, None) for rows in chunks]
        embeddings = [torch.cat(column) for column in zip(*(p[0] for p in parts), strict=True)]
        targets = _join([p[2] for p in parts])
        n_groups = 1 if batch_rows is None else -(-len(data) // batch_rows)
        values = []
        for rows in everyone.tensor_split(n_groups):
            of_rows = {key: value[rows] for key, value in targets.items()}
            total, losses = self.objectives(
                1, [e[rows] for e in embeddings], data.present[rows], of_rows, None
            )
            values.append(torch.stack([total, *losses]))
        self.network.train()
        self.objectives.train()
        names = ["val_loss", *(f"val_{name}" for name in self.objectives.weights(1))]
        return dict(zip(names, torch.stack(values).mean(0).tolist(), strict=True))


def _join(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
