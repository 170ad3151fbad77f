"""A linear predictor in place of a network: a ridge a modality, fitted exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from mmfusion.fusion import FusionNetwork
from mmfusion.heads.base import Head
from mmfusion.inputs.rounding import is_constant
from mmfusion.structured import (
    Block,
    Dense,
    Design,
    Likelihood,
    TermColumns,
    fit_structured,
)
from mmfusion.training import Rows, TrainingResult

__all__ = ["fit_linear"]


def fit_linear(module: FusionNetwork, head: Head, rows: Rows, *, free: bool) -> TrainingResult:
    """Put the coefficients of a penalised fit into the last layer of a module without others.

    The penalised likelihood's penalty is ``sum_m sp_m |beta_m|^2 / 2`` over the features of each
    modality and over the presence bits; the smoothing parameters maximise the restricted
    likelihood (`mmfusion.structured.fit_structured`). What is constant over the rows gets 0.

    Parameters
    ----------
    module : FusionNetwork
        With a bias and nothing between fusion and output; nothing in it is trained.
    head : Head
        Of networks with one output.
    rows : Rows
        The training rows.
    free : bool
        Whether the predictor has a constant beside the offset.

    Returns
    -------
    TrainingResult
        Without epochs.
    """
    module.eval()
    rows = rows.to(torch.device("cpu"))
    with torch.no_grad():
        _, fused = module.embed(*rows.data.batch(torch.arange(len(rows.data))))
    values = fused.double().numpy()
    if rows.owner is not None:
        values = values[rows.owner.numpy()]
    mean = values.mean(0)
    varies = ~is_constant(values, np.float32)  # as the encoders compute
    names, terms, columns = [], [], []
    first, start = 0, 0
    widths = [encoder.width for encoder in module.encoders.values()]
    for label, width in zip(
        [*module.encoders, "presence"], [*widths, values.shape[1] - sum(widths)], strict=True
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
    if free:
        design = np.column_stack([design, np.ones(len(design))])
        names.append("(Intercept)")
    if design.shape[1]:
        assert rows.offset is not None
        basis = head.deep_basis.matrix
        n, p = design.shape
        block = Block(Dense(design), basis, np.arange(p)[None])
        whole = Design(n, len(basis), p, (block,))
        likelihood = Likelihood(head, rows.target)
        fit = fit_structured(likelihood, whole, terms, rows.offset.numpy(), names=names)
        coef[used] = fit.coef[: len(used)]
        constant = fit.coef[-1] if free else 0.0
    with torch.no_grad():
        module.head.weight.copy_(torch.from_numpy(coef)[None])
        module.head.bias.fill_(constant - float(coef @ mean))
    return TrainingResult(pd.DataFrame(), best_epoch=0, interrupted=False)
