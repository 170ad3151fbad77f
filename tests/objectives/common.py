"""Embeddings of three modalities, and each loss with its NumPy counterpart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmfusion.encoders import MLPEncoder
from mmfusion.objectives import Source
from mmfusion.objectives.base import Objective, ObjectiveModule
from mmfusion.objectives.contrastive import Contrastive
from mmfusion.objectives.correlation import Correlation
from mmfusion.objectives.latent import LatentPrediction
from mmfusion.objectives.reconstruction import Reconstruction
from mmfusion.objectives.similarity import Similarity
from tests.objectives import numpy_reference as reference

N, WIDTH = 14, 3
SOURCES = (
    Source("scan", WIDTH, 4),
    Source("rna", WIDTH, 5),
    Source("clinic", WIDTH, 2, (3, 4)),
)
LABELS = np.arange(N) % 3 - (np.arange(N) == 5) * 3  # one row without a group


@dataclass
class Batch:
    """A batch in float64; what is absent holds `content`."""

    embeddings: list[Tensor]
    present: Tensor
    inputs: dict[str, tuple[Tensor, ...]]
    numbers: list[np.ndarray]
    codes: list[np.ndarray | None]

    @property
    def arrays(self) -> list[np.ndarray]:
        return [h.detach().numpy() for h in self.embeddings]


def make_batch(complete: bool = False, content: float = np.nan, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    present = (rng.random((N, len(SOURCES))) < 0.6) | complete
    embeddings = rng.normal(size=(len(SOURCES), N, WIDTH))
    numbers = [rng.normal(size=(N, source.n_numeric)) for source in SOURCES]
    codes = [
        np.column_stack([rng.integers(0, c, N) for c in s.cardinalities])
        if s.cardinalities
        else None
        for s in SOURCES
    ]
    inputs = {}
    for k, source in enumerate(SOURCES):
        rows = present[:, k]
        embeddings[k][~rows] = content
        mine = [torch.from_numpy(numbers[k][rows])]
        if codes[k] is not None:
            mine.append(torch.from_numpy(codes[k][rows]))
        inputs[source.name] = tuple(mine)
    return Batch(
        [torch.from_numpy(h) for h in embeddings], torch.from_numpy(present), inputs, numbers, codes
    )


def encoders() -> list[nn.Module]:
    return [MLPEncoder(s.n_numeric, s.cardinalities, WIDTH, dropout=0.3) for s in SOURCES]


def build(objective: Objective) -> ObjectiveModule:
    torch.manual_seed(0)
    return objective.build(SOURCES, encoders()).double()


def layers(module: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (layer.weight.detach().numpy(), layer.bias.detach().numpy())
        for layer in module
        if isinstance(layer, nn.Linear)
    ]


def evaluate(module: ObjectiveModule, batch: Batch) -> Tensor:
    targets = module.targets(batch.inputs, batch.present)
    return module(batch.embeddings, batch.present, targets, torch.from_numpy(LABELS))


def value(module: ObjectiveModule, batch: Batch) -> float:
    return float(evaluate(module, batch).detach())


def _reconstruction(module: Any, batch: Batch) -> float:
    return reference.reconstruction(
        batch.arrays,
        batch.present.numpy(),
        batch.numbers,
        batch.codes,
        [s.cardinalities for s in SOURCES],
        [layers(decoder) for decoder in module.decoders],
        module.cross,
    )


def _latent(module: Any, batch: Batch) -> float:
    told = [h.numpy() for h in module.targets(batch.inputs, batch.present).values()]
    predictors = {
        direction: layers(predictor)
        for direction, predictor in zip(module.directions, module.predictors, strict=True)
    }
    return reference.teacher_prediction(batch.arrays, batch.present.numpy(), told, predictors)


def _of_embeddings(formula: Callable[..., float], *params: float) -> Callable[[Any, Batch], float]:
    return lambda _, batch: formula(batch.arrays, batch.present.numpy(), *params)


#: Each objective with the NumPy formula of what it builds.
CASES: dict[str, tuple[Objective, Callable[[Any, Batch], float]]] = {
    "cosine_margin": (
        Similarity(margin=0.3),
        _of_embeddings(reference.cosine_margin, 0.3),
    ),
    "variance_ratio": (
        Similarity(kind="variance_ratio"),
        _of_embeddings(reference.variance_ratio),
    ),
    "dcca": (
        Correlation(shrinkage=0.2),
        _of_embeddings(reference.canonical_correlation, 0.2),
    ),
    "pearson": (Correlation(kind="pearson"), _of_embeddings(reference.pearson)),
    "autoencoder": (Reconstruction(hidden=(6,)), _reconstruction),
    "cross": (Reconstruction(hidden=(6, 5), cross=True), _reconstruction),
    "clip": (Contrastive(temperature=0.2), _of_embeddings(reference.info_nce, 0.2)),
    "nt_xent": (
        Contrastive(kind="nt_xent", temperature=0.2),
        _of_embeddings(reference.nt_xent, 0.2),
    ),
    "supervised": (
        Contrastive(kind="supervised", temperature=0.2),
        _of_embeddings(reference.supervised, LABELS, 0.2),  # type: ignore[arg-type]
    ),
    "latent": (LatentPrediction(hidden=5), _latent),
}
