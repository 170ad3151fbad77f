"""Cox models without smooth terms against R's survival: fixtures/cox.R and its output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from mmfusion.heads import CoxHead
from mmfusion.heads.cox import (
    cox_deviance_residuals,
    cox_martingale_residuals,
    cox_scaled_schoenfeld_residuals,
    cox_schoenfeld_residuals,
    cox_score_residuals,
    proportional_hazards_test,
)
from mmfusion.structured import HeadLikelihood, StructuredFit, fit_structured, robust_covariance

R = json.loads((Path(__file__).parent / "fixtures" / "cox.json").read_text())
DETAILED = [fit for fit in R["fits"] if "martingale" in fit]


def label(wanted: dict[str, Any]) -> str:
    parts = [wanted["data"], wanted["ties"]]
    return "-".join(parts + [part for part in ("strata", "weights") if wanted[part]])


class Fitted:
    """Our fit of one of R's models."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        data = {
            name: np.array(column, dtype=float)
            for name, column in R["data"][wanted["data"]].items()
        }
        self.head = CoxHead(ties=wanted["ties"])
        start, stop, event = data["start"], data["stop"], data["event"] == 1
        outcome = (stop, event, start) if start.any() else (stop, event)
        self.target = self.head.fit_outcome(
            outcome,
            data["weight"] if wanted["weights"] else None,
            data["stratum"] if wanted["strata"] else None,
        )
        self.cluster = data["cluster"]
        self.design = np.column_stack([data[name] for name in wanted["covariates"]])
        self.likelihood = HeadLikelihood(self.head, self.target)
        self.fit: StructuredFit = fit_structured(
            self.likelihood, self.design, names=wanted["covariates"]
        )
        self.tensor = torch.from_numpy(self.design)
        self.eta = torch.from_numpy(self.design @ self.fit.coef)

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.eta, self.target.plan

    def robust_se(self, cluster: np.ndarray | None) -> np.ndarray:
        covariance = robust_covariance(self.fit, self.likelihood, self.design, cluster=cluster)
        return np.sqrt(np.diag(covariance))


def test_the_fixture_has_what_it_promises() -> None:
    fits = R["fits"]
    assert {fit["data"] for fit in fits} == {"lung", "veteran", "rats", "heart", "cgd", "ovarian"}
    tied = [
        name
        for name, data in R["data"].items()
        if len({*(t for t, e in zip(data["stop"], data["event"], strict=True) if e)})
        < sum(data["event"])
    ]
    assert len(tied) >= 4
    assert len(fits) == 6 * 2 * 2 * 2


@pytest.mark.parametrize("wanted", R["fits"], ids=label)
def test_coefficients_and_standard_errors_are_coxphs(wanted: dict[str, Any]) -> None:
    ours = Fitted(wanted).fit
    assert ours.converged
    assert_allclose(ours.coef, wanted["coef"], rtol=1e-6)
    assert_allclose(np.sqrt(np.diag(ours.covariance)), wanted["se"], rtol=1e-5)
    assert_allclose(ours.log_likelihood, wanted["loglik"], rtol=1e-10)


@pytest.mark.parametrize("wanted", DETAILED, ids=label)
def test_the_sandwich_is_coxphs(wanted: dict[str, Any]) -> None:
    ours = Fitted(wanted)
    assert_allclose(ours.robust_se(None), wanted["robust_se"], rtol=1e-6)
    assert_allclose(ours.robust_se(ours.cluster), wanted["cluster_se"], rtol=1e-6)


@pytest.mark.parametrize("wanted", DETAILED, ids=label)
def test_residuals_are_rs(wanted: dict[str, Any]) -> None:
    ours = Fitted(wanted)
    ties = wanted["ties"]
    near = {"rtol": 1e-6, "atol": 1e-8}
    assert_allclose(cox_martingale_residuals(*ours.parts, ties), wanted["martingale"], **near)
    assert_allclose(cox_deviance_residuals(*ours.parts, ties), wanted["deviance"], **near)
    assert_allclose(cox_score_residuals(*ours.parts, ours.tensor, ties), wanted["score"], **near)


@pytest.mark.parametrize("wanted", [f for f in DETAILED if "schoenfeld" in f], ids=label)
def test_schoenfeld_residuals_are_rs(wanted: dict[str, Any]) -> None:
    ours = Fitted(wanted)
    rows, residuals = cox_schoenfeld_residuals(*ours.parts, ours.tensor, wanted["ties"])
    scaled = cox_scaled_schoenfeld_residuals(
        residuals, torch.from_numpy(ours.fit.coef), torch.tensor(ours.fit.covariance.dense())
    )
    assert bool(ours.target.event[rows].all())
    near = {"rtol": 1e-6, "atol": 1e-7}
    assert_allclose(residuals, wanted["schoenfeld"], **near)
    assert_allclose(scaled, wanted["scaled"], **near)


@pytest.mark.parametrize("wanted", DETAILED, ids=label)
@pytest.mark.parametrize("transform", ["km", "rank", "identity"])
def test_the_proportional_hazards_test_is_cox_zph(wanted: dict[str, Any], transform: Any) -> None:
    ours = Fitted(wanted)
    terms = {name: slice(j, j + 1) for j, name in enumerate(wanted["covariates"])}
    table = proportional_hazards_test(
        ours.eta, ours.target, ours.tensor, terms, ties=wanted["ties"], transform=transform
    )
    assert list(table.index) == [*wanted["covariates"], "GLOBAL"]
    assert_allclose(table.to_numpy(), wanted["zph"][transform], rtol=1e-5)
