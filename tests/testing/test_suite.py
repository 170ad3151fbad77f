"""The suite itself: an honest estimator passes it, and each of our checks fails on a broken one."""

from __future__ import annotations

import re
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from mmfusion.inputs.times import as_times
from mmfusion.metrics import concordance_index
from mmfusion.survival import check_survival, surv
from mmfusion.testing import (
    check_survival_estimator,
    parametrize_survival_checks,
    survival_estimator_checks,
)


class Exponential(BaseEstimator):
    """Exponential regression by Newton's method: the shortest honest survival estimator."""

    def __init__(self, ridge: float = 1.0) -> None:
        self.ridge = ridge

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        X = validate_data(self, X, dtype=np.float64)
        outcome = check_survival(y, n_rows=len(X))
        weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, float)
        if weight.shape != (len(X),) or not weight.any():
            raise ValueError(f"weights must not all be zero, shape {(len(X),)}")
        exposure = outcome.time - np.maximum(outcome.entry, 0.0)
        self.mean_ = np.average(X, axis=0, weights=weight)
        variance = np.average((X - self.mean_) ** 2, axis=0, weights=weight)
        self.scale_ = np.sqrt(np.maximum(variance, 1e-12))
        design = self._design(X)
        self.coef_ = np.zeros(design.shape[1])
        self.coef_[0] = np.log((weight @ outcome.event) / max(weight @ exposure, 1e-9))
        penalty = self.ridge * np.eye(design.shape[1])
        penalty[0, 0] = 0.0
        for _ in range(50):
            expected = weight * exposure * np.exp(np.clip(design @ self.coef_, -50, 50))
            slope = design.T @ (weight * outcome.event - expected) - penalty @ self.coef_
            curve = (design.T * expected) @ design + penalty + 1e-9 * np.eye(len(penalty))
            step = np.linalg.solve(curve, slope)
            self.coef_ = self.coef_ + step / max(1.0, np.abs(step).max())
        self.times_ = np.unique(outcome.time[outcome.event])
        return self

    def _design(self, X: np.ndarray) -> np.ndarray:
        return np.column_stack([np.ones(len(X)), (X - self.mean_) / self.scale_])

    def predict(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.clip(self._design(X) @ self.coef_, -50, 50)

    def predict_cumulative_hazard_function(self, X: Any, times: Any = None) -> pd.DataFrame:
        rate = np.exp(self.predict(X))
        times = self.times_ if times is None else as_times("times", times)
        if not (np.isfinite(times).all() and (times >= 0).all()):
            raise ValueError("times must be finite and not negative")
        return pd.DataFrame(np.outer(rate, times), getattr(X, "index", None), times)

    def predict_survival_function(self, X: Any, times: Any = None) -> pd.DataFrame:
        return np.exp(-self.predict_cumulative_hazard_function(X, times))

    def predict_quantile(self, X: Any, q: float) -> np.ndarray:
        return -np.log1p(-q) / np.exp(self.predict(X))

    def predict_median(self, X: Any) -> np.ndarray:
        return self.predict_quantile(X, 0.5)

    def predict_restricted_mean(self, X: Any, horizon: float) -> np.ndarray:
        rate = np.exp(self.predict(X))
        return -np.expm1(-rate * horizon) / rate

    def score(self, X: Any, y: Any) -> float:
        return concordance_index(y, self.predict(X))


@parametrize_survival_checks([Exponential(), Exponential(ridge=5.0)])
def test_an_honest_estimator_passes(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)


class Regressor(RegressorMixin, Exponential):
    """One that scikit-learn would hold against numbers."""

    score = Exponential.score


def test_an_estimator_that_calls_itself_a_regressor_passes_too() -> None:
    check_survival_estimator(Regressor())


# --- each check fails where it should ------------------------------------------------------------


class UpsideDown(Exponential):
    def predict(self, X: Any) -> np.ndarray:
        return -super().predict(X)


class UpsideDownCurves(Exponential):
    def predict_survival_function(self, X: Any, times: Any = None) -> pd.DataFrame:
        times = self.times_ if times is None else as_times("times", times)
        rate = np.exp(-self.predict(X))
        return pd.DataFrame(np.exp(-np.outer(rate, times)), getattr(X, "index", None), times)


class LossScore(Exponential):
    def score(self, X: Any, y: Any) -> float:
        return 1.0 - super().score(X, y)


class CumulativeIncidence(Exponential):
    def predict_survival_function(self, X: Any, times: Any = None) -> pd.DataFrame:
        return 1.0 - super().predict_survival_function(X, times)


class NoIndex(Exponential):
    def predict_survival_function(self, X: Any, times: Any = None) -> pd.DataFrame:
        return super().predict_survival_function(np.asarray(X), times)


class SortedTimes(Exponential):
    def predict_survival_function(self, X: Any, times: Any = None) -> pd.DataFrame:
        times = None if times is None else np.sort(times)
        return super().predict_survival_function(X, times)


class Unchecked(Exponential):
    def predict_cumulative_hazard_function(self, X: Any, times: Any = None) -> pd.DataFrame:
        times = self.times_ if times is None else np.abs(np.nan_to_num(times, posinf=9.0))
        return super().predict_cumulative_hazard_function(X, times)


class MeanForMedian(Exponential):
    def predict_median(self, X: Any) -> np.ndarray:
        return 1.0 / np.exp(self.predict(X))


class MedianForMean(Exponential):
    def predict_restricted_mean(self, X: Any, horizon: float) -> np.ndarray:
        return np.minimum(self.predict_median(X), horizon)


class FallingHazard(Exponential):
    def predict_cumulative_hazard_function(self, X: Any, times: Any = None) -> pd.DataFrame:
        return super().predict_cumulative_hazard_function(X, times).iloc[:, ::-1]


class BatchNormalised(Exponential):
    def predict(self, X: Any) -> np.ndarray:
        risk = super().predict(X)
        return risk - risk.mean()


class Sorting(Exponential):
    def predict(self, X: Any) -> np.ndarray:
        return np.sort(super().predict(X))


class Mutating(Exponential):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        if isinstance(X, pd.DataFrame):
            X.iloc[0, 0] = 0.0
        return super().fit(X, y, sample_weight)


class Unweighted(Exponential):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        return super().fit(X, y)


class TwiceWeighted(Exponential):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        self.ridge_ = self.ridge
        return super().fit(X, y, None if sample_weight is None else 9.0 * sample_weight)


class IgnoresEntry(Exponential):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        if y is not None:
            outcome = check_survival(y)
            y = surv(outcome.time, outcome.event)
        return super().fit(X, y, sample_weight)


class Forgiving(Exponential):
    """Makes an outcome of anything."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        if isinstance(y, tuple):
            time, event = (np.nan_to_num(np.asarray(part, float), posinf=1.0) for part in y[:2])
            event = event > 0
            event[0] = True
            y = surv(np.abs(time), event)
        return super().fit(X, y, sample_weight)


class Truncating(Exponential):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        n = min(len(X), len(y))
        return super().fit(X[:n], y[:n], sample_weight)


class FieldNames(Exponential):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        y = surv(y["time"], y["event"])
        return super().fit(X, y, sample_weight)


class Random(Exponential):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        super().fit(X, y, sample_weight)
        self.coef_ = self.coef_ + 0.01 * np.random.normal(size=len(self.coef_))  # noqa: NPY002
        return self


class WarmStarted(Exponential):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        kept = getattr(self, "times_", np.zeros(0))
        super().fit(X, y, sample_weight)
        self.coef_[0] += len(kept)
        return self


class Forgetful(Exponential):
    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if "coef_" in state:
            state = {**state, "coef_": np.round(state["coef_"], 2)}
        return state


class NeverChecks(Exponential):
    def predict_median(self, X: Any) -> np.ndarray:
        return np.zeros(len(X))


class Overflowing(Exponential):
    def predict_cumulative_hazard_function(self, X: Any, times: Any = None) -> pd.DataFrame:
        found = super().predict_cumulative_hazard_function(X, times)
        linear = self._design(np.asarray(X)) @ self.coef_
        return found.where(np.abs(linear)[:, None] < 40, np.nan)


class NoTies(Exponential):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        super().fit(X, y, sample_weight)
        if len(self.times_) < 0.5 * len(X):
            self.coef_ = self.coef_ * np.nan
        return self


class DividesByTime(Exponential):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        super().fit(X, y, sample_weight)
        with np.errstate(divide="ignore"):
            self.coef_ = self.coef_ + 0.0 * np.log(self.times_.min())
        return self


class DividesByScale(Exponential):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        super().fit(X, y, sample_weight)
        self.coef_ = self.coef_ / (np.asarray(X).std(0).min() > 0)
        return self


class RefusesFrames(Exponential):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        super().fit(X, y, sample_weight)
        self.coef_[0] += isinstance(X, pd.DataFrame)
        return self


class SlicesByLabel(Exponential):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        if isinstance(X, pd.DataFrame) and len(X) < 40:
            X.loc["row_0"]
        return super().fit(X, y, sample_weight)


class NoTimes(Exponential):
    def predict_survival_function(self, X: Any) -> pd.DataFrame:
        return super().predict_survival_function(X)


BROKEN = {
    "check_survival_methods": NoTimes,
    "check_not_fitted": NeverChecks,
    "check_same_seed_same_predictions": Random,
    "check_global_seeds_untouched": Random,
    "check_fit_again_forgets": WarmStarted,
    "check_pickle_keeps_predictions": Forgetful,
    "check_arguments_unchanged": Mutating,
    "check_unit_weights_change_nothing": TwiceWeighted,
    "check_case_weights_count": Unweighted,
    "check_folds_and_searches": SlicesByLabel,
    "check_outcome_forms_agree": FieldNames,
    "check_array_and_frame_agree": RefusesFrames,
    "check_bad_outcomes": Forgiving,
    "check_different_lengths": Truncating,
    "check_bad_times": Unchecked,
    "check_tied_times": NoTies,
    "check_zero_time": DividesByTime,
    "check_few_events": NoTies,
    "check_constant_column": DividesByScale,
    "check_delayed_entry_not_ignored": IgnoresEntry,
    "check_risk_direction": UpsideDown,
    "check_score_direction": LossScore,
    "check_survival_curves": CumulativeIncidence,
    "check_times_asked_for": SortedTimes,
    "check_cumulative_hazards": FallingHazard,
    "check_curves_agree_with_risk": UpsideDownCurves,
    "check_medians_and_quantiles": MeanForMedian,
    "check_restricted_means": MedianForMean,
    "check_row_order": Sorting,
    "check_batch_of_one": BatchNormalised,
    "check_extreme_rows": Overflowing,
}
#: Only an estimator with an eval_set can fail it: FusionCox's own tests see to that.
ELSEWHERE = {"check_censored_validation_rows"}

CHECKS = {check.label: check for check in survival_estimator_checks(Exponential())}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BROKEN)
def test_each_check_fails_on_an_estimator_that_breaks_it(name: str) -> None:
    with pytest.raises((AssertionError, ValueError, KeyError, TypeError)):
        CHECKS[name](BROKEN[name]())


def test_every_check_of_ours_has_such_an_estimator() -> None:
    ours = {label for label in CHECKS if "mmfusion" in CHECKS[label].run.__module__} - {
        label for label in CHECKS if CHECKS[label].run.__qualname__.endswith("<locals>.run")
    }
    assert ours - ELSEWHERE == set(BROKEN)


def test_a_missing_index_is_seen() -> None:
    with pytest.raises(AssertionError):
        CHECKS["check_survival_curves"](NoIndex())


def test_scikit_learns_checks_are_there_and_fail_where_they_should() -> None:
    for name in (
        "check_estimators_dtypes",
        "check_fit_idempotent",
        "check_n_features_in_after_fitting",
        "check_sample_weight_equivalence_on_dense_data",
        "check_estimators_pickle",
        "check_estimators_pickle(readonly_memmap=True)",
        "check_dataframe_column_names_consistency",
        "check_estimators_data_not_an_array(obj_type='NotAnArray')",
    ):
        assert name in CHECKS
    assert len(CHECKS) > 70

    class NoNames(Exponential):
        def predict(self, X: Any) -> np.ndarray:
            return expit(np.asarray(X)[:, 0])

    for name in ("check_dataframe_column_names_consistency", "check_estimators_unfitted"):
        with pytest.raises(AssertionError):
            CHECKS[name](NoNames())


def test_all_failures_are_told_at_once() -> None:
    with pytest.raises(AssertionError, match=r"UpsideDown fails") as found:
        check_survival_estimator(UpsideDown())
    told = re.findall(r"^- (\w+)", str(found.value), re.MULTILINE)
    assert {"check_risk_direction", "check_score_direction"} <= set(told)


def test_expected_failures_must_come() -> None:
    check_survival_estimator(
        NoIndex(), expected_failed_checks={"check_survival_curves": "why", "check_row_order": "why"}
    )
    with pytest.raises(
        AssertionError, match=r"check_fit1d: expected to fail \(why\), but it holds"
    ):
        check_survival_estimator(Exponential(), expected_failed_checks={"check_fit1d": "why"})
