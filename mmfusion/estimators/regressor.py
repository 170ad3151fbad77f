"""Numbers from several modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import RegressorMixin

from mmfusion.heads import GaussianHead

from .base import FusionEstimator

__all__ = ["FusionRegressor"]


class FusionRegressor(RegressorMixin, FusionEstimator):
    """Least-squares regressor whose mean a multimodal network computes.

    Trained on the Gaussian likelihood with a constant scale; the outcome is standardised inside.

    Parameters
    ----------
    modalities : dict of str to Modality, optional
        What the table holds: ``{"ct": Image("ct_path"), "ehr": Tabular(["age", "sex"])}``.
        None infers it from the columns; a bare array is one `Tabular`.
    fusion : str, JointFusion, EarlyFusion or LateFusion, default="concat"
        How the modalities are joined: the name of an operator in `mmfusion.fusion.OPERATORS`
        ("concat", "gated", "attention", ...) for joint fusion, or one of these objects.
    structured : str, optional
        Formula of the structured part, ``"treatment + s(age) + C(stage)"``: fitted exactly first,
        then beside the networks, which learn what it leaves (`mmfusion.structured.Formula`). With
        ``modalities={}`` it is the whole model: the classical one.
    head : {"additive", "nonlinear"}, default="additive"
        Beside a formula, what the networks' predictor is made of: of the modalities alone, so that
        it adds one interpretable number a row; or of the formula's columns too, which then may
        interact with the modalities (the two models of Law, Paige & Russell 2019).
    orthogonalization : {"post_hoc", "online", "two_stage"} or None, default="post_hoc"
        "post_hoc" takes off the networks' predictor what lies in the formula's design, in the
        metric of the likelihood (Ruegamer 2023): the coefficients are the classical ones. "online"
        does so within the network, batch by batch in training, for all training rows after it (the
        cell of Ruegamer, Kolb & Klein 2023). "two_stage" adds the networks to the classical model
        as they are (Law, Paige & Russell 2019). None fits the coefficients beside the networks'
        predictor as it is: they then say what the networks happen not to.
    inference : {"model", "robust", "cross_fit", "double_ml"}, default="model"
        Where the standard errors come from: the information of the likelihood given the networks;
        the sandwich; or the information beside the predictor, with a coefficient of its own, of
        networks that did not see the row, of five folds: the one to report of a randomised
        treatment, at five more fits. "double_ml" reports the effect of `treatment` where it was not
        randomised, at thirty more fits: cross-fitted networks learn what all else says of the
        outcome and of the treatment (Chernozhukov et al. 2018, eq. 4.4); the
        other rows of ``effects_`` are those of "model".
    treatment : str, optional
        The term of the formula that "double_ml" is about: a number, or a factor of two levels. No
        other term and no modality may read its column; modalities that are inferred leave it out.
    cluster : column name, optional
        Rows that share a value of this column of `X` count as one in a robust covariance, which
        is then used whatever `inference` says, and stay together in folds and in the validation
        part. Tests have as many degrees of freedom as there are clusters, less one.
    modality_dropout : float or dict of str to float, default=0.0
        Chance that a present modality of a subject is hidden in a training step; one always stays.
        A dict gives modalities their own chances, 0 to those it does not name.
    auxiliary : sequence of objectives, optional
        Losses of the embeddings, trained beside the likelihood: ``[Similarity(weight=0.1)]``; see
        `mmfusion.objectives`. They do not enter the validation loss.
    pretrained : FusionPretrainer, optional
        Fitted: where the encoders start, and the preprocessing. Its modalities must be these (or
        more; by default they are its own) and its `dim` the fusion's. A clone shares it, so its
        parameters are none of the estimator's; it is not saved with the model. In a grid of
        candidates, which are cloned too, wrap it: ``sklearn.frozen.FrozenEstimator(pretrainer)``.
    pretrained_lr_scale : float, default=0.1
        Learning rate of pretrained encoders as a multiple of their usual one; 0 freezes them.
    epochs : int, default=100
        Most passes over the training rows.
    batch_size : int or None, default=256
        Rows of one step. None is all rows.
    micro_batch_size : int, optional
        Rows that fit in memory at once. Larger batches are trained with their exact gradient in
        two passes.
    learning_rate, weight_decay : float, default=3e-3, 1e-2
        Of AdamW.
    warmup : float, default=0.1
        Share of the steps over which the learning rate rises, before its cosine decay.
    clip_norm : float or None, default=1.0
        Largest norm of a step's gradient.
    patience : int or None, default=15
        Epochs without a lower validation loss before training stops; the weights of the best epoch
        are kept. None trains all epochs on all rows.
    validation_fraction : float, default=0.15
        Share of the rows held out for early stopping (stratified by fifths of the outcome), where
        `fit` is given no `eval_set`. Fewer than 8 held-out rows are trained on instead, for all
        epochs.
    ema : float or None, default=0.98
        Decay a step of a moving average of the weights, which is what is judged and kept; less in
        the first steps, to forget the untrained weights. None keeps the weights themselves.
    device : str, default="auto"
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    precision : {"32-true", "bf16-mixed"}, default="32-true"
        Of the network. Likelihoods are computed in float64 whatever it is.
    callbacks : sequence of Callback, optional
        See `mmfusion.training.Callback`.
    verbose : int, default=0
        1 shows a progress bar, 2 prints a line an epoch.
    random_state : int, RandomState instance or None, default=None
        The same number gives the same weights.

    Attributes
    ----------
    modalities_ : dict of str to Modality
        Fitted on the training rows.
    network_ : torch.nn.Module
        The trained network (with late fusion, one a modality), on the CPU.
    history_ : DataFrame
        A row an epoch: losses, validation score, learning rate, seconds.
    best_epoch_ : int
        The epoch whose weights were kept.
    interrupted_ : bool
        Whether Ctrl-C ended the training: late fusion is then without the networks that had no
        turn.
    fusion_weights_ : Series
        With `LateFusion`: a weight a modality, or the coefficients of a stack.
    effects_, covariance_ : DataFrame
        With `structured`: effects with 95 % intervals and p-values, and their covariance.
    structured_weight_, deep_share_ : float
        With `structured`: the two parts' shares of the predictor's variance.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where `X` was a DataFrame with string column names.
    scale_ : float
        Residual standard deviation of the training rows, in the unit of y.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from mmfusion.estimators import FusionRegressor
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = FusionRegressor(epochs=20, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.4
    True
    """

    _head: GaussianHead

    def _make_head(self) -> GaussianHead:
        return GaussianHead()

    def _outcome_context(self, frame: pd.DataFrame) -> dict[str, Any]:
        return {"index": frame.index}

    def predict(
        self, X: pd.DataFrame | np.ndarray, *, modalities: Sequence[str] | None = None
    ) -> np.ndarray:
        """Return the mean of each row, in the unit of y.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities : list of str, optional
            Predict from these alone: the others count as absent, and are not read; `X` may lack
            their columns. Empty only beside a formula, which is then asked alone.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        eta = self._predictors(X, modalities)[1]
        return self._head.mean(eta)

    def score(
        self,
        X: pd.DataFrame | np.ndarray,
        y: Any,
        sample_weight: np.ndarray | None = None,
        *,
        modalities: Sequence[str] | None = None,
    ) -> float:
        """Return the coefficient of determination R squared.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        y : array-like, shape (n,)
        sample_weight : array-like, shape (n,), optional
        modalities : list of str, optional
            As in `predict`.

        Returns
        -------
        float
        """
        from sklearn.metrics import r2_score  # slow to import

        predicted = self.predict(X, modalities=modalities)
        return float(r2_score(y, predicted, sample_weight=sample_weight))

    @property
    def scale_(self) -> float:
        """Residual standard deviation of the training rows, in the unit of y."""
        return self._head.scale_
