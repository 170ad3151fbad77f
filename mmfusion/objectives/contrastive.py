"""Contrast: of all rows, a row's modalities are to find each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mmfusion.inputs.parameters import check_choice
from mmfusion.objectives.base import Objective, ObjectiveModule, PairwiseModule, Source, zero

__all__ = ["Contrastive", "InfoNCE", "NTXent", "SupervisedContrast"]

#: Largest logit scale that is learned (Radford et al. 2021, section 2.5).
LARGEST_LOG_SCALE = math.log(100.0)


@dataclass(eq=False, repr=False)
class Contrastive(Objective):
    """Of all rows of a batch, a row's modalities are to find each other.

    Parameters
    ----------
    weight : float or (float, float), default=0.1
        What the loss is multiplied by; a pair is the weight in the pretraining epochs and after.
    kind : {"clip", "nt_xent", "supervised"}, default="clip"
        "clip": among the other modality's embeddings of all rows (InfoNCE; Radford et al. 2021).
        "nt_xent": among those of both modalities (Chen, Kornblith, Norouzi & Hinton 2020).
        "supervised": all rows with the same outcome belong together (Khosla et al. 2020): the same
        class; the same fifth of a number; of survival, the same fourth of the event times, where a
        censored row that outlived the third quartile is in the last fourth, and one censored
        before it in none and left out.
    temperature : float, default=0.1
        Of the softmax; "clip" learns it from here (its inverse is held at 100 at most).
    pretrain_epochs : int, default=0
        First epochs, in which the auxiliary losses are trained without the likelihood.

    See Also
    --------
    InfoNCE, NTXent, SupervisedContrast : The formulas.
    """

    name: ClassVar[str] = "contrastive"

    weight: float | tuple[float, float] = 0.1
    kind: str = "clip"
    temperature: float = 0.1
    pretrain_epochs: int = 0

    @property
    def fewest(self) -> int:
        return 1 if self.needs_labels else 2

    @property
    def needs_labels(self) -> bool:
        return self.kind == "supervised"

    def check(self, *, pretraining: bool = False) -> None:
        super().check(pretraining=pretraining)
        check_choice("kind", self.kind, tuple(_MODULES), "Contrastive")
        self._check_number("temperature", 0.01)

    def check_sources(self, sources: Sequence[Source], batch_rows: int) -> None:
        super().check_sources(sources, batch_rows)
        self._check_one_width(sources)

    def build(self, sources: Sequence[Source], encoders: Sequence[nn.Module]) -> ObjectiveModule:
        return _MODULES[self.kind](self.temperature)


class InfoNCE(PairwiseModule):
    """``1/2 [CE(S, rows) + CE(S', rows)]`` with ``S_ij = cos(u_i, v_j) / t``: CLIP's loss.

    Over the rows that have both modalities, and the mean over pairs of modalities; CE is the
    cross-entropy of each row's softmax, whose right answer is the diagonal. ``log(1 / t)`` is
    learned and held at log 100 after each step.

    Parameters
    ----------
    temperature : float
        Where t starts.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def of_pair(self, u: Tensor, v: Tensor) -> Tensor:
        logits = self.log_scale.exp() * normalize(u, dim=1) @ normalize(v, dim=1).T
        right = torch.arange(len(u), device=u.device)
        return 0.5 * (cross_entropy(logits, right) + cross_entropy(logits.T, right))

    def after_step(self, encoders: Sequence[nn.Module]) -> None:
        with torch.no_grad():
            self.log_scale.clamp_(max=LARGEST_LOG_SCALE)


class NTXent(PairwiseModule):
    """``-mean over 2n views of log [exp(s_ij / t) / sum over k != i of exp(s_ik / t)]``.

    s are cosines; the views are the embeddings of the n rows that have both modalities, and j is
    the other view of row i (Chen et al. 2020, eq. 1). The mean over pairs of modalities.

    Parameters
    ----------
    temperature : float
        t.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def of_pair(self, u: Tensor, v: Tensor) -> Tensor:
        logits = _logits(torch.cat([u, v]), self.temperature)
        return cross_entropy(logits, torch.arange(len(logits), device=u.device).roll(len(u)))


class SupervisedContrast(ObjectiveModule):
    """``-mean_i 1/|P(i)| sum over p in P(i) of log [exp(s_ip / t) / sum_{a != i} exp(s_ia / t)]``.

    s are cosines; the views are the embeddings of all modalities of all labelled rows; P(i) are
    the other views with the label of view i (Khosla et al. 2020, eq. 2). Views with none are no
    anchors.

    Parameters
    ----------
    temperature : float
        t.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(
        self,
        embeddings: Sequence[Tensor],
        present: Tensor,
        targets: Mapping[str, Tensor],
        labels: Tensor | None = None,
    ) -> Tensor:
        assert labels is not None
        chosen = [column & (labels >= 0) for column in present.unbind(1)]
        views = torch.cat([h[rows] for h, rows in zip(embeddings, chosen, strict=True)])
        of_view = torch.cat([labels[rows] for rows in chosen])
        alike = of_view[:, None] == of_view[None, :]
        alike.fill_diagonal_(False)
        anchors = alike.any(1)
        if not bool(anchors.any()):
            return zero(embeddings)
        logs = _logits(views, self.temperature).log_softmax(1)
        mean = logs.masked_fill(~alike, 0.0).sum(1)[anchors] / alike.sum(1)[anchors]
        return -mean.mean()


_MODULES: dict[str, type[InfoNCE] | type[NTXent] | type[SupervisedContrast]] = {
    "clip": InfoNCE,
    "nt_xent": NTXent,
    "supervised": SupervisedContrast,
}


def _logits(views: Tensor, temperature: float) -> Tensor:
    """Return cosines over the temperature; a view does not meet itself."""
    units = normalize(views, dim=1)
    logits = units @ units.T / temperature
    own = torch.eye(len(views), dtype=torch.bool, device=views.device)
    return logits.masked_fill(own, -torch.inf)
