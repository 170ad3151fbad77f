"""Survival of many cancers from modalities of which patients lack some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmfusion.estimators import FusionCox, FusionDiscreteTime
from mmfusion.fusion import JointFusion
from mmfusion.modalities import Modality
from mmfusion.objectives import Similarity
from mmfusion.recipes._check import unprojected
from mmfusion.recipes._published import PUBLISHED

__all__ = ["cheerla_gevaert", "multi_surv"]


def cheerla_gevaert(
    modalities: Mapping[str, Modality],
    dim: int = 256,
    weight: float = 0.1,
    margin: float = 0.1,
    **params: Any,
) -> FusionCox:
    """Return the pan-cancer model of Cheerla & Gevaert (2019).

    An encoder a modality, the mean of the embeddings a patient has, a network on it; Cox's partial
    likelihood and a similarity loss, which draws a patient's embeddings together and pushes those
    of other patients away by a margin; a quarter of the modalities is dropped in training.

    Deviations: this is the loss of the paper; the authors' code has a ratio of variances, a
    classification of vital status and another survival loss. Two hidden layers with dropout, where
    they have batch normalisation and ten highway layers; encoders are those of the modalities;
    AdamW; Efron's ties.

    Parameters
    ----------
    modalities : dict of str to Modality
        Two or more.
    dim : int
        Width of the embeddings.
    weight, margin : float
        Of the similarity loss.
    **params
        Of `FusionCox`.

    Returns
    -------
    FusionCox

    Examples
    --------
    >>> from mmfusion import Genes, Tabular
    >>> model = cheerla_gevaert({"rna": Genes("gene_*"), "clinic": Tabular(["age", "sex"])})
    >>> model.modality_dropout
    0.25
    """
    settings: dict[str, Any] = {
        "fusion": JointFusion(
            "mean", dim, hidden=(dim, dim), dropout=0.5, options=unprojected(modalities)
        ),
        "auxiliary": [Similarity(weight, margin=margin)],
        "modality_dropout": 0.25,
        "batch_size": 64,
    }
    return FusionCox(modalities, **PUBLISHED | settings | params)


def multi_surv(
    modalities: Mapping[str, Modality],
    fusion: str = "max",
    dim: int = 512,
    n_intervals: int = 30,
    **params: Any,
) -> FusionDiscreteTime:
    """Return MultiSurv: discrete-time survival from the largest of the modalities' features.

    Vale-Silva & Rohr (2021): an encoder a modality to 512 features, their maximum over the
    modalities, four layers of 512, a conditional survival probability for each of 30 intervals;
    a censored patient has survived an interval of which the first half was seen.

    Deviations: a modality that a patient lacks takes no part in the maximum (in the authors' code
    its encoder's answer to zeros does); intervals are equal parts of the time to the last event,
    where theirs are years; encoders are those of the modalities; no batch normalisation; AdamW with
    a cosine schedule for Adam with plateaus; the loss averages over patients.

    Parameters
    ----------
    modalities : dict of str to Modality
    fusion : {"max", "sum", "product", "concat", "feature_attention"}
        Of the operators that the paper compares.
    dim : int
        Width of the embeddings and of the layers.
    n_intervals : int
    **params
        Of `FusionDiscreteTime`.

    Returns
    -------
    FusionDiscreteTime

    Examples
    --------
    >>> from mmfusion import Genes, Tabular
    >>> multi_surv({"rna": Genes("gene_*"), "clinic": Tabular(["age", "sex"])}, dim=64).loss
    'multisurv'
    """
    options = unprojected(modalities) if fusion in ("max", "sum", "product") else None
    settings: dict[str, Any] = {
        "fusion": JointFusion(fusion, dim, hidden=(dim,) * 4, dropout=0.5, options=options),
        "loss": "multisurv",
        "n_intervals": n_intervals,
        "scheme": "equidistant",
        "batch_size": 128,
    }
    return FusionDiscreteTime(modalities, **PUBLISHED | settings | params)
