"""Discrete-time survival: a predictor an interval, and curves of any shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmfusion.heads import DiscreteTimeHead
from mmfusion.heads.discrete import LOSSES, DiscreteLoss, Interpolation, Scheme
from mmfusion.heads.discrete.registry import LIKELIHOODS
from mmfusion.inputs.parameters import check_choice, check_number

from ._cuts import IntervalPredictions
from ._docs import documented
from .base import FusionEstimator

__all__ = ["FusionDiscreteTime"]


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class FusionDiscreteTime(IntervalPredictions, FusionEstimator):
    """Survival on a grid of intervals: a multimodal network computes a predictor for each.

    Nothing ties the intervals to each other, so effects may change over time and curves may cross,
    which `FusionCox` rules out. With delayed entry and case weights.

    Parameters
    ----------
    {modalities, fusion}
    structured : str, optional
        Formula of the structured part, ``"treatment + s(age) + C(stage)"``: fitted exactly first,
        then beside the networks, which are trained with its predictor as an offset
        (`mmfusion.structured.Formula`). With ``modalities={}`` it is the whole model: the classical
        one, a regression of grouped times whose intervals have a baseline each and share their
        effects, unless a term reads the time of the interval: ``"x + x:t"``, ``"tv(x)"``. With the
        losses of hazards ("logistic_hazard", "pc_hazard", "multisurv").
    {linear, n_members, head, orthogonalization, inference, id, cluster, auxiliary, pretrained,
    pretrained_lr_scale, modality_dropout, epochs, batch_size, learning_rate, patience,
    validation_fraction, training, device, verbose, random_state}
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
    alpha : float, default=0.2
        Of DeepHit: ``alpha * likelihood + (1 - alpha) * ranking loss``, as in pycox; Lee et al. add
        the ranking loss with a weight instead.
    sigma : float, default=0.1
        Of DeepHit: pairs are discounted by their difference in incidence over `sigma`.

    Attributes
    ----------
    {modalities_, linear_effects_, network_, history_, best_epoch_, interrupted_,
    fusion_weights_, effects_, covariance_, structured_weight_, deep_share_, n_features_in_,
    feature_names_in_}
    cuts_ : ndarray, shape (n_intervals + 1,)
        Bounds of the intervals, from 0 on; the last is at most the last time of the data.
    causes_ : ndarray of int64
        Causes of events, sorted; ``[1]`` where there is one.

    Notes
    -----
    Interval j is ``(cuts[j - 1], cuts[j]]``; time 0 lies in the first. An event counts in the
    interval that holds it. A censored row survived the intervals that end by its time, and counts
    in no further one (PC-hazard takes the part that it saw). A row with delayed entry counts from
    the interval on that holds its entry, all of it. An event beyond the last cut is censored
    there, and beyond it nothing is predicted.

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

    loss: DiscreteLoss = "logistic_hazard"
    cuts: Sequence[float] | np.ndarray | None = None
    n_intervals: int = 10
    scheme: Scheme = "quantiles"
    interpolation: Interpolation | None = None
    alpha: float = 0.2
    sigma: float = 0.1

    def _make_head(self) -> DiscreteTimeHead:
        check_choice("loss", self.loss, LOSSES)
        check_number("n_intervals", self.n_intervals, 1, integer=True)
        check_choice("scheme", self.scheme, ("quantiles", "equidistant"))
        if self.interpolation is not None:
            choices = ("constant_density", "constant_hazard")
            check_choice("interpolation", self.interpolation, choices)
        check_number("alpha", self.alpha, 0, 1)
        check_number("sigma", self.sigma, 0.01)  # exp(1 / sigma) is the largest of the losses
        head = DiscreteTimeHead(
            self.loss,
            cuts=self.cuts,
            n_intervals=self.n_intervals,
            scheme=self.scheme,
            interpolation=self.interpolation,
            alpha=self.alpha,
            sigma=self.sigma,
        )
        if self.structured is not None and not head.likelihood.shares_effects:
            shared = tuple(name for name, kind in LIKELIHOODS.items() if kind.shares_effects)
            raise ValueError(
                f"The loss parameter must be one of {shared} with a formula, whose effects "
                f"are those on the hazard of every interval. Got {self.loss!r}."
            )
        return head
