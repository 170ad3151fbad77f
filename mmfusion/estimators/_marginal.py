"""What an estimator says of the effect of a treatment on a whole study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from mmfusion.inputs.table import check_frame
from mmfusion.model import Plan
from mmfusion.model.marginal import marginal_effect
from mmfusion.model.marginal_table import MarginalEffect
from mmfusion.training.precision import single_precision
from mmfusion.training.threads import linear_algebra

__all__ = ["Marginal"]


class Marginal:
    """Marginal effects of a treatment; mixed into the estimators."""

    def marginal_effect(
        self,
        X: pd.DataFrame,
        y: Any,
        *,
        treatment: Any,
        horizon: float | None = None,
        times: Sequence[float] | np.ndarray | None = None,
        propensity: str | float = "randomised",
        censoring: str = "km",
        cluster: Any = None,
        folds: int = 5,
        splits: int = 3,
        level: float = 0.95,
    ) -> MarginalEffect:
        """Return the effect of a treatment, had all rows had it, and had none.

        Models like this one are trained on the other folds and predict each row in both arms; what
        they miss is added back (augmented inverse probability weighting). In a randomised study
        the difference has no bias however bad the models are, and good models narrow its interval;
        a guard keeps of them only what does. Whether this estimator is fitted does not matter.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
            A row a subject.
        y : outcome of n subjects
        treatment : column name
            Of two levels, the control's first (0 before 1, the alphabet, the order of categories).
            Put it into the formula; no modality may read it.
        horizon : float
            Of survival outcomes, where it must be given: restricted means are taken up to it.
        times : array-like, optional
            Of survival outcomes: when survival is compared. By default at the horizon.
        propensity : {"randomised", "learn"} or float, default="randomised"
            The chance of treatment: the share of the treated, a number, or learned from what the
            model reads, for a treatment that was not randomised. Then the effect is adjusted for
            what the models learn, and ``warning`` says where that may be too little.
        censoring : str, default="km"
            "km": a curve an arm. Or the formula of a Cox model of the time to censoring, in each
            arm, for censoring that depends on columns.
        cluster : column name, optional
            Rows of a cluster stay together in folds and count as one. By default the estimator's.
        folds, splits : int, default=5, 3
            Splits of the rows into folds, over which estimates are averaged.
        level : float, default=0.95

        Returns
        -------
        MarginalEffect
            ``table``, ``curves`` and ``propensities``; it prints as text.

        Raises
        ------
        ValueError
            For delayed entry or several rows of a subject, a horizon beyond the time from which on
            fewer than 5 % of an arm are uncensored, fewer than 10 events in an arm, and a treatment
            that a modality reads.

        References
        ----------
        Robins & Rotnitzky 1992; Zhang & Schaubel 2012, Biometrics 68:999-1009; Lu & Tsiatis 2008,
        Biometrika 95:679-694; Ye, Shao & Yi 2024, Biometrika 111:691-705.
        """
        own: Any = clone(self)
        if cluster is not None:
            own.set_params(cluster=cluster)
        table = check_frame(own, X, reset=True)
        plan = Plan.of(own, table, is_array=table is not X)
        with single_precision(), linear_algebra(table):
            return marginal_effect(
                plan,
                table,
                y,
                treatment=treatment,
                horizon=horizon,
                times=times,
                propensity=propensity,
                censoring=censoring,
                folds=folds,
                splits=splits,
                level=level,
            )
