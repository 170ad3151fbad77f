"""A survival estimator that takes a column of numbers for its outcome."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from mmfusion.survival import surv

__all__ = ["numeric_outcome"]


def numeric_outcome(estimator: BaseEstimator) -> BaseEstimator:
    """Return a clone of `estimator` whose methods turn a numeric ``y`` into a survival outcome.

    scikit-learn's own checks can then be run on it as they are: they bring numbers for ``y``, and
    what they ask of the estimator has nothing to do with what ``y`` means.
    """
    cls = _adapted(type(estimator))  # type: ignore[arg-type]
    return cls(**estimator.get_params(deep=False))


def _as_outcome(y: Any) -> Any:
    """Return an event at a time that grows with `y`; anything but a column of numbers as it is.

    A row's outcome depends on its own number alone, so that repeating a row repeats its outcome.
    """
    values = None if y is None else np.asarray(y)
    if values is None or values.ndim != 1 or values.dtype.kind not in "biufO" or not len(values):
        return y
    values = values.astype(np.float64)
    return surv(2.0 + values / (1.0 + np.abs(values)), np.ones(len(values), dtype=bool))


def _takes_outcome(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)  # its signature too: scikit-learn looks for sample_weight there
    def wrapped(self: Any, X: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        return method(self, X, _as_outcome(y), *args, **kwargs)

    return wrapped


@functools.cache  # one class for a class, so that pickling and type comparisons hold
def _adapted(cls: Any) -> Any:
    """Return a subclass of the same name, the same in everything but the outcome it takes."""

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return _blank, (cls,), self.__getstate__()  # pickle cannot find a class made here by name

    def __sklearn_tags__(self: Any) -> Any:
        tags = super(adapted, self).__sklearn_tags__()
        # Were it a "regressor", checks would hold that its predictions lie near y.
        tags.estimator_type = tags.regressor_tags = tags.classifier_tags = None
        return tags

    members: dict[str, Any] = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__reduce_ex__": __reduce_ex__,
        "__sklearn_tags__": __sklearn_tags__,
    }
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        if list(inspect.signature(method).parameters)[1:3] == ["X", "y"]:
            members[name] = _takes_outcome(method)
    adapted: Any = type(cls.__name__, (cls,), members)
    return adapted


def _blank(cls: type) -> Any:
    adapted = _adapted(cls)
    return object.__new__(adapted)
