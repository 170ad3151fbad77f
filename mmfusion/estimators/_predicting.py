"""From the fitted networks and the formula to the predictors of new rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted
from torch import nn

from mmfusion.heads.cox import CoxMixtureHead
from mmfusion.inputs.messages import name_rows
from mmfusion.inputs.parameters import check_names
from mmfusion.inputs.table import check_frame, fill_unread
from mmfusion.modalities import Modality

from ._fitted import Fitted
from ._late import LatePool
from ._model import FusionModel
from ._parameters import training_settings
from ._semi_structured import SemiStructured

__all__ = ["Predicting", "refuse_empty", "stack"]


class Predicting(Fitted, SemiStructured):
    """What a fitted estimator says of rows: its networks, pooled, beside its formula."""

    _head: Any
    _models: dict[str, FusionModel]
    _late: LatePool | None
    modalities_: Mapping[str, Modality]

    def _expose(self) -> None:
        self.modalities_ = {
            name: modality
            for model in self._models.values()
            for name, modality in model.modalities.items()
        }

    @property
    def network_(self) -> nn.Module:
        """The trained network; with late fusion, a ModuleDict of one a modality."""
        check_is_fitted(self)
        if len(self._models) == 1:
            return next(iter(self._models.values())).network
        return nn.ModuleDict({name: model.network for name, model in self._models.items()})

    def _predictors(
        self, X: Any, modalities: Collection[str] | None = None
    ) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the checked frame and the predictors of its rows, float64 of shape (n, K).

        Only `modalities`, if given, are looked at: the others are absent in every row, and `X` may
        lack their columns.
        """
        check_is_fitted(self)
        asked = self._check_asked(modalities)
        if asked is not None:
            X = fill_unread(self, X, self._columns_read(asked))
        frame = check_frame(self, X, reset=False)
        eta = self._deep(frame, asked)
        if self._structured is not None:
            eta = self._structured.predictor(frame, eta, self._head)
        return frame, eta

    def _columns_read(self, modalities: Sequence[str]) -> set[Any]:
        """Return the columns that a prediction from these modalities needs."""
        formula = () if self._structured is None else self._structured.formula.columns_
        return {column for m in modalities for column in self.modalities_[m].columns_}.union(
            formula
        )

    def _check_asked(self, modalities: Collection[str] | None) -> list[str] | None:
        """Return the names as a list: an array has no truth value, a Series looks in its index."""
        if modalities is None:
            return None
        if isinstance(modalities, str) or not isinstance(modalities, Collection):
            raise TypeError(
                "The modalities parameter must be a list of names of modalities, or None for all. "
                f"Got {modalities!r}."
            )
        modalities = [str(name) for name in modalities]  # of an array, numpy.str_
        check_names("modalities", modalities, self.modalities_)
        if not modalities and self._structured is None:
            raise ValueError(
                "The modalities parameter may be empty only beside a formula (structured=): "
                f"nothing else is left to predict from. Name some of {list(self.modalities_)}."
            )
        return modalities

    def _deep(self, frame: pd.DataFrame, modalities: Sequence[str] | None = None) -> np.ndarray:
        """Return the networks' predictor of each row, (n, K); beside a formula, zero for none."""
        etas, present = self._member_predictors(frame, modalities)
        if self._structured is None:
            asked = list(self.modalities_) if modalities is None else modalities
            refuse_empty(frame, np.asarray(present.any(axis=1)), asked)
        return self._pool(etas, present)

    def _member_predictors(
        self, frame: pd.DataFrame, modalities: Sequence[str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictors (n, n_members, K), NaN where absent, and presence (n, n_members)."""
        settings = training_settings(self)
        design = self._design(frame)
        members = [
            model.predict(frame, settings, design, modalities) for model in self._models.values()
        ]
        return stack(members, len(frame), len(self._head.predictors))

    def _pool(
        self, etas: np.ndarray, present: np.ndarray, *, standardised: bool = False
    ) -> np.ndarray:
        """Return one predictor a row, (n, K), zero where nothing is present.

        Late fusion of curves: a log-hazard a member, (n, n_members), NaN where it is absent.
        """
        if etas.shape[1] == 0:
            return np.zeros((len(etas), etas.shape[2]))
        if self._late is None:
            return np.nan_to_num(etas[:, 0])
        some = present.any(axis=1)
        pooled = self._late.pool(etas[some], present[some], self._head, standardised=standardised)
        # Of curves a row without members has none: they are estimated without it.
        nothing = np.nan if isinstance(self._head, CoxMixtureHead) else 0.0
        eta = np.full((len(etas), pooled.shape[1]), nothing)
        eta[some] = pooled
        return eta

    @property
    def fusion_weights_(self) -> pd.Series:
        """What late fusion makes of its members: a weight a modality, of sum 1.

        With "stack" the coefficients of a row that has every modality.
        """
        check_is_fitted(self)
        if self._late is None:
            raise AttributeError("There are no weights: the networks were not fused late.")
        return self._late.shown()


def stack(
    members: Sequence[tuple[np.ndarray, np.ndarray]], n_rows: int, n_predictors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the members' predictors (n, M, K), NaN where absent, and presence (n, M)."""
    etas = np.full((n_rows, len(members), n_predictors), np.nan)
    presence = np.zeros((n_rows, len(members)), dtype=bool)
    for number, (eta, present) in enumerate(members):
        presence[:, number] = present
        etas[present, number] = eta[present]
    return etas, presence


def refuse_empty(frame: pd.DataFrame, any_present: np.ndarray, names: Sequence[str]) -> None:
    """Raise ValueError for rows in which nothing is present, naming them."""
    if not any_present.all():
        raise ValueError(
            f"Rows with no modality present: {name_rows(frame, ~any_present)}. "
            f"Each row needs at least one of {sorted(names)}."
        )
