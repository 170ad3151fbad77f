"""Thousands of strata: the sums of one fit are those of a loop over the strata."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mmfusion.heads.cox import CoxHead, CoxPlan, cox_gradient, cox_information, cox_loss
from mmfusion.heads.cox.residuals import cox_martingale_residuals, cox_score_residuals
from mmfusion.heads.cox.strata import encode_strata, learn_strata
from tests.heads.cox_reference import Cohort, draw

SETTINGS: dict[str, dict[str, Any]] = {
    "no ties": {"n_times": 100_000},
    "ties": {"n_times": 3},
    "weights": {"weighted": True},
    "late entry": {"delayed": True},
    "everything": {"n_times": 3, "weighted": True, "delayed": True},
}


def one_by_one(cohort: Cohort) -> list[tuple[torch.Tensor, Cohort]]:
    """Return the rows and the outcome of each stratum."""
    rows = [torch.nonzero(cohort.stratum == code)[:, 0] for code in cohort.stratum.unique()]
    return [(some, cohort.take(some)) for some in rows]


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_many_strata_are_the_sum_of_single_ones(setting: str, ties: Any) -> None:
    cohort = draw(3, 900, n_strata=300, **SETTINGS[setting])
    rng = np.random.default_rng(1)
    eta, design = (
        torch.from_numpy(rng.normal(size=900)),
        torch.from_numpy(rng.normal(size=(900, 3))),
    )
    whole = CoxPlan.from_outcome(*cohort.parts())
    assert whole.splits is not None
    assert len(whole.splits[0]) > 250

    loss = torch.zeros((), dtype=torch.float64)
    information = torch.zeros(3, 3, dtype=torch.float64)
    gradient, martingale = torch.zeros(900).double(), torch.zeros(900).double()
    scores = torch.zeros(900, 3).double()
    for rows, single in one_by_one(cohort):
        plan = CoxPlan.from_outcome(*single.parts())
        loss += cox_loss(eta[rows], plan, ties, "sum")
        gradient[rows] = cox_gradient(eta[rows], plan, ties, "sum")
        information += cox_information(eta[rows], plan, design[rows], ties, "sum")
        martingale[rows] = cox_martingale_residuals(eta[rows], plan, ties)
        scores[rows] = cox_score_residuals(eta[rows], plan, design[rows], ties)

    def equal(found: torch.Tensor, wanted: torch.Tensor) -> None:
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)

    equal(cox_loss(eta, whole, ties, "sum"), loss)
    equal(cox_gradient(eta, whole, ties, "sum"), gradient)
    equal(cox_information(eta, whole, design, ties, "sum"), information)
    equal(cox_martingale_residuals(eta, whole, ties), martingale)
    equal(cox_score_residuals(eta, whole, design, ties), scores)


def test_baselines_of_many_strata_are_those_of_single_ones() -> None:
    cohort = draw(4, 600, n_strata=200, weighted=True, share=0.9)
    labels = np.array([f"p{code}" for code in cohort.stratum.tolist()])
    eta = torch.from_numpy(np.random.default_rng(2).normal(size=600))
    head = CoxHead()
    y = (cohort.time.numpy(), cohort.event.numpy())
    target = head.fit_outcome(y, cohort.weight.numpy(), labels)
    head.finish(eta, target)
    found = head.cumulative_hazard(eta, [2.0, 5.0, 8.0], labels)
    for rows, single in one_by_one(cohort):
        if not bool((single.event & (single.weight > 0)).any()):
            assert (found[rows.numpy()] == 0).all()
            continue
        alone = CoxHead()
        y = (single.time.numpy(), single.event.numpy())
        alone.finish(eta[rows], alone.fit_outcome(y, single.weight.numpy()))
        wanted = alone.cumulative_hazard(eta[rows], [2.0, 5.0, 8.0])
        np.testing.assert_allclose(found[rows.numpy()], wanted, rtol=1e-10)


class Counted(np.ndarray):
    """An array that counts how many numbers are taken out of it."""

    taken = 0

    def tolist(self) -> Any:
        Counted.taken += self.size
        return super().tolist()


def test_labels_are_looked_up_without_a_pass_over_all_strata_for_each() -> None:
    labels = np.array([f"p{i // 2}" for i in range(2000)])
    known = learn_strata(labels, 2000)
    counted = known.view(Counted)
    codes = encode_strata(labels, 2000, counted)
    assert (known[codes] == labels).all()
    assert Counted.taken <= 2 * len(known)
    with pytest.raises(ValueError, match=r"strata seen at fit: 'p0', .*995 more\. Got 'p2000'\."):
        encode_strata(["p7", "p2000"], 2, known)
