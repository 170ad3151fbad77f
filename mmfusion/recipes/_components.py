"""Principal components, as many as there are."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.utils.validation import check_is_fitted

__all__ = ["Components"]


class Components(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """scikit-learn's principal components; all where rows or columns are fewer than asked for.

    Parameters
    ----------
    n_components : int or float
        That many, or all there are; in (0, 1) as many as explain that share of the variance.
    random_state : int, optional

    Attributes
    ----------
    pca_ : sklearn.decomposition.PCA
        Fitted.

    Examples
    --------
    >>> import numpy as np
    >>> Components(100).fit_transform(np.random.default_rng(0).normal(size=(20, 64))).shape
    (20, 20)
    """

    def __init__(self, n_components: int | float, random_state: int | None = None) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: Any = None) -> Self:
        """Fit the components of the rows.

        Parameters
        ----------
        X : array-like, shape (n, p)
        y : ignored

        Returns
        -------
        self
        """
        n_components = self.n_components
        if isinstance(n_components, Integral):
            n_components = min(int(n_components), *np.shape(X))
        self.pca_ = PCA(n_components, random_state=self.random_state).fit(X)
        self._n_features_out = self.pca_.n_components_
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the rows' components, shape (n, number of components)."""
        check_is_fitted(self)
        return self.pca_.transform(X)
