"""Discrete-time survival: a predictor an interval, and curves of any shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.heads import DiscreteTimeHead
from mmfusion.heads.discrete import LOSSES, DiscreteLoss, Interpolation, Scheme
from mmfusion.inputs.parameters import check_choice, check_number
from mmfusion.modalities import Modality
from mmfusion.objectives import Objective
from mmfusion.survival import Survival, check_survival
from mmfusion.training import Callback

from ._folds import Part
from ._survival import SurvivalPredictions
from .base import FusionEstimator
from .pretrainer import FusionPretrainer

__all__ = ["FusionDiscreteTime"]

#: Losses whose intervals can share the effects of a formula.
SHARED_EFFECTS = ("logistic_hazard", "pc_hazard", "multisurv")


class FusionDiscreteTime(SurvivalPredictions, FusionEstimator):
    """Survival on a grid of intervals: a multimodal network computes a predictor for each.

    Nothing ties the intervals to each other, so effects may change over time and curves may cross,
    which `FusionCox` rules out. With delayed entry and case weights.

    Parameters
    ----------
    modalities : dict of str to Modality, optional
        What the table holds: ``{"ct": Image("ct_path"), "ehr": Tabular(["age", "sex"])}``.
        None infers it from the columns; a bare array is one `Tabular`.
    fusion : str, JointFusion, EarlyFusion or LateFusion, default="concat"
        How the modalities are joined: the name of an operator in `mmfusion.fusion.OPERATORS`
        ("concat", "gated", "attention", ...) for joint fusion, or one of these objects.
    loss : str, default="logistic_hazard"
        ``"logistic_hazard"``: a logit a hazard, Nnet-survival (Brown 1975; Gensheimer & Narasimhan
        2019). ``"pmf"``: a softmax over intervals (Kvamme & Borgan 2021). ``"mtlr"``: multi-task
        logistic regression (Yu et al. 2011). ``"deephit"``: the softmax and a ranking loss, with
        competing causes (Lee et al. 2018). ``"pc_hazard"``: hazards constant over each interval,
        in continuous time (Kvamme & Borgan 2021). ``"multisurv"``: the logistic hazard, where a
        censored row survived an interval of which it saw the first half (Vale-Silva & Rohr 2021).
    cuts : sequence of float, optional
        Bounds of the intervals, in the unit of the outcome; the first interval starts at 0. None
        makes them from the training rows.
    n_intervals : int, default=10
        Where `cuts` is None: the most intervals, from 0 to the last event.
    scheme : {"quantiles", "equidistant"}, default="quantiles"
        Where `cuts` is None: intervals in each of which the Kaplan-Meier curve falls by as much
        (fewer where event times tie), or of one length.
    interpolation : {"constant_density", "constant_hazard"}, optional
        How curves run within an interval: straight, or so that the hazard is constant. None is
        constant hazards for PC-hazard, whose likelihood says so, else constant density.
    alpha, sigma : float, default=0.2, 0.1
        Of DeepHit: ``alpha * likelihood + (1 - alpha) * ranking loss``, whose pairs are discounted
        by their difference in incidence over `sigma`. As in pycox; Lee et al. add the ranking
        loss with a weight instead.
    structured : str, optional
        Formula of the structured part, ``"treatment + s(age) + C(stage)"``: fitted exactly first,
        then beside the networks, which learn what it leaves (`mmfusion.structured.Formula`). With
        ``modalities={}`` it is the whole model: the classical one, a regression of grouped times
        whose intervals have a baseline each and share all effects. With the losses of hazards
        ("logistic_hazard", "pc_hazard", "multisurv").
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
    inference : {"model", "robust", "cross_fit"}, default="model"
        Where the standard errors come from: the information of the likelihood given the networks;
        the sandwich; or the information beside the predictor, with a coefficient of its own, of
        networks that did not see the row, of five folds: the one to report of a randomised
        treatment, at five more fits.
    cluster : column name, optional
        Rows that share a value of this column of `X` count as one in a robust covariance, which
        is then used whatever `inference` says, and stay together in folds and in the validation
        part.
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
        Subjects of one step; each batch has its share of the events. None is the whole cohort.
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
        Share of the rows held out for early stopping (with its share of the events), where
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
    cuts_ : ndarray, shape (n_intervals + 1,)
        Bounds of the intervals, from 0 on.
    causes_ : ndarray of int64
        Causes of events, sorted; ``[1]`` where there is one.
    modalities_ : dict of str to Modality
        Fitted on the training rows.
    network_ : torch.nn.Module
        The trained network (with late fusion, one a modality), on the CPU.
    history_ : DataFrame
        A row an epoch: losses, validation score, learning rate, seconds.
    best_epoch_ : int
        The epoch whose weights were kept.
    interrupted_ : bool
        Whether Ctrl-C ended the training.
    effects_, covariance_ : DataFrame
        With `structured`: effects with 95 % intervals and p-values, and their covariance.
    structured_weight_, deep_share_ : float
        With `structured`: the two parts' shares of the predictor's variance.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where `X` was a DataFrame with string column names.

    Notes
    -----
    Interval j is ``(cuts[j - 1], cuts[j]]``; time 0 lies in the first. An event counts in the
    interval that holds it. A censored row survived the intervals that end by its time, and counts
    in no further one (PC-hazard takes the part that it saw). A row with delayed entry counts from
    the interval on that holds its entry, all of it. An event beyond the last cut is censored
    there, and curves stay where they are: a convention, no estimate.

    DeepHit ranks incidences at event times: judge it by
    `mmfusion.metrics.concordance_index_antolini`. A risk score, and so `score`, sees one number of
    a curve; and ranking costs calibration.

    Examples
    --------
    >>> from mmfusion import Tabular
    >>> from mmfusion.datasets import load_digits_cohort
    >>> from mmfusion.estimators import FusionDiscreteTime
    >>> cohort = load_digits_cohort(n=120, random_state=0)
    >>> model = FusionDiscreteTime(
    ...     {"clinic": Tabular(["age", "sex", "treatment", "stage"])},
    ...     cuts=[12, 24, 36, 48, 60],
    ...     epochs=5,
    ...     random_state=0,
    ... ).fit(cohort.frame, cohort.target)
    >>> model.predict_survival_function(cohort.frame).shape
    (120, 6)
    >>> model.predict_restricted_mean(cohort.frame, horizon=60).shape
    (120,)
    """

    _head: DiscreteTimeHead

    def __init__(
        self,
        modalities: Mapping[str, Modality] | None = None,
        fusion: str | JointFusion | EarlyFusion | LateFusion = "concat",
        *,
        loss: DiscreteLoss = "logistic_hazard",
        cuts: Sequence[float] | np.ndarray | None = None,
        n_intervals: int = 10,
        scheme: Scheme = "quantiles",
        interpolation: Interpolation | None = None,
        alpha: float = 0.2,
        sigma: float = 0.1,
        structured: str | None = None,
        head: str = "additive",
        orthogonalization: str | None = "post_hoc",
        inference: str = "model",
        cluster: Any = None,
        modality_dropout: float | Mapping[str, float] = 0.0,
        auxiliary: Sequence[Objective] | None = None,
        pretrained: FusionPretrainer | FrozenEstimator | None = None,
        pretrained_lr_scale: float = 0.1,
        epochs: int = 100,
        batch_size: int | None = 256,
        micro_batch_size: int | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.1,
        clip_norm: float | None = 1.0,
        patience: int | None = 15,
        validation_fraction: float = 0.15,
        ema: float | None = 0.98,
        device: str = "auto",
        precision: str = "32-true",
        callbacks: Sequence[Callback] | None = None,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            modalities,
            fusion,
            structured=structured,
            head=head,
            orthogonalization=orthogonalization,
            inference=inference,
            cluster=cluster,
            modality_dropout=modality_dropout,
            auxiliary=auxiliary,
            pretrained=pretrained,
            pretrained_lr_scale=pretrained_lr_scale,
            epochs=epochs,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            warmup=warmup,
            clip_norm=clip_norm,
            patience=patience,
            validation_fraction=validation_fraction,
            ema=ema,
            device=device,
            precision=precision,
            callbacks=callbacks,
            verbose=verbose,
            random_state=random_state,
        )
        self.loss = loss
        self.cuts = cuts
        self.n_intervals = n_intervals
        self.scheme = scheme
        self.interpolation = interpolation
        self.alpha = alpha
        self.sigma = sigma

    def _make_head(self) -> DiscreteTimeHead:
        check_choice("loss", self.loss, LOSSES)
        check_number("n_intervals", self.n_intervals, 1, integer=True)
        check_choice("scheme", self.scheme, ("quantiles", "equidistant"))
        if self.interpolation is not None:
            choices = ("constant_density", "constant_hazard")
            check_choice("interpolation", self.interpolation, choices)
        check_number("alpha", self.alpha, 0, 1)
        check_number("sigma", self.sigma, 0.01)  # exp(1 / sigma) is the largest of the losses
        if self.structured is not None and self.loss not in SHARED_EFFECTS:
            raise ValueError(
                f"The loss parameter must be one of {SHARED_EFFECTS} with a formula, whose effects "
                f"are those on the hazard of every interval. Got {self.loss!r}."
            )
        return DiscreteTimeHead(
            self.loss,
            cuts=self.cuts,
            n_intervals=self.n_intervals,
            scheme=self.scheme,
            interpolation=self.interpolation,
            alpha=self.alpha,
            sigma=self.sigma,
        )

    def _of_part(self, part: Part) -> Any:
        return super()._of_part(part).set_params(cuts=self._head.cuts_)

    def _outcome_context(self, frame: pd.DataFrame) -> dict[str, Any]:
        return {"index": frame.index}

    @property
    def cuts_(self) -> np.ndarray:
        """Bounds of the intervals, from 0 on."""
        check_is_fitted(self)
        return self._head.cuts_

    @property
    def causes_(self) -> np.ndarray:
        """Causes of events, sorted."""
        check_is_fitted(self)
        return self._head.causes_

    def _default_times(self) -> np.ndarray:
        return self.cuts_

    def predict(
        self, X: pd.DataFrame | np.ndarray, *, modalities: Sequence[str] | None = None
    ) -> np.ndarray:
        """Return the risk score of each row: minus its mean event-free time within the grid.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities : list of str, optional
            Predict from these alone: the others count as absent, and are not read; `X` may lack
            their columns. Empty only beside a formula, which is then asked alone.

        Returns
        -------
        ndarray of float64, shape (n,)
            Higher is worse; ``-predict_restricted_mean(X, cuts_[-1])``. With several causes it is
            the time until any of them.
        """
        eta = self._predictors(X, modalities)[1]
        return self._head.risk(eta)

    def predict_cumulative_incidence_function(
        self,
        X: pd.DataFrame | np.ndarray,
        times: Sequence[float] | np.ndarray | None = None,
        cause: int = 1,
        *,
        modalities: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Return the probability of an event of one cause until each time.

        Over all causes they sum to one minus `predict_survival_function`.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        times : array-like, shape (m,), optional
            As in `predict_survival_function`.
        cause : int, default=1
            One of `causes_`.
        modalities : list of str, optional
            As in `predict`.

        Returns
        -------
        DataFrame, shape (n, m)
        """
        return self._curves("cumulative_incidence", X, times, modalities, cause=cause)

    def score(
        self,
        X: pd.DataFrame | np.ndarray,
        y: Any,
        sample_weight: np.ndarray | None = None,
        *,
        modalities: Sequence[str] | None = None,
    ) -> float:
        """Return Harrell's concordance index, with several causes of the time until any of them.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        y : survival outcome of n subjects
        sample_weight : array-like, shape (n,), optional
        modalities : list of str, optional
            As in `predict`.

        Returns
        -------
        float
        """
        outcome = check_survival(y, allow_competing=self.loss == "deephit")
        any_event = Survival(outcome.time, outcome.event > 0, outcome.entry)
        return super().score(X, any_event, sample_weight, modalities=modalities)
