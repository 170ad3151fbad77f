"""What must hold of modalities, rows and batches before a network is trained."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, MappingView, Sequence

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from mmfusion.encoders import check_layers, has_own_width
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion, build_operator
from mmfusion.heads.base import Head, Target
from mmfusion.inputs.messages import name_rows, shorten
from mmfusion.modalities import Modality
from mmfusion.objectives import Objective, Source
from mmfusion.training import TrainingSettings

__all__ = [
    "check_batches",
    "check_modalities",
    "check_widths",
    "fit_modality",
    "refuse_blind",
    "refuse_empty",
    "refuse_no_numbers",
    "refuse_silence",
]


def fit_modality(
    name: str, modality: Modality, frame: pd.DataFrame, rows: np.ndarray, alone: bool
) -> None:
    """Fit a modality to the training `rows`.

    If only the rows held out for validation have what it needs, the error says so, and how to go
    on; `alone` is a training without outcome, which knows no ``eval_set``.
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


def refuse_silence(
    names: Sequence[str], present: np.ndarray, head: Head, target: Target, rows: np.ndarray
) -> None:
    """Raise if the outcome of those `rows` that have any of the modalities says nothing.

    Parameters
    ----------
    names : sequence of str
        Of the modalities.
    present : ndarray of bool, shape (n, n_modalities)
    """
    chosen = rows[present[rows].any(1)]
    if not head.informative(target.take(torch.from_numpy(chosen))):
        raise ValueError(
            f"The training rows that have {' or '.join(map(repr, names))} "
            "hold no events: nothing can be learned from them."
        )


def refuse_empty(table: pd.DataFrame, any_present: np.ndarray, names: Sequence[str]) -> None:
    """Raise ValueError for rows in which nothing is present, naming them."""
    if not any_present.all():
        raise ValueError(
            f"Rows with no modality present: {name_rows(table, ~any_present)}. "
            f"Each row needs at least one of {sorted(names)}."
        )


def refuse_no_numbers(
    values: np.ndarray, present: np.ndarray, rows: pd.Index, what: str, names: Sequence[str]
) -> None:
    """Raise ValueError if a network says NaN or infinity of a row that it sees, naming the first.

    Parameters
    ----------
    values : ndarray, shape (n, D)
    present : ndarray of bool, shape (n,)
        The rows that have what the network reads; of the others it says nothing.
    rows : Index
        Their labels.
    what : str
        What the values are: "network", "encoder".
    names : sequence of str
        The modalities that it reads.
    """
    bad = np.flatnonzero(present & ~np.isfinite(values).all(axis=1))
    if len(bad):
        row = bad[0]
        found = values[row][~np.isfinite(values[row])][0]
        read = f"modality {names[0]!r}" if len(names) == 1 else f"modalities {list(names)}"
        raise ValueError(
            f"The {what} of {read} gives {found} for row {shorten(rows[[row]])} ({len(bad)} of "
            f"{len(values)} rows): its numbers overflow. Look for extreme values in that row."
        )


def refuse_blind(
    objectives: Sequence[Objective],
    known: Sequence[Source],
    present: torch.Tensor,
    settings: TrainingSettings,
) -> None:
    """Raise ValueError if held-out rows can judge none of the auxiliary losses.

    Each loss would be zero in every epoch, and the weights of the first epoch would be kept.

    Parameters
    ----------
    present : Tensor of bool, shape (n_held, n_modalities)
        Of the held-out rows.
    """
    n_held = len(present)
    present = present[present.any(1)].double()
    n_batches = max(1, -(-len(present) // (settings.batch_size or n_held)))
    together = present.T @ present / n_batches
    for objective in objectives:
        try:
            objective.check_pairs(known, together, "held-out")
        except ValueError as error:
            found = error
        else:
            return
    raise ValueError(
        f"The {n_held} held-out rows cannot say when to stop. {found} Or train all epochs "
        "on all rows: patience=None."
    )


def check_batches(n_columns: int, n_rows: int, settings: TrainingSettings) -> None:
    """Raise ValueError for batches so small that the design explains all that they hold."""
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


def check_modalities(modalities: Mapping[str, Modality]) -> None:
    """Raise unless `modalities` maps names to Modality objects with layers that can be built."""
    if not isinstance(modalities, Mapping):
        raise TypeError(
            "The modalities parameter must be a dict of name to Tabular, Genes, Image or Points, "
            f"or None (inferred from the columns). Got {type(modalities).__name__}."
        )
    if not modalities:
        raise ValueError("The modalities parameter must hold at least one modality. Got {}.")
    for name, modality in modalities.items():
        if not isinstance(name, str) or "__" in name or "." in name:
            raise ValueError(
                f"A modality's name must be a string without '__' and '.'. Got {name!r}."
            )
        if not isinstance(modality, Modality):
            raise TypeError(
                f"Modality {name!r} must be a Tabular, Genes, Image or Points object. "
                f"Got {modality!r}."
            )
        for key, value in modality.get_params(deep=False).items():
            if isinstance(value, MappingView | Iterator):  # neither copied nor read twice
                raise TypeError(
                    f"The {key} parameter of modality {name!r} must be a list. "
                    f"Got {type(value).__name__}; make it one with list(...)."
                )
        try:
            check_layers(modality)
        except ValueError as error:
            raise ValueError(f"Modality {name!r}: {error}") from None


def check_widths(
    strategy: JointFusion | EarlyFusion | LateFusion, modalities: Mapping[str, Modality]
) -> None:
    """Raise ValueError where an operator cannot join so many embeddings of the strategy's width.

    Embeddings that have a width of their own are known with the data only.
    """
    for own, fusion in strategy.networks(modalities).values():
        if fusion.width is not None and not any(map(has_own_width, own.values())):
            with torch.device("meta"):  # nothing is allocated or drawn
                build_operator(fusion, [fusion.width] * len(own))
