"""Wide and deep: a formula beside a network, trained without a constraint between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmfusion.estimators import FusionClassifier, FusionCox
from mmfusion.fusion import JointFusion
from mmfusion.modalities import Modality
from mmfusion.recipes._published import PUBLISHED

__all__ = ["poelsterl_wide_deep", "wide_and_deep"]


def wide_and_deep(
    structured: str, modalities: Mapping[str, Modality] | None = None, **params: Any
) -> FusionClassifier:
    """Return a Wide & Deep classifier: cross-products of a formula beside a deep network.

    Cheng et al. (2016): the log-odds are a linear function of columns and of their cross-products
    (the wide part) plus a network's on the same columns, embedded (the deep part).

    Deviations: the wide part is fitted exactly and again beside the trained network, where the
    paper trains both together by FTRL with an L1 penalty and AdaGrad; one set of widths and AdamW
    for the deep part. Neither is orthogonalised against the other, as in the paper: the
    coefficients say what the network happens not to (``orthogonalization="post_hoc"`` mends it).

    Parameters
    ----------
    structured : str
        The wide part: "a + b + a:b".
    modalities : dict of str to Modality, optional
        The deep part; None infers it from the columns.
    **params
        Of `FusionClassifier`.

    Returns
    -------
    FusionClassifier

    Examples
    --------
    >>> from mmfusion import Tabular
    >>> wide_and_deep("sex * stage", {"clinic": Tabular(["age", "sex", "stage"])}).structured
    'sex * stage'
    """
    settings: dict[str, Any] = {
        "fusion": JointFusion("concat", hidden=(128, 64, 32)),
        "orthogonalization": None,
    }
    return FusionClassifier(modalities, structured=structured, **PUBLISHED | settings | params)


def poelsterl_wide_deep(
    structured: str, modalities: Mapping[str, Modality], **params: Any
) -> FusionCox:
    """Return the wide and deep survival model of Poelsterl et al. (2020).

    Poelsterl, Sarasua, Gutierrez-Becker & Wachinger (2020): the log hazard ratio is linear in
    clinical columns, with chosen interactions, and in the features of a PointNet on an organ's
    surface; both are trained on Cox's partial likelihood.

    Deviations: the linear part is fitted exactly and again beside the trained network, where the
    paper trains both together; as there, nothing keeps the network from saying what the columns say
    (``orthogonalization="post_hoc"`` does); Efron's ties. An image may stand in the place of the
    point cloud.

    Parameters
    ----------
    structured : str
        The wide part.
    modalities : dict of str to Modality
        The deep part: ``{"hippocampus": Points("cloud")}``.
    **params
        Of `FusionCox`.

    Returns
    -------
    FusionCox

    Examples
    --------
    >>> from mmfusion import Points
    >>> model = poelsterl_wide_deep("age * sex", {"hippocampus": Points("cloud")})
    >>> model.orthogonalization is None
    True
    """
    settings: dict[str, Any] = {
        "fusion": JointFusion("concat", hidden=()),
        "orthogonalization": None,
    }
    return FusionCox(modalities, structured=structured, **PUBLISHED | settings | params)
