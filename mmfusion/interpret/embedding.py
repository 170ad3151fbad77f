"""What the networks make of rows, before the outcome is predicted of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mmfusion.interpret._baseline import check_model, names_of
from mmfusion.model.subjects import Subjects

__all__ = ["embed"]


def embed(model: Any, X: Any, modality: str | None = None) -> pd.DataFrame:
    """Return the embeddings of rows by the first network of a fitted estimator.

    Parameters
    ----------
    model : estimator
        Fitted, with modalities; a `FusionPretrainer` too.
    X : DataFrame, shape (n, p)
        With the columns of `modality` alone, where one is named.
    modality : str, optional
        Whose embedding; a row that lacks it is NaN. By default what fusion makes of all of them
        (of late fusion, the networks' side by side), zeros where nothing is there.

    Returns
    -------
    DataFrame, shape (n, width)
        float32, the index of `X`.

    Raises
    ------
    ValueError
        For an unknown modality, or a model without any.
    """
    if not hasattr(model, "modalities_"):
        check_model(model)
    pretrained = not hasattr(model, "_check_asked")
    known = (
        list(model.modalities_)
        if pretrained
        else [n for n in names_of(model) if n in model.modalities_]
    )
    if not known or modality not in (None, *known):
        raise ValueError(f"The modality parameter must be one of {known}. Got {modality!r}.")
    asked = known if modality is None else [modality]
    table = X if pretrained else model._frame(X, asked)
    subjects = Subjects.read(getattr(model, "id", None), table, complete=False)
    shown = subjects.table(table)
    networks = [model.model_] if pretrained else list(model.model_.deep.networks.values())
    found = []
    for network in networks:
        own = [name for name in network.modalities if name in asked]
        if not own:
            continue
        each, fused, present = network.embed(shown, model._settings(), own)
        if modality is not None:
            found.append(np.where(present, each[modality], np.nan))
        else:
            found.append(np.where(present.any(axis=1, keepdims=True), fused, 0.0))
    values = subjects.spread(np.concatenate(found, axis=1)).astype(np.float32)
    name = "fused" if modality is None else modality
    return pd.DataFrame(values, table.index, [f"{name}_{k}" for k in range(values.shape[1])])
