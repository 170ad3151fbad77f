"""What must hold of rows and batches before a network is trained."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from mmfusion.heads.base import Head, Target
from mmfusion.modalities.base import Modality
from mmfusion.training import TrainingSettings

from ._auxiliary import sources

if TYPE_CHECKING:
    from ._model import FusionModel

__all__ = [
    "check_batches",
    "expected_together",
    "fit_modality",
    "refuse_blind",
    "refuse_silence",
]


def fit_modality(
    name: str, modality: Modality, frame: pd.DataFrame, rows: np.ndarray, alone: bool
) -> None:
    """Fit a modality to the training `rows`; say so where only the others have what it needs.

    `alone` is without a likelihood: then there is no ``eval_set``.
    """
    try:
        modality.fit(frame.iloc[rows])
    except ValueError as error:
        if len(rows) == len(frame) or not _fits(modality, frame):
            raise
        own = "" if alone else ", give validation rows of your own (eval_set)"
        raise ValueError(
            f"{error} These are the {len(rows)} of {len(frame)} rows that are trained on; "
            f"validation_fraction holds the others out, and all that modality {name!r} needs is "
            f"among them. Train on all rows (patience=None){own} or leave the modality out."
        ) from error


def _fits(modality: Modality, frame: pd.DataFrame) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clone(modality).fit(frame)
    except Exception:  # then the held-out rows are not to blame
        return False
    return True


def expected_together(
    present: torch.Tensor, names: Sequence[str], settings: TrainingSettings
) -> torch.Tensor:
    """Return how many rows are expected to show both of two modalities, (n, n).

    Modality dropout hides them independently where it leaves two.
    """
    rates = settings.modality_dropout
    kept = torch.tensor(
        [1 - (rates.get(name, 0.0) if isinstance(rates, Mapping) else rates) for name in names],
        dtype=torch.float64,
    )
    there = present.double()
    return (there.T @ there) * kept[:, None] * kept[None, :]


def refuse_silence(model: FusionModel, head: Head, target: Target, rows: np.ndarray) -> None:
    """Raise if the outcome of those `rows` that have any of the modalities says nothing."""
    chosen = torch.from_numpy(rows)
    chosen = chosen[model.data.present.cpu()[chosen].any(1)]
    if not head.informative(target.take(chosen)):
        raise ValueError(
            f"The training rows that have {' or '.join(map(repr, model.modalities))} "
            "hold no events: nothing can be learned from them."
        )


def refuse_blind(model: FusionModel, rows: np.ndarray, settings: TrainingSettings) -> None:
    """Raise ValueError if the held-out `rows` can judge none of the auxiliary losses.

    Each would be zero in every epoch, and the first one kept.
    """
    assert model.objectives is not None
    known = sources(model.network, model.modalities)
    present = model.data.present.cpu()[torch.from_numpy(rows)]
    present = present[present.any(1)].double()
    n_batches = max(1, -(-len(present) // (settings.batch_size or len(rows))))
    together = present.T @ present / n_batches
    for objective in model.objectives.objectives:
        try:
            objective.check_pairs(known, together, "held-out")
        except ValueError as error:
            found = error
        else:
            return
    raise ValueError(
        f"The {len(rows)} held-out rows cannot say when to stop. {found} Or train all epochs "
        "on all rows: patience=None."
    )


def check_batches(n_columns: int, n_rows: int, settings: TrainingSettings) -> None:
    """Refuse batches of which a projection on the design would leave nothing."""
    size = min(settings.batch_size or n_rows, n_rows)
    if size < 2 * n_columns:
        raise ValueError(
            f"The batch_size parameter must be at least {2 * n_columns} with "
            f"orthogonalization='online': twice the {n_columns} columns of the structured design, "
            f"which else explain all a batch holds. Got {size}."
        )
    if settings.micro_batch_size is not None and settings.micro_batch_size < size:
        raise ValueError(
            "The micro_batch_size parameter must be None with orthogonalization='online', which "
            f"projects whole batches. Got {settings.micro_batch_size}."
        )
