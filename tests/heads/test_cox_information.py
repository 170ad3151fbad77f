"""The information by pieces, by time, and the residuals, against sums over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mmfusion.heads import CoxHead
from mmfusion.heads.cox import (
    CoxPlan,
    cox_deviance_residuals,
    cox_information,
    cox_martingale_residuals,
    cox_schoenfeld_residuals,
    cox_score_residuals,
    information,
    proportional_hazards_test,
)
from mmfusion.heads.cox.proportional_hazards import transformed_time
from tests.heads.cox_reference import Cohort, draw

TIES = ["efron", "breslow"]
SETTINGS = {
    "plain": {"n_times": 1000},
    "ties": {},
    "weights": {"weighted": True},
    "strata": {"n_strata": 3, "weighted": True},
    "entry": {"delayed": True, "weighted": True, "n_strata": 2},
    "many_ties": {"n_times": 3, "share": 0.9},
}


def plan_of(cohort: Cohort) -> CoxPlan:
    return CoxPlan.from_outcome(*cohort.parts())


def denominators(cohort: Cohort, eta: Tensor, ties: str):
    """Yield (rows dying, share of the weight, distribution over the rows) of each denominator."""
    r = cohort.weight * eta.exp()
    for number, (_, _, at_risk, dying) in enumerate(cohort.blocks()):
        d = int(dying.sum())
        for step in range(d):
            part = 1 - (step / d if ties == "efron" else 0.0) * dying.double()
            masses = r * at_risk * part
            yield number, dying, cohort.weight[dying].sum() / d, masses, masses.sum(), part


def reference_information(cohort: Cohort, eta: Tensor, x: Tensor, ties: str, g: Tensor) -> Tensor:
    total = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for number, _, omega, masses, mass, _ in denominators(cohort, eta, ties):
        p = masses / mass
        away = x - p @ x
        total += g[number] * omega * (away.T * p) @ away
    return total


@pytest.fixture(params=["whole", "pieces"])
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pieces":  # of a row or a few: each event time its own
        monkeypatch.setattr(information, "PIECE", 1)
        monkeypatch.setattr(information, "SMALLEST", 4)


@pytest.mark.usefixtures("_pieces")
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_information_is_the_sum_of_variances(setting: str, ties: str) -> None:
    cohort = draw(3, 50, **SETTINGS[setting])
    eta, x = torch.randn(50).double(), torch.randn(50, 3).double() + 50
    plan = plan_of(cohort)
    g = torch.rand(len(plan.last) - 1).double()
    for weight in (None, g, torch.zeros_like(g)):
        wanted = reference_information(
            cohort, eta, x, ties, torch.ones_like(g) if weight is None else weight
        )
        found = cox_information(eta, plan, x, ties, "sum", weight)
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_residuals_are_their_definitions(setting: str, ties: str) -> None:
    cohort = draw(5, 40, **SETTINGS[setting])
    eta, x = torch.randn(40).double(), torch.randn(40, 2).double() + 5
    plan, n = plan_of(cohort), 40
    counted = cohort.event & (cohort.weight > 0)
    expected, score = torch.zeros(n).double(), torch.zeros(n, 2).double()
    means: dict[int, Tensor] = {}
    for _, dying, omega, masses, mass, _part in denominators(cohort, eta, ties):
        at_risk = masses > 0
        hazard = torch.where(at_risk, omega * _part * eta.exp() / mass, 0.0)
        mean = (masses / mass) @ x
        expected += hazard
        score -= hazard[:, None] * (x - mean)
        score += dying[:, None] * (x - mean) / dying.sum()
        for row in dying.nonzero()[:, 0].tolist():
            means[row] = means.get(row, torch.zeros(2)) + mean / dying.sum()
    martingale = counted.double() - expected
    # (Rows of weight 0 are not at risk in the reference; we give them residuals all the same.)
    real = cohort.weight > 0
    ours = cox_martingale_residuals(eta, plan, ties)
    torch.testing.assert_close(ours[real], martingale[real])
    scores = cox_score_residuals(eta, plan, x, ties)
    torch.testing.assert_close(scores[real], score[real], rtol=1e-8, atol=1e-8)
    rows, residuals = cox_schoenfeld_residuals(eta, plan, x, ties)
    assert sorted(rows.tolist()) == counted.nonzero()[:, 0].tolist()
    for row, residual in zip(rows.tolist(), residuals, strict=True):
        torch.testing.assert_close(residual, x[row] - means[row], rtol=1e-8, atol=1e-8)
    times = list(
        zip(cohort.stratum[rows].tolist(), cohort.time[rows].tolist(), rows.tolist(), strict=True)
    )
    assert times == sorted(times)
    deviance = cox_deviance_residuals(eta, plan, ties)
    assert bool((deviance.sign() == ours.sign()).all())
    assert deviance.isfinite().all()


def test_without_events_everything_is_zero() -> None:
    plan = CoxPlan.from_outcome(torch.arange(4.0), torch.zeros(4))
    eta, x = torch.zeros(4).double(), torch.ones(4, 2).double()
    assert not cox_information(eta, plan, x).any()
    assert not cox_score_residuals(eta, plan, x).any()
    assert not cox_martingale_residuals(eta, plan).any()
    assert cox_schoenfeld_residuals(eta, plan, x)[1].shape == (0, 2)


def test_a_change_of_the_effect_over_time_is_found_where_it_is() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 2))
    # The first covariate acts before time 1 only, the second throughout.
    early = rng.exponential(np.exp(-x.sum(1)))
    time = np.where(early < 1, early, 1 + rng.exponential(np.exp(-x[:, 1])))
    head = CoxHead()
    target = head.fit_outcome((time, np.ones(800, bool)))
    from mmfusion.structured import Likelihood, fit_structured

    fit = fit_structured(Likelihood(head, target), x)
    eta = torch.from_numpy(x @ fit.coef)
    terms = {"early": slice(0, 1), "always": slice(1, 2)}
    table = proportional_hazards_test(eta, target, torch.from_numpy(x), terms)
    assert table.loc["early", "p"] < 1e-4
    assert table.loc["early", "chi2"] > 5 * table.loc["always", "chi2"]
    assert list(table["df"]) == [1, 1, 2]


def test_transforms_of_time_that_cannot_be_are_refused() -> None:
    target = CoxHead().fit_outcome(([0.0, 1.0, 2.0], [True, True, False]))
    with pytest.raises(ValueError, match="must not be 'log'"):
        transformed_time(target, torch.tensor([0.0]), "log")
    with pytest.raises(ValueError, match="must be 'km', 'rank'"):
        transformed_time(target, torch.tensor([0.0]), "sqrt")  # type: ignore[arg-type]
    assert transformed_time(target, torch.tensor([1.0]), "log").item() == 0.0
    km = transformed_time(target, torch.tensor([0.0, 1.0]).double(), "km")
    torch.testing.assert_close(km, torch.tensor([0.0, 1 / 3]).double())
