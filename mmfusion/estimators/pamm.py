"""Piecewise-exponential additive mixed models, with images and other modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmfusion.heads import PiecewiseExponentialHead
from mmfusion.heads.discrete import Scheme
from mmfusion.heads.piecewise.head import SHARED
from mmfusion.inputs.parameters import check_choice, check_number

from ._bands import HazardBands
from ._docs import documented
from .base import FusionEstimator

__all__ = ["FusionPAMM"]


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class FusionPAMM(HazardBands, FusionEstimator):
    """Piecewise-exponential additive mixed model, to which a multimodal network adds (DeepPAMM).

    The hazard of an interval is ``exp(eta)``; its logarithm is a smooth function of time and the
    sum of the formula's terms, which may read the time as well, and of the networks' outputs
    (Bender, Groll & Scheipl 2018; Kopper et al. 2022). No table with a row a subject and interval
    is made, and an image is encoded once a step. With start-stop rows (`id`), delayed entry, case
    weights, recurrent events, competing risks, and events that are known to lie in an interval of
    time only (``surv(..., upper=)``).

    Parameters
    ----------
    {modalities, fusion}
    structured : str or dict of str to str, optional
        Formula of the log-hazard, ``"treatment + s(age)"`` (`mmfusion.structured.Formula`). A term
        may read the time `t` of an interval, its middle, and its ends, `start` and `end`:
        ``tv(x)``, an effect that varies smoothly over time; ``x:t``, ``x:log(t)``; ``s(x, t)``;
        ``g + s(t, by=g)``, a baseline a group; ``re(id)``, a frailty. With several causes each has
        the effects of its own, or a dict has a formula for each: ``{"cause_1": "x", "cause_2":
        "s(age)", "shared": "treatment"}``, those under "shared" common to all.
    {linear, n_members, head, orthogonalization, inference, id, cluster, auxiliary,
    pretrained, pretrained_lr_scale, modality_dropout, epochs, batch_size,
    learning_rate, patience, validation_fraction, training, device, verbose, random_state}
    cuts : sequence of float, optional
        Bounds of the intervals, in the unit of the outcome; the first interval starts at 0. None
        makes them from the training rows. Intervals without events are merged, with a warning.
    n_intervals : int, default=50
        Where `cuts` is None: the most intervals. Terms in time take an interval's middle for all of
        it: of few wide ones, as the last of ten quantiles is, that bends their curves.
    scheme : {"quantiles", "equidistant"}, default="quantiles"
        Where `cuts` is None: intervals that end at quantiles of the event times, or of one length.
    baseline : str, default="s(t)"
        Formula of the log-hazard over time, left out where the formula has a function of the time
        alone: ``"s(t, k=20)"``, ``"log(t)"`` (about Weibull's). "steps" is a constant an interval,
        also taken where there are fewer than four.
    deep_time_varying : bool, default=False
        Whether what the networks add may vary over time: an output for each power of it up to the
        third. By default it is one number, a log hazard ratio.

    Attributes
    ----------
    {modalities_, linear_effects_, network_, history_, best_epoch_, interrupted_, fusion_weights_,
    effects_, covariance_, structured_weight_, deep_share_, n_features_in_, feature_names_in_}
    cuts_ : ndarray, shape (n_intervals + 1,)
        Bounds of the intervals; the first is 0, or where the first row enters.
    causes_ : ndarray of int64
        Causes of events, sorted; ``[1]`` where there is one.

    Notes
    -----
    Interval j is ``(cuts[j - 1], cuts[j]]``. A row is at risk in the overlap of ``(entry, time]``
    with it; a covariate that changes within an interval is two rows of one subject. An event
    beyond the last cut is censored there, and curves stay where they are: a convention, no
    estimate. With several causes ``predict_survival_function`` is the probability of none of them.

    Smoothing parameters maximise the restricted likelihood, as R's mgcv with ``method="REML"``;
    formulas in `end` are those of R's pammtools in ``tend``.

    Examples
    --------
    >>> from mmfusion.datasets import load_digits_cohort
    >>> from mmfusion.estimators import FusionPAMM
    >>> cohort = load_digits_cohort(n=200, random_state=0)
    >>> model = FusionPAMM({}, structured="treatment + s(age)", n_intervals=20)
    >>> model = model.fit(cohort.frame, cohort.target)
    >>> model.effects_.index.tolist()
    ['Intercept', 'treatment', 's(t)', 's(age)']
    >>> model.predict_survival_function(cohort.frame, times=[12, 36]).shape
    (200, 2)
    """

    cuts: Sequence[float] | np.ndarray | None = None
    n_intervals: int = 50
    scheme: Scheme = "quantiles"
    baseline: str = "s(t)"
    deep_time_varying: bool = False

    def _make_head(self) -> PiecewiseExponentialHead:
        check_number("n_intervals", self.n_intervals, 1, integer=True)
        check_choice("scheme", self.scheme, ("quantiles", "equidistant"))
        if not isinstance(self.baseline, str):
            raise TypeError(
                "The baseline parameter must be a formula such as 's(t)', or 'steps'. "
                f"Got {self.baseline!r}."
            )
        return PiecewiseExponentialHead(
            cuts=self.cuts,
            n_intervals=self.n_intervals,
            scheme=self.scheme,
            baseline=None if self.baseline == "steps" else self.baseline,
            time_varying=self.deep_time_varying,
            shared=isinstance(self.structured, Mapping) and SHARED in self.structured,
        )

    def _formulas(self) -> str | Mapping[str, str]:
        return "1" if self.structured is None else self.structured
