"""Networks of which a share is kept are judged at their best share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmfusion import Tabular, surv
from mmfusion.estimators import FusionRegressor
from mmfusion.heads import CoxHead, GaussianHead
from mmfusion.training import trainer
from mmfusion.training.judging import Judged, judge

N = (70, 50, 60)


def cox_folds(scale: float, seed: int = 0) -> list[Judged]:
    """Return folds whose networks know the log-hazard, `scale` times too sure."""
    rng = np.random.default_rng(seed)
    folds = []
    for n in N:
        beside, deep = rng.normal(size=(2, n, 1))
        time = rng.exponential(np.exp(-(beside + 0.5 * deep)[:, 0]))
        head = CoxHead()
        target = head.fit_outcome(surv(time, rng.random(n) < 0.7))
        offset = torch.from_numpy(beside)
        folds.append(Judged(head, offset + torch.from_numpy(scale * deep), offset, target))
    return folds


def mean_loss(folds: list[Judged], share: float) -> float:
    """Return the loss of all folds by their events, written out."""
    total = events = 0.0
    for fold in folds:
        assert fold.offset is not None
        eta = (1 - share) * fold.offset + share * fold.eta
        count = float(fold.head.n_events(fold.target))
        total += count * float(fold.head.loss(eta, fold.target))
        events += count
    return total / events


def test_the_loss_is_that_at_the_best_share() -> None:
    folds = cox_folds(1.3)
    grid = [mean_loss(folds, share) for share in np.linspace(0, 1, 1001)]
    assert 0.2 < np.argmin(grid) / 1000 < 0.8
    assert judge(folds, shared=True)["val_loss"] == pytest.approx(min(grid), abs=2e-5)
    assert judge(folds, shared=False)["val_loss"] == pytest.approx(grid[-1], rel=1e-12)


def test_how_sure_networks_are_says_nothing() -> None:
    losses = [judge(cox_folds(scale), shared=True)["val_loss"] for scale in (1.0, 2.0, 4.0)]
    np.testing.assert_allclose(losses, losses[0], atol=1e-4)
    whole = [judge(cox_folds(scale), shared=False)["val_loss"] for scale in (1.0, 2.0, 4.0)]
    assert np.diff(whole).min() > 0.05


def test_networks_that_mislead_are_as_good_as_none() -> None:
    folds = cox_folds(-1.0)
    assert judge(folds, shared=True)["val_loss"] == pytest.approx(mean_loss(folds, 0.0), rel=1e-12)


def test_rows_that_count_nothing() -> None:
    head = GaussianHead()
    target = head.fit_outcome(np.arange(4.0), sample_weight=np.array([1.0, 1, 0, 0]))
    eta = torch.tensor([[0.0], [1], [2], [3]], dtype=torch.float64)
    parts = [Judged(head, eta[rows], None, target.take(rows)) for rows in (slice(2), slice(2, 4))]
    whole = judge([Judged(head, eta, None, target)], shared=True)["val_loss"]
    assert judge(parts, shared=True)["val_loss"] == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {True}),
        ({"n_members": 1}, {True}),
        ({"linear": False, "structured": "x0"}, {True}),
        ({"linear": False, "n_members": 3}, {False}),  # nothing stands beside: kept whole
        ({"linear": False, "structured": "x0", "inference": "cross_fit"}, {True, False}),
    ],
)
def test_networks_that_are_kept_whole_are_judged_whole(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], expected: set[bool]
) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(80, 3))).add_prefix("x")
    seen: set[bool] = set()

    def noted(parts: Any, *, shared: bool) -> dict[str, float]:
        seen.add(shared)
        return judge(parts, shared=shared)

    monkeypatch.setattr(trainer, "judge", noted)
    model: Any = FusionRegressor(
        {"t": Tabular(["x1", "x2"])}, epochs=1, device="cpu", random_state=0, **asked
    )
    model.fit(frame, frame["x1"] + rng.normal(size=80))
    assert seen == expected


def test_trained_longer_networks_come_nearer_to_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside noise of twice the signal's variance, whole networks are worse than none."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1400, 8))
    truth = 0.5 * x[:, 0] + 0.5 * x[:, 1] + 0.7 * x[:, 2] * x[:, 3]
    frame = pd.DataFrame(x).add_prefix("x")
    y = truth + rng.normal(0, 1.5, len(x))

    def error() -> tuple[int, float]:
        model: Any = FusionRegressor({"t": Tabular(list(frame))}, device="cpu", random_state=0)
        model.fit(frame[:400], y[:400])
        return model.best_epoch_, float(np.mean((model.predict(frame[400:]) - truth[400:]) ** 2))

    epoch, found = error()
    monkeypatch.setattr(trainer, "judge", lambda parts, shared: judge(parts, shared=False))
    before, whole = error()
    assert before < 10 < epoch
    assert found < 0.6 * whole
    assert found < 0.3 * truth.var()
