"""The models that stand beside each other in `compare_fusion`, made of one estimator."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline

from mmfusion.evaluation.baseline import CoxRidge
from mmfusion.evaluation.features import TableFeatures
from mmfusion.evaluation.single import SingleModality
from mmfusion.metrics import make_survival_scorer
from mmfusion.modalities.base import Modality

__all__ = ["classical_models", "fused_models", "fusion_name", "single_models"]

#: Parameters that tie embeddings to each other, back to their defaults where one network does not
#: see several; and those that say how a network meets the formula, where there is no network.
OF_SEVERAL = ("auxiliary", "pretrained")
OF_NETWORKS = ("head",)


def single_models(
    base: Any,
    modalities: Mapping[str, Modality],
    present: Mapping[str, np.ndarray] | None,
    task: str,
) -> dict[str, Any]:
    """Return a model of each modality alone, beside the formula where there is one.

    `present` says which rows have each; None where the models see no row that lacks one, or have a
    formula to predict it.
    """
    formula = getattr(base, "structured", None) is not None
    models: dict[str, Any] = {}
    for name, modality in modalities.items():
        model = restrict(base, {name: modality})
        model.set_params(fusion=plain(model.fusion))
        if present is not None and not present[name].all():
            model = SingleModality(model, modality, task)
        models[f"formula + {name}" if formula else f"{name} alone"] = model
    return models


def fused_models(base: Any, operators: Sequence[str], strategies: Any) -> dict[str, Any]:
    """Return the estimator with its own fusion, each operator and each strategy."""
    if isinstance(operators, str) or not all(isinstance(name, str) for name in operators):
        raise TypeError(
            "The operators parameter must be a list of names of joint operators. "
            f"Got {operators!r}."
        )
    if isinstance(strategies, str) or not isinstance(strategies, Mapping | Sequence):
        raise TypeError(
            "The strategies parameter must be a list of what the estimator's fusion parameter "
            f"takes, or a dict of these by name. Got {strategies!r}."
        )
    own = base.fusion
    asked: list[tuple[str, Any]] = [(fusion_name(own), own)]
    asked += [(f"joint fusion, {name}", with_operator(own, name)) for name in operators]
    if isinstance(strategies, Mapping):
        asked += strategies.items()
    else:
        asked += [(fusion_name(each), each) for each in strategies]
    models: dict[str, Any] = {}
    for name, fusion in asked:
        model = clone(base).set_params(fusion=clone(fusion, safe=False))
        if fusion is not own and not joins(fusion):
            reset(model, OF_SEVERAL)
        if name in models and repr(models[name].fusion) != repr(fusion):
            raise ValueError(
                "The strategies parameter must be a dict of names where two of a kind are "
                f"compared. Got {models[name].fusion!r} and {fusion!r}, both {name!r}."
            )
        models[name] = model
    return models


def classical_models(
    base: Any, modalities: Mapping[str, Modality], task: str, random_state: int | None
) -> dict[str, Any]:
    """Return the formula alone and the models of the tables, penalties chosen inside a fold."""
    models: dict[str, Any] = {}
    if getattr(base, "structured", None) is not None:
        models["formula alone"] = restrict(base, {})
    if modalities and getattr(base, "linear", False):
        models["linear part alone"] = restrict(base, modalities).set_params(
            n_members=0, fusion="concat"
        )
    tables = {name: m for name, m in modalities.items() if m.kind == "table"}
    if not tables:
        return models
    inner = {"n_splits": 3, "shuffle": True, "random_state": random_state}
    if task == "survival":
        models["ridge Cox"] = GridSearchCV(
            CoxRidge(tables),
            {"penalizer": [0.001, 0.01, 0.1, 1.0]},
            scoring=make_survival_scorer("harrell"),
            cv=KFold(**inner),
        )
        return models
    features = TableFeatures(tables)
    if task == "classification":
        models["logistic ridge"] = GridSearchCV(
            make_pipeline(features, LogisticRegression(max_iter=1000)),
            {"logisticregression__C": [0.001, 0.01, 0.1, 1.0, 10.0]},
            scoring="neg_log_loss",
            cv=StratifiedKFold(**inner),
        )
        boosting: Any = HistGradientBoostingClassifier(random_state=random_state)
    else:
        models["ridge regression"] = make_pipeline(features, RidgeCV(np.logspace(-2, 4, 13)))
        boosting = HistGradientBoostingRegressor(random_state=random_state)
    models["gradient boosting"] = make_pipeline(features, boosting)
    return models


def restrict(base: Any, modalities: Mapping[str, Modality]) -> Any:
    """Return the estimator with some of its modalities, or none."""
    model = clone(base).set_params(modalities=dict(modalities))
    params = model.get_params(deep=False)
    rate = params.get("modality_dropout")
    if isinstance(rate, Mapping):
        model.set_params(modality_dropout={k: v for k, v in rate.items() if k in modalities})
    return reset(model, OF_SEVERAL if modalities else OF_SEVERAL + OF_NETWORKS)


def reset(model: Any, names: Sequence[str]) -> Any:
    """Set those of the named parameters that the model has back to their defaults."""
    defaults = signature(type(model)).parameters
    return model.set_params(**{key: defaults[key].default for key in names if key in defaults})


def joins(fusion: Any) -> bool:
    """Return whether a fusion is a joint one, of several embeddings in one network."""
    return isinstance(fusion, str) or hasattr(fusion, "operator")


def plain(fusion: Any) -> Any:
    """Return the fusion of a single modality: concatenation with the same layers."""
    if isinstance(fusion, str):
        return "concat"
    params = fusion.get_params(deep=False) if hasattr(fusion, "get_params") else {}
    if "operator" not in params:
        return fusion
    joined = with_operator(fusion, "concat")
    return joined.set_params(at="embedding") if "at" in params else joined


def with_operator(fusion: Any, operator: str) -> Any:
    """Return a joint fusion with another operator; of any other fusion, the operator's name."""
    params = fusion.get_params(deep=False) if hasattr(fusion, "get_params") else {}
    if "operator" not in params:
        return operator
    changed = clone(fusion).set_params(operator=operator)
    if "options" in params and operator != fusion.operator:  # they are the other operator's
        changed.set_params(options=None)
    return changed


def fusion_name(fusion: Any) -> str:
    """Return what a table calls a fusion: "joint fusion, gated", "late fusion"."""
    operator = fusion if isinstance(fusion, str) else getattr(fusion, "operator", None)
    if operator is not None:
        return f"joint fusion, {operator}"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(fusion).__name__).lower()
