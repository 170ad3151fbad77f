"""Likelihood ratio tests of a fitted model's terms, at its training rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.model.fit import Model
from mmfusion.model.inference import Inference
from mmfusion.model.plan import Plan
from mmfusion.model.structured import Structured
from mmfusion.model.study import encode
from mmfusion.model.subjects import Subjects
from mmfusion.structured import Likelihood, effects_test

__all__ = ["likelihood_ratio"]

#: How closely the log-likelihood at the rows given is that of the fit.
TOL = 1e-5


def likelihood_ratio(
    estimator: Any,
    model: Model,
    reported: Inference,
    names: Sequence[str],
    table: pd.DataFrame,
    y: Any,
    sample_weight: Any,
) -> pd.Series:
    """Return statistic, df and p of the test that some coefficients or terms are zero.

    Raises
    ------
    ValueError
        Where the covariance is not the likelihood's, the networks that the coefficients stand
        beside are not the model's (cross-fitting), or the rows are not those of the fit.
    """
    if not reported.is_likelihoods:
        raise ValueError(
            "The method parameter must be 'wald' with inference='double_ml', 'robust' or "
            "'cross_fit', with cluster= and with weights that are no counts: their tables are not "
            "those of one likelihood. Got 'likelihood_ratio'."
        )
    plan, part = Plan.of(estimator), model.structured
    assert isinstance(part, Structured)
    target = encode(model.head.encode, plan, table, y, sample_weight)
    design = part.design(table)
    subjects = Subjects.read(plan.subject, table)
    deep = model.deep_predictor(table, subjects=subjects)
    offset = part.beside_reported(deep)
    likelihood = Likelihood(model.head, target)
    eta = design.predict(reported.fit.coef) + offset
    found = likelihood.log_likelihood(likelihood.value(eta))
    if abs(found - reported.fit.log_likelihood) > TOL * (1 + abs(found)):
        raise ValueError(
            "X, y and sample_weight must be the training rows: the log-likelihood of the fit is "
            f"{reported.fit.log_likelihood:.6g}. Got rows at which it is {found:.6g}."
        )
    return effects_test(
        reported.fit, names, likelihood, design, np.asarray(offset), method="likelihood_ratio"
    )
