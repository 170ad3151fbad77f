"""Numbers from images: hedonic prices, and transfer from frozen features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from mmfusion.estimators import FusionRegressor
from mmfusion.modalities import Image, Modality
from mmfusion.recipes._components import Components
from mmfusion.recipes._published import PUBLISHED
from mmfusion.recipes.transfer import ImageFeatures

__all__ = ["jean_transfer", "law_two_stage"]


def law_two_stage(
    structured: str, modalities: Mapping[str, Modality], head: str = "additive", **params: Any
) -> FusionRegressor:
    """Return the hedonic model of Law, Paige & Russell (2019): attributes first, then images.

    The semi-interpretable model (``head="additive"``): a linear regression on attributes, then
    image networks on its residuals, so that the attributes' coefficients stay the hedonic ones.
    Its rival in the paper, in which attributes enter the network too, is ``head="nonlinear"``.

    Deviations: encoders are those of the modalities (theirs: VGG-like, street and aerial views);
    the linear part of the nonlinear head starts it off here; AdamW; only the share of the image
    part that lowers the loss on validation rows is kept.

    Parameters
    ----------
    structured : str
        The attributes' formula.
    modalities : dict of str to Modality
        The images.
    head : {"additive", "nonlinear"}
    **params
        Of `FusionRegressor`.

    Returns
    -------
    FusionRegressor

    Examples
    --------
    >>> from mmfusion import Image
    >>> law_two_stage("area + bedrooms", {"street": Image("photo")}).orthogonalization
    'two_stage'
    """
    settings: dict[str, Any] = {"head": head, "orthogonalization": "two_stage"}
    return FusionRegressor(modalities, structured=structured, **PUBLISHED | settings | params)


def jean_transfer(
    image: Image,
    proxy: Any = None,
    n_components: int | None = 100,
    alphas: Any = None,
    epochs: int = 10,
    random_state: int | None = None,
) -> Pipeline:
    """Return the transfer model of Jean et al. (2016): features of a network, then ridge.

    Jean, Burke, Xie, Davis, Lobell & Ermon (2016): a network pretrained on ImageNet learns to tell
    a proxy that is known everywhere (classes of nightlights); its features, averaged over the
    images of a place, are reduced by principal components; ridge regression predicts the outcome.
    Both steps run in ``fit``, on the training rows.

    Deviations: the encoder is that of `image` (theirs: VGG-F); the penalty is chosen by
    generalised cross-validation on the training rows, where they nest 5 x 5 folds; the score is
    R^2 (theirs is a squared correlation).

    Parameters
    ----------
    image : Image
        With ``pretrained`` weights, as a rule.
    proxy : column name, optional
        Column of classes for the first step. None takes the encoder as it is.
    n_components : int or None, default=100
        Principal components, or all there are where the training rows (or the features) are fewer;
        None leaves them out.
    alphas : array-like, optional
        Penalties; by default 10 from 10 to 100,000.
    epochs : int
        Of the first step.
    random_state : int, optional

    Returns
    -------
    sklearn.pipeline.Pipeline

    Examples
    --------
    >>> from mmfusion import Image
    >>> [name for name, _ in jean_transfer(Image("photo")).steps]
    ['features', 'scale', 'components', 'ridge']
    """
    steps: list[tuple[str, Any]] = [
        ("features", ImageFeatures(image, proxy, epochs=epochs, random_state=random_state)),
        ("scale", StandardScaler()),
        ("ridge", RidgeCV(np.logspace(1, 5, 10) if alphas is None else alphas)),
    ]
    if n_components is not None:
        steps.insert(2, ("components", Components(n_components, random_state)))
    return Pipeline(steps)
