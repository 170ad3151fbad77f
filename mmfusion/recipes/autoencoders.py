"""Autoencoders of several omics, with survival on their codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmfusion.estimators import FusionCox
from mmfusion.fusion import JointFusion
from mmfusion.modalities import Modality
from mmfusion.objectives import Reconstruction
from mmfusion.recipes._check import unprojected
from mmfusion.recipes._published import PUBLISHED

__all__ = ["concat_ae", "cross_ae"]


def concat_ae(
    modalities: Mapping[str, Modality],
    pretrain_epochs: int = 20,
    dim: int = 100,
    weight: float = 1.0,
    **params: Any,
) -> FusionCox:
    """Return ConcatAE: an autoencoder a modality, survival on the codes side by side.

    Tong, Mitchel, Chatlin & Wang (2020): each modality's code reconstructs it by squared error;
    a network on the concatenated codes is trained on Cox's partial likelihood. The first
    `pretrain_epochs` of ``fit`` train the autoencoders alone, the others both.

    Deviations: after the first epochs one optimiser minimises the weighted sum, where the authors'
    code alternates steps of several; encoders and their dropout are those of the modalities
    (theirs: two layers of 128), decoders
    have SiLU and no dropout; AdamW; Efron's ties. A modality that a row lacks is left out of its
    reconstruction and marked by a bit beside the codes; the paper has complete rows only.

    Parameters
    ----------
    modalities : dict of str to Modality
    pretrain_epochs : int
        Epochs of the autoencoders alone; they count among `epochs`.
    dim : int
        Width of each code.
    weight : float
        Of the reconstruction beside the likelihood.
    **params
        Of `FusionCox`.

    Returns
    -------
    FusionCox

    Examples
    --------
    >>> from mmfusion import Genes
    >>> concat_ae({"rna": Genes("*_rnaseq"), "cnv": Genes("*_cnv")}).fusion
    JointFusion(dim=100, dropout=0.2, hidden=(128, 128))
    """
    return _autoencoder(modalities, "concat", False, pretrain_epochs, dim, weight, params)


def cross_ae(
    modalities: Mapping[str, Modality],
    pretrain_epochs: int = 20,
    dim: int = 100,
    weight: float = 1.0,
    **params: Any,
) -> FusionCox:
    """Return CrossAE: each modality's code reconstructs every modality, survival on their mean.

    Tong, Mitchel, Chatlin & Wang (2020): as `concat_ae`, with reconstructions across modalities, so
    that the codes share a space; their mean enters the survival network.

    Deviations: as `concat_ae`; the mean is that of the modalities a row has.

    Parameters
    ----------
    modalities : dict of str to Modality
        Two or more.
    pretrain_epochs, dim, weight
        As in `concat_ae`.
    **params
        Of `FusionCox`.

    Returns
    -------
    FusionCox

    Examples
    --------
    >>> from mmfusion import Genes
    >>> cross_ae({"rna": Genes("*_rnaseq"), "cnv": Genes("*_cnv")}).fusion.operator
    'mean'
    """
    return _autoencoder(modalities, "mean", True, pretrain_epochs, dim, weight, params)


def _autoencoder(
    modalities: Mapping[str, Modality],
    operator: str,
    cross: bool,
    pretrain_epochs: int,
    dim: int,
    weight: float,
    params: dict[str, Any],
) -> FusionCox:
    objective = Reconstruction(
        weight, cross=cross, hidden=(128, 128), pretrain_epochs=pretrain_epochs
    )
    # The codes themselves are averaged: those that the reconstructions see.
    options = unprojected(modalities) if operator == "mean" else None
    settings: dict[str, Any] = {
        "fusion": JointFusion(operator, dim, hidden=(128, 128), dropout=0.2, options=options),
        "auxiliary": [objective],
        "epochs": 100 + pretrain_epochs,
    }
    return FusionCox(modalities, **PUBLISHED | settings | params)
