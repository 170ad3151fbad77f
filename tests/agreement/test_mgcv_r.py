"""Penalised fits against R's mgcv, same basis and penalty: fixtures/mgcv.R and its output."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from mmfusion.heads import CategoricalHead, CoxHead, GaussianHead
from mmfusion.structured import (
    Formula,
    Likelihood,
    StructuredFit,
    TermColumns,
    effects_table,
    fit_structured,
    smooth_effect,
)

R = json.loads((Path(__file__).parent / "fixtures" / "mgcv.json").read_text())


def label(number: int) -> str:
    return "-".join(R["fits"][number][part] for part in ("family", "data", "formula"))


@functools.cache
def fitted(number: int) -> tuple[StructuredFit, np.ndarray, list[TermColumns]]:
    """Return our fit of one of R's models, its design and its penalised terms."""
    wanted = R["fits"][number]
    frame = pd.DataFrame(R["data"][wanted["data"]])
    outcome = frame[wanted["outcome"]].to_numpy()
    head: Any = {"gaussian": GaussianHead, "binomial": CategoricalHead}.get(wanted["family"])
    if head is None:  # mgcv's cox.ph has Breslow's ties
        head = CoxHead(ties="breslow")
        target = head.fit_outcome((outcome.astype(float), frame[wanted["event"]].to_numpy() == 1))
    else:
        head = head()
        target = head.fit_outcome(outcome)
    formula = Formula(wanted["formula"]).fit(frame, intercept=len(head.constants) > 0)
    design = formula.transform(frame)
    fit = fit_structured(Likelihood(head, target), design, formula.terms_, names=formula.names_)
    return fit, design, [term for term in formula.terms_ if term.kind != "parametric"]


models = pytest.mark.parametrize("number", range(len(R["fits"])), ids=label)


def test_the_fixture_has_what_it_promises() -> None:
    for family in ("cox.ph", "gaussian", "binomial"):
        assert len({fit["data"] for fit in R["fits"] if fit["family"] == family}) >= 2
    formulas = " ".join(fit["formula"] for fit in R["fits"])
    assert all(part in formulas for part in ("s(age)", "bs='cr'", "te(", "ti(", "by=", "re("))


@models
def test_degrees_of_freedom_and_curves_are_mgcvs(number: int) -> None:
    wanted = R["fits"][number]
    fit, design, terms = fitted(number)
    assert fit.converged
    edf = [fit.term_edf(term.label) for term in terms]
    assert_allclose(edf, wanted["edf"], atol=5e-4)
    predictor, theirs = design @ fit.coef, np.array(wanted["fitted"])
    if wanted["family"] == "cox.ph":  # up to a constant
        predictor, theirs = predictor - predictor.mean(), theirs - theirs.mean()
    assert_allclose(predictor, theirs, atol=5e-4)
    assert_allclose(fit.scale, wanted["scale"], rtol=1e-6)


@models
def test_smooth_effects_and_bands_are_mgcvs(number: int) -> None:
    wanted = R["fits"][number]
    fit, design, terms = fitted(number)
    for term, effect, error in zip(terms, wanted["effects"], wanted["errors"], strict=True):
        table = smooth_effect(fit, term.label, design[:, term.columns])
        assert_allclose(table["effect"], effect, atol=5e-4)
        # Straight lines: we stop at 1e-4 degrees of freedom more, mgcv later.
        assert_allclose(table["se"], error, rtol=2e-3, atol=2e-3)
        assert_allclose(table["upper"] - table["effect"], 1.959964 * table["se"], rtol=1e-6)


@models
def test_parametric_effects_are_mgcvs(number: int) -> None:
    wanted = np.array(R["fits"][number]["parametric"])
    fit, _, _ = fitted(number)
    table = effects_table(fit)
    ours = table.loc[table["coef"].notna(), ["coef", "se", "z", "p"]].to_numpy()
    assert_allclose(ours[:, :3], wanted[:, :3], rtol=2e-4)
    # mgcv rounds the residual degrees of freedom differently.
    assert_allclose(ours[:, 3], wanted[:, 3], rtol=2e-2)


@models
def test_tests_of_smooth_terms_are_mgcvs(number: int) -> None:
    fit, _, terms = fitted(number)
    table = effects_table(fit)
    seen = 0
    for term, (edf, reference, _, p) in zip(terms, R["fits"][number]["smooth"], strict=True):
        row = table.loc[term.label]
        assert row["edf"] == pytest.approx(edf, abs=5e-4)
        if term.kind == "random":
            assert np.isnan(row["p"])
        elif reference < term.columns.stop - term.columns.start:
            # (A term without an unpenalised part is tested as a random effect there.)
            seen += 1
            assert float(fit.edf_alternative[term.columns].sum()) == pytest.approx(
                reference, abs=2e-3
            )
            # Their distribution function has an absolute error of about 1e-6.
            assert row["p"] == pytest.approx(p, rel=5e-3, abs=2e-6)
    assert seen or terms[0].kind == "random" or "m=(2, 1)" in R["fits"][number]["formula"]


@pytest.mark.parametrize(
    "number", [i for i, fit in enumerate(R["fits"]) if fit["default_edf"]], ids=label
)
def test_degrees_of_freedom_are_near_those_of_mgcvs_default_basis(number: int) -> None:
    fit, _, terms = fitted(number)
    edf = [fit.term_edf(term.label) for term in terms]
    assert_allclose(edf, R["fits"][number]["default_edf"], rtol=0.1)
