"""Checks of how a survival estimator is used: seeded, pickled, weighted, in folds and searches."""

from __future__ import annotations

import pickle
from inspect import signature
from unittest import SkipTest

import numpy as np
import pandas as pd
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import has_fit_parameter

from mmfusion.survival import surv
from mmfusion.testing._data import fitted, make_data, prediction_methods, refused

__all__ = [
    "check_arguments_unchanged",
    "check_case_weights_count",
    "check_fit_again_forgets",
    "check_folds_and_searches",
    "check_global_seeds_untouched",
    "check_not_fitted",
    "check_pickle_keeps_predictions",
    "check_same_seed_same_predictions",
    "check_survival_methods",
    "check_unit_weights_change_nothing",
]


def check_survival_methods(estimator: BaseEstimator) -> None:
    """Check that the methods of every survival estimator have their usual arguments."""
    for name, wanted in {
        "fit": ["X", "y"],
        "predict": ["X"],
        "predict_survival_function": ["X", "times"],
        "score": ["X", "y"],
    }.items():
        method = getattr(estimator, name, None)
        assert callable(method), f"A survival estimator must have the method {name}."
        found = list(signature(method).parameters)[: len(wanted)]
        assert found == wanted, f"{name} must take {wanted}. It takes {found}."


def check_not_fitted(estimator: BaseEstimator) -> None:
    """Check that each method that predicts or scores raises NotFittedError before `fit`."""
    X, y = make_data()
    model = clone(estimator)
    for name, predict in prediction_methods(model, y).items():
        with refused(NotFittedError, f"{name} before fit"):
            predict(X)
    with refused(NotFittedError, "score before fit"):
        model.score(X, y)


def check_same_seed_same_predictions(estimator: BaseEstimator) -> None:
    """Check that two fits with one seed agree, whatever the global generators do between them."""
    X, y = make_data()
    first = fitted(estimator, X, y).predict(X)
    np.random.seed(1)  # noqa: NPY002 - what is checked is that this has no effect
    assert_allclose(fitted(estimator, X, y).predict(X), first, rtol=1e-6, atol=1e-9)


def check_global_seeds_untouched(estimator: BaseEstimator) -> None:
    """Check that a seeded fit leaves NumPy's global generator as it was."""
    X, y = make_data()
    np.random.seed(7)  # noqa: NPY002
    wanted = np.random.random(3)  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    fitted(estimator, X, y).predict(X)
    assert_allclose(np.random.random(3), wanted)  # noqa: NPY002


def check_fit_again_forgets(estimator: BaseEstimator) -> None:
    """Check that a second fit on other columns and rows leaves nothing of the first."""
    X, y = make_data(n_features=2)
    model = fitted(estimator, *make_data(40, n_features=4, tied=True))
    model.fit(X, y)
    fresh = fitted(estimator, X, y)
    assert model.n_features_in_ == 2
    for (name, again), new in zip(
        prediction_methods(model, y).items(), prediction_methods(fresh, y).values(), strict=True
    ):
        assert_allclose(again(X), new(X), rtol=1e-6, atol=1e-9, err_msg=name)


def check_pickle_keeps_predictions(estimator: BaseEstimator) -> None:
    """Check that an unpickled estimator predicts and scores the same with every method."""
    X, y = make_data()
    model = fitted(estimator, X, y)
    again = pickle.loads(pickle.dumps(model))
    for (name, before), after in zip(
        prediction_methods(model, y).items(), prediction_methods(again, y).values(), strict=True
    ):
        assert_allclose(after(X), before(X), rtol=1e-7, err_msg=name)
    assert again.score(X, y) == model.score(X, y)


def check_arguments_unchanged(estimator: BaseEstimator) -> None:
    """Check that neither fitting nor predicting nor scoring changes what it is given."""
    X, y = make_data(tied=True)
    X.iloc[3, 1] = np.nan if estimator.__sklearn_tags__().input_tags.allow_nan else 0.0
    frame, outcome = X.copy(), y.copy()
    model = fitted(estimator, X, y)
    for predict in prediction_methods(model, y).values():
        predict(X)
    model.score(X, y)
    pd.testing.assert_frame_equal(X, frame)
    assert (y == outcome).all(), "y was changed."


def check_unit_weights_change_nothing(estimator: BaseEstimator) -> None:
    """Check that case weights of one are no weights."""
    _skip_without_weights(estimator)
    X, y = make_data()
    weighted = fitted(estimator, X, y, sample_weight=np.ones(len(y)))
    assert_allclose(weighted.predict(X), fitted(estimator, X, y).predict(X), rtol=1e-5, atol=1e-7)


def check_case_weights_count(estimator: BaseEstimator) -> None:
    """Check that of two halves with opposite effects, the heavier one decides the direction."""
    _skip_without_weights(estimator)
    X, y = make_data(80)
    mirrored = surv(3.0 - y["time"], y["event"])
    frame = pd.concat([X, X], ignore_index=True)
    outcome = np.concatenate([y, mirrored])
    for light, heavy in ((slice(0, 80), mirrored), (slice(80, 160), y)):
        weight = np.ones(160)
        weight[light] = 1e-3
        model = fitted(estimator, frame, outcome, sample_weight=weight)
        assert model.score(X, heavy) > 0.5, "sample_weight is not used."


def check_folds_and_searches(estimator: BaseEstimator) -> None:
    """Check that the estimator works in a Pipeline, in cross_validate and in GridSearchCV."""
    X, y = make_data()
    pipeline = make_pipeline(FunctionTransformer(), clone(estimator))
    folds = KFold(2, shuffle=True, random_state=0)
    found = cross_validate(pipeline, X, y, cv=folds, error_score="raise")
    assert np.isfinite(found["test_score"]).all()
    search = GridSearchCV(pipeline, {}, cv=folds, error_score="raise").fit(X, y)
    curves = search.best_estimator_[-1].predict_survival_function(X, times=[0.5, 1.0])
    assert curves.shape == (len(X), 2)


def _skip_without_weights(estimator: BaseEstimator) -> None:
    if not has_fit_parameter(estimator, "sample_weight"):
        raise SkipTest("fit takes no sample_weight")
