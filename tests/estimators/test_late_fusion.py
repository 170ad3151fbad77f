"""Late fusion: weights and stacks against other solvers, curves, missing rows, Ctrl-C."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge

from mmfusion.estimators import FusionClassifier, FusionCox, FusionRegressor
from mmfusion.fusion import JointFusion, LateFusion
from mmfusion.heads import CategoricalHead, CoxHead, DiscreteTimeHead, GaussianHead
from mmfusion.metrics import brier_score
from mmfusion.modalities import Tabular
from mmfusion.model import Plan, Sample, Study, prepare
from mmfusion.model import late as late_module
from mmfusion.model.curves import CoxMixtureHead
from mmfusion.model.late import learn_pool, make_pool
from mmfusion.model.pool_rows import RIDGE, average
from mmfusion.model.pools import OutOfFold, Pool, Single, key
from mmfusion.model.subjects import EACH_ROW
from mmfusion.training import Callback, Training
from tests.estimators.common import ESTIMATORS, cohort_for, make_model, predictions

pytestmark = pytest.mark.usefixtures("one_network")

HOWS = ["mean", "weighted", "stack"]
SMALL = {"dim": 6, "hidden": (4,), "folds": 3}


def draw(kind: str, n: int = 400, absent: float = 0.0, noise: bool = False) -> Any:
    """Return out-of-fold predictors of two or three members, their outcome and its head."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(n, 2))
    eta = signal @ [1.0, 0.6]
    etas = signal + 0.3 * rng.normal(size=(n, 2))
    if noise:
        etas = np.column_stack([etas, rng.normal(size=n)])
    present = rng.random(etas.shape) >= absent
    present[~present.any(1)] = True
    etas = np.where(present, etas, np.nan)[:, :, None]
    head: Any
    if kind == "cox":
        head, y = CoxHead(), (rng.exponential(np.exp(-eta)), rng.random(n) < 0.8)
    elif kind == "classifier":
        head, y = CategoricalHead(), (eta + rng.logistic(size=n) > 0).astype(int)
    elif kind == "three classes":
        logits = np.column_stack([eta, -eta, 0 * eta])
        y = (logits + rng.gumbel(size=logits.shape)).argmax(1)
        head = CategoricalHead()
        etas = np.concatenate([etas, -etas, rng.normal(scale=0.1, size=etas.shape)], axis=2)
    else:
        head, y = GaussianHead(), eta + rng.normal(size=n)
    return head, head.fit_outcome(y), y, etas, present


def fitted_pool(how: str, head: Any, target: Any, etas: np.ndarray, present: np.ndarray) -> Any:
    pool = make_pool(LateFusion(how), [f"m{j}" for j in range(etas.shape[1])])
    offset = torch.zeros(len(etas), etas.shape[2], dtype=torch.float64)
    unseen = OutOfFold(etas, present, offset) if how in ("weighted", "stack") else None
    sample = Sample(pd.DataFrame(index=range(len(etas))), target, EACH_ROW)
    learn_pool(pool, head, sample, etas, present, offset, unseen)
    return pool


def pooled(pool: Pool, etas: np.ndarray, present: np.ndarray, head: Any) -> np.ndarray:
    return pool.pooled(pool.standardised(etas), present, head)


# --- weights and stacks against other solvers -----------------------------------------------------


@pytest.mark.parametrize("kind", ["classifier", "three classes", "regressor"])
@pytest.mark.parametrize("absent", [0.0, 0.3])
def test_weights_are_the_lowest_point_of_the_simplex(kind: str, absent: float) -> None:
    head, target, y, etas, present = draw(kind, absent=absent)
    pool = fitted_pool("weighted", head, target, etas, present)

    def loss(first: float) -> float:  # in NumPy, from the definition
        w = np.array([first, 1 - first]) * present
        w = w / w.sum(1, keepdims=True)
        shown = np.nan_to_num(etas)
        if kind == "regressor":
            residual = (y - (w * shown[:, :, 0]).sum(1)) / y.std()
            return float(np.mean(residual**2) / 2)
        if kind == "classifier":
            p = (w / (1 + np.exp(-shown[:, :, 0]))).sum(1)
            return float(-np.mean(np.log(np.where(y == 1, p, 1 - p))))
        e = np.exp(shown)
        p = (w[:, :, None] * e / e.sum(2, keepdims=True)).sum(1)
        return float(-np.mean(np.log(p[np.arange(len(y)), y])))

    grid = np.linspace(0.0, 1.0, 2001)[1:-1]
    best = grid[np.argmin([loss(w) for w in grid])]
    assert pool.weights[0] == pytest.approx(best, abs=1e-3)
    assert pool.weights.sum() == pytest.approx(1.0)
    told = pooled(pool, etas, present, head)
    found = float(head.loss(torch.from_numpy(told), target))
    assert found == pytest.approx(loss(pool.weights[0]), rel=1e-9)


def test_cox_weights_and_slope_are_the_cox_model_of_complete_rows() -> None:
    """With all members there and no coefficient below 0, weights times slope are Cox's own."""
    head, target, (time, event), etas, present = draw("cox")
    pool = fitted_pool("weighted", head, target, etas, present)
    table = pd.DataFrame(etas[:, :, 0], columns=["a", "b"]).assign(time=time, event=event)
    coef = CoxPHFitter().fit(table, "time", "event").params_.to_numpy()
    np.testing.assert_allclose(pool.weights, coef / coef.sum(), rtol=2e-3)
    assert pool.slopes["11"] == pytest.approx(coef.sum(), rel=2e-3)
    alone = CoxPHFitter().fit(table.drop(columns="b"), "time", "event").params_.iloc[0]
    assert pool.slopes["10"] == pytest.approx(alone, rel=1e-3)


def test_a_cox_stack_is_a_ridge_cox_model_of_each_set() -> None:
    head, target, (time, event), etas, present = draw("cox", absent=0.3)
    pool = fitted_pool("stack", head, target, etas, present)
    for name, members in (("11", [0, 1]), ("10", [0]), ("01", [1])):
        rows = present[:, members].all(1)
        x = etas[rows][:, members, 0]
        order = np.argsort(time[rows])
        x, d = x[order], event[rows][order]

        def loss(beta: np.ndarray, x: np.ndarray = x, d: np.ndarray = d) -> float:
            eta = x @ beta
            at_risk = np.log(np.cumsum(np.exp(eta)[::-1])[::-1])
            return float(np.sum((at_risk - eta)[d]) + RIDGE * np.sum(beta**2) / 2)

        wanted = minimize(loss, np.zeros(len(members)), tol=1e-12).x
        np.testing.assert_allclose(pool.stacks[name][members], wanted, rtol=1e-4)


def test_a_stack_of_classes_is_a_logistic_regression() -> None:
    head, target, y, etas, present = draw("classifier")
    pool = fitted_pool("stack", head, target, etas, present)
    wanted = LogisticRegression(C=1 / RIDGE, tol=1e-10).fit(etas[:, :, 0], y)
    np.testing.assert_allclose(pool.stacks["11"][:2], wanted.coef_[0], rtol=1e-4)
    eta = pooled(pool, etas, present, head)
    np.testing.assert_allclose(
        head.probabilities(eta), wanted.predict_proba(etas[:, :, 0]), atol=1e-5
    )


def test_a_stack_of_three_classes_weighs_logits() -> None:
    head, target, y, etas, present = draw("three classes")
    pool = fitted_pool("stack", head, target, etas, present)
    x = etas - etas.mean(2, keepdims=True)

    def loss(v: np.ndarray) -> float:
        eta = np.tensordot(x, v[:2], axes=(1, 0)) + np.append(0.0, v[2:])
        top = eta - np.log(np.exp(eta).sum(1, keepdims=True))
        return float(-top[np.arange(len(y)), y].sum() + RIDGE * np.sum(v[:2] ** 2) / 2)

    wanted = minimize(loss, np.zeros(4), tol=1e-10).x
    np.testing.assert_allclose(pool.stacks["11"][[0, 1, 3, 4]], wanted, rtol=1e-3, atol=1e-4)


def test_a_stack_of_numbers_is_a_ridge_regression() -> None:
    head, target, y, etas, present = draw("regressor")
    pool = fitted_pool("stack", head, target, etas, present)
    wanted = Ridge(alpha=RIDGE * y.var()).fit(etas[:, :, 0], y)
    np.testing.assert_allclose(pool.stacks["11"][:2], wanted.coef_, rtol=1e-6)
    np.testing.assert_allclose(
        pooled(pool, etas, present, head)[:, 0], wanted.predict(etas[:, :, 0]), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("kind", ["cox", "classifier", "regressor"])
def test_noise_has_hardly_a_weight(kind: str) -> None:
    head, target, _, etas, present = draw(kind, n=1500, absent=0.2, noise=True)
    if kind == "regressor":  # members that say too much are shrunk by any that say nothing
        etas = 0.5 * etas
    weighted = fitted_pool("weighted", head, target, etas, present)
    assert weighted.weights[2] < 0.08
    stack = fitted_pool("stack", head, target, etas, present)
    assert abs(stack.stacks["111"][2]) < 0.1 * stack.stacks["111"][0]
    # A row that has nothing but noise is told hardly anything, though its one weight becomes 1.
    alone = np.broadcast_to([False, False, True], present.shape)
    for pool in (weighted, stack) if kind == "cox" else (stack,):
        told = pooled(pool, np.where(alone[:, :, None], np.nan_to_num(etas), np.nan), alone, head)
        assert told.std() < 0.15


def test_a_stack_of_intervals_is_a_logistic_regression_of_person_periods() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(400, 2))
    time = rng.exponential(np.exp(-signal @ [1.0, 0.6]))
    head = DiscreteTimeHead(cuts=[0.3, 0.8, 2.0])
    event = time <= 2.0
    time = np.minimum(time, 2.0)
    target = head.fit_outcome((time, event))
    baseline = np.array([-1.0, -0.5, 0.5])
    etas = signal[:, :, None] + baseline + 0.2 * rng.normal(size=(400, 2, 3))
    pool = fitted_pool("stack", head, target, etas, np.ones((400, 2), dtype=bool))
    ended = np.searchsorted([0.3, 0.8, 2.0], time)
    periods = [(i, j) for i in range(400) for j in range(ended[i] + 1)]
    x = np.array([etas[i, :, j] for i, j in periods])
    failed = np.array([event[i] and ended[i] == j for i, j in periods])
    wanted = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(x, failed)
    np.testing.assert_allclose(pool.stacks["11"][:2], wanted.coef_[0], rtol=1e-4)
    np.testing.assert_allclose(pool.stacks["11"][2:], wanted.intercept_[0], rtol=1e-4)
    shown = pooled(pool, etas, np.ones((400, 2), dtype=bool), head)
    np.testing.assert_allclose(
        shown, np.einsum("nmk,m->nk", etas, wanted.coef_[0]) + wanted.intercept_, rtol=1e-3
    )


@pytest.mark.parametrize("loss", ["pmf", "deephit", "mtlr", "pc_hazard"])
def test_a_stack_of_intervals_is_the_lowest_point(loss: Any) -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(300, 2))
    time, event = rng.exponential(np.exp(-signal @ [1.0, 0.6])), rng.random(300) < 0.8
    head = DiscreteTimeHead(loss, n_intervals=4)
    target = head.fit_outcome((time, event))
    etas = head.initial(target).numpy() + signal[:, :, None] * np.linspace(0.5, -0.5, 4)
    pool = fitted_pool("stack", head, target, etas, np.ones((300, 2), dtype=bool))

    def objective(coef: np.ndarray) -> float:
        eta = torch.from_numpy(np.einsum("nmk,m->nk", etas, coef[:2]) + coef[2])
        return 300 * float(head.loss(eta, target)) + 0.5 * float(coef[:2] @ coef[:2])

    best = pool.stacks["11"][:3]
    for step in 0.02 * np.vstack([np.eye(3), -np.eye(3), rng.normal(size=(6, 3))]):
        assert objective(best) <= objective(best + step) + 1e-6


def test_a_stack_of_one_is_the_member_calibrated() -> None:
    head, target, (time, event), etas, present = draw("cox")
    one = etas[:, :1] - etas[:, :1].mean()
    one = one / one.std()
    pool = fitted_pool("stack", head, target, one, present[:, :1])
    table = pd.DataFrame({"eta": one[:, 0, 0], "time": time, "event": event})
    wanted = CoxPHFitter().fit(table, "time", "event").params_.iloc[0]
    assert pool.stacks["1"][0] == pytest.approx(wanted, rel=0.02)  # but for the small ridge
    # The member of all rows may say it in another unit and from another zero.
    told = pool.standardised(one) * pool.stacks["1"][0]
    pool.center, pool.spread = np.array([[7.0]]), np.array([[0.25]])
    np.testing.assert_allclose(pooled(pool, 0.25 * one + 7.0, present[:, :1], head), told[:, :, 0])


def test_a_set_that_training_rows_hardly_have_is_the_mean_of_its_members() -> None:
    head, target, _, etas, present = draw("regressor")
    apart = np.arange(len(etas)) % 2 == 0
    present = np.column_stack([apart, ~apart])  # never together
    pool = fitted_pool("stack", head, target, np.where(present[:, :, None], etas, np.nan), present)
    assert set(pool.stacks) == {"10", "01"}
    both = np.ones_like(present)
    singles = [
        pooled(pool, etas, np.broadcast_to(alone, present.shape), head)
        for alone in ([True, False], [False, True])
    ]
    np.testing.assert_allclose(pooled(pool, etas, both, head), np.mean(singles, axis=0))


def test_mean_centres_cox_members_and_finds_a_slope_for_each_set() -> None:
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(600, 2))  # two modalities that say different things
    time = rng.exponential(np.exp(-parts.sum(1)))
    head = CoxHead()
    target = head.fit_outcome((time, np.ones(600)))
    present = rng.random((600, 2)) < 0.8
    present[~present.any(1)] = True
    etas = np.where(present, parts + np.array([40.0, -3.0]), np.nan)[:, :, None]
    pool = fitted_pool("mean", head, target, etas, present)
    told = pooled(pool, etas, present, head)[:, 0]
    # Absent members leave no trace of their arbitrary zero.
    assert abs(told.mean()) < 0.2
    # The truth is the sum where both are there (slope 2), and the one where one is (slope 1, less
    # what the other, of which nothing is known then, takes from a hazard ratio).
    assert pool.slopes["11"] == pytest.approx(2.0, abs=0.1)
    assert min(pool.slopes["10"], pool.slopes["01"]) > 0.6
    assert max(pool.slopes["10"], pool.slopes["01"]) <= 1.0
    both = present.all(1)
    mean = (etas - pool.center)[both, :, 0].mean(1)
    np.testing.assert_allclose(told[both], pool.slopes["11"] * mean)


def test_a_mean_of_few_members_is_not_as_wide_as_that_of_many() -> None:
    """Of five modalities that add up, one alone says a fifth: so must its predictor."""
    rng = np.random.default_rng(1)
    n, size = 1500, 0.34
    parts = size * rng.normal(size=(n, 5))
    time, censored = rng.exponential(np.exp(-parts.sum(1))), rng.exponential(2.0, n)
    head = CoxHead()
    target = head.fit_outcome((np.minimum(time, censored), time <= censored))
    present = rng.random((n, 5)) < 0.7
    present[~present.any(1), 0] = True
    etas = np.where(present, parts, np.nan)[:, :, None]
    pool = fitted_pool("mean", head, target, etas, present)
    new = size * rng.normal(size=(400, 5))
    for members in ([1, 0, 0, 0, 0], [0, 1, 0, 1, 0], [1, 1, 1, 1, 1]):
        there = np.tile(np.array(members, dtype=bool), (400, 1))
        told = pooled(pool, np.where(there, new, np.nan)[:, :, None], there, head)[:, 0]
        truth = np.where(there, new, 0.0).sum(1)
        assert told.std() == pytest.approx(truth.std(), rel=0.25), members
    # A set that no row of a wider pool had goes by its size.
    wide = fitted_pool(
        "mean",
        head,
        target,
        np.concatenate([etas, etas[:, :1]], 1),
        np.concatenate([present, present[:, :1]], 1),
    )
    unseen = np.array([False, True, True, False, False, True])
    assert key(unseen) not in wide.slopes
    assert 1.0 < wide.slope_of(unseen) < 4.0


# --- what is out of fold --------------------------------------------------------------------------


def test_members_of_a_fold_do_not_see_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that memorises its rows is perfect in them and useless out of fold."""
    frame, y = cohort_for("regressor", 60, missing=0.0)
    rng = np.random.default_rng(1)
    y = y + 0.0
    frame["key"] = np.arange(60.0)  # a table of one number, from which nothing follows
    y = rng.normal(size=60)
    seen: list[OutOfFold | None] = []
    learn = late_module.learn_pool

    def spy(*args: Any) -> None:
        seen.append(args[-1])
        learn(*args)

    inputs = {"key": Tabular(["key"]), "age": Tabular(["age"])}
    model = make_model("regressor", LateFusion("weighted", **SMALL), modalities=inputs)
    model.set_params(epochs=30, learning_rate=0.03)
    monkeypatch.setattr("mmfusion.model.fit.learn_pool", spy)
    model.fit(frame, y)
    monkeypatch.undo()
    unseen = seen[-1]  # after those of the folds, which learn of nothing unseen
    assert seen[:-1] == [None] * 3
    assert unseen is not None
    assert np.isfinite(unseen.etas).all()
    assert unseen.present.all()
    # By hand: the same folds, a member fitted without each.
    train, held = pool_parts(model, frame, y)[0][:2]
    alone = clone(model).set_params(fusion=LateFusion(**SMALL))
    alone.fit(frame.iloc[train], y[train])
    etas, _ = alone.model_.members(frame.iloc[held])
    np.testing.assert_allclose(unseen.etas[held], etas, rtol=1e-6)
    # Rows held out have no say in the members that predict them.
    other = y.copy()
    other[held] = other[held][::-1]
    again = clone(alone).fit(frame.iloc[train], other[train])
    np.testing.assert_array_equal(again.model_.members(frame.iloc[held])[0], etas)


def pool_parts(model: Any, frame: pd.DataFrame, y: Any) -> Any:
    """Return the folds that a model's pool learns from."""
    plan = Plan.of(model, frame)
    return prepare(plan, Study.read(plan, frame, y)).pool_parts


def test_rows_of_a_cluster_are_in_one_fold() -> None:
    frame, y = cohort_for("cox", 60, missing=0.0)
    frame["ward"] = np.arange(60) // 4
    model = make_model("cox", LateFusion("stack", **SMALL), cluster="ward")
    for part in pool_parts(model, frame, y):
        assert set(frame["ward"].iloc[part.held].value_counts()) == {4}


def test_the_scale_of_numbers_is_that_of_rows_not_seen() -> None:
    frame, y = cohort_for("regressor", 60, missing=0.0)
    y = np.random.default_rng(5).normal(size=60)
    inputs = {"rna": Tabular([f"gene_{i}" for i in range(10)]), "age": Tabular(["age"])}
    stack = make_model("regressor", LateFusion("stack", **SMALL), modalities=inputs)
    stack.set_params(epochs=40, learning_rate=0.03).fit(frame, y)
    assert stack.scale_ > 0.9 * y.std()  # there is nothing to learn


@pytest.mark.parametrize("how", ["weighted", "stack"])
def test_with_a_formula_members_add_to_what_it_says(how: str) -> None:
    rng = np.random.default_rng(0)
    n = 160
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["dose", "a", "b"])
    eta = 0.8 * frame["dose"] + np.sin(2 * frame["a"]) + 0.0 * frame["b"]
    y = np.zeros(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = True, rng.exponential(np.exp(-eta))
    model = FusionCox(
        {"a": Tabular(["a"]), "b": Tabular(["b"])},
        LateFusion(how, **SMALL),
        structured="dose",
        epochs=40,
        patience=None,
        learning_rate=0.02,
        device="cpu",
        random_state=0,
    ).fit(frame, y)
    assert model.effects_.loc["dose", "coef"] == pytest.approx(0.8, abs=0.3)
    assert model.fusion_weights_["a"] > 2 * abs(model.fusion_weights_["b"])
    nothing = model.predict(frame, modalities=[])
    assert np.corrcoef(nothing, frame["dose"])[0, 1] == pytest.approx(1.0)


# --- estimators -----------------------------------------------------------------------------------

LATE = [(kind, how, "risk") for kind in ESTIMATORS for how in HOWS]
LATE += [("cox", how, "survival") for how in ("mean", "weighted")]


@pytest.mark.parametrize(("kind", "how", "combine"), LATE)
def test_every_combination_is_saved_cloned_and_meets_missing_rows(
    kind: str, how: str, combine: str, tmp_path: Path
) -> None:
    frame, y = cohort_for(kind, 48, missing=0.3)
    model = make_model(kind, LateFusion(how, combine, **SMALL), epochs=2).fit(frame, y)
    found = predictions(model, frame)
    assert np.isfinite(found).all()
    model.save(tmp_path / "m")
    loaded = ESTIMATORS[kind].load(tmp_path / "m")
    for other in (loaded, pickle.loads(pickle.dumps(model)), clone(model).fit(frame, y)):
        np.testing.assert_array_equal(predictions(other, frame), found)
        pd.testing.assert_series_equal(other.fusion_weights_, model.fusion_weights_)
    if how in ("mean", "weighted"):
        assert model.fusion_weights_.sum() == pytest.approx(1.0)
    # Any set of modalities; what an absent one holds and what others lack does not matter.
    for size in (1, 2):
        for names in itertools.combinations(model.modalities_, size):
            some = frame[frame["image"].notna()]
            asked = model.predict(some, modalities=list(names))
            alone = model.predict(some.iloc[[0, 3]], modalities=list(names))
            if kind == "classifier":
                assert set(asked) <= {"old", "young"}
                np.testing.assert_array_equal(alone, asked[[0, 3]])
            else:
                assert np.isfinite(asked).all()
                np.testing.assert_allclose(alone, asked[[0, 3]], rtol=1e-5, atol=1e-6)


def test_a_member_alone_is_what_a_row_with_one_modality_gets() -> None:
    frame, y = cohort_for("classifier", 60, missing=0.0)
    model = make_model("classifier", LateFusion("weighted", **SMALL)).fit(frame, y)
    (etas, present) = model.model_.members(frame, ["rna"])
    assert present.tolist() == [[False, True, False]] * 60
    np.testing.assert_allclose(
        model.predict_proba(frame, modalities=["rna"]),
        model._head.probabilities(etas[:, 1]),
        rtol=1e-12,
    )


def test_what_is_refused() -> None:
    frame, y = cohort_for("regressor")
    with pytest.raises(ValueError, match=r"combine='survival'\) combines the curves of FusionCox"):
        make_model("regressor", LateFusion(combine="survival")).fit(frame, y)
    frame, y = cohort_for("cox")
    with pytest.raises(ValueError, match="structured= goes with combine='risk'"):
        make_model("cox", LateFusion(combine="survival"), structured="age").fit(frame, y)
    labels = np.array(["a"] * 39 + ["b"])
    with pytest.raises(ValueError, match=r"in at least 2 rows .* Got class 'b' in 1"):
        make_model("classifier", LateFusion("stack")).fit(frame, labels)
    model = make_model("cox", "concat", epochs=1).fit(frame, y)
    with pytest.raises(AttributeError, match="not fused late"):
        _ = model.fusion_weights_
    mixture = make_model("cox", LateFusion(combine="survival"), epochs=1).fit(frame, y)
    with pytest.raises(ValueError, match="one log-hazard a row"):
        mixture.residuals(frame, y)


# --- curves ---------------------------------------------------------------------------------------


def mixture(n: int = 300) -> tuple[CoxMixtureHead, Any, np.ndarray, np.ndarray]:
    _, _, (time, event), etas, present = draw("cox", n, absent=0.3)
    head = CoxMixtureHead()
    target = head.fit_outcome((time, event))
    eta = etas[:, :, 0] * [1.0, 0.5]
    head.weights_ = np.array([0.7, 0.3])
    head.finish(torch.from_numpy(eta), target)
    return head, (time, event), eta, present


def test_the_mixture_of_curves_is_the_mean_and_keeps_briers_inequality() -> None:
    head, y, eta, present = mixture()
    grid = np.quantile(y[0], np.linspace(0.05, 0.9, 12))
    mixed, both = head.survival(eta, grid), present.all(1)
    for m in (0, 1):  # members alone are Cox models of their rows
        rows = present[:, m]
        alone = CoxHead()
        target = alone.fit_outcome((y[0][rows], y[1][rows]))
        alone.finish(torch.from_numpy(eta[rows, m]), target)
        only = rows & ~present[:, 1 - m]
        np.testing.assert_allclose(mixed[only], alone.survival(eta[only, m], grid), rtol=1e-12)
    members = [member.survival(np.nan_to_num(eta[both, m]), grid)
               for m, member in enumerate(head.members_)]  # fmt: skip
    np.testing.assert_allclose(mixed[both], 0.7 * members[0] + 0.3 * members[1], rtol=1e-12)
    part = (y[0][both], y[1][both])
    scores = [brier_score(y, part, curves, grid) for curves in (mixed[both], *members)]
    assert (scores[0] <= 0.7 * scores[1] + 0.3 * scores[2] + 1e-12).all()


def test_quantiles_means_and_hazards_belong_to_the_curve() -> None:
    head, _, eta, _ = mixture()
    times = head.event_times_
    curves = head.survival(eta)
    np.testing.assert_allclose(np.exp(-head.cumulative_hazard(eta)), curves, rtol=1e-9)
    for q in (0.25, 0.5):
        found = head.quantile(eta, q)
        for row in range(0, 300, 37):
            below = np.flatnonzero(curves[row] <= 1 - q)
            assert found[row] == (times[below[0]] if len(below) else np.inf)
    fine = np.linspace(0.0, 0.8, 4001)
    area = head.survival(eta, fine[:-1] + 1e-4)[:, :4000].mean(1) * 0.8
    np.testing.assert_allclose(head.restricted_mean(eta, 0.8), area, rtol=2e-3)
    order = np.argsort(head.risk(eta))
    hazards = -np.log(curves).mean(1)
    assert (np.diff(hazards[order]) >= -1e-9).all()


def test_one_member_is_its_own_mixture() -> None:
    _, _, (time, event), etas, _ = draw("cox")
    eta = torch.from_numpy(etas[:, :1, 0].copy())
    plain, alone = CoxHead(), CoxMixtureHead()
    target = plain.fit_outcome((time, event))
    alone.fit_outcome((time, event))
    alone.weights_ = np.ones(1)
    plain.finish(eta, target)
    alone.finish(eta, target)
    grid = np.quantile(time, [0.1, 0.5, 0.8])
    np.testing.assert_allclose(alone.survival(eta, grid), plain.survival(eta, grid))
    shift = alone.risk(eta) - plain.risk(eta)  # the log-hazard, but for a constant
    np.testing.assert_allclose(shift, shift[0])


def test_weights_of_curves_have_the_lowest_brier_score() -> None:
    _, _, (time, event), etas, _ = draw("cox", absent=0.2)
    head = CoxMixtureHead()
    target = head.fit_outcome((time, event))
    weights = head.fit_weights(etas[:, :, 0], target)
    grid = np.unique(np.quantile(time[event], np.linspace(0.0, 0.9, 50)))
    scores = []
    for first in np.linspace(0.0, 1.0, 41):
        head.weights_ = np.array([first, 1 - first])
        curves = head.survival(etas[:, :, 0], grid)
        scores.append(brier_score((time, event), (time, event), curves, grid).mean())
    assert weights[0] == pytest.approx(np.linspace(0.0, 1.0, 41)[np.argmin(scores)], abs=0.026)


# --- Ctrl-C ---------------------------------------------------------------------------------------


class Interrupt(Callback):
    """Interrupts at one epoch of one fit, counted from 1 over all networks (copies share it)."""

    counts: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, at_fit: int, at_epoch: int) -> None:
        self.at_fit, self.at_epoch = at_fit, at_epoch
        self.counts["fit"] = 0

    def on_fit_begin(self, state: Any) -> None:
        self.counts["fit"] += 1
        if self.at_epoch == 0 and self.counts["fit"] == self.at_fit:
            raise KeyboardInterrupt

    def on_epoch_end(self, state: Any) -> None:
        if (self.counts["fit"], state.record["epoch"]) == (self.at_fit, self.at_epoch):
            raise KeyboardInterrupt


@pytest.mark.parametrize(("at_fit", "at_epoch", "kept"), [
    (1, 2, ["scan"]), (2, 0, ["scan"]), (2, 1, ["scan", "rna"]),
])  # fmt: skip
@pytest.mark.parametrize("how", ["mean", "stack"])
def test_ctrl_c_ends_all_members_and_keeps_the_trained(
    how: str, at_fit: int, at_epoch: int, kept: list[str], tmp_path: Path
) -> None:
    frame, y = cohort_for("regressor", missing=0.0)
    training = Training(callbacks=[Interrupt(at_fit, at_epoch)])
    model = make_model("regressor", LateFusion(how, **SMALL), epochs=3, training=training)
    with pytest.warns(UserWarning, match=r"interrupted before .*'clinic'.* had a turn"):
        model.fit(frame, y)
    assert Interrupt.counts["fit"] == at_fit  # no fold was begun either
    assert model.interrupted_
    assert list(model.modalities_) == kept
    assert np.isfinite(model.predict(frame)).all()
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(
        FusionRegressor.load(tmp_path / "m").predict(frame), model.predict(frame)
    )


def test_ctrl_c_among_the_folds_leaves_the_mean() -> None:
    frame, y = cohort_for("classifier", missing=0.0)
    training = Training(callbacks=[Interrupt(5, 1)])
    model = make_model("classifier", LateFusion("stack", **SMALL), training=training)
    with pytest.warns(UserWarning, match=r"combined as LateFusion\('mean'\) does"):
        model.fit(frame, y)
    assert model.interrupted_
    assert len(model.modalities_) == 3
    plain = make_model("classifier", LateFusion("mean", **SMALL))
    assert isinstance(plain, FusionClassifier)
    etas, present = model.model_.members(frame)
    wanted = average(model.model_.head, etas, present.astype(float))
    np.testing.assert_allclose(model.model_.deep_predictor(frame), wanted)


def test_ctrl_c_before_anything_is_learned_is_an_interrupt() -> None:
    frame, y = cohort_for("regressor", missing=0.0)
    training = Training(callbacks=[Interrupt(1, 0)])
    with pytest.raises(KeyboardInterrupt):
        make_model("regressor", LateFusion(**SMALL), training=training).fit(frame, y)


def test_joint_fusion_has_no_members() -> None:
    frame, y = cohort_for("regressor")
    joint = make_model("regressor", JointFusion("sum", 4), epochs=1).fit(frame, y)
    assert isinstance(joint.model_.deep.pool, Single)
