"""Small cohorts for the checks, and the predictions of an estimator on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from mmfusion.survival import surv

__all__ = ["curve_grid", "fitted", "make_data", "prediction_methods", "refused"]


def make_data(
    n: int = 60, *, n_features: int = 3, censoring: float = 0.25, tied: bool = False
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a cohort in which a higher ``a`` always fails earlier, and other columns are noise.

    Returns
    -------
    X : DataFrame, shape (n, n_features)
        Standard normal columns ``a``, ``b``, ..., index ``row_0``, ``row_1``, ...
    y : structured array, shape (n,)
        Times in (0, 3), a share `censoring` of the rows censored.
    """
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        rng.normal(size=(n, n_features)),
        columns=[chr(ord("a") + column) for column in range(n_features)],
        index=pd.Index([f"row_{row}" for row in range(n)]),
    )
    time = 3.0 / (1.0 + np.exp(X["a"].to_numpy()))
    if tied:
        time = np.ceil(4.0 * time) / 4.0
    return X, surv(time, rng.random(n) >= censoring)


def fitted(estimator: BaseEstimator, X: Any, y: Any, **kwargs: Any) -> Any:
    """Return a clone of `estimator`, seeded with 0 where it takes a seed, fitted."""
    model = clone(estimator)
    if "random_state" in model.get_params(deep=False):
        model.set_params(random_state=0)
    model.fit(X, y, **kwargs)
    check_is_fitted(model)
    return model


def curve_grid(y: np.ndarray) -> np.ndarray:
    """Return times before, between and at those of `y`, up to the last one."""
    return np.concatenate([[0.0], np.quantile(y["time"], [0.1, 0.3, 0.5, 0.7, 0.9, 1.0])])


def prediction_methods(estimator: BaseEstimator, y: np.ndarray) -> dict[str, Callable[[Any], Any]]:
    """Return the estimator's methods that predict from rows alone, each as a function of ``X``."""
    grid = curve_grid(y)
    arguments: dict[str, dict[str, Any]] = {
        "predict": {},
        "predict_survival_function": {"times": grid},
        "predict_cumulative_hazard_function": {"times": grid},
        "predict_median": {},
        "predict_quantile": {"q": 0.25},
        "predict_restricted_mean": {"horizon": float(np.median(y["time"]))},
    }
    methods: dict[str, Callable[[Any], Any]] = {}
    for name, given in arguments.items():
        method = getattr(estimator, name, None)
        if method is not None:
            methods[name] = partial(_predict, method, given)
    return methods


def _predict(method: Callable[..., Any], given: dict[str, Any], X: Any) -> np.ndarray:
    return np.asarray(method(X, **given))


@contextmanager
def refused(kind: type[Exception], what: str) -> Iterator[None]:
    """Raise AssertionError unless the block raises `kind` with a message."""
    try:
        yield
    except kind as error:
        if not str(error):
            raise AssertionError(f"{what} raised {kind.__name__} without a message.") from error
        return
    raise AssertionError(f"{what} must raise {kind.__name__}.")
