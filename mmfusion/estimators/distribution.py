"""Whole distributions from several modalities, each parameter with a formula and networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from mmfusion.heads import DistributionHead
from mmfusion.heads.families import Distribution, Family, check_family
from mmfusion.inputs.labels import check_order
from mmfusion.inputs.parameters import check_number
from mmfusion.metrics import Recalibrated, log_score
from mmfusion.model.bands import value_bands

from ._calibrated import CalibratedPredictions
from ._docs import documented
from ._lifetimes import LifetimePredictions
from .base import FusionEstimator

__all__ = ["FusionDistribution"]


def _of_levels(model: Any) -> bool:
    """Whether the outcome has levels, each with a probability."""
    ends = check_family(model.family)
    return ends.discrete and bool(np.isfinite(ends.support).all())


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class FusionDistribution(
    CalibratedPredictions, LifetimePredictions, RegressorMixin, FusionEstimator
):
    """Distributional regression: formulas and multimodal networks for each parameter of a family.

    Semi-structured distributional regression (Ruegamer, Kolb & Klein 2023): the outcome of a row
    has a distribution of the `family` whose parameters each have a predictor, the sum of a
    formula's terms and of the networks' outputs, through a link. All predictors are fitted
    together, by Newton's method on the full likelihood, smoothing parameters by restricted
    likelihood. Values may be censored (right, left, in an interval) and truncated: with survival
    times it is an accelerated failure time model.

    Parameters
    ----------
    {modalities, fusion}
    family : str or Family, default="normal"
        "normal" (loc, scale), "student_t" (loc, scale, df), "logistic", "gumbel" (loc, scale);
        of numbers above 0: "log_normal", "log_logistic", "weibull" (loc and scale of log y, as in
        R's survreg), "exponential" (rate), "gamma", "inverse_gaussian" (mean, dispersion); between
        0 and 1: "beta" (mean, precision); of counts: "poisson" (rate), "negative_binomial" (rate,
        dispersion), "zero_inflated_poisson" (rate, zero), "zero_inflated_negative_binomial" (rate,
        dispersion, zero); "bernoulli" (probability); of ordered levels "ordinal" (loc). Or one of
        your own (`mmfusion.heads.families.Family`). Locations of all numbers have the identity
        link, numbers above 0 the log, chances and shares the logit.
    structured : str or dict of str to str, optional
        The location's formula, or a formula a parameter, ``{"loc": "x + s(z)", "scale": "x"}``; a
        parameter that has none is constant.
    deep : str, sequence of str, or dict of str to list of str or None, optional
        The parameters that networks, and the linear part, move: ``("loc", "scale")``. By default
        the location. They share the network up to its last layer; each has a share of its own that
        is kept. A dict gives each parameter fusion and hidden layers of its own behind shared
        encoders, and says which modalities it reads, None of all:
        ``{"loc": ["scan", "ehr"], "scale": ["ehr"]}``. Where some do not read all there is no
        linear part.
    {linear, n_members, head, orthogonalization, inference, id, cluster, auxiliary,
    pretrained, pretrained_lr_scale, modality_dropout, epochs, batch_size,
    learning_rate, patience, validation_fraction, training, device, verbose, random_state}

    Attributes
    ----------
    {modalities_, linear_effects_, network_, history_, best_epoch_, interrupted_, fusion_weights_,
    effects_, covariance_, structured_weight_, deep_share_, n_features_in_, feature_names_in_}
    classes_ : ndarray
        Of "bernoulli" and "ordinal": the levels.

    Notes
    -----
    Forms of `y`: numbers, a value a row; a DataFrame with the columns ``lower`` and ``upper``,
    equal where a value is known, infinite where there is no limit, both ends included, and perhaps
    ``entry``, below which a row would not have been seen; or survival times
    (`mmfusion.survival.surv`, with ``entry=`` and ``upper=``), with which come
    ``predict_survival_function`` and its like. A survival time that is left censored at t is an
    event in ``(0, t]``: ``surv(0, True, upper=t)``.

    Coefficients are in units of y, and fits of y and 1,000,000 y the same model. "double_ml",
    marginal effects and late fusion of curves are not there.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from mmfusion.estimators import FusionDistribution
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = FusionDistribution({}, structured={"loc": "bmi + s(bp)", "scale": "bmi"}).fit(X, y)
    >>> model.effects_.index.tolist()  # doctest: +NORMALIZE_WHITESPACE
    [('Intercept', 'loc'), ('bmi', 'loc'), ('s(bp)', 'loc'), ('Intercept', 'scale'),
     ('bmi', 'scale')]
    >>> model.predict_interval(X, level=0.8).shape
    (442, 2)
    """

    family: str | Family = "normal"
    deep: str | Sequence[str] | Mapping[str, Sequence[str] | None] | None = None

    def _make_head(self) -> DistributionHead:
        deep = (self.deep,) if isinstance(self.deep, str) else self.deep
        return DistributionHead(check_family(self.family), deep)

    def _formulas(self) -> Mapping[str, str]:
        given = "1" if self.structured is None else self.structured
        if not isinstance(given, str):
            return given
        return {check_family(self.family).formulas(1.0).names[0]: given}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # a log score is no R squared
        return tags

    def predict(
        self,
        X: pd.DataFrame | np.ndarray,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> np.ndarray:
        """Return the mean of each row, in the unit of y.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities : list of str, optional
            Predict from these alone: the others count as absent, and are not read; `X` may lack
            their columns. Empty: the formulas are asked alone.
        exclude : list of str, optional
            Terms of the formulas that are left out, such as "re(site)".

        Returns
        -------
        ndarray of float64, shape (n,)
            NaN or infinite where the distribution has no mean (Student's t with ``df <= 1``, the
            log-logistic with ``scale >= 1``). Of levels, the mean of their numbers.
        """
        return self.predict_distribution(X, modalities=modalities, exclude=exclude).mean

    def predict_distribution(
        self,
        X: pd.DataFrame | np.ndarray,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> Distribution | Recalibrated:
        """Return the distribution of each row, as one object.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities, exclude : list of str, optional
            As in `predict`.

        Returns
        -------
        mmfusion.heads.families.Distribution, or mmfusion.metrics.Recalibrated
            With `pdf`, `cdf`, `sf`, their logarithms, `quantile`, `sample`, `mean`, `std`,
            `median`, row i for row i.
        """
        return self._distribution(self._predictors(X, modalities, exclude)[1])

    def predict_parameters(
        self,
        X: pd.DataFrame | np.ndarray,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> pd.DataFrame:
        """Return the parameters of each row's distribution, on their own scale, links applied.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities, exclude : list of str, optional
            As in `predict`.

        Returns
        -------
        DataFrame, shape (n, K)
            A column a parameter; of "ordinal" the log-odds of each level or a lower one.
        """
        frame, eta = self._predictors(X, modalities, exclude)
        return pd.DataFrame(self._head.distribution(eta).parameters, index=frame.index)

    def predict_quantile(
        self,
        X: pd.DataFrame | np.ndarray,
        q: float | Sequence[float] = 0.5,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> np.ndarray | pd.DataFrame:
        """Return quantiles of each row's distribution, which never cross.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        q : float or sequence of float, default=0.5
            In (0, 1).
        modalities, exclude : list of str, optional
            As in `predict`.

        Returns
        -------
        ndarray of float64, shape (n,), or of several q a DataFrame, shape (n, m)
        """
        for one in np.atleast_1d(np.asarray(q)):
            check_number("q", one, 0, 1, open_ends="low and high")
        frame, eta = self._predictors(X, modalities, exclude)
        found: np.ndarray = self._distribution(eta).quantile(q)
        if np.ndim(q) == 0:
            return found
        return pd.DataFrame(found, index=frame.index, columns=pd.Index(np.asarray(q), name="q"))

    def predict_interval(
        self,
        X: pd.DataFrame | np.ndarray,
        level: float = 0.9,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> pd.DataFrame:
        """Return the interval between two quantiles that holds an outcome with a probability.

        That of the fitted distribution, whose estimates count as known; after `calibrate` what it
        made of it.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        level : float, default=0.9
        modalities, exclude : list of str, optional
            As in `predict`.

        Returns
        -------
        DataFrame, shape (n, 2)
            ``lower`` and ``upper``, with ``(1 - level) / 2`` of the probability beyond each.
        """
        check_number("level", level, 0, 1, open_ends="low and high")
        frame, eta = self._predictors(X, modalities, exclude)
        return pd.DataFrame(
            self._interval(eta, level), index=frame.index, columns=["lower", "upper"]
        )

    def predict_band(
        self,
        X: pd.DataFrame | np.ndarray,
        what: str | float = "mean",
        *,
        level: float = 0.95,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        unconditional: bool = True,
    ) -> pd.DataFrame:
        """Return the mean, a quantile or a parameter with standard error and confidence limits.

        By the delta method from the covariance of the formulas' coefficients: what the networks
        add is taken as known. Limits are symmetric on the scale of the parameter's link, of the
        mean and of quantiles on the logarithm of numbers above 0.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        what : str or float, default="mean"
            "mean", a parameter, or q in (0, 1) of a quantile.
        level : float, default=0.95
        modalities, exclude : list of str, optional
            As in `predict`.
        unconditional : bool, default=True
            Whether the errors hold that smoothing parameters are estimates; as in `smooth_effect`.

        Returns
        -------
        DataFrame, shape (n, 4)
            value, se, lower, upper.

        Raises
        ------
        ValueError
            For a quantile of a discrete distribution, which moves in steps.
        """
        reported, family = self._reported(), self._head.family
        asked, q = what, 0.5
        if not isinstance(what, str):
            asked, q = "quantile", what
            check_number("what", q, 0, 1, open_ends="low and high")
            if family.discrete:
                raise ValueError(
                    "The what parameter must be 'mean' or a parameter of a discrete family: its "
                    f"quantiles move in steps. Got {what!r}."
                )
        elif what not in ("mean", *family.parameters):
            known = ["mean", *family.parameters]
            raise ValueError(f"The what parameter must be q or one of {known}. Got {what!r}.")
        table, eta = self._predictors(X, modalities, exclude)
        return value_bands(
            self.model_,
            reported,
            table,
            eta,
            str(asked),
            q,
            level=level,
            exclude=exclude,
            unconditional=unconditional,
        )

    def sample(
        self,
        X: pd.DataFrame | np.ndarray,
        size: int | None = None,
        random_state: Any = None,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> np.ndarray:
        """Return draws from each row's distribution.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        size : int, optional
            Draws a row.
        random_state : int, Generator or None
        modalities, exclude : list of str, optional
            As in `predict`.

        Returns
        -------
        ndarray of float64, shape (n,), or (n, size)
        """
        if size is not None:
            check_number("size", size, 1, integer=True)
        found = self.predict_distribution(X, modalities=modalities, exclude=exclude)
        return found.sample(size, random_state)

    @available_if(_of_levels)
    def predict_proba(
        self,
        X: pd.DataFrame | np.ndarray,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> np.ndarray:
        """Return the probability of each level, of "bernoulli" and "ordinal".

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities, exclude : list of str, optional
            As in `predict`.

        Returns
        -------
        ndarray of float64, shape (n, n_levels)
            In the order of `classes_`.
        """
        found = self.predict_distribution(X, modalities=modalities, exclude=exclude)
        levels = self._head.family.levels
        return found.pdf(np.tile(levels, (len(found), 1)))

    @property
    def classes_(self) -> np.ndarray:
        """The levels of a "bernoulli" or "ordinal" outcome, in their order."""
        check_is_fitted(self)
        labels = getattr(self._head.family, "labels", None)
        if labels is None:
            raise AttributeError(f"family={self.family!r} has no levels.")
        return np.asarray(labels)

    def score(
        self,
        X: pd.DataFrame | np.ndarray,
        y: Any,
        sample_weight: np.ndarray | None = None,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> float:
        """Return the mean log score: the log-likelihood of an outcome a row; higher is better.

        Of a value it is the log density, or log probability, of a censored one the log probability
        of what is known of it.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        y : outcome of n rows
            In any form that `fit` takes.
        sample_weight : array-like, shape (n,), optional
        modalities, exclude : list of str, optional
            As in `predict`.

        Returns
        -------
        float
        """
        scores, weights = self._log_scores(X, y, sample_weight, modalities, exclude)
        return float(np.average(scores, weights=weights))

    def _log_scores(
        self, X: Any, y: Any, sample_weight: Any, modalities: Any = None, exclude: Any = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the log score and the weight of each outcome."""
        check_is_fitted(self)
        check_order(X=X, y=y, sample_weight=sample_weight)
        table, eta = self._predictors(X, modalities, exclude)
        target = self._head.encode(y, sample_weight, index=table.index)
        if hasattr(self, "recalibration_"):
            scores = log_score(y, self._distribution(eta))
        else:
            scores = self._head.log_scores(eta, target)
        return np.asarray(scores), target.weight.numpy()
