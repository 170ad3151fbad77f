"""scikit-learn's own checks, as far as they do not hang on what ``y`` means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_estimators_data_not_an_array,
    estimator_checks_generator,
)

from mmfusion.testing._adapter import numeric_outcome

__all__ = ["sklearn_checks"]

#: They ask for 1e-7 and 1e-9, which a network in float32 does not hold: a product of one row is
#: rounded otherwise than that of many. Ours ask the same of every prediction method, at 1e-5.
REPLACED = {
    "check_methods_subset_invariance": "check_batch_of_one",
    "check_methods_sample_order_invariance": "check_row_order",
}


def sklearn_checks(estimator: BaseEstimator) -> Iterator[tuple[str, str, Callable[[Any], None]]]:
    """Yield scikit-learn's checks: the function's name, a name with its options, the check.

    All checks that scikit-learn runs on an estimator which is neither a classifier nor a regressor
    are run by its own functions, on an estimator that makes an outcome of its numbers. Of those
    kept for classifiers and regressors, three ask nothing of the meaning of ``y`` and are run too.
    The others are left out, because they ask of predictions that they lie near ``y`` or are among
    its values (``check_regressors_train``, ``check_regressors_int``, ``check_classifiers_*``,
    ``check_class_weight_*``, ``check_decision_proba_consistency``), that ``y`` may be a matrix
    (``check_*_multioutput``, ``check_supervised_y_2d``), or that a NaN in ``y`` is met with
    scikit-learn's words (``check_supervised_y_no_nan``; ours, with the row's name, is in
    `mmfusion.testing`). Two more are left out for ours in their place, see ``REPLACED``.
    """
    name = type(estimator).__name__
    for _, check in estimator_checks_generator(numeric_outcome(estimator)):
        if check.func.__name__ not in REPLACED:
            yield *_names(check), _on_numbers(check)
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    for kind in ("NotAnArray", "PandasDataframe"):
        check = partial(check_estimators_data_not_an_array, X=X, y=y, obj_type=kind)
        function = check_estimators_data_not_an_array.__name__
        yield function, f"{function}(obj_type={kind!r})", _on_numbers(partial(check, name))
    check = partial(check_dataframe_column_names_consistency, name)
    yield *_names(check), _on_numbers(check)


def _names(check: partial[Any]) -> tuple[str, str]:
    options = ", ".join(f"{key}={value!r}" for key, value in check.keywords.items())
    function = check.func.__name__
    return function, f"{function}({options})" if options else function


def _on_numbers(check: Callable[[Any], Any]) -> Callable[[Any], None]:
    def run(estimator: BaseEstimator) -> None:
        check(numeric_outcome(estimator))

    return run
