"""Missing values of all kinds are missing, in columns and as labels; what networks read is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmfusion import Tabular, surv
from mmfusion.estimators import FusionClassifier, FusionCox, FusionRegressor

N = 60
RNG = np.random.default_rng(0)
Y = surv(RNG.exponential(size=N), RNG.random(N) < 0.8)
NUMBERS = np.round(RNG.normal(size=N), 3)
HOLES = np.arange(N) % 7 == 3
FAST: Any = {"epochs": 2, "random_state": 0, "device": "cpu"}
WITH = np.where(HOLES, np.nan, NUMBERS)
TEXT = np.where(RNG.random(N) < 0.5, "a", "b").astype(object)
arrow = pytest.importorskip("pyarrow")


def holed(values: Any, missing: Any) -> pd.Series:
    """Return the values as objects, some of them missing."""
    cells = [missing if hole else cell for hole, cell in zip(HOLES, values, strict=True)]
    return pd.Series(cells, dtype=object)


def kinds_of_numbers() -> dict[str, pd.Series]:
    holes = pd.Series(NUMBERS).mask(HOLES)
    double = pd.ArrowDtype(arrow.float64())
    return {
        "nullable": holes.astype("Float64"),
        "arrow": holes.astype(double),
        "arrow NaN": pd.Series(pd.arrays.ArrowExtensionArray(arrow.array(WITH))),
        "objects with None": holed(NUMBERS, None),
        "objects with NA": holed(NUMBERS, pd.NA),
    }


def kinds_of_text() -> dict[str, pd.Series]:
    holes = pd.Series(TEXT).mask(HOLES)
    levels = pd.ArrowDtype(arrow.dictionary(arrow.int8(), arrow.string()))
    return {
        "NaN": holes,
        "None": holed(TEXT, None),
        "NA": holed(TEXT, pd.NA),
        "nullable": holes.astype("string"),
        "arrow": holes.astype("string[pyarrow]"),
        "arrow text": holes.astype(pd.ArrowDtype(arrow.string())),
        "arrow dictionary": holes.astype(levels),
        "categories": holes.astype("category"),
    }


def predicted(column: pd.Series) -> np.ndarray:
    frame = pd.DataFrame({"x": column, "z": NUMBERS})
    return FusionCox({"t": Tabular(["x", "z"])}, **FAST).fit(frame, Y).predict(frame)


@pytest.mark.parametrize("kind", kinds_of_numbers())
def test_missing_numbers_are_missing_whatever_holds_them(kind: str) -> None:
    np.testing.assert_allclose(predicted(kinds_of_numbers()[kind]), predicted(pd.Series(WITH)))
    frame = pd.DataFrame({"x": kinds_of_numbers()[kind]})
    with pytest.raises(ValueError, match="'x' of the formula is missing in 9 rows: 3, 10"):
        FusionCox(modalities={}, structured="x").fit(frame, Y)


@pytest.mark.parametrize("kind", kinds_of_text())
def test_missing_text_is_missing_whatever_holds_it(kind: str) -> None:
    column = kinds_of_text()[kind]
    if kind == "arrow dictionary":
        with pytest.raises(ValueError, match="which is not read"):
            predicted(column)
        return
    np.testing.assert_allclose(predicted(column), predicted(kinds_of_text()["NaN"]))
    frame = pd.DataFrame({"x": NUMBERS, "g": column})
    for formula in ("g", "x + C(g)", "x + re(g)", "s(x, by=g, k=5)"):
        with pytest.raises(ValueError, match="'g' of the formula is missing in 9 rows: 3, 10"):
            FusionCox(modalities={}, structured=formula).fit(frame, Y)
    for role in ("strata", "cluster", "id"):
        with pytest.raises(ValueError, match=f"{role}.*missing"):
            FusionCox(modalities={}, structured="x", **{role: "g"}).fit(frame, Y)
    with pytest.raises(ValueError, match=r"NaN.*in row\(s\) 3, 10"):
        FusionClassifier(modalities={}, structured="x").fit(frame, column)


@pytest.mark.parametrize("kind", kinds_of_numbers())
def test_missing_outcomes_are_named(kind: str) -> None:
    frame = pd.DataFrame({"x": NUMBERS})
    column = kinds_of_numbers()[kind]
    with pytest.raises(ValueError, match=r"NaN.*in row\(s\) 3, 10"):
        FusionRegressor(modalities={}, structured="x").fit(frame, column)
    with pytest.raises(ValueError, match=r"must not be missing \(NaN\)"):
        surv(column, np.ones(N))
    weight = column.where(HOLES, 1.0)
    with pytest.raises(ValueError, match=r"sample_weight.*finite numbers.*nan"):
        FusionCox(modalities={}, structured="x").fit(frame, Y, sample_weight=weight)


def test_the_summary_says_what_the_networks_read() -> None:
    frame = pd.DataFrame({"x": NUMBERS, "z": NUMBERS[::-1], "g": TEXT})
    told = str(FusionCox(structured="x", **FAST).fit(frame, Y).summary())
    assert "networks read table (x, z, g)" in told
    named = FusionCox({"t": Tabular(["z"])}, structured="x", **FAST).fit(frame, Y)
    assert "networks read t (z)" in str(named.summary())
    assert "networks read" in named.summary()._repr_html_()
    assert "networks" not in str(FusionCox(modalities={}, structured="x").fit(frame, Y).summary())
