"""The space of an estimator for which none is written: small, around what it is set to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from sklearn.base import clone

from mmfusion.fusion import check_fusion
from mmfusion.modalities import infer_modalities

__all__ = ["default_space"]

#: What the predictor is made of: the linear part, networks, or both.
PARTS: dict[str, dict[str, Any]] = {
    "linear part and networks": {"linear": True, "n_members": "auto"},
    "linear part alone": {"linear": True, "n_members": 0},
    "networks alone": {"linear": False, "n_members": "auto"},
}
#: Joint operators that differ most in what they can say, and stay small.
OPERATORS = ("concat", "gated", "attention")
WIDTHS = (8, 16, 32, 64)
EPOCHS = (30, 100, 300)
LEARNING_RATE, WEIGHT_DECAY, RATE = (3e-4, 3e-2), (1e-4, 1.0), (0.0, 0.5)


def default_space(estimator: Any, X: Any) -> tuple[Callable[[Any], dict[str, Any]], dict[str, Any]]:
    """Return the space of an estimator, and the trial in it that is the estimator as it is.

    Parameters
    ----------
    estimator : estimator of this package, alone or at the end of a Pipeline
    X : DataFrame or array
        Modalities that are not given are inferred from it.

    Raises
    ------
    ValueError
        An estimator of which the package knows no parameters.
    """
    prefix, model = "", estimator
    while hasattr(model, "steps"):
        name, last = model.steps[-1]
        prefix, model, X = f"{prefix}{name}__", last, None
    params = model.get_params(deep=False) if hasattr(model, "get_params") else {}
    if not {"modalities", "fusion", "learning_rate", "n_members"} <= set(params):
        raise ValueError(
            "The space parameter can be 'default' for an estimator of mmfusion.estimators, alone "
            "or at the end of a Pipeline. Give a dict of distributions for "
            f"{type(model).__name__}."
        )
    if params["modalities"] is not None and not params["modalities"]:
        raise ValueError(
            "The space parameter can be 'default' for an estimator with modalities: there is "
            "nothing to tune of a formula alone. Got modalities={}."
        )
    space = DefaultSpace(params, _count(params["modalities"], X), prefix)
    return space, space.own


class DefaultSpace:
    """A function of a trial: `own` is the trial in which the estimator stays what it is.

    Ranges are widened where the estimator's own value lies beyond them. A parameter that is zero or
    None is left out where nothing can be scaled.

    Parameters
    ----------
    params : mapping of str to value
        The estimator's own.
    n_modalities : int
    prefix : str
        What its parameters begin with, at the end of a Pipeline.
    """

    def __init__(self, params: Mapping[str, Any], n_modalities: int, prefix: str = "") -> None:
        self.prefix = prefix
        self.fusion = check_fusion(params["fusion"])
        fusion = self.fusion.get_params(deep=False)
        training = params["training"]
        self.parts = _parts(params, self.fusion)
        self.own: dict[str, Any] = {}
        self.ranges: dict[str, tuple[float, float, bool]] = {}
        self.choices: dict[str, tuple[Any, ...]] = {}
        self._range("learning_rate", params["learning_rate"], LEARNING_RATE, log=True)
        decay = 1e-2 if training is None else training.weight_decay
        self._range("weight_decay", decay, WEIGHT_DECAY, log=True)
        if not self.fusion.linear:
            self._range("dropout", fusion["dropout"], RATE)
            self.width = fusion["dim"] if "dim" in fusion else max(fusion["hidden"], default=0)
            if self.width:
                self._choice("width", self.width, WIDTHS)
        if n_modalities > 1:
            if not isinstance(params["modality_dropout"], Mapping):
                self._range("modality_dropout", params["modality_dropout"], RATE)
            if fusion.get("operator") in OPERATORS and fusion["at"] == "embedding":
                self._choice("operator", fusion["operator"], OPERATORS)
        if params["patience"] is not None and not isinstance(params["epochs"], str):
            self._choice("epochs", params["epochs"], EPOCHS)
        if len(self.parts) > 1:
            self.own["parts"] = next(iter(self.parts))
        self.intervals = isinstance(params.get("n_intervals"), int) and params.get("cuts") is None
        if self.intervals:
            n = params["n_intervals"]
            self._choice("n_intervals", n, (max(2, n // 2), 2 * n))

    def _range(self, name: str, own: Any, ends: tuple[float, float], log: bool = False) -> None:
        if log and not own > 0:
            return
        self.own[name] = own
        self.ranges[name] = min(ends[0], own), max(ends[1], own), log

    def _choice(self, name: str, own: Any, choices: tuple[Any, ...]) -> None:
        self.own[name] = own
        self.choices[name] = choices if own in choices else (*choices, own)

    def __call__(self, trial: Any) -> dict[str, Any]:
        """Return the estimator's parameters."""
        parts = dict(self.parts[next(iter(self.parts))])
        if len(self.parts) > 1:
            parts = dict(self.parts[trial.suggest_categorical("parts", list(self.parts))])
        chosen: dict[str, Any] = dict(parts)
        if self.intervals:
            values = self.choices["n_intervals"]
            chosen["n_intervals"] = trial.suggest_categorical("n_intervals", values)
        if parts.get("n_members") == 0:  # without networks nothing else counts
            return {self.prefix + name: value for name, value in chosen.items()}
        drawn = {
            name: trial.suggest_float(name, low, high, log=log)
            for name, (low, high, log) in self.ranges.items()
        }
        for name, values in self.choices.items():
            if name != "n_intervals":
                drawn[name] = trial.suggest_categorical(name, values)
        if "weight_decay" in drawn:
            chosen["training__weight_decay"] = drawn.pop("weight_decay")
        fusion = clone(self.fusion)
        for name in ("dropout", "operator"):
            if name in drawn:
                fusion.set_params(**{name: drawn.pop(name)})
        if "width" in drawn:
            _widen(fusion, drawn.pop("width") / self.width)
        chosen |= drawn | {"fusion": fusion}
        return {self.prefix + name: value for name, value in chosen.items()}


def _parts(params: Mapping[str, Any], fusion: Any) -> dict[str, dict[str, Any]]:
    """Return what the predictor may be made of, the estimator's own choice first."""
    own = {"linear": params["linear"], "n_members": params["n_members"]}
    if not fusion.takes_offset or params["auxiliary"] or params["pretrained"] is not None:
        return {"as it is": own}
    others = {name: each for name, each in PARTS.items() if each != own}
    named = next((name for name, each in PARTS.items() if each == own), "as it is")
    return {named: own, **others}


def _widen(fusion: Any, factor: float) -> None:
    """Make every layer of a fusion wider, or narrower, by a factor."""
    params = fusion.get_params(deep=False)
    widths: dict[str, Any] = {
        "hidden": tuple(max(1, round(width * factor)) for width in params["hidden"])
    }
    if "dim" in params:
        widths["dim"] = max(1, round(params["dim"] * factor))
    fusion.set_params(**widths)


def _count(modalities: Any, X: Any) -> int:
    if isinstance(modalities, Mapping):
        return len(modalities)
    return len(infer_modalities(X)) if isinstance(X, pd.DataFrame) else 1
