"""Saving an estimator into a folder, and loading it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from sklearn.utils.validation import check_is_fitted

from mmfusion.fusion import LateFusion, check_fusion

from ._late import LatePool
from ._model import FusionModel
from ._persistence import load_estimator, save_estimator
from ._predicting import Predicting
from ._structured import StructuredPart

__all__ = ["Saving"]


class Saving(Predicting):
    """`save`, `load`, and what they take back."""

    def _restore(self, state: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        """Take back what `save` wrote: fitted attributes, head, modalities, weights."""
        self._head = self._make_head()
        self._head.load_state(state["head"])
        strategy = check_fusion(self.fusion)
        self._structured = None
        if state["structured"] is not None:
            self._structured = StructuredPart.from_state(
                state["structured"], self.orthogonalization
            )
        inner = strategy.member() if isinstance(strategy, LateFusion) else strategy
        self._late = None
        if state.get("late") is not None:
            self._late = LatePool.from_state(strategy, list(state["models"]), state["late"])
        use = self._design_use()
        self._models = {
            name: FusionModel.from_weights(modalities, inner, self._head, weights[name], use)
            for name, modalities in state["models"].items()
        }
        for name, value in state["fitted"].items():
            setattr(self, name, value)
        self._expose()
        self.is_fitted_ = True

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save the fitted estimator into `folder`: JSON, safetensors and skops, nothing executable.

        The folder appears whole or not at all: a save that fails leaves what was there. Of the
        parameters, `pretrained` and `callbacks` are not kept; where `modalities` were those of
        the pretrainer, they are. A function that chose the columns of a modality is replaced by
        its fitted ``columns_``.

        Parameters
        ----------
        folder : path
            Made if it does not exist; replaced if it holds a saved estimator.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `folder` holds something else, or a parameter cannot be saved without executable
            code (an encoder given as a Module or a function), or a level of the formula (a date),
            or a weight is NaN or infinite.
        """
        check_is_fitted(self)
        save_estimator(self, Path(folder))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Load an estimator that `save` wrote; a GPU is not needed.

        Parameters
        ----------
        folder : path

        Returns
        -------
        estimator
            Fitted, equal in its predictions; with `pretrained` and `callbacks` None, so that to
            fit it again starts anew.

        Raises
        ------
        FileNotFoundError
            If `folder` holds no saved estimator.
        ValueError
            If it was saved by another class or a newer format, is damaged, or holds types that
            are not trusted.
        """
        return load_estimator(cls, Path(folder))
