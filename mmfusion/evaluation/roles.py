"""What a comparison reads off its models: whether it can fit them, and columns with a role."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any

import numpy as np

from mmfusion.inputs.columns import take_column
from mmfusion.inputs.labels import check_labels, check_order

__all__ = ["check_groups", "check_model", "common_column"]


def check_model(name: str, model: Any, parameter: str = "models") -> None:
    """Raise TypeError unless a model has scikit-learn's ``fit(X, y)``, ``predict(X)``, parameters.

    Models of other libraries often do not: lifelines' ``fit`` takes one table and the names of two
    of its columns.
    """
    wanted = "fit(X, y), predict(X) and get_params()"
    lacking = [what for what in ("fit", "predict", "get_params") if not hasattr(model, what)]
    if isinstance(model, type):
        found = f"the class {model.__name__}: write {model.__name__}(...)"
    elif lacking:
        found = f"{type(model).__name__}, which has no {lacking[0]}"
    elif not _takes_two(model.fit):
        found = f"{type(model).__name__}, whose fit is fit{signature(model.fit)}"
    else:
        return
    raise TypeError(
        f"The {parameter} parameter must hold estimators as scikit-learn has them, with {wanted}. "
        f"Got {model!r} for {name!r}: {found}. Wrap another library's in a "
        "sklearn.base.BaseEstimator (CoxRidge is lifelines' Cox model)."
    )


def _takes_two(function: Any) -> bool:
    """Return whether a function may be called with a table and an outcome, in this order."""
    try:
        parameters = list(signature(function).parameters.values())
    except (TypeError, ValueError):  # of compiled code
        return True
    if any(p.kind is Parameter.VAR_POSITIONAL for p in parameters):
        return True
    places = [p for p in parameters if p.kind is not Parameter.KEYWORD_ONLY]
    places = [p for p in places if p.kind is not Parameter.VAR_KEYWORD]
    needed = [p for p in places if p.default is Parameter.empty]
    second = places[1].name.lower() if len(places) > 1 else ""
    columns = second.endswith("_col") or second == "df"
    return len(places) >= 2 and len(needed) <= 2 and not columns


def common_column(models: Mapping[str, Any], role: str) -> Any:
    """Return the column that has a role in the models, searches' and pipelines' too, or None.

    Raises
    ------
    ValueError
        If they name different ones.
    """
    named = {}
    for name, model in models.items():
        for key, value in model.get_params().items():
            if value is not None and (key == role or key.endswith(f"__{role}")):
                named[name] = value
    if len(set(named.values())) > 1:
        within = {"strata": "pairs are compared within"}.get(role, "stay together in folds")
        raise ValueError(
            f"Models must have the same {role} to be compared, or the "
            f"{'strata' if role == 'strata' else 'groups'} parameter must name those that {within}."
            f" Got {named}."
        )
    return next(iter(named.values()), None)


def check_groups(groups: Any, models: Mapping[str, Any], X: Any) -> np.ndarray | None:
    """Return the label of each row's group; None where every row is its own.

    Parameters
    ----------
    groups : column name, array-like of shape (n,), or None
        None is the models' `id`, else their `cluster`, of those whose column `X` has.
    models : mapping of str to estimator
    X : DataFrame or array
    """
    if groups is None:
        for role in ("id", "cluster"):
            column = common_column(models, role)
            if column is not None and column in getattr(X, "columns", ()):
                return check_labels(take_column(X, column, role), len(X), role)
        return None
    if isinstance(groups, str) or np.ndim(groups) == 0:
        groups = take_column(X, groups, "groups")
    check_order(X=X, groups=groups)
    return check_labels(groups, len(X), "groups")
