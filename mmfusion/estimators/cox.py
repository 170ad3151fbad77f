"""Cox's proportional hazards model with a multimodal predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.heads import CoxHead
from mmfusion.heads.cox import CoxMixtureHead, TiesMethod
from mmfusion.inputs.columns import take_column
from mmfusion.inputs.parameters import check_choice
from mmfusion.modalities import Modality
from mmfusion.objectives import Objective
from mmfusion.training import Callback

from ._diagnostics import CoxDiagnostics
from ._survival import SurvivalPredictions
from .base import FusionEstimator
from .pretrainer import FusionPretrainer

__all__ = ["FusionCox"]


class FusionCox(SurvivalPredictions, CoxDiagnostics, FusionEstimator):
    """Cox's proportional hazards model whose log hazard ratio a multimodal network computes.

    The hazard of subject i in stratum s is ``h_s(t) exp(eta_i)``; the network's eta is trained on
    the partial likelihood (Cox 1972; Efron 1977 and Breslow 1974 for ties), with strata, delayed
    entry and case weights, and the baseline hazard follows in closed form (Breslow 1974).

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
    ties : {"efron", "breslow"}, default="efron"
        How tied event times enter the partial likelihood and the baseline.
    strata : column name, optional
        Each level of this column of `X` has its own baseline hazard; risk sets do not cross levels.
    epochs : int, default=100
        Most passes over the training rows.
    batch_size : int or None, default=256
        Subjects of one step, who form each other's risk sets; each batch has its share of the
        events. None is the whole cohort: the exact partial likelihood.
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
    event_times_ : ndarray
        Distinct event times of the training rows, where the baseline hazard jumps.

    Notes
    -----
    Several rows of one subject (start-stop data) are allowed where `y` carries entry times. Curves
    are right-continuous step functions, 1 before the first event time.

    Examples
    --------
    >>> from mmfusion import Genes, Image, Tabular
    >>> from mmfusion.datasets import load_digits_cohort
    >>> from mmfusion.estimators import FusionCox
    >>> cohort = load_digits_cohort(n=120, random_state=0)
    >>> model = FusionCox(
    ...     modalities={
    ...         "scan": Image("image", size=8, channels="L"),
    ...         "rna": Genes("gene_*"),
    ...         "clinic": Tabular(["age", "sex", "treatment", "stage"]),
    ...     },
    ...     fusion="gated",
    ...     epochs=5,
    ...     random_state=0,
    ... ).fit(cohort.frame, cohort.target)
    >>> model.predict(cohort.frame).shape
    (120,)
    >>> model.predict_survival_function(cohort.frame, times=[1.0, 2.0]).shape
    (120, 2)
    """

    _head: CoxHead

    def __init__(
        self,
        modalities: Mapping[str, Modality] | None = None,
        fusion: str | JointFusion | EarlyFusion | LateFusion = "concat",
        *,
        structured: str | None = None,
        head: str = "additive",
        orthogonalization: str | None = "post_hoc",
        inference: str = "model",
        cluster: Any = None,
        modality_dropout: float | Mapping[str, float] = 0.0,
        auxiliary: Sequence[Objective] | None = None,
        pretrained: FusionPretrainer | FrozenEstimator | None = None,
        pretrained_lr_scale: float = 0.1,
        ties: TiesMethod = "efron",
        strata: Any = None,
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
        self.ties = ties
        self.strata = strata

    def _make_head(self) -> CoxHead:
        check_choice("ties", self.ties, ("efron", "breslow"))
        if isinstance(self.fusion, LateFusion) and self.fusion.combine != "risk":
            return CoxMixtureHead(ties=self.ties, kind=self.fusion.combine)
        return CoxHead(ties=self.ties)

    def _columns_of_outcome(self, frame: pd.DataFrame) -> list[Any]:
        self._strata(frame)
        strata = [] if self.strata is None else [self.strata]
        return super()._columns_of_outcome(frame) + strata

    def _outcome_context(self, frame: pd.DataFrame) -> dict[str, Any]:
        return {"strata": self._strata(frame), "index": frame.index}

    def _curve_context(self, frame: pd.DataFrame) -> dict[str, Any]:
        return {"strata": self._strata(frame)}

    def _columns_read(self, modalities: Sequence[str]) -> set[Any]:
        strata = () if self.strata is None else (self.strata,)
        return super()._columns_read(modalities).union(strata)

    def _default_times(self) -> np.ndarray:
        return self.event_times_

    def _strata(self, frame: pd.DataFrame) -> pd.Series | None:
        return None if self.strata is None else take_column(frame, self.strata, "strata")

    @property
    def event_times_(self) -> np.ndarray:
        """Distinct event times of the training rows, ascending."""
        check_is_fitted(self)
        return self._head.event_times_

    def predict(
        self, X: pd.DataFrame | np.ndarray, *, modalities: Sequence[str] | None = None
    ) -> np.ndarray:
        """Return the risk score of each row: its log hazard ratio.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities : list of str, optional
            Predict from these alone: the others count as absent, and are not read; `X` may lack
            their columns. Empty only beside a formula, which is then asked alone.

        Returns
        -------
        ndarray of float64, shape (n,)
            Higher is worse. Zero is the mean of the training rows.
        """
        eta = self._predictors(X, modalities)[1]
        return self._head.risk(eta)
