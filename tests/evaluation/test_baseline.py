"""The ridge Cox baseline: lifelines' own fit, curves by hand, folds that break lifelines."""

from __future__ import annotations

import lifelines
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sksurv.linear_model import CoxPHSurvivalAnalysis

from mmfusion import Genes, Tabular, surv
from mmfusion.evaluation import CoxRidge

COLUMNS = ["age", "sex", "stage"]


def test_unpenalised_it_equals_scikit_survival(complete_cohort) -> None:
    frame, y = complete_cohort
    numbers = frame[["age", "gene_0", "gene_1"]]
    standard = (numbers - numbers.mean()) / numbers.std(ddof=0)
    theirs = CoxPHSurvivalAnalysis(ties="efron").fit(standard, y)
    ours = CoxRidge(Tabular(["age", "gene_0", "gene_1"]), penalizer=0.0).fit(frame, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4)
    assert list(ours.coef_.index) == ["age", "gene_0", "gene_1"]
    np.testing.assert_allclose(
        np.diff(ours.predict(frame)), np.diff(theirs.predict(standard)), atol=1e-3
    )


def test_curves_equal_those_of_lifelines(cohort) -> None:
    frame, y = cohort
    model = CoxRidge(Tabular(["age", "gene_0"]), penalizer=0.1).fit(frame, y)
    numbers = frame[["age", "gene_0"]]
    table = ((numbers - numbers.mean()) / numbers.std(ddof=0)).astype(np.float32).astype(float)
    fitter = lifelines.CoxPHFitter(penalizer=0.1).fit(
        table.assign(time=y["time"], event=y["event"]), "time", "event"
    )
    times = np.quantile(y["time"], [0.1, 0.5, 0.9])
    curves = model.predict_survival_function(frame, times)
    known = model.predict_survival_function(frame)
    theirs = fitter.predict_survival_function(table).T
    np.testing.assert_allclose(known.to_numpy(), theirs.to_numpy(), atol=1e-5)
    assert curves.shape == (120, 3)
    assert curves.index.equals(frame.index)
    # A step function: between its jumps it keeps the value of the last one.
    at = known.columns.to_numpy()[5]
    np.testing.assert_array_equal(
        model.predict_survival_function(frame, [at + 1e-12]).iloc[:, 0], known[at]
    )
    assert (model.predict_survival_function(frame, [0.0]) == 1.0).all().all()


def test_categories_missing_cells_and_genes(cohort) -> None:
    frame, y = cohort
    frame = frame.copy()
    frame.loc[frame.index[:30], "age"] = np.nan
    model = CoxRidge(Tabular(COLUMNS, encoding="onehot")).fit(frame, y)
    assert {"age", "age missing", "sex=f", "stage=IV"} <= set(model.coef_.index)
    assert np.isfinite(model.predict(frame)).all()
    assert np.isfinite(CoxRidge(Genes("gene_*")).fit(frame, y).predict(frame)).all()


def test_a_column_that_is_constant_in_a_fold_is_left_out(cohort) -> None:
    frame, y = cohort
    frame = frame[["age"]].assign(rare=0.0)
    frame.iloc[-1, 1] = 1.0
    with pytest.warns(UserWarning, match="rare"):
        model = CoxRidge(penalizer=0.0).fit(frame[:-1], y[:-1])
    assert list(model.coef_.index) == ["age"]
    assert model.predict(frame).shape == (120,)


@pytest.mark.filterwarnings("ignore:Tabular sets columns")
def test_errors(cohort) -> None:
    frame, y = cohort
    with pytest.raises(ValueError, match=r"must yield numbers only.*encoding='onehot'"):
        CoxRidge(Tabular(["sex"])).fit(frame, y)
    with pytest.raises(ValueError, match="needs a column that varies"):
        CoxRidge().fit(pd.DataFrame({"x": np.ones(120)}), y)


def test_delayed_entry_is_fitted_but_has_no_curves(cohort) -> None:
    frame, y = cohort
    entry = y["time"] * np.random.default_rng(0).uniform(0, 0.8, 120)
    late = surv(y["time"], y["event"], entry)
    model = CoxRidge(Tabular(["age", "gene_0"])).fit(frame, late)
    plain = CoxRidge(Tabular(["age", "gene_0"])).fit(frame, y)
    assert abs(model.coef_ - plain.coef_).max() > 1e-3
    with pytest.raises(ValueError, match="no survival curves after a fit with delayed entry"):
        model.predict_survival_function(frame)


def test_clone() -> None:
    copy = clone(CoxRidge(Tabular(["age"]), penalizer=0.3))
    assert copy.penalizer == 0.3
    assert copy.modality.columns == ["age"]
