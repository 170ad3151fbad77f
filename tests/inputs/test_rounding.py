"""Columns that are constant but for rounding count as constant wherever a spread divides."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from mmfusion import Genes, Points, Tabular, surv
from mmfusion.encoders.scaler import FeatureScaler
from mmfusion.estimators import FusionCox, FusionPretrainer, FusionRegressor
from mmfusion.evaluation import CoxRidge
from mmfusion.heads.cox.head import CoxHead
from mmfusion.inputs.rounding import distinct, is_constant, nothing_but_rounding
from mmfusion.model.pools import Mean
from mmfusion.structured.terms.bsplines import _inner_and_outer_knots

N = 60


def constants() -> dict[str, np.ndarray]:
    """Return columns that hold one number, written in several ways."""
    which = np.arange(N) % 2 == 0
    return {
        "products": np.where(which, 0.3, 0.1 * 3),
        "large": np.where(which, 1e30, np.nextafter(1e30, 2e30)),
        "negative": np.where(which, -70.1, -(70.0 + 0.1)),
        "sums": np.where(which, 1.0, sum([0.1] * 10)),
        "narrow": np.where(which, np.float32(0.3), np.nextafter(np.float32(0.3), np.float32(1))),
    }


COLUMNS = list(constants())


@pytest.mark.parametrize("name", COLUMNS)
def test_one_value_up_to_rounding_is_constant(name):
    column = constants()[name]
    assert is_constant(column)
    assert len(distinct(column)) == 1


@pytest.mark.parametrize(
    "column",
    [
        np.array([1.6e9, 1.6e9 + 1]),  # seconds
        np.array([2000.0, 2001.0], np.float32),
        np.array([1e-40, 2e-40]),
        np.array([0.0, 1e-300]),
        np.array([-1e38, 1e38], np.float32),
        np.array([10**9, 10**9 + 1]),
    ],
)
def test_small_but_true_spreads_are_none(column):
    assert not is_constant(column)
    assert len(distinct(column)) == 2


def test_no_spread_and_no_number_are_rounding():
    assert nothing_but_rounding([0.0, np.nan, 1.0], 1.0).tolist() == [True, True, False]
    assert is_constant(np.empty((0, 2))).tolist() == [True, True]


@pytest.mark.parametrize("name", COLUMNS)
def test_tabular_sets_them_to_zero(name):
    frame = pd.DataFrame({"x": np.arange(float(N)), name: constants()[name]})
    with pytest.warns(UserWarning, match=f"one value in the training rows to 0: '{name}'"):
        table = Tabular().fit(frame)
    assert table.transform(frame.assign(**{name: 1e5})).numeric[:, 1].abs().max() == 0


@pytest.mark.parametrize("dtype", ["float32", "Float32"])
def test_tabular_knows_what_the_table_holds_numbers_in(dtype):
    frame = pd.DataFrame({"x": np.arange(float(N)), "c": constants()["narrow"]})
    frame["c"] = frame["c"].astype(dtype)
    assert frame["c"].nunique() == 2
    with pytest.warns(UserWarning, match="to 0: 'c'"):
        assert np.isinf(Tabular().fit(frame).scale_[1])


@pytest.mark.parametrize("clip", [None, 10.0])
def test_genes_leave_them_out(clip):
    frame = pd.DataFrame({"g": np.arange(float(N)), "c": constants()["narrow"]})
    frame.loc[0, "c"] = frame.loc[2, "c"]
    with pytest.warns(UserWarning, match="leaves out 1 of 2 columns .*: 'c'"):
        assert Genes(["g", "c"], clip=clip).fit(frame).columns_ == ["g"]


def test_genes_with_one_other_value_are_measured_without_the_tails_rounding():
    column = constants()["narrow"].copy()
    column[0] = 5.0
    frame = pd.DataFrame({"g": column})
    scale = Genes(["g"], clip=10.0).fit(frame).scale_
    np.testing.assert_allclose(scale, column.std(), rtol=1e-6)


def test_clouds_of_one_point_and_their_features():
    clouds = [np.tile([0.1, 0.1 + i, 0.3], (3, 1)) for i in range(4)]
    for cloud in clouds:
        cloud[0] = [0.1 * 3 - 0.2, cloud[0, 1], 0.1 * 3]
    flat = [np.column_stack([c, np.where([1, 0, 1], 0.3, 0.1 * 3)]) for c in clouds]
    frame = pd.DataFrame({"p": flat})
    for normalize in ("center", "unit"):
        points = Points("p", normalize=normalize).fit(frame)
        found = points.transform(frame).points
        assert found.abs().max() < 1e-12
    assert np.isinf(points.feature_sd_).all()


def test_frozen_features():
    values = np.column_stack([np.arange(float(N)), constants()["narrow"]])
    scaler = FeatureScaler(2)
    scaler.fit(torch.from_numpy(values).float())
    assert scaler.factor[1] == 0
    assert scaler(torch.tensor([[0.0, 9.0]]))[0, 1] == 0


def test_pools():
    etas = np.stack([np.arange(float(N)), constants()["narrow"]], axis=1)[:, :, None]
    pool = Mean(["a", "b"])
    pool.look(etas, np.ones((N, 2), dtype=bool), CoxHead())
    assert pool.spread[0, 0] == pytest.approx(np.arange(N).std())
    assert pool.spread[1, 0] == 1


def test_numbers_to_predict():
    frame = pd.DataFrame({"x": np.arange(float(N))})
    model = FusionRegressor({"t": Tabular()}, epochs=2, random_state=0, device="cpu")
    model.fit(frame, constants()["products"])
    np.testing.assert_allclose(model.predict(frame), 0.3, atol=0.5)
    assert model.model_.head.spread_ == 1


def test_basis_of_a_spline():
    with pytest.raises(ValueError, match=r"bs\(x, ...\) is constant in the training rows"):
        _inner_and_outer_knots(constants()["products"], 4, None, 3, False)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=N), "c": constants()["products"]})
    y = surv(rng.exponential(size=N), np.ones(N))
    for formula, match in [
        ("s(c)", "Column 'c' is constant in the training rows"),
        ("s(x, by=c)", "Column 'c', by= of .* is constant"),
        ("x + c", "has constant columns: 'c'"),
    ]:
        with pytest.raises(ValueError, match=match):
            FusionCox({}, structured=formula, device="cpu").fit(frame, y)


def test_predictions_are_those_of_a_constant_column():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=N), "c": 0.3})
    y = surv(rng.exponential(size=N), np.ones(N))
    rounded, new = frame.assign(c=constants()["products"]), frame.assign(c=0.4)
    options = dict(epochs=3, random_state=0, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for make in (
            lambda: FusionCox({"t": Tabular()}, **options),
            lambda: CoxRidge(),
            lambda: FusionPretrainer({"t": Tabular()}, **options),
        ):
            found = []
            for table in (frame, rounded):
                model = make().fit(table, y)
                found.append(getattr(model, "predict", getattr(model, "transform", None))(new))
            np.testing.assert_array_equal(*found)
