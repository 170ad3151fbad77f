"""Cox's proportional hazards model with a multimodal predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from mmfusion.heads import CoxHead
from mmfusion.heads.cox import TiesMethod
from mmfusion.inputs.parameters import check_choice

from ._diagnostics import CoxDiagnostics
from ._docs import documented
from ._survival import SurvivalPredictions
from .base import FusionEstimator

__all__ = ["FusionCox"]


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class FusionCox(SurvivalPredictions, CoxDiagnostics, FusionEstimator):
    """Cox's proportional hazards model whose log hazard ratio a multimodal network computes.

    The hazard of subject i in stratum s is ``h_s(t) exp(eta_i)``; the network's eta is trained on
    the partial likelihood (Cox 1972; Efron 1977 and Breslow 1974 for ties), with strata, delayed
    entry and case weights, and the baseline hazard follows in closed form (Breslow 1974).

    Parameters
    ----------
    {modalities, fusion, structured, linear, n_members, head, orthogonalization, inference, id,
    cluster, auxiliary, pretrained, pretrained_lr_scale, modality_dropout, epochs}
    batch_size : int or None, default=256
        Subjects of one step, who form each other's risk sets; each batch has its share of the
        events. None is the whole cohort: the exact partial likelihood.
    {learning_rate, patience, validation_fraction, training, device, verbose, random_state}
    ties : {"efron", "breslow"}, default="efron"
        How tied event times enter the partial likelihood and the baseline.
    strata : column name, optional
        Each level of this column of `X` has its own baseline hazard; risk sets do not cross levels.

    Attributes
    ----------
    {modalities_, linear_effects_, network_, history_, best_epoch_, interrupted_,
    fusion_weights_, effects_, covariance_, structured_weight_, deep_share_, n_features_in_,
    feature_names_in_}
    event_times_ : ndarray
        Distinct event times of the training rows, where the baseline hazard jumps.

    Notes
    -----
    Several rows of one subject (start-stop data) are allowed where `y` carries entry times: name
    the subject's column, ``id="patient"``, so that the subject's rows stay together. Curves are
    right-continuous step functions, 1 before the first event time.

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

    ties: TiesMethod = "efron"
    strata: Any = None

    def _make_head(self) -> CoxHead:
        check_choice("ties", self.ties, ("efron", "breslow"))
        return CoxHead(ties=self.ties)

    def _context_columns(self) -> dict[str, Any]:
        return {"strata": self.strata}

    def _default_times(self) -> np.ndarray:
        return self.event_times_

    @property
    def event_times_(self) -> np.ndarray:
        """Distinct event times of the training rows, ascending."""
        check_is_fitted(self)
        return self._head.event_times_

    def predict(
        self,
        X: pd.DataFrame | np.ndarray,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> np.ndarray:
        """Return the risk score of each row: its log hazard ratio.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities : list of str, optional
            Predict from these alone: the others count as absent, and are not read; `X` may lack
            their columns. Empty only beside a formula: the classical model of the formula, with its
            own baseline.
        exclude : list of str, optional
            Terms of the formula that are left out, such as "re(site)".

        Returns
        -------
        ndarray of float64, shape (n,)
            Higher is worse. Zero is the mean of the training rows.
        """
        eta = self._predictors(X, modalities, exclude)[1]
        return self._head.risk(eta)
