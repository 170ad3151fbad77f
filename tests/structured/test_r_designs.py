"""Designs, penalties and constraints against those of R's mgcv, splines and stats.

The parametrisation under a constraint is a matter of taste; what a penalised fit makes of the rows
is not. So what is compared is the smoother, X (X'X + lambda S)^-1 X', for several lambdas.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from mmfusion.structured.formula import Formula

HERE = Path(__file__).parent / "fixtures"
R = json.loads((HERE / "designs.json").read_text())
DATA = pd.read_csv(HERE / "designs_data.csv")
GRID = pd.read_csv(HERE / "designs_grid.csv")
LAMBDAS = (1e-3, 1.0, 50.0)


def smoother(
    X: NDArray[Any], penalties: list[NDArray[Any]], sp: list[float], at: NDArray[Any]
) -> NDArray[Any]:
    """Return the map from the outcome to the fit at rows `at`."""
    total = sum(value * np.asarray(S) for value, S in zip(sp, penalties, strict=True))
    return at @ np.linalg.solve(X.T @ X + total, X.T)


@pytest.mark.parametrize("text", R["smooths"])
@pytest.mark.parametrize("sp", LAMBDAS)
def test_smoothers_are_those_of_mgcv(text: str, sp: float) -> None:
    formula = Formula(text).fit(DATA, intercept=False)
    X = formula.transform(DATA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the grid reaches beyond the data on purpose
        at = formula.transform(GRID)
    assert len(formula.terms_) == len(R["smooths"][text])
    for term, theirs in zip(formula.terms_, R["smooths"][text], strict=True):
        here, there = X[:, term.columns], np.array(theirs["X"])
        # Different weights a direction, so that two swapped penalties do not pass.
        weights = [sp * 7.0**j for j in range(len(term.penalties))]
        ours = [np.asarray(S) for S in term.penalties]
        scale = [np.array(S) for S in theirs["S"]]
        assert here.shape == there.shape
        np.testing.assert_allclose(
            smoother(here, ours, weights, here), smoother(there, scale, weights, there), atol=1e-8
        )
        reference = smoother(there, scale, weights, np.array(theirs["grid"]))
        np.testing.assert_allclose(
            smoother(here, ours, weights, at[:, term.columns]),
            reference,
            atol=1e-8 * max(1.0, np.abs(reference).max()),
        )


@pytest.mark.parametrize("text", R["models"])
def test_smoothing_parameters_mean_what_they_mean_in_mgcv(text: str) -> None:
    formula = Formula(text).fit(DATA)
    X = formula.transform(DATA)
    total = np.zeros((X.shape[1], X.shape[1]))
    for term in formula.terms_:
        for value, penalty in zip(term.sp or (), term.penalties, strict=True):
            total[term.columns, term.columns] += value * penalty
    hat = X @ np.linalg.solve(X.T @ X + total, X.T)
    np.testing.assert_allclose(hat @ DATA["y"], R["models"][text]["fitted"], atol=1e-8)
    np.testing.assert_allclose(np.trace(hat), R["models"][text]["edf"], rtol=1e-8)


@pytest.mark.parametrize("text", R["parametric"])
def test_parametric_designs_are_those_of_r(text: str) -> None:
    ours = Formula(text).fit(DATA).transform(DATA)
    theirs = np.array(R["parametric"][text])
    assert ours.shape == theirs.shape
    # Column by column, in R's order; the sign of a polynomial is free.
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, theirs * signs, atol=1e-10)
    assert (signs == 1).all() or text.startswith("poly")
