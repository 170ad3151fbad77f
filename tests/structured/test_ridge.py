"""Ridge blocks beside a design: variances by REML, exact coefficients, rows left out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
import torch

from mmfusion.heads import CategoricalHead, CoxHead, DistributionHead, GaussianHead
from mmfusion.heads.discrete import DiscreteTimeHead
from mmfusion.heads.families import check_family
from mmfusion.structured import (
    Block,
    Dense,
    Design,
    Likelihood,
    SeparationWarning,
    TermColumns,
    fit_ridge,
    fit_structured,
)
from mmfusion.structured.components import OverColumns, OverRows, restricted_variances
from mmfusion.survival import surv

N = 200


def draw(sizes: tuple[int, ...] = (6, 30), seed: int = 0, n: int = N) -> Any:
    rng = np.random.default_rng(seed)
    blocks = [rng.normal(size=(n, size)) for size in sizes]
    blocks = [(block - block.mean(0)) / block.std(0) for block in blocks]
    x = rng.normal(size=(n, 1))
    eta = 0.5 * x[:, 0] + 0.4 * blocks[0][:, :3].sum(1)
    eta += blocks[1] @ rng.normal(size=sizes[1]) * 0.5 / np.sqrt(sizes[1])
    return rng, blocks, x, eta


def outcome(kind: str, rng: np.random.Generator, eta: np.ndarray) -> tuple[Any, Any]:
    if kind == "cox":
        time, censored = rng.exponential(np.exp(-eta)), rng.exponential(2, len(eta))
        head: Any = CoxHead()
        return head, head.fit_outcome(surv(np.minimum(time, censored), time <= censored))
    if kind == "binary":
        head = CategoricalHead()
        return head, head.fit_outcome(rng.random(len(eta)) < 1 / (1 + np.exp(-eta)))
    head = GaussianHead()
    return head, head.fit_outcome(eta + rng.normal(size=len(eta)))


def fitted(kind: str, seed: int = 0, sizes: tuple[int, ...] = (6, 30)) -> Any:
    rng, blocks, x, eta = draw(sizes, seed)
    head, target = outcome(kind, rng, eta)
    likelihood = Likelihood(head, target)
    columns = x if kind == "cox" else np.hstack([np.ones((N, 1)), x])
    design = Design.dense_of(columns)
    names = ("a", "b")[: columns.shape[1]]

    def refit(whole: Design, terms: Any, more: tuple[str, ...]) -> Any:
        return fit_structured(likelihood, whole, terms, names=(*names, *more))

    found = fit_ridge(likelihood, design, blocks, np.ones((1, 1)), refit)
    return found, likelihood, columns, blocks


def terms_of(columns: np.ndarray, blocks: list[np.ndarray], sp: Any = None) -> list[TermColumns]:
    edges = columns.shape[1] + np.cumsum([0, *(block.shape[1] for block in blocks)])
    return [
        TermColumns(
            f"block{k}",
            slice(int(edges[k]), int(edges[k + 1])),
            "random",
            (np.ones(block.shape[1]),),
            sp=None if sp is None else (float(sp[k]),),
        )
        for k, block in enumerate(blocks)
    ]


@pytest.mark.parametrize("kind", ["cox", "binary", "gaussian"])
@pytest.mark.parametrize("sizes", [(6, 30), (6, 300)])
def test_coefficients_are_those_of_the_penalised_fit(kind: str, sizes: tuple[int, int]) -> None:
    """At its variances: Newton's method over all columns, also of more columns than rows."""
    found, likelihood, columns, blocks = fitted(kind, sizes=sizes)
    design = np.hstack([columns, *blocks])
    whole = fit_structured(likelihood, design, terms_of(columns, blocks, 1 / found.variances))
    q = columns.shape[1]
    np.testing.assert_allclose(np.concatenate(found.coef)[:, 0], whole.coef[q:], atol=1e-7)
    np.testing.assert_allclose(found.fit.coef, whole.coef[:q], atol=1e-7)
    se = np.sqrt(whole.covariance.diagonal()[q:])
    np.testing.assert_allclose(np.concatenate(found.se)[:, 0], se, rtol=1e-5)
    edf = [whole.term_edf(f"block{k}") for k in range(len(blocks))]
    np.testing.assert_allclose(found.edf, edf, rtol=1e-4, atol=1e-4)
    added = sum(block @ coef for block, coef in zip(blocks, found.coef, strict=True))
    np.testing.assert_allclose(found.predictor, added, atol=1e-8)


@pytest.mark.parametrize(("kind", "close"), [("gaussian", 0.02), ("binary", 0.2), ("cox", 0.2)])
def test_variances_are_those_of_restricted_likelihood(kind: str, close: float) -> None:
    """Exactly of numbers; of others the working model neglects how the curvature moves."""
    found, likelihood, columns, blocks = fitted(kind)
    whole = fit_structured(likelihood, np.hstack([columns, *blocks]), terms_of(columns, blocks))
    exact = np.array([1 / whole.sp[f"block{k}"][0] for k in range(len(blocks))])
    np.testing.assert_allclose(found.variances, exact, rtol=close)


def test_variances_against_statsmodels() -> None:
    """One block of indicators is a random intercept: statsmodels' linear mixed model by REML."""
    rng = np.random.default_rng(3)
    group = rng.integers(0, 25, 400)
    z = (group[:, None] == np.arange(25)).astype(float)
    x = np.column_stack([np.ones(400), rng.normal(size=400)])
    y = x @ [1.0, 0.5] + (rng.normal(size=25) * 0.8)[group] + rng.normal(size=400) * 1.5
    tau, _ = restricted_variances(
        y[:, None], np.ones((400, 1)), [x], [z], np.array([0.1]), has_scale=True
    )
    peer = sm.MixedLM(y, x, groups=group).fit(reml=True)
    assert tau[0] == pytest.approx(float(np.asarray(peer.cov_re)[0, 0] / peer.scale), rel=1e-2)


def test_rows_and_columns_say_the_same() -> None:
    rng, blocks, x, eta = draw((5, 12))
    weight, z = rng.uniform(0.2, 2, N), eta + rng.normal(size=N)
    fixed = np.hstack([np.ones((N, 1)), x])
    tau = np.array([0.3, 0.05])
    columns = OverColumns(z, weight, fixed, blocks)
    rows = OverRows(z, weight, fixed, [block @ block.T for block in blocks])
    for one, other in zip(columns.at(tau), rows.at(tau), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8)
    np.testing.assert_allclose(columns.predicted(tau), rows.predicted(tau), rtol=1e-8)


def test_known_products_of_the_rows_change_nothing() -> None:
    """Of fewer columns than rows they are not used, of more they are those it would compute."""
    for sizes in ((6, 30), (6, 300)):
        rng, blocks, x, eta = draw(sizes)
        head, target = outcome("cox", rng, eta)
        likelihood, design = Likelihood(head, target), Design.dense_of(x)

        def refit(whole: Design, terms: Any, more: Any, likelihood: Likelihood = likelihood) -> Any:
            return fit_structured(likelihood, whole, terms, names=("a", *more))

        known = [block @ block.T for block in blocks]
        one, other = (
            fit_ridge(likelihood, design, blocks, np.ones((1, 1)), refit, kernels=kernels)
            for kernels in ((), known)
        )
        for left, right in zip((*one.coef, *one.se), (*other.coef, *other.se), strict=True):
            np.testing.assert_allclose(left, right, atol=1e-12)


@pytest.mark.parametrize(("kind", "close"), [("gaussian", 1e-6), ("binary", 0.03), ("cox", 0.06)])
def test_a_row_left_out(kind: str, close: float) -> None:
    """Against fits without the row, at the same variances; exact of least squares."""
    found, likelihood, columns, blocks = fitted(kind)
    design = np.hstack([columns, *blocks])
    terms = terms_of(columns, blocks, 1 / found.variances)
    at = columns @ found.fit.coef + found.predictor[:, 0]
    head, target = likelihood._head, likelihood._target
    wanted, got = [], []
    for row in range(0, N, 10):
        others = np.delete(np.arange(N), row)
        part = Likelihood(head, target.take(torch.from_numpy(others)))
        fit = fit_structured(part, design[others], terms)
        left = design @ fit.coef
        # A Cox model's zero is arbitrary.
        free = 0.0 if likelihood.has_intercept else (left - at)[others].mean()
        wanted.append(left[row] - at[row] - free)
        got.append(found.shift[row, 0])
    size = np.std(wanted)
    assert np.abs(np.subtract(wanted, got)).mean() < close * size + 1e-9 or close > 0.01
    assert np.corrcoef(wanted, got)[0, 1] > 1 - close


def test_a_row_left_out_of_intervals() -> None:
    """Where all who are left have the event, the last interval's constant has no end."""
    rng, blocks, _, eta = draw()
    time = rng.exponential(np.exp(-eta))
    late = time > np.quantile(time, 0.9)
    event = (rng.random(N) < 0.8) | late
    head = DiscreteTimeHead(cuts=np.quantile(time, [0.2, 0.4, 0.6, 0.9, 1.0]))
    target = head.fit_outcome(surv(np.where(late, time.max(), time), event))
    likelihood, k = Likelihood(head, target), 5
    constants = Block(Dense(np.ones((N, 1))), np.eye(k), np.arange(k)[:, None])
    design = Design(N, k, k, (constants,))

    def fit(part: Likelihood, whole: Design, terms: Any, more: tuple[str, ...]) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SeparationWarning)
            return fit_structured(part, whole, terms, names=(*"abcde", *more))

    def refit(whole: Design, terms: Any, more: tuple[str, ...]) -> Any:
        return fit(likelihood, whole, terms, more)

    found = fit_ridge(likelihood, design, blocks, np.ones((k, 1)), refit)
    assert found.edf.sum() > 5
    wide = np.hstack(blocks)
    term = TermColumns(
        "all", slice(k, k + 36), "random", (np.repeat(1 / found.variances, [6, 30]),), sp=(1.0,)
    )
    block = Block(Dense(wide), np.ones((k, 1)), np.arange(k, k + 36)[None])
    whole = Design(N, k, k + 36, (constants, block))
    at = found.fit.coef + found.predictor
    size = likelihood.curvatures(at)
    wanted, got = [], []
    for row in np.flatnonzero(size.sum(1) > 0)[::8]:  # the others were never at risk
        others = np.delete(np.arange(N), row)
        part = Likelihood(head, target.take(torch.from_numpy(others)))
        coef = fit(part, whole.take(others), (term,), (*map(str, range(36)),)).coef
        move = whole.predict(coef)[row] - at[row]
        wanted.append(float(size[row] @ move / size[row].sum()))
        got.append(found.shift[row, 0])
    assert np.corrcoef(wanted, got)[0, 1] > 0.97
    assert 0.8 < np.std(got) / np.std(wanted) < 1.25


def test_a_block_of_noise_is_left_out() -> None:
    rng = np.random.default_rng(5)
    blocks = [rng.normal(size=(300, 3)), rng.normal(size=(300, 400))]
    head = GaussianHead()
    target = head.fit_outcome(blocks[0].sum(1) + rng.normal(size=300))
    likelihood = Likelihood(head, target)

    def refit(whole: Design, terms: Any, more: tuple[str, ...]) -> Any:
        return fit_structured(likelihood, whole, terms, names=("1", *more))

    design = Design.dense_of(np.ones((300, 1)))
    found = fit_ridge(likelihood, design, blocks, np.ones((1, 1)), refit)
    assert found.edf[0] > 2.8
    assert found.edf[1] < 20  # of 300 rows: half of the time chance makes it a little


def test_variances_that_few_events_make_too_small_are_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many patients without the event, more columns than patients (Breslow & Lin 1995)."""
    module = "mmfusion.structured.ridge"
    found: dict[bool, tuple[float, float]] = {}
    for looks in (False, True):
        monkeypatch.setattr(f"{module}.FEW", 400 if looks else 0)
        variances, losses = [], []
        for seed in range(4):
            rng = np.random.default_rng(seed)
            block = rng.normal(size=(N, 300))
            eta = block @ rng.normal(size=300) * 0.1
            head, target = outcome("binary", rng, eta - 3.0)
            likelihood, design = Likelihood(head, target), Design.dense_of(np.ones((N, 1)))

            def refit(whole: Design, terms: Any, more: Any, likelihood: Any = likelihood) -> Any:
                return fit_structured(likelihood, whole, terms, names=("a", *more))

            fit = fit_ridge(likelihood, design, [block], np.ones((1, 1)), refit)
            variances.append(float(fit.variances[0]))
            eta_hat = fit.fit.coef[0] + fit.predictor + fit.shift
            losses.append(likelihood.value(eta_hat))
        found[looks] = float(np.mean(variances)), float(np.mean(losses))
    assert found[False][0] < 0.01 / 3  # the coefficients' variance is 0.01
    assert 0.005 < found[True][0] < 0.02
    assert found[True][1] < found[False][1]


def test_scale_beside_columns_that_follow_every_row_keeps_an_end(
    recwarn: pytest.WarningsRecorder,
) -> None:
    rng = np.random.default_rng(0)
    bright = rng.uniform(-1, 1, 24)
    pixels = 0.35 * bright[:, None] + 0.05 * rng.normal(size=(24, 30))
    block = (pixels - pixels.mean(0)) / pixels.std(0)
    head = DistributionHead(check_family("normal"), ("loc", "scale"))
    y = np.exp(-0.5 + bright) * rng.normal(size=24)
    likelihood = Likelihood(head, head.fit_outcome(y))
    ones, each = np.ones((24, 1)), np.eye(2)
    blocks = [Block(Dense(ones), each[:, [k]], np.array([[k]])) for k in range(2)]

    def refit(whole: Design, terms: Any, more: tuple[str, ...]) -> Any:
        return fit_structured(likelihood, whole, terms, names=("loc", "scale", *more))

    found = fit_ridge(likelihood, Design(24, 2, 2, tuple(blocks)), [block], each, refit)
    assert found.fit.converged
    assert len(recwarn) == 0
    assert found.edf[0] < 10
    scale = (np.array([[0.0, found.fit.coef[1]]]) + found.predictor)[:, 1]
    assert np.corrcoef(scale, bright)[0, 1] > 0.9
