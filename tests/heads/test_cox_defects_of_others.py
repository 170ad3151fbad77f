"""Defects of other Cox implementations, shown in theirs where that is cheap, and absent in ours."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter
from pycox.models.loss import CoxPHLoss
from sksurv.linear_model.coxph import BreslowEstimator
from torchsurv.loss.cox import neg_partial_log_likelihood

from mmfusion.heads import CoxHead
from mmfusion.heads.cox import CoxPlan, cox_loss
from mmfusion.survival import surv
from tests.heads.cox_reference import Cohort, baseline, draw, negative_log_likelihood

pytestmark = pytest.mark.filterwarnings("ignore:Ties in `time` detected")


def ours(eta, time, event, **settings) -> torch.Tensor:
    return cox_loss(eta, CoxPlan.from_outcome(time, event), **settings)


def reference(eta: torch.Tensor, time: torch.Tensor, event: torch.Tensor) -> float:
    n = len(time)
    cohort = Cohort(
        time.double(),
        event,
        torch.ones(n).double(),
        torch.full((n,), -torch.inf).double(),
        torch.zeros(n).long(),
    )
    return negative_log_likelihood(eta.detach().double(), cohort, "efron").item()


def test_ties_with_large_log_hazards_keep_loss_and_gradient():
    time = torch.tensor([1.0, 1.0, 2.0, 3.0])
    event = torch.tensor([True, True, True, False])
    eta = torch.tensor([120.0, -120.0, 100.0, -100.0], requires_grad=True)
    neg_partial_log_likelihood(eta, event, time).backward()
    assert eta.grad.isnan().any()  # torchsurv
    eta.grad = None
    loss = ours(eta, time, event)
    loss.backward()
    assert loss.item() == pytest.approx(reference(eta, time, event), rel=1e-12)
    assert eta.grad.isfinite().all()
    assert eta.grad.any()


def test_the_mean_is_over_events_with_and_without_ties():
    event = torch.tensor([True, True, True, True, False])
    eta = torch.randn(5, dtype=torch.float64)
    for time, denominator in (
        (torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), 4),
        (torch.tensor([1.0, 1.0, 1.0, 4.0, 5.0]), 2),  # torchsurv: distinct event times
    ):
        total = ours(eta, time, event, reduction="sum").item()
        theirs = neg_partial_log_likelihood(eta.float(), event, time).item()
        assert theirs == pytest.approx(total / denominator, rel=1e-5)
        assert ours(eta, time, event).item() == pytest.approx(total / 4, rel=1e-14)


def test_times_that_single_precision_cannot_tell_apart_are_no_ties():
    time = torch.tensor([1e5, 1e5 + 1e-3, 1e5 + 2e-3], dtype=torch.float64)
    event = torch.tensor([True, True, True])
    eta = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    assert len(time.float().unique()) == 1
    head = CoxHead()
    # By R's rule they are equal but for rounding, unless that is switched off.
    target = head.fit_outcome(surv(time.numpy(), event.numpy(), timefix=False))
    assert head.loss(eta, target).item() == pytest.approx(reference(eta, time, event), rel=1e-14)
    assert head.loss(eta, target).item() != pytest.approx(
        ours(eta, time.float(), event).item(), rel=1e-2
    )


@pytest.mark.parametrize("delayed", [False, True])
def test_a_batch_without_events_has_loss_zero_on_the_graph(delayed):
    cohort = draw(0, 8, share=0.0, delayed=delayed)
    eta = torch.randn(8, requires_grad=True)
    theirs = CoxPHLoss()(eta, cohort.time.float(), cohort.event.float())
    assert theirs.isnan()  # pycox
    loss = cox_loss(eta, CoxPlan.from_outcome(*cohort.parts()))
    assert loss.item() == 0.0
    (2 * loss).backward()
    assert eta.grad.tolist() == [0.0] * 8


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
@pytest.mark.parametrize("event", [True, False])
def test_a_batch_of_one(shape, event):
    eta = torch.ones(shape, requires_grad=True)
    loss = ours(eta, torch.tensor([1.0]), torch.tensor([event]))
    loss.backward()
    assert loss.item() == 0.0
    assert eta.grad.shape == shape
    assert eta.grad.item() == 0.0


def test_tied_times_in_any_row_order_give_one_loss():
    rng = torch.Generator().manual_seed(0)
    time = torch.randint(1, 5, (60,), generator=rng).float()
    event = torch.rand(60, generator=rng) < 0.7
    eta = torch.randn(60, generator=rng, dtype=torch.float64)
    found, theirs = [], []
    for _ in range(5):
        rows = torch.randperm(60, generator=rng)
        found.append(ours(eta[rows], time[rows], event[rows]).item())
        theirs.append(CoxPHLoss()(eta[rows], time[rows], event[rows].float()).item())
    assert max(theirs) - min(theirs) > 1e-3  # pycox
    assert max(found) - min(found) < 1e-14
    assert found[0] == pytest.approx(reference(eta, time, event), rel=1e-13)


@pytest.mark.parametrize("outlier", [20.0, 100.0])
def test_one_outlier_does_not_drown_the_others(outlier):
    rng = torch.Generator().manual_seed(0)
    time = torch.rand(200, generator=rng, dtype=torch.float64)
    event = torch.rand(200, generator=rng) < 0.7
    eta = torch.randn(200, generator=rng, dtype=torch.float64)
    eta[time.argmin()] = outlier
    wanted = reference(eta, time, event)
    assert CoxPHLoss()(eta, time, event.double()).item() != pytest.approx(wanted, rel=1e-3)
    assert ours(eta, time, event).item() == pytest.approx(wanted, rel=1e-13)


@pytest.mark.parametrize("level", [40.0, 800.0])
def test_the_baseline_is_finite_and_right_at_large_log_hazards(level):
    cohort = draw(1, 60)
    eta = np.random.default_rng(0).normal(size=60)
    eta[cohort.time.numpy() <= 3] += level  # after time 3 the risk sets are e^level smaller
    head = CoxHead("breslow")
    target = head.fit_outcome((cohort.time.numpy(), cohort.event.numpy()))
    head.finish(torch.from_numpy(eta), target)
    with np.errstate(all="ignore"):
        theirs = BreslowEstimator().fit(eta, cohort.event.numpy(), cohort.time.numpy())

    blocks = baseline(torch.from_numpy(eta), cohort, "breslow")
    log_hazard = np.logaddexp.accumulate([jump for _, _, jump in blocks])
    # scikit-survival sums by subtraction: nothing is left of the small risk sets.
    with np.errstate(all="ignore"):
        theirs_log = np.log(theirs.cum_baseline_hazard_(head.event_times_))
    assert not (np.abs(theirs_log - log_hazard) < 0.1).all()
    for value in (0.0, level):
        found = head.cumulative_hazard([value])[0]
        with np.errstate(over="ignore"):
            wanted = np.exp(log_hazard + value)
        np.testing.assert_allclose(found, wanted, rtol=1e-10)
    curves = head.survival(eta)
    assert np.isfinite(curves).all()
    assert 0.0 < curves[cohort.time.numpy() <= 3].mean() < 1.0
    assert np.isfinite(head.restricted_mean(eta, 5.0)).all()


def test_the_baseline_heeds_late_entry():
    cohort = draw(2, 200, delayed=True, n_times=30)
    frame = pd.DataFrame(
        {
            "x": np.random.default_rng(0).normal(size=200),
            "time": cohort.time.numpy() + 3.0,
            "event": cohort.event.numpy(),
            "entry": np.maximum(cohort.entry.numpy() + 3.0, 0.0),
        }
    )
    cohort.time, cohort.entry = (torch.from_numpy(frame[c].to_numpy()) for c in ("time", "entry"))
    theirs = CoxPHFitter().fit(frame, "time", "event", entry_col="entry")
    eta = frame["x"].to_numpy() * theirs.params_["x"]
    head = CoxHead("breslow")
    target = head.fit_outcome((frame["time"], frame["event"], frame["entry"]))
    head.finish(torch.from_numpy(eta), target)
    wanted = np.cumsum(
        [np.exp(jump) for _, _, jump in baseline(torch.from_numpy(eta), cohort, "breslow")]
    )
    np.testing.assert_allclose(head.cumulative_hazard([0.0])[0], wanted, rtol=1e-12)
    ignored = theirs.predict_cumulative_hazard(
        pd.DataFrame({"x": [0.0]}), times=head.event_times_
    ).to_numpy()[:, 0]
    assert np.abs(ignored / wanted - 1).max() > 0.1  # lifelines
