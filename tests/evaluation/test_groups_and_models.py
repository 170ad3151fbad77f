"""Comparisons of rows that belong together, of competing causes, and of models from elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GroupKFold, KFold

from mmfusion import Genes, Tabular, surv
from mmfusion.estimators import FusionCox, FusionDiscreteTime
from mmfusion.evaluation import CoxRidge, compare, compare_fusion

N = 120
RNG = np.random.default_rng(0)
X = pd.DataFrame({"x": RNG.normal(size=N), "z": RNG.normal(size=N), "site": np.arange(N) // 4})
TIME = RNG.exponential(np.exp(-X["x"]))
EVENT = RNG.random(N) < 0.8
Y = surv(TIME, EVENT)
CAUSES = surv(TIME, EVENT * RNG.integers(1, 3, N))
COX = FusionCox(modalities={}, structured="x")
RIDGE = CoxRidge(Tabular(["x", "z"]))


def sites_are_whole(comparison: Any) -> bool:
    tested = comparison.risks.drop_duplicates(["repeat", "fold", "row"])
    folds = tested.groupby(["repeat", tested["row"] // 4])["fold"].nunique()
    return bool((folds == 1).all())


@pytest.mark.parametrize("groups", ["site", X["site"], X["site"].to_numpy()])
@pytest.mark.parametrize("folds", [3, GroupKFold(3)])
def test_groups_stay_together(groups: Any, folds: Any) -> None:
    comparison = compare({"cox": COX, "ridge": RIDGE}, X, Y, folds, groups=groups)
    assert sites_are_whole(comparison)
    assert len(comparison.scores) == 6
    assert comparison.scores["c"].notna().all()
    numbers = compare(
        {"least": LinearRegression()}, X, TIME, folds, task="regression", groups=groups
    )
    assert sites_are_whole(numbers)


@pytest.mark.parametrize("role", ["id", "cluster"])
def test_the_models_own_groups_are_honoured(role: str) -> None:
    model = FusionCox(modalities={}, structured="x", **{role: "site"})
    assert sites_are_whole(compare({"cox": model, "ridge": RIDGE}, X, Y, 3))
    with pytest.raises(ValueError, match="folds part rows that belong together"):
        compare({"cox": model}, X, Y, KFold(3, shuffle=True, random_state=0))
    other = FusionCox(modalities={}, structured="x", **{role: "z"})
    with pytest.raises(ValueError, match=f"same {role} to be compared, or the groups parameter"):
        compare({"cox": model, "other": other}, X, Y, 3)


def test_fusions_are_compared_on_groups() -> None:
    model = FusionCox(
        {"a": Tabular(["x"], hidden=()), "b": Genes(["z"], hidden=())},
        cluster="site",
        epochs=1,
        device="cpu",
    )
    settings: Any = {"cv": 2, "random_state": 0, "verbose": 0, "single": False}
    comparison = compare_fusion(model, X, Y, n_repeats=2, **settings)
    assert sites_are_whole(comparison)
    assert comparison.scores["repeat"].nunique() == 2
    own = model.set_params(cluster=None)
    assert sites_are_whole(compare_fusion(own, X, Y, n_repeats=1, groups="site", **settings))
    assert sites_are_whole(
        compare_fusion(own, X, Y, **settings | {"cv": GroupKFold(2)}, groups="site")
    )


def test_groups_that_are_at_fault_are_named() -> None:
    with pytest.raises(ValueError, match=r"groups parameter must name a column of X\. Got 'sit'"):
        compare({"cox": COX}, X, Y, 3, groups="sit")
    with pytest.raises(ValueError, match="one label for each of the 120 rows"):
        compare({"cox": COX}, X, Y, 3, groups=np.arange(3))
    with pytest.raises(ValueError, match=r"number of groups \(2\)"):
        compare({"cox": COX}, X, Y, 3, groups=np.arange(N) % 2)


def test_competing_causes_go_to_the_models_and_any_event_is_scored() -> None:
    hits = FusionDiscreteTime(
        {"t": Tabular(["x"])}, loss="deephit", n_intervals=4, epochs=2, device="cpu", random_state=0
    )
    comparison = compare({"deephit": hits}, X, CAUSES, 3)
    assert comparison.scores[["c", "ibs"]].notna().all(axis=None)
    with pytest.raises(ValueError, match=r"the last, 'cox'.*knows no competing causes"):
        compare({"cox": COX}, X, CAUSES, 3)


class OfLifelines(RegressorMixin, BaseEstimator):
    """lifelines' model behind scikit-learn's signatures; its curves have a row a time."""

    def fit(self, X: pd.DataFrame, y: Any) -> OfLifelines:
        frame = X[["x"]].assign(time=y["time"], event=y["event"])
        self.model_ = CoxPHFitter().fit(frame, "time", "event")
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return self.model_.predict_log_partial_hazard(X).to_numpy()

    def predict_survival_function(self, X: pd.DataFrame) -> Any:
        return self.model_.predict_survival_function(X[["x"]])


class Odd(OfLifelines):
    def predict_survival_function(self, X: pd.DataFrame) -> Any:
        return np.zeros((len(X), 3))


class Broken(BaseEstimator):
    def fit(self, X: Any, y: Any) -> Broken:
        raise RuntimeError("no licence for this server")

    def predict(self, X: Any) -> Any:
        """Return nothing."""


def test_tables_of_curves_are_read_and_others_named() -> None:
    comparison = compare({"ours": COX, "theirs": OfLifelines()}, X, Y, 3)
    wide = comparison.by_fold("ibs")
    np.testing.assert_allclose(wide["ours"], wide["theirs"], rtol=0.02)
    np.testing.assert_allclose(*comparison.by_fold("c").to_numpy().T)
    with pytest.raises(ValueError, match="must take times=, or return a function of time"):
        compare({"odd": Odd()}, X, Y, 3)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (CoxPHFitter(), "CoxPHFitter, which has no predict"),
        (KaplanMeierFitter(), "KaplanMeierFitter, which has no get_params"),
        (LinearRegression, r"the class LinearRegression: write LinearRegression\(\.\.\.\)"),
        ("ridge", "str, which has no fit"),
        (None, "NoneType, which has no fit"),
    ],
)
def test_what_is_no_estimator_is_named_before_anything_is_fitted(model: Any, found: str) -> None:
    with pytest.raises(TypeError, match=rf"for 'it': {found}"):
        compare({"cox": COX, "it": model}, X, Y, 3)


def test_a_fit_of_another_signature_is_named() -> None:
    class Columns(BaseEstimator):
        def fit(self, df: Any, duration_col: str, event_col: str) -> Any: ...

        def predict(self, X: Any) -> Any: ...

    with pytest.raises(TypeError, match=r"whose fit is fit\(df.*duration_col"):
        compare({"it": Columns()}, X, Y, 3)


def test_a_model_that_fails_in_all_folds_shows_why() -> None:
    with pytest.warns(UserWarning, match="failed and scores nan"):
        comparison = compare({"cox": COX, "it": Broken()}, X, Y, 3, error_score=np.nan)
    why = "Model 'it' failed in all folds: RuntimeError: no licence for this server"
    assert comparison.notes == (why,)
    assert why in comparison.summary()
