"""Parameters of the training: the frequent ones written once, the rare ones nested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator

from mmfusion.training import Training

__all__ = ["TrainingParameters"]

#: What parameters of the nested object begin with, as in a Pipeline.
_NESTED = "training__"


@dataclass(kw_only=True, eq=False, repr=False)
class TrainingParameters(BaseEstimator):
    """What every estimator that trains networks takes: its fields, and ``training__<name>``."""

    modality_dropout: float | Mapping[str, float] = 0.0
    epochs: int | str = 100
    batch_size: int | None = 256
    learning_rate: float = 3e-3
    patience: int | None = 15
    validation_fraction: float = 0.15
    training: Training | None = None
    device: str = "auto"
    verbose: int = 0
    random_state: int | np.random.RandomState | None = None

    def __new__(cls, *args: Any, **params: Any) -> Self:
        moved = _moved(cls, params)
        if moved:
            raise TypeError(_new_spelling(cls, moved, params[moved]))
        return super().__new__(cls)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, nested ones too: ``modalities__ct__size=128``, ``training__ema=None``.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or a modality is unknown, or is one of `training` or of `pretrained`.
        """
        moved = _moved(type(self), params)
        if moved:
            raise ValueError(_new_spelling(type(self), moved, params[moved]))
        if self.training is None and any(key.startswith(_NESTED) for key in params):
            self.training = Training()
        return super().set_params(**params)


def _moved(kind: type[TrainingParameters], names: Iterable[str]) -> str | None:
    """Return the first name that is a parameter of `Training` and none of the estimator itself."""
    own, nested = kind._get_param_names(), Training._get_param_names()
    return next((name for name in names if name in nested and name not in own), None)


def _new_spelling(kind: type, name: str, value: Any) -> str:
    return (
        f"The {name} parameter of {kind.__name__} is one of its training: write "
        f"training=Training({name}={value!r}), with mmfusion.training.Training, or {_NESTED}{name} "
        "in set_params and grids."
    )
