"""Parameters of the estimators: nested names, and their checks in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from sklearn.base import BaseEstimator

from mmfusion.inputs.parameters import check_number
from mmfusion.training import Callback, Training, TrainingSettings

__all__ = ["NestedModalities", "training_settings"]

#: Passes over the rows among which ``epochs="cv"`` chooses.
MOST_EPOCHS = 100


class NestedModalities(BaseEstimator):
    """Makes ``modalities__<name>__<parameter>`` a parameter, as in a Pipeline."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with `deep`, also those of each modality and of the fusion."""
        params = super().get_params(deep=deep)
        if deep and isinstance(params.get("modalities"), Mapping):
            for name, modality in params["modalities"].items():
                params[f"modalities__{name}"] = modality
                if hasattr(modality, "get_params"):
                    for key, value in modality.get_params().items():
                        params[f"modalities__{name}__{key}"] = value
        return params

    def set_params(self, **params: Any) -> Self:
        prefix = "modalities__"
        mine = {key: value for key, value in params.items() if not key.startswith(prefix)}
        own = self.get_params(deep=False)
        for key in mine:
            name, nested, parameter = key.partition("__")
            value = mine.get(name, own.get(name))
            if nested and name in own and not hasattr(value, "set_params"):
                advice = ""
                if name == "fusion":
                    advice = (
                        f" Give fusion=JointFusion({value!r}), which has parameters of its own."
                    )
                raise ValueError(
                    f"Invalid parameter {key!r}: {name} is {value!r}, which has no {parameter!r}."
                    f"{advice}"
                )
        super().set_params(**mine)
        for key in sorted(params.keys() - mine.keys(), key=lambda key: key.count("__")):
            name, _, parameter = key[len(prefix) :].partition("__")
            known = self.modalities if isinstance(self.modalities, Mapping) else {}
            if name not in known:
                raise ValueError(
                    f"Invalid parameter {key!r}: there is no modality {name!r}; "
                    f"there are {sorted(known)}."
                )
            if parameter:
                known[name].set_params(**{parameter: params[key]})
            else:
                self.modalities = {**known, name: params[key]}
        return self

    modalities: Any = None


def training_settings(estimator: Any) -> TrainingSettings:
    """Check an estimator's training parameters and return them as settings.

    Raises
    ------
    TypeError, ValueError
        Naming the parameter, what was found and what is allowed.
    """
    get = estimator.get_params(deep=False).get
    training = Training() if get("training") is None else get("training")
    if not isinstance(training, Training):
        raise TypeError(
            "The training parameter must be a mmfusion.training.Training object or None. "
            f"Got {training!r}."
        )
    verbose = int(get("verbose")) if isinstance(get("verbose"), bool) else get("verbose")
    refit = get("epochs") == "cv" and get("n_members") is not None
    if not refit:
        check_number("epochs", get("epochs"), 1, integer=True)
    check_number("batch_size", get("batch_size"), 2, integer=True, allow_none=True)
    check_number("learning_rate", get("learning_rate"), 0, open_ends="low")
    check_number("patience", get("patience"), 1, integer=True, allow_none=True)
    check_number("validation_fraction", get("validation_fraction"), 0, 1, open_ends="low and high")
    check_number("verbose", verbose, 0, integer=True)
    _check_dropout(get("modality_dropout"))
    nested = _check_training(training)
    names = ("batch_size", "learning_rate", "patience", "modality_dropout", "device")
    settings = {name: get(name) for name in names} | nested
    epochs = MOST_EPOCHS if refit else get("epochs")
    return TrainingSettings(**settings, epochs=epochs, refit=refit, verbose=verbose)


def _check_training(training: Training) -> dict[str, Any]:
    """Return the nested parameters, checked, with a tuple of callbacks."""
    check_number("micro_batch_size", training.micro_batch_size, 1, integer=True, allow_none=True)
    check_number("weight_decay", training.weight_decay, 0)
    check_number("warmup", training.warmup, 0, 1)
    check_number("clip_norm", training.clip_norm, 0, allow_none=True, open_ends="low")
    check_number("ema", training.ema, 0, 1, allow_none=True, open_ends="low and high")
    callbacks = () if training.callbacks is None else training.callbacks
    if not isinstance(callbacks, Iterable) or not all(isinstance(c, Callback) for c in callbacks):
        raise TypeError(
            "The callbacks parameter must be a list of mmfusion.training.Callback objects. "
            f"Got {callbacks!r}."
        )
    return {**training.get_params(deep=False), "callbacks": tuple(callbacks)}


def _check_dropout(rates: Any) -> None:
    if not isinstance(rates, Mapping):
        check_number("modality_dropout", rates, 0, 1, open_ends="high")
        return
    for name, rate in rates.items():
        check_number(f"modality_dropout[{name!r}]", rate, 0, 1, open_ends="high")
