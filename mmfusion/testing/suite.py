"""The suite: run it at once, or as tests of pytest."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import SkipTest

from sklearn.base import BaseEstimator

from mmfusion.testing import _inputs, _interface, _predictions
from mmfusion.testing._sklearn import sklearn_checks

__all__ = [
    "SurvivalCheck",
    "check_survival_estimator",
    "parametrize_survival_checks",
    "survival_estimator_checks",
]


@dataclass(frozen=True)
class SurvivalCheck:
    """One check: call it with an estimator; it raises if the estimator does not hold.

    Attributes
    ----------
    name : str
        The function's name, by which `expected_failed_checks` knows it.
    label : str
        The name with the check's options, no two alike in the suite.
    run : callable
    """

    name: str
    label: str
    run: Callable[[Any], None]

    def __call__(self, estimator: BaseEstimator) -> None:
        """Run the check on a clone of `estimator`."""
        self.run(estimator)


def survival_estimator_checks(estimator: BaseEstimator) -> list[SurvivalCheck]:
    """Return all checks that hold for a survival estimator.

    Those of scikit-learn's ``check_estimator`` that do not hang on what ``y`` means, run by
    scikit-learn's own functions on an outcome made of their numbers; then ours: forms of the
    outcome, bad outcomes, direction of risk and score, curves, medians, rows independent of each
    other, seeds, pickling, weights, folds, pipelines and searches.

    Parameters
    ----------
    estimator : estimator
        Unfitted, a subclass of ``sklearn.base.BaseEstimator`` with ``fit(X, y)``, ``predict(X)``
        (higher is worse), ``predict_survival_function(X, times=None)`` (a DataFrame, a row a
        subject, a column a time) and ``score(X, y)`` (higher is better). The further methods of
        the package's own estimators are checked where it has them. It should learn from 60 rows;
        give it few epochs, the suite fits it some 150 times.

    Returns
    -------
    list of SurvivalCheck
    """
    checks = [SurvivalCheck(*parts) for parts in sklearn_checks(estimator)]
    for module in (_interface, _inputs, _predictions):
        for name in module.__all__:
            checks.append(SurvivalCheck(name, name, getattr(module, name)))
    return checks


def check_survival_estimator(
    estimator: BaseEstimator, *, expected_failed_checks: Mapping[str, str] | None = None
) -> None:
    """Run the whole suite on an estimator and raise once, with everything that failed.

    Parameters
    ----------
    estimator : estimator
        See `survival_estimator_checks`.
    expected_failed_checks : mapping of str to str, optional
        Names of checks that may fail, each with the reason.

    Raises
    ------
    AssertionError
        Naming each failed check and its error; also each expected failure that did not come.

    Examples
    --------
    >>> from mmfusion.estimators import FusionCox
    >>> from mmfusion.testing import check_survival_estimator
    >>> check_survival_estimator(FusionCox(epochs=20))  # doctest: +SKIP
    """
    expected = dict(expected_failed_checks or {})
    failed: list[tuple[str, str]] = []
    held: set[str] = set()
    first: BaseException | None = None
    for check in survival_estimator_checks(estimator):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the checks fit on odd data on purpose
                check(estimator)
        except SkipTest:
            expected.pop(check.name, None)
        except Exception as error:
            if check.name in expected:
                held.add(check.name)
            else:
                failed.append((check.label, f"{type(error).__name__}: {error}"))
                first = first or error
    failed += [
        (name, f"expected to fail ({reason}), but it holds")
        for name, reason in expected.items()
        if name not in held
    ]
    if failed:
        lines = "\n".join(f"- {label}: {error}" for label, error in failed)
        raise AssertionError(
            f"{type(estimator).__name__} fails {len(failed)} survival estimator checks:\n{lines}"
        ) from first


def parametrize_survival_checks(
    estimators: Sequence[BaseEstimator],
    *,
    expected_failed_checks: Callable[[BaseEstimator], Mapping[str, str]] | None = None,
) -> Any:
    """Return a pytest decorator: one test for each check of each estimator.

    Parameters
    ----------
    estimators : sequence of estimators
        See `survival_estimator_checks`.
    expected_failed_checks : callable, optional
        Estimator -> names of checks that fail, each with the reason; they are marked as strict
        expected failures.

    Returns
    -------
    pytest.MarkDecorator
        For a test with the arguments ``estimator`` and ``check``.

    Examples
    --------
    >>> from mmfusion.estimators import FusionCox
    >>> from mmfusion.testing import parametrize_survival_checks
    >>> @parametrize_survival_checks([FusionCox(epochs=20)])
    ... def test_survival_estimator(estimator, check):
    ...     check(estimator)
    """
    import pytest

    cases = []
    for position, estimator in enumerate(estimators):
        expected = {} if expected_failed_checks is None else expected_failed_checks(estimator)
        for check in survival_estimator_checks(estimator):
            marks = (
                [pytest.mark.xfail(reason=expected[check.name], strict=True)]
                if check.name in expected
                else []
            )
            label = f"{type(estimator).__name__}{position}-{check.label}"
            cases.append(pytest.param(estimator, check, marks=marks, id=label))
    return pytest.mark.parametrize(("estimator", "check"), cases)
