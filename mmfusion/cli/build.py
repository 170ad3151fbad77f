"""From the entries of a file to the objects that they name."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, isabstract, signature
from typing import Any

from sklearn.base import BaseEstimator

from mmfusion import estimators, fusion, modalities, objectives
from mmfusion.cli.document import Document, Place
from mmfusion.inputs.messages import did_you_mean, shorten
from mmfusion.modalities import Modality

__all__ = ["ESTIMATORS", "build", "build_estimator"]

#: What a file may name as its estimator.
ESTIMATORS = {
    name: kind
    for name in estimators.__all__
    if hasattr(kind := getattr(estimators, name), "predict")
    and "modalities" in signature(kind).parameters
}
#: What an entry may name as its type: whatever is written as an object in Python.
TYPES = {
    name: kind
    for room in (modalities, fusion, objectives)
    for name, kind in vars(room).items()
    if name in room.__all__
    and isinstance(kind, type)
    and issubclass(kind, BaseEstimator)
    and not isabstract(kind)
}
TYPES["Training"] = estimators.Training
MODALITIES = [name for name, kind in TYPES.items() if issubclass(kind, Modality)]
#: Entries of the file that are parameters of the estimator, written at the top.
TOP = ("modalities", "fusion", "structured")


def build_estimator(document: Document, default: str) -> Any:
    """Return the estimator of a file.

    Parameters
    ----------
    document : Document
        Its entries ``estimator``, ``modalities``, ``fusion``, ``structured`` and ``parameters``.
    default : str
        The estimator where the file names none.

    Raises
    ------
    ConfigError
        A name that there is not, with the nearest one, or a value that its object refuses.
    """
    name = document.values.get("estimator", default)
    if not isinstance(name, str) or name not in ESTIMATORS:
        message = f"The estimator must be one of {shorten(ESTIMATORS, 20)}. Got {name!r}."
        raise document.error(("estimator",), message + did_you_mean(name, ESTIMATORS))
    kind = ESTIMATORS[name]
    if document.at(("modalities",)):
        _check_modalities(document)
    parameters = {}
    for key in TOP:
        if document.values.get(key) is not None:
            parameters[key] = build(document, (key,))
    others = {}
    if document.values.get("parameters") is not None:
        known = [key for key in signature(kind).parameters if key not in TOP]
        given = document.at(("parameters",))
        plain = {key for key in given if "__" in str(key)} if isinstance(given, dict) else set()
        document.check_keys(("parameters",), [*known, *plain], name)
        others = {key: build(document, ("parameters", key)) for key in given}
    estimator = kind(**parameters)
    for key, value in others.items():  # one by one, so that an error has its line
        try:
            estimator.set_params(**{key: value})
        except (ValueError, TypeError) as error:
            raise document.error(("parameters", key), str(error)) from error
    return estimator


def build(document: Document, place: Place, types: Mapping[str, Any] = TYPES) -> Any:
    """Return the value at a place; each mapping with a ``type`` in it becomes that object."""
    value = document.at(place)
    if isinstance(value, list):
        return [build(document, (*place, number), types) for number in range(len(value))]
    if not isinstance(value, dict):
        return value
    if "type" not in value:
        return {key: build(document, (*place, key), types) for key in value}
    name = value["type"]
    if not isinstance(name, str) or name not in types:
        message = f"The type must be one of {shorten(types, 40)}. Got {name!r}."
        raise document.error((*place, "type"), message + did_you_mean(name, types))
    parameters = signature(types[name]).parameters
    needed = [key for key, p in parameters.items() if p.default is Parameter.empty]
    needed = [key for key in needed if parameters[key].kind is not Parameter.VAR_KEYWORD]
    document.check_keys(place, ["type", *parameters], name, needed)
    arguments = {key: build(document, (*place, key), types) for key in value if key != "type"}
    try:
        return types[name](**arguments)
    except (ValueError, TypeError) as error:
        raise document.error(place, str(error)) from error


def _check_modalities(document: Document) -> None:
    given = document.at(("modalities",))
    if not isinstance(given, dict) or "type" in given:
        raise document.error(
            ("modalities",), "modalities must be a mapping of names to modalities, each a mapping."
        )
    for key, value in given.items():
        kind = value.get("type") if isinstance(value, dict) else None
        if kind not in MODALITIES:
            message = f"Modality {key!r} needs a type, one of {shorten(MODALITIES, 20)}. "
            raise document.error(
                ("modalities", key, "type"),
                message + f"Got {kind!r}." + did_you_mean(kind, MODALITIES),
            )
