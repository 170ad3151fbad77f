"""NaN and infinity never become an average patient: the row that has them is named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from mmfusion import Genes, Points, Tabular, surv
from mmfusion.estimators import (
    FusionClassifier,
    FusionCox,
    FusionDiscreteTime,
    FusionPAMM,
    FusionPretrainer,
    FusionRegressor,
)
from mmfusion.fusion import LateFusion

N = 40
rng = np.random.default_rng(0)
X = pd.DataFrame(rng.normal(size=(N, 4)), columns=list("abcd"), index=[f"p{i}" for i in range(N)])
TIMES = surv(rng.exponential(size=N), rng.random(N) < 0.7)
OPTIONS = {"epochs": 1, "random_state": 0, "device": "cpu"}
TWO = {"t": Tabular(["a", "b"]), "g": Tabular(["c", "d"])}

CASES = {
    "cox": (lambda: FusionCox(TWO, **OPTIONS), TIMES),
    "formula": (lambda: FusionCox(TWO, structured="a", **OPTIONS), TIMES),
    "mean": (lambda: FusionCox(TWO, LateFusion("mean"), **OPTIONS), TIMES),
    "stack": (lambda: FusionCox(TWO, LateFusion("stack"), **OPTIONS), TIMES),
    "discrete": (lambda: FusionDiscreteTime(TWO, **OPTIONS), TIMES),
    "pamm": (lambda: FusionPAMM(TWO, **OPTIONS), TIMES),
    "classes": (lambda: FusionClassifier(TWO, LateFusion("mean"), **OPTIONS), X.a > 0),
    "numbers": (lambda: FusionRegressor(TWO, **OPTIONS), X.a),
    "pretraining": (lambda: FusionPretrainer(TWO, **OPTIONS), None),
}


def predict(model, table):
    return model.transform(table) if hasattr(model, "transform") else model.predict(table)


def spoil(model, value):
    """Make the encoder of modality "g" say `value` of rows whose first number is large."""
    for network in model._networks().values():
        if "g" in network.modalities:

            def hook(module, inputs, output):
                return torch.where(inputs[0][:, :1] > 50, value, output)

            network.module.encoders["g"].register_forward_hook(hook)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", CASES)
def test_a_network_without_a_number_raises_and_names_the_row(name, value):
    make, y = CASES[name]
    model = make().fit(X, y)
    spoil(model, value)
    bad = X.copy()
    bad.loc["p7", "c"] = bad.loc["p9", "c"] = 100.0
    assert np.isfinite(predict(model, X)).all()
    with pytest.raises(
        ValueError, match=r"of modalit.*'g'.* gives -?(nan|inf) for row 'p7' \(2 of"
    ):
        predict(model, bad)


def test_only_rows_without_any_modality_are_filled():
    model = FusionCox({"g": TWO["g"]}, structured="a", **OPTIONS).fit(X, TIMES)
    spoil(model, float("nan"))
    table = X.assign(c=100.0)
    table[["c", "d"]] = np.nan
    filled = model.predict(table)
    assert np.isfinite(filled).all()
    table.loc["p3", "c"] = 100.0
    with pytest.raises(ValueError, match="network of modality 'g' gives nan for row 'p3'"):
        model.predict(table)


@pytest.mark.parametrize("modality", [Tabular(["a", "b"]), Genes(["a", "b"], clip=5.0)])
def test_numbers_that_overflow_once_scaled_are_refused(modality):
    small = X.assign(a=X.a * 1e-3)
    model = FusionCox({"t": modality}, **OPTIONS).fit(small, TIMES)
    small.loc["p5", "a"] = 3e38
    with pytest.raises(ValueError, match="column 'a' overflows float32 in row 'p5'"):
        model.predict(small)


@pytest.mark.parametrize("modality", [Tabular(["a", "b"]), Genes(["a", "b"])])
def test_numbers_beyond_float32_are_refused_before_training(modality):
    wrong = X.copy()
    wrong.loc["p5", "a"] = -1e39
    with pytest.raises(ValueError, match=r"Column 'a' must hold finite .* row 'p5', .*float32"):
        FusionCox({"t": modality}, **OPTIONS).fit(wrong, TIMES)


def test_validation_rows_that_overflow_are_refused_before_training():
    small = X.assign(a=X.a * 1e-3)
    judges = small.copy()
    judges.loc["p5", "a"] = 3e38
    model = FusionCox({"t": Tabular(["a"])}, patience=1, **OPTIONS)
    with pytest.raises(ValueError, match="column 'a' overflows float32 in row 'p5'"):
        model.fit(small, TIMES, eval_set=(judges, TIMES))


def test_components_of_genes_that_overflow():
    genes = Genes(["a", "b"], scale=False, clip=None, n_components=1).fit(X * 1e-3)
    wrong = X.copy()
    wrong.loc["p5", ["a", "b"]] = [3e38, -3e38]
    with pytest.raises(ValueError, match="'component 1' overflows float32 in row 'p5'"):
        genes.transform(wrong)


def test_clouds():
    clouds = pd.DataFrame({"p": list(rng.normal(size=(4, 5, 3)) * 1e-3)}, index=list("wxyz"))
    points = Points("p").fit(clouds)
    wrong = clouds.copy()
    wrong.at["y", "p"] = np.sign(rng.normal(size=(5, 3))) * 3e38
    with pytest.raises(ValueError, match="Column 'p', row 'y': the cloud overflows float32"):
        points.transform(wrong)
    wrong.at["y", "p"] = rng.normal(size=(5, 3)) * 1e300
    with pytest.raises(
        ValueError, match=r"Column 'p', row 'y': .* finite numbers.* beyond float32"
    ):
        points.fit(wrong)
