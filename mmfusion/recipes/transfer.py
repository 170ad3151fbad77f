"""Features of an image encoder as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from mmfusion.encoders import build_encoder
from mmfusion.estimators import FusionClassifier
from mmfusion.fusion import JointFusion
from mmfusion.inputs.columns import take_column
from mmfusion.inputs.messages import name_rows
from mmfusion.modalities import Image
from mmfusion.model.checks import refuse_no_numbers
from mmfusion.model.features import frozen_features
from mmfusion.training.precision import single_precision

__all__ = ["ImageFeatures"]


class ImageFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Turns an image column into the features of an encoder, the mean over a row's images.

    Parameters
    ----------
    image : Image
        Column, preparation and encoder.
    proxy : column name, optional
        A column of classes that the encoder learns to tell first; rows where it is missing are not
        used for that. None leaves the encoder as its weights are.
    epochs : int, default=10
        Of that training.
    random_state : int, optional

    Attributes
    ----------
    image_ : Image
        Fitted.
    encoder_ : torch.nn.Module

    Examples
    --------
    >>> from mmfusion.datasets import load_digits_cohort
    >>> frame = load_digits_cohort(n=20, random_state=0).frame
    >>> ImageFeatures(Image("image", size=8, channels="L")).fit_transform(frame).shape
    (20, 128)
    """

    def __init__(
        self, image: Image, proxy: Any = None, epochs: int = 10, random_state: int | None = None
    ) -> None:
        self.image = image
        self.proxy = proxy
        self.epochs = epochs
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Fit the preparation of images and, with `proxy`, train the encoder.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If `image` is no `Image`, or `proxy` no column of `X`.
        """
        if not isinstance(self.image, Image):
            raise TypeError(f"The image parameter must be an Image. Got {self.image!r}.")
        if self.proxy is None:
            # Frozen as a whole: an encoder without an embedding would else be the pixels.
            self.image_ = clone(self.image).set_params(freeze="all").fit(X)
            with single_precision(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0 if self.random_state is None else self.random_state)
                self.encoder_ = build_encoder(self.image_, None)
        else:
            label = take_column(X, self.proxy, "proxy")
            if self.image.freeze == "all":
                raise ValueError(
                    "The proxy parameter needs an image encoder that is trained. Got an Image "
                    "with freeze='all'."
                )
            known = X[label.notna()]
            model = FusionClassifier(
                {"image": self.image},
                JointFusion(hidden=()),
                epochs=self.epochs,
                random_state=self.random_state,
            ).fit(known, known[self.proxy])
            self.image_ = model.modalities_["image"]
            encoders: Any = model.network_.encoders
            self.encoder_ = encoders["image"]
        self._n_features_out = self.encoder_.feature_width
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Return the features, float32 of shape (n, feature_width).

        Raises
        ------
        ValueError
            For rows without an image, which are named.
        """
        check_is_fitted(self)
        part = self.image_.transform(X)
        if not bool(part.present.all()):
            raise ValueError(f"Rows without an image: {name_rows(X, ~part.present.numpy())}.")
        with single_precision():
            features = frozen_features(self.encoder_, part, torch.device("cpu"), "32-true")
        refuse_no_numbers(
            features.numeric.numpy(), part.present.numpy(), X.index, "encoder", ["image"]
        )
        return features.numeric.numpy()
