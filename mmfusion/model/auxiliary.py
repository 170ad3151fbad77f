"""Auxiliary losses and pretrained encoders of an estimator: what must fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mmfusion.fusion import EarlyFusion, FusionNetwork, JointFusion, LateFusion
from mmfusion.modalities import Modality
from mmfusion.objectives import Objective, Source, check_objectives
from mmfusion.training import TrainingSettings

__all__ = ["check_auxiliary", "check_same_modalities", "expected_together", "sources", "teachable"]


def check_auxiliary(
    auxiliary: Any,
    strategy: JointFusion | EarlyFusion | LateFusion,
    modalities: Mapping[str, Modality],
    epochs: int,
) -> tuple[Objective, ...]:
    """Return the objectives of the ``auxiliary`` parameter, checked against the rest.

    Raises
    ------
    TypeError, ValueError
        If it holds something else, an objective's parameters are not as they must be, or the
        strategy has no embeddings that it could compare.
    """
    objectives = check_objectives("auxiliary", auxiliary)
    if objectives and not strategy.embeds:
        raise ValueError(
            "The auxiliary parameter needs embeddings of the modalities, which EarlyFusion has "
            f"not: use JointFusion. Got {auxiliary!r}."
        )
    n_together = strategy.most_together(len(modalities))
    for objective in objectives:
        if objective.fewest > n_together:
            late = ": with LateFusion each network sees one" if n_together < len(modalities) else ""
            raise ValueError(
                f"{objective!r} in the auxiliary parameter needs at least {objective.fewest} "
                f"modalities in one network{late}. Got {sorted(modalities)}."
            )
        if objective.pretrain_epochs >= epochs:
            raise ValueError(
                f"The pretrain_epochs parameter of {objective!r} must leave epochs for the "
                f"likelihood: less than epochs={epochs}. Got {objective.pretrain_epochs}."
            )
    return objectives


def check_same_modalities(wanted: Mapping[str, Modality], given: Mapping[str, Modality]) -> None:
    """Raise ValueError unless each of `wanted` is in the pretrainer's modalities, as it is there.

    Parameters
    ----------
    wanted : mapping of str to Modality
        The estimator's.
    given : mapping of str to Modality
        The pretrainer's.
    """
    for name, modality in wanted.items():
        if name not in given:
            raise ValueError(
                f"The pretrained parameter holds no encoder of modality {name!r}; it has "
                f"{sorted(given)}."
            )
        theirs = given[name]
        if type(modality) is not type(theirs):
            raise ValueError(
                f"Modality {name!r} must be what it was in pretraining, {theirs!r}. "
                f"Got {modality!r}."
            )
        params = theirs.get_params(deep=False)
        for key, value in modality.get_params(deep=False).items():
            if value is not params[key] and repr(value) != repr(params[key]):
                raise ValueError(
                    f"The {key} parameter of modality {name!r} must be what it was in "
                    f"pretraining, {params[key]!r}. Got {value!r}."
                )


def sources(network: FusionNetwork, modalities: Mapping[str, Modality]) -> Sequence[Source]:
    """Return what objectives need to know of the fitted modalities and their encoders."""
    found = []
    for name, modality in modalities.items():
        fitted: Any = modality
        encoder = network.encoders[name]
        if name in network.kept:
            scaler = encoder.scaler
            components = scaler.components
            width = encoder.feature_width if components is None else components.shape[1]
            found.append(Source(name, encoder.width, width, scale=scaler))
        elif modality.kind == "image":
            image = (fitted.n_channels_, *fitted.size_)
            found.append(Source(name, encoder.width, image=image))
        elif modality.kind == "table":
            cardinalities = tuple(fitted.cardinalities_)
            found.append(Source(name, encoder.width, fitted.n_numeric_, cardinalities))
        else:
            found.append(Source(name, encoder.width))
    return found


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


def teachable(
    objectives: Sequence[Objective],
    known: Sequence[Source],
    present: torch.Tensor,
    names: Sequence[str],
    settings: TrainingSettings,
    lenient: bool,
) -> list[Objective]:
    """Return the objectives that these rows can teach.

    Parameters
    ----------
    objectives : sequence of Objective
    known : sequence of Source
    present : Tensor of bool, shape (n_subjects, n_modalities)
        Of the subjects that are trained on.
    names : sequence of str
        Of the modalities.
    settings : TrainingSettings
    lenient : bool
        Whether the others are left out; else they are errors.
    """
    n_batches = max(1, -(-len(present) // (settings.batch_size or max(len(present), 1))))
    together = expected_together(present, names, settings) / n_batches
    able = []
    for objective in objectives:
        try:
            objective.check_sources(known, len(present) // n_batches)
            objective.check_pairs(known, together)
        except ValueError:
            if not lenient:
                raise
        else:
            able.append(objective)
    return able
