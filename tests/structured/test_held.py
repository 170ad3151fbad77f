"""Fits of rows that do not identify every coefficient of a design."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from mmfusion.heads import CategoricalHead, CoxHead
from mmfusion.structured import (
    CollinearityError,
    Formula,
    Likelihood,
    effects_table,
    fit_identified,
    fit_structured,
)


def cohort(n: int = 120) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.normal(size=n), "site": rng.choice(list("abc"), n)})
    frame.loc[:4, "site"] = "z"
    time = rng.exponential(np.exp(-0.5 * frame["age"]))
    return frame, time, rng.random(n) < 0.7


def test_what_is_identified_is_fitted_as_without_the_rest() -> None:
    frame, time, event = cohort()
    formula = Formula("C(site) + age")
    design = formula.fit_transform(frame, intercept=False)[5:]  # nobody of site z
    head = CoxHead()
    likelihood = Likelihood(head, head.fit_outcome((time[5:], event[5:])))
    everything = np.ones(4, dtype=bool)
    fit, held = fit_identified(likelihood, design, formula.terms_, None, formula.names_, everything)
    assert [name for name, is_held in zip(formula.names_, held, strict=True) if is_held] == [
        "C(site)[T.z]"
    ]
    table = pd.DataFrame(design[:, ~held]).assign(time=time[5:], event=event[5:])
    theirs = CoxPHFitter().fit(table, "time", "event", fit_options={"precision": 1e-12})
    np.testing.assert_allclose(fit.coef[~held], theirs.params_, rtol=1e-6)
    se = np.sqrt(np.diag(fit.covariance))
    np.testing.assert_allclose(se[~held], theirs.standard_errors_, rtol=1e-5)
    assert fit.coef[held] == se[held] == 0.0
    row = effects_table(fit).loc["C(site)[T.z]"]
    assert row.isna().all()
    with pytest.raises(CollinearityError, match=r"constant columns: 'C\(site\)\[T.z\]' \(always 0"):
        fit_identified(likelihood, design, formula.terms_, None, formula.names_, ~everything)


def test_without_the_reference_another_level_takes_its_place() -> None:
    """And terms with penalties keep their columns, behind what is held before them."""
    frame, _, event = cohort()
    formula = Formula("C(site) + s(age, k=6)")
    design = formula.fit_transform(frame, intercept=True)
    rows = np.flatnonzero(frame["site"] != "a")
    head = CategoricalHead()
    likelihood = Likelihood(head, head.fit_outcome(event[rows].astype(int)))
    everything = np.ones(design.shape[1], dtype=bool)
    fit, held = fit_identified(
        likelihood, design[rows], formula.terms_, None, formula.names_, everything
    )
    assert held.sum() == 1
    sites = Formula("C(site)").fit_transform(frame.iloc[rows], intercept=True)  # b, c and z
    alone = np.column_stack([sites, design[rows, -5:]])
    smooth = replace(formula.terms_[-1], columns=slice(3, 8))
    plain = fit_structured(likelihood, alone, [smooth])
    np.testing.assert_allclose(design[rows] @ fit.coef, alone @ plain.coef, atol=1e-6)
    assert fit.term_edf("s(age)") == pytest.approx(plain.term_edf("s(age)"), rel=1e-5)


def test_a_formula_that_no_row_identifies_stays_an_error() -> None:
    frame, time, event = cohort()
    frame["twice"] = 2 * frame["age"]
    formula = Formula("age + twice")
    design = formula.fit_transform(frame, intercept=False)
    head = CoxHead()
    likelihood = Likelihood(head, head.fit_outcome((time, event)))
    with pytest.raises(CollinearityError, match="'twice' is a linear combination of 'age'"):
        fit_identified(
            likelihood, design, formula.terms_, None, formula.names_, np.array([True, False])
        )
