"""Several fits of one estimator, averaged: other seeds, other settings; loading what was saved."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from mmfusion.inputs.labels import check_order
from mmfusion.inputs.parameters import check_number

from ._persistence import load_one_of
from ._together import MANIFEST, load_together, save_together
from .base import FusionEstimator

__all__ = ["FusionEnsemble", "load"]


def _has(method: str) -> Any:
    """Make a method one that there is where the members, or before fit the estimator, have it."""
    return available_if(
        lambda self: hasattr(getattr(self, "estimators_", [self.estimator])[0], method)
    )


class FusionEnsemble(MetaEstimatorMixin, BaseEstimator):
    """The mean of several fits of an estimator, each with a seed, or settings, of its own.

    The estimators average five networks of one setting already (`n_members`); this is for what
    differs in more: operators, encoders, how modalities are joined. All members see all rows.

    Parameters
    ----------
    estimator : estimator of `mmfusion.estimators`
    n_members : int, default=5
    settings : sequence of dict, optional
        Parameters of the members in turn, over those of the estimator:
        ``[{"fusion": "gated"}, {"fusion": "concat"}]``.
    random_state : int, RandomState or None, default=None
        Of the members' seeds.
    n_jobs : int, optional
        Fits at once, in processes.

    Attributes
    ----------
    estimators_ : list of estimator
        The members, fitted.
    classes_ : ndarray
        Of a classifier.

    Examples
    --------
    >>> from mmfusion import Tabular
    >>> from mmfusion.datasets import load_digits_cohort
    >>> from mmfusion.estimators import FusionCox, FusionEnsemble
    >>> cohort = load_digits_cohort(n=120, random_state=0)
    >>> model = FusionCox({"clinic": Tabular(["age", "sex", "stage"])}, n_members=1, epochs=3)
    >>> ensemble = FusionEnsemble(model, 2, random_state=0).fit(cohort.frame, cohort.target)
    >>> ensemble.predict(cohort.frame).shape, ensemble.spread(cohort.frame).shape
    ((120,), (120,))
    """

    def __init__(
        self,
        estimator: Any,
        n_members: int = 5,
        *,
        settings: Sequence[Mapping[str, Any]] | None = None,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.n_members = n_members
        self.settings = settings
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the members.

        Parameters
        ----------
        X : DataFrame or array, n rows
        y : outcome, n rows
        sample_weight : array-like, shape (n,), optional

        Returns
        -------
        self

        Raises
        ------
        TypeError
            An estimator of another kind (a Pipeline is one), settings that are no dicts.
        ValueError
            As of the members' ``fit``.
        """
        self._check_parts()
        check_number("n_members", self.n_members, 1, integer=True)
        check_order(X=X, y=y, sample_weight=sample_weight)
        settings = list(self.settings) if self.settings else [{}]
        rng = check_random_state(self.random_state)
        members = []
        for number in range(self.n_members):
            member = clone(self.estimator).set_params(random_state=int(rng.randint(2**31 - 1)))
            members.append(member.set_params(**settings[number % len(settings)]))
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.estimators_ = Parallel(n_jobs=self.n_jobs)(
            delayed(member.fit)(X, y, **weights) for member in members
        )
        self._expose()
        return self

    def _check_parts(self) -> None:
        if not isinstance(self.estimator, FusionEstimator):
            raise TypeError(
                "The estimator parameter must be an estimator of mmfusion.estimators. Got "
                f"{type(self.estimator).__name__}."
            )
        settings = [] if self.settings is None else self.settings
        if isinstance(settings, Mapping) or not all(isinstance(each, Mapping) for each in settings):
            raise TypeError(
                f"The settings parameter must be a list of dicts of parameters. Got {settings!r}."
            )

    def _expose(self) -> None:
        for name in ("classes_", "causes_", "n_features_in_", "feature_names_in_"):
            if hasattr(self.estimators_[0], name):
                setattr(self, name, getattr(self.estimators_[0], name))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save the fitted members into `folder`, each as its own ``save`` does.

        Parameters
        ----------
        folder : path
            Made if it does not exist; replaced if it holds a saved ensemble.

        Raises
        ------
        NotFittedError, OSError, ValueError
            As of the members' ``save``.
        """
        check_is_fitted(self)
        save_together(self.estimators_, Path(folder))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Load an ensemble that `save` wrote.

        Parameters
        ----------
        folder : path

        Returns
        -------
        FusionEnsemble
            Fitted, equal in its predictions. Its `estimator` is the first member's, `settings` are
            the members' parameters, so that fitting it again makes the same members.

        Raises
        ------
        FileNotFoundError
            If `folder` holds no saved ensemble.
        ValueError
            If it is damaged, or of another format.
        """
        members = load_together(FusionEstimator, Path(folder))
        settings = [clone(member).get_params(deep=False) for member in members]
        model = cls(clone(members[0]), len(members), settings=settings)
        model.estimators_ = members
        model._expose()
        return model

    def predict(self, X: Any, **asked: Any) -> np.ndarray:
        """Return the mean risk or number of each row, or the class with the largest mean chance.

        Parameters
        ----------
        X : DataFrame or array, n rows
        **asked
            Of the members' method, such as ``modalities=``.

        Returns
        -------
        ndarray, shape (n,)
            What the members' ``predict`` is: of `FusionDistribution` a mean, in the unit of y.
        """
        if is_classifier(self.estimator):
            shares = self.predict_proba(X, **asked)
            return self.classes_[shares.argmax(axis=1)]
        return np.mean(self._each("predict", X, **asked), axis=0)

    @_has("predict_risk")
    def predict_risk(self, X: Any, **asked: Any) -> np.ndarray:
        """Return the mean risk score of each row, higher is worse, of members that predict times.

        Parameters
        ----------
        X : DataFrame or array, n rows
        **asked
            Of the members' method, such as ``modalities=``.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        return np.mean(self._each("predict_risk", X, **asked), axis=0)

    @_has("predict_proba")
    def predict_proba(self, X: Any, **asked: Any) -> np.ndarray:
        """Return the mean probability of each class.

        Parameters
        ----------
        X : DataFrame or array, n rows
        **asked
            Of the members' method, such as ``modalities=``.

        Returns
        -------
        ndarray of float64, shape (n, n_classes)
        """
        return np.mean(self._each("predict_proba", X, **asked), axis=0)

    @_has("predict_survival_function")
    def predict_survival_function(
        self,
        X: Any,
        times: Any = None,
        *,
        extrapolate: bool = False,
        **asked: Any,
    ) -> pd.DataFrame:
        """Return the mean survival curve of each row: that of the members' mixture.

        Parameters
        ----------
        X : DataFrame or array, n rows
        times : array-like, shape (m,), optional
            By default those of the first member.
        extrapolate : bool, default=False
            As of the members; those of `FusionDistribution` always do.
        **asked
            Of the members' method, such as ``modalities=``.

        Returns
        -------
        DataFrame, shape (n, m)
        """
        return self._mean_curves("predict_survival_function", X, times, extrapolate, **asked)

    @_has("predict_cumulative_incidence_function")
    def predict_cumulative_incidence_function(
        self,
        X: Any,
        times: Any = None,
        cause: int = 1,
        *,
        extrapolate: bool = False,
        **asked: Any,
    ) -> pd.DataFrame:
        """Return the mean over the members of the probability of an event of one cause.

        Parameters
        ----------
        X : DataFrame or array, n rows
        times : array-like of float, shape (m,), optional
            In the unit of the outcome.
        cause : int, default=1
            One of `causes_`.
        extrapolate, **asked
            As in `predict_survival_function`.

        Returns
        -------
        DataFrame, shape (n, m)
            Indexed by row, a column a time.

        Raises
        ------
        ValueError
            For a cause that no training row had.
        """
        method = "predict_cumulative_incidence_function"
        return self._mean_curves(method, X, times, extrapolate, cause=cause, **asked)

    def spread(self, X: Any, times: Any = None) -> Any:
        """Return the standard deviation over the members: how far the fits disagree on a row.

        It tells what another seed or setting would have said, and nothing of what other training
        rows would have: no interval of the prediction.

        Parameters
        ----------
        X : DataFrame or array, n rows
        times : array-like, shape (m,), optional
            Of survival: of the curves at these times, in place of the risk.

        Returns
        -------
        ndarray or DataFrame
            Shape (n,) of risks and numbers, (n, n_classes) of classes' probabilities, (n, m) of
            curves; 0 of a single member.
        """
        if times is not None:
            tables = self._curves("predict_survival_function", X, times, extrapolate=False)
            return pd.DataFrame(
                np.std([table.to_numpy() for table in tables], axis=0),
                index=tables[0].index,
                columns=tables[0].columns,
            )
        each = self._each("predict_proba" if is_classifier(self.estimator) else "predict", X)
        return np.std(each, axis=0)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the members' score of the mean: Harrell's C, the accuracy, or R².

        Of `FusionDistribution` it is the mean log score of the members' mixture.

        Parameters
        ----------
        X : DataFrame or array, n rows
        y : outcome, n rows
        sample_weight : array-like, shape (n,), optional

        Returns
        -------
        float
        """
        from sklearn.metrics import accuracy_score, r2_score  # slow to import

        check_is_fitted(self)
        check_order(X=X, y=y, sample_weight=sample_weight)
        first = self.estimators_[0]
        if hasattr(first, "predict_distribution"):
            found = [member._log_scores(X, y, sample_weight) for member in self.estimators_]
            mixture = np.logaddexp.reduce([scores for scores, _ in found]) - np.log(len(found))
            return float(np.average(mixture, weights=found[0][1]))
        if hasattr(first, "predict_survival_function"):
            return float(first._concordance(X, y, self.predict(X), sample_weight))
        metric = accuracy_score if is_classifier(self.estimator) else r2_score
        return float(metric(y, self.predict(X), sample_weight=sample_weight))

    @property
    def strata(self) -> Any:
        """The members' column of strata: their risks are comparable within one only."""
        return getattr(self.estimator, "strata", None)

    def _each(self, method: str, X: Any, **asked: Any) -> list[Any]:
        check_is_fitted(self)
        return [getattr(member, method)(X, **asked) for member in self.estimators_]

    def _curves(
        self, method: str, X: Any, times: Any, extrapolate: bool, **asked: Any
    ) -> list[pd.DataFrame]:
        check_is_fitted(self)
        first, *others = [getattr(member, method) for member in self.estimators_]
        if "extrapolate" in signature(first).parameters:
            asked["extrapolate"] = extrapolate
        tables = [first(X, times, **asked)]
        times = tables[0].columns.to_numpy()
        return tables + [other(X, times, **asked) for other in others]

    def _mean_curves(self, *given: Any, **asked: Any) -> pd.DataFrame:
        tables = self._curves(*given, **asked)
        return sum(tables[1:], start=tables[0]) / len(tables)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        tags.input_tags, tags.target_tags = inner.input_tags, inner.target_tags
        return tags


def load(folder: str | os.PathLike[str]) -> Any:
    """Load an estimator, or an ensemble, that its ``save`` wrote, whichever it is.

    Parameters
    ----------
    folder : path

    Returns
    -------
    estimator
        Fitted; see `FusionCox.load`.

    Raises
    ------
    FileNotFoundError
        If `folder` holds no saved estimator.
    ValueError
        If it is none of the estimators, or damaged.
    """
    if (Path(folder) / MANIFEST).is_file():
        return FusionEnsemble.load(folder)
    return load_one_of(FusionEstimator, Path(folder))
