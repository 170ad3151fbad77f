"""The space of an estimator for which none is written: small, around what it is set to."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import pandas as pd
from sklearn.base import clone

from mmfusion.fusion import JointFusion, LateFusion, check_fusion
from mmfusion.modalities import Tabular, infer_modalities

__all__ = ["DefaultSpace", "default_space"]

#: What the predictor is made of: the linear part, networks, or both.
BOTH, LINEAR, NETWORKS = "linear part and networks", "linear part alone", "networks alone"
#: Of cohorts for which "auto" is one network.
FIVE = "linear part and five networks"
PARTS: dict[str, dict[str, Any]] = {
    BOTH: {"linear": True, "n_members": "auto"},
    LINEAR: {"linear": True, "n_members": 0},
    NETWORKS: {"linear": False, "n_members": 5},
    FIVE: {"linear": True, "n_members": 5},
}
#: Up to so many rows "auto" is five networks already.
FEW = 3000
#: Ways of joining modalities that differ most in what they can say, and stay small.
FUSIONS = ("concat", "gated", "attention", "late")
WIDTHS = (16, 32, 64, 128)
EPOCHS = (100, 300)
#: Of the numbers of tables.
PIECES, FEW_PIECES = (None, 8, 16), 8
LEARNING_RATE, WEIGHT_DECAY, RATE = (1e-3, 3e-2), (1e-3, 1.0), (0.0, 0.5)
#: A network that may say more, and is held back more.
BOLD = {"learning_rate": 1e-2, "weight_decay": 0.3, "dropout": 0.3, "width": 128}


def default_space(estimator: Any, X: Any) -> DefaultSpace:
    """Return the space of an estimator; the first of its `starts` is the estimator as it is.

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
        name, model = model.steps[-1]
        prefix += f"{name}__"
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
    inferred = params["modalities"] is None
    if inferred and not prefix and isinstance(X, pd.DataFrame):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the fit says it
            params["modalities"] = infer_modalities(X)
    return DefaultSpace(params, len(X), prefix, inferred)


class DefaultSpace:
    """A function of a trial; `own` is the trial in which the estimator stays what it is.

    Ranges are widened where the estimator's own value lies beyond them. A parameter that is zero or
    None is left out where nothing can be scaled.

    Parameters
    ----------
    params : mapping of str to value
        The estimator's own; its modalities by name, or None where they are not known.
    n_rows : int
    prefix : str
        What its parameters begin with, at the end of a Pipeline.
    inferred : bool
        Whether the estimator itself has no modalities, which a trial then names.

    Attributes
    ----------
    own : dict
    starts : list of dict
        The trials that come first: the estimator as it is, with numbers in pieces, then with
        these and changes of one kind each that matter on some data and do harm on others, so that
        a short search is one among these.
    """

    def __init__(
        self, params: Mapping[str, Any], n_rows: int, prefix: str = "", inferred: bool = False
    ) -> None:
        self.prefix, self.inferred = prefix, inferred
        self.modalities = params["modalities"] or {}
        self.fusion = check_fusion(params["fusion"])
        fusion = self.fusion.get_params(deep=False)
        training = params["training"]
        self.parts = _parts(params, self.fusion, n_rows)
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
        if len(self.modalities) > 1:
            if not isinstance(params["modality_dropout"], Mapping):
                self._range("modality_dropout", params["modality_dropout"], RATE)
            if fusion.get("operator") in FUSIONS and fusion["at"] == "embedding":
                tied = params["auxiliary"] or params["pretrained"] is not None
                self._choice("fusion", fusion["operator"], FUSIONS[:-1] if tied else FUSIONS)
        if params["patience"] is not None and not isinstance(params["epochs"], str):
            self._choice("epochs", params["epochs"], EPOCHS)
        if len(self.parts) > 1:
            self.own["parts"] = next(iter(self.parts))
        self.intervals = isinstance(params.get("n_intervals"), int) and params.get("cuts") is None
        if self.intervals:
            n = params["n_intervals"]
            self._choice("n_intervals", n, (max(2, n // 2), 2 * n))
        self.tables = [name for name, m in self.modalities.items() if isinstance(m, Tabular)]
        own = {self.modalities[name].pieces for name in self.tables}
        if len(own) == 1 and params["pretrained"] is None:  # whose encoders know their columns
            self._choice("pieces", own.pop(), PIECES)
        self.starts = self._starts()

    def _range(self, name: str, own: Any, ends: tuple[float, float], log: bool = False) -> None:
        if log and not own > 0:
            return
        self.own[name] = own
        self.ranges[name] = min(ends[0], own), max(ends[1], own), log

    def _choice(self, name: str, own: Any, choices: tuple[Any, ...]) -> None:
        self.own[name] = own
        self.choices[name] = choices if own in choices else (*choices, own)

    def _starts(self) -> list[dict[str, Any]]:
        """Return the first trials: what a trial has no parameter for is left out of it."""
        changes: list[dict[str, Any]] = [{}, *({"parts": name} for name in list(self.parts)[1:])]
        changes += [{"fusion": "gated", "modality_dropout": 0.2}, BOLD, {"fusion": "late"}]
        starts = [self.own]
        cut = {"pieces": self.own["pieces"] or FEW_PIECES} if "pieces" in self.own else {}
        for change in changes:
            known = {k: v for k, v in change.items() if self._has(k, v)}
            start = self.own | cut | known
            if known.keys() == change.keys() and start not in starts:
                starts.append(start)
        return starts

    def _has(self, name: str, value: Any) -> bool:
        if name in self.ranges:
            low, high, _ = self.ranges[name]
            return low <= value <= high
        return name == "parts" or value in self.choices.get(name, ())

    def __call__(self, trial: Any) -> dict[str, Any]:
        """Return the estimator's parameters."""
        parts = dict(self.parts[next(iter(self.parts))])
        if len(self.parts) > 1:
            parts = dict(self.parts[trial.suggest_categorical("parts", list(self.parts))])
        chosen: dict[str, Any] = dict(parts)
        if self.intervals:
            values = self.choices["n_intervals"]
            chosen["n_intervals"] = trial.suggest_categorical("n_intervals", values)
        if "pieces" in self.choices:
            chosen |= self._cut(trial.suggest_categorical("pieces", self.choices["pieces"]))
        if parts.get("n_members") == 0:  # without networks nothing else counts
            return {self.prefix + name: value for name, value in chosen.items()}
        drawn = {
            name: trial.suggest_float(name, low, high, log=log)
            for name, (low, high, log) in self.ranges.items()
        }
        for name, values in self.choices.items():
            if name not in ("n_intervals", "pieces"):
                drawn[name] = trial.suggest_categorical(name, values)
        if "weight_decay" in drawn:
            chosen["training__weight_decay"] = drawn.pop("weight_decay")
        fusion = _joined(self.fusion, drawn.pop("fusion", None))
        if "dropout" in drawn:
            fusion.set_params(dropout=drawn.pop("dropout"))
        if "width" in drawn:
            _widen(fusion, drawn.pop("width") / self.width)
        chosen |= drawn | {"fusion": fusion}
        return {self.prefix + name: value for name, value in chosen.items()}

    def _cut(self, pieces: int | None) -> dict[str, Any]:
        """Return the parameters that cut the numbers of each table into so many pieces."""
        if not self.inferred:
            return {f"modalities__{name}__pieces": pieces for name in self.tables}
        cut = {name: clone(self.modalities[name]) for name in self.tables}
        for table in cut.values():
            table.set_params(pieces=pieces)
        return {"modalities": {**self.modalities, **cut}} if pieces else {}


def _parts(params: Mapping[str, Any], fusion: Any, n_rows: int) -> dict[str, dict[str, Any]]:
    """Return what the predictor may be made of, the estimator's own choice first."""
    own = {"linear": params["linear"], "n_members": params["n_members"]}
    if not fusion.takes_offset or params["auxiliary"] or params["pretrained"] is not None:
        return {"as it is": own}
    known = {name: each for name, each in PARTS.items() if name != FIVE or n_rows > FEW}
    if fusion.learns_inputs:  # by the outcome: folds cannot share them
        known = {BOTH: known[BOTH], LINEAR: known[LINEAR]}
    others = {name: each for name, each in known.items() if each != own}
    named = next((name for name, each in known.items() if each == own), "as it is")
    return {named: own, **others}


def _joined(fusion: Any, name: str | None) -> Any:
    """Return a fusion with another operator, or late fusion of the same widths."""
    if name is None or name == getattr(fusion, "operator", None):
        return clone(fusion)
    if name == "late":
        return LateFusion(dim=fusion.dim, hidden=fusion.hidden, dropout=fusion.dropout)
    return JointFusion(name, fusion.dim, fusion.hidden, fusion.dropout)


def _widen(fusion: Any, factor: float) -> None:
    """Make every layer of a fusion wider, or narrower, by a factor."""
    params = fusion.get_params(deep=False)
    widths: dict[str, Any] = {
        "hidden": tuple(max(1, round(width * factor)) for width in params["hidden"])
    }
    if "dim" in params:
        widths["dim"] = max(1, round(params["dim"] * factor))
    fusion.set_params(**widths)
