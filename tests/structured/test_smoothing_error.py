"""What estimated smoothing parameters add to errors, against sums over their posterior."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from mmfusion.estimators import FusionPAMM, FusionRegressor
from mmfusion.structured import StructuredFit, smoothing_root
from tests.estimators.test_pamm import draw


def fitted(kind: Any, formula: str, frame: pd.DataFrame, y: Any, **given: Any) -> Any:
    """Return an estimator without networks, fitted."""
    return kind({}, structured=formula, **given).fit(frame, y)


def posterior(fits: list[StructuredFit], label: str, criterion: Any) -> tuple[Any, Any]:
    """Return the mean squared distance from `fits`' middle one, of each fit with its own sp."""
    at = fits[len(fits) // 2]
    sp = np.array([fit.sp[label][0] for fit in fits])
    value = np.array([criterion(fit) for fit in fits]) + 0.5 * np.log(sp)
    chance = np.exp(value.min() - value)
    chance /= chance.sum()
    moved = np.stack([fit.coef - at.coef for fit in fits])
    inside = np.stack([fit.bread.dense() * at.scale for fit in fits])
    return np.tensordot(chance, inside, 1) + (moved.T * chance) @ moved, at.covariance.dense()


def determinants(fit: StructuredFit, label: str) -> float:
    """Return half the logarithm of the determinant of V over that of the penalty."""
    own = fit.term(label).columns
    sizes = np.linalg.eigvalsh(fit.penalty.dense()[own, own])
    log_det = np.log(sizes[sizes > 1e-9 * sizes[-1]]).sum()
    return float(-0.5 * np.linalg.slogdet(fit.bread.dense())[1] - 0.5 * log_det)


def test_a_gaussian_smooth_is_its_posterior_summed() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, 80)
    frame, y = pd.DataFrame({"x": x}), np.sin(4 * x) + rng.normal(0, 0.7, 80)
    found = fitted(FusionRegressor, "s(x)", frame, y).inference_.fit
    (sp,) = found.sp["s(x)"]
    fits = [
        fitted(FusionRegressor, f"s(x, sp={value:.15g})", frame, y).inference_.fit
        for value in sp * np.exp(np.arange(-15, 15.1, 0.25))
    ]

    def restricted(fit: StructuredFit) -> float:
        """Return minus the restricted log-likelihood, the variance at its largest."""
        squares = fit.scale * (80 - fit.edf.sum()) + fit.coef @ (fit.penalty @ fit.coef)
        return 0.5 * (80 - 2) * np.log(squares) + determinants(fit, "s(x)")

    wanted, own = posterior(fits, "s(x)", restricted)
    root = smoothing_root(found)
    ours = found.covariance.dense() + root @ root.T
    assert np.trace(wanted) > 1.1 * np.trace(own)
    assert_allclose(np.diag(ours), np.diag(wanted), rtol=0.02)


@pytest.mark.filterwarnings("ignore:The structured fit did not converge")  # hardly a penalty
@pytest.mark.parametrize(("seed", "reach"), [(0, 9), (3, 18)])
def test_an_effect_over_time_is_near_its_posterior_summed(seed: int, reach: int) -> None:
    """The likelihood is no quadratic: where rows are few, errors differ by a fifth."""
    frame, y = draw(300, seed)
    given: dict[str, Any] = {"n_intervals": 15, "baseline": "log(t)"}
    model = fitted(FusionPAMM, "z + tv(dose)", frame, y, **given)
    found = model.inference_.fit
    (sp,) = found.sp["tv(dose)"]
    fits = [
        fitted(FusionPAMM, f"z + tv(dose, sp={value:.15g})", frame, y, **given)
        for value in sp * np.exp(np.arange(-reach, reach + 0.1))
    ]

    def restricted(fit: StructuredFit) -> float:
        squares = fit.coef @ (fit.penalty @ fit.coef)
        return float(-fit.log_likelihood + 0.5 * squares + determinants(fit, "tv(dose)"))

    wanted, own = posterior([m.inference_.fit for m in fits], "tv(dose)", restricted)
    times = np.linspace(0.1, 2.0, 9)
    basis = model.inference_.layout.formula("hazard").transform_term(
        "tv(dose)", pd.DataFrame({"t": times, "dose": 1.0})
    )
    place = found.term("tv(dose)").columns
    se = np.sqrt(np.einsum("ij,jk,ik->i", basis, wanted[place, place], basis))
    ours = model.smooth_effect("tv(dose)", times)
    known = model.smooth_effect("tv(dose)", times, unconditional=False)
    assert_allclose(ours["effect"], known["effect"])
    assert (ours["se"] > known["se"]).all()
    assert_allclose(ours["se"], se, rtol=0.25)
    assert_allclose(known["se"], np.sqrt(np.einsum("ij,jk,ik->i", basis, own[place, place], basis)))


def test_given_parameters_and_straight_formulas_add_nothing() -> None:
    frame, y = draw(200)
    for formula in ("dose", "s(z, sp=2.0)", "s(z, df=4)", "re(site)"):
        fit = fitted(FusionPAMM, formula, frame, y, n_intervals=3).inference_.fit
        assert smoothing_root(fit).shape[1] == 0  # the levels of re() are apart


def test_levels_apart_move_with_the_others() -> None:
    """A large random intercept, whose levels are eliminated, beside one that is written out."""
    rng = np.random.default_rng(2)
    frame, y = draw(400, 2)
    frame["site"] = rng.integers(0, 40, 400)
    model = fitted(FusionPAMM, "s(z) + re(site)", frame, y, n_intervals=8)
    fit = model.inference_.fit
    assert fit.bread.layout.split
    root = smoothing_root(fit)
    curve = fit.term("s(z)").columns
    levels = fit.term("re(site)").columns
    whole = (fit.information + fit.penalty).dense()
    slope = -np.linalg.solve(whole[levels, levels], whole[levels])
    rest = np.delete(np.arange(len(root)), np.arange(len(root))[levels])
    assert_allclose(root[levels], slope[:, rest] @ root[rest], atol=1e-10)
    assert np.abs(root[curve]).max() > 1e-3
    assert model.predict_band(frame[:2]).notna().all().all()
