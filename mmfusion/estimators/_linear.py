"""A linear predictor in place of a network: a ridge a modality, fitted exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from mmfusion.fusion import FusionNetwork
from mmfusion.heads.base import Head, Target
from mmfusion.modalities.base import MultimodalData
from mmfusion.structured import HeadLikelihood, TermColumns, fit_structured
from mmfusion.training import TrainingResult

__all__ = ["fit_linear"]


def fit_linear(
    network: FusionNetwork,
    head: Head,
    data: MultimodalData,
    target: Target,
    offset: torch.Tensor | None = None,
) -> TrainingResult:
    """Put the coefficients of a penalised fit into the last layer of a network without others.

    The penalised likelihood's penalty is ``sum_m sp_m |beta_m|^2 / 2`` over the features of each
    modality and over the presence bits; the smoothing parameters maximise the restricted
    likelihood (`mmfusion.structured.fit_structured`). What is constant over the rows gets 0.

    Parameters
    ----------
    network : FusionNetwork
        With a bias and nothing between fusion and predictors; nothing in it is trained.
    head : Head
        With one predictor.
    data, target : MultimodalData, Target
        The training rows.
    offset : Tensor of float64, shape (n, 1), optional
        What the predictor is added to.

    Returns
    -------
    TrainingResult
        Without epochs.
    """
    network.eval()
    data = data.to(torch.device("cpu"))
    with torch.no_grad():
        _, fused = network.embed(*data.batch(torch.arange(len(data))))
    values = fused.double().numpy()
    mean = values.mean(0)
    varies = np.ptp(values, axis=0) > 0
    center, spread = head.units
    names, terms, columns = [], [], []
    first, start = 0, 0
    widths = [encoder.width for encoder in network.encoders.values()]
    for label, width in zip(
        [*network.encoders, "presence"], [*widths, values.shape[1] - sum(widths)], strict=True
    ):
        mine = start + np.flatnonzero(varies[start : start + width])
        start += width
        if len(mine):
            part = slice(first, first + len(mine))
            terms.append(TermColumns(label, part, "random", (np.eye(len(mine)),)))
            names += [f"{label}.{number}" for number in range(len(mine))]
            columns.append(mine)
            first += len(mine)
    coef, constant = np.zeros(values.shape[1]), 0.0
    used = np.concatenate(columns) if columns else np.zeros(0, dtype=int)
    design = values[:, used] - mean[used]
    free = head.has_intercept and offset is None
    if free:
        design = np.column_stack([design, np.ones(len(design))])
        names.append("(Intercept)")
    if design.shape[1]:
        beside = None if offset is None else offset[:, 0].numpy() * spread + center
        fit = fit_structured(HeadLikelihood(head, target), design, terms, beside, names=names)
        coef[used] = fit.coef[: len(used)] / spread
        constant = (fit.coef[-1] - center) / spread if free else 0.0
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(coef)[None])
        network.head.bias.fill_(constant - float(coef @ mean))
    return TrainingResult(pd.DataFrame(), best_epoch=0, interrupted=False)
