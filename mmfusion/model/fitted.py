"""A fitted model: what the modalities say, what the formulas say, and what the head makes of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.modalities.base import MultimodalData
from mmfusion.model.checks import refuse_empty
from mmfusion.model.deep import Deep, stack
from mmfusion.model.structured import Constant, Structured
from mmfusion.model.subjects import EACH_ROW, Subjects
from mmfusion.training import TrainingResult, TrainingSettings

__all__ = ["Model", "columns_read"]


def columns_read(modalities: Mapping[str, Any], structured: Constant | Structured) -> list[Any]:
    """Return the columns of the table that fitted modalities and formulas read, each once."""
    read = [column for modality in modalities.values() for column in modality.columns_]
    return list(dict.fromkeys([*read, *structured.columns]))


@dataclass(eq=False)
class Model:
    """A fitted model.

    Attributes
    ----------
    head : Head
        What predicts from the predictors (of late fusion of curves, their mixture).
    structured : Structured or Constant
    deep : Deep
    settings : TrainingSettings
        Where and how precisely the networks run.
    results : dict of str to TrainingResult
        Of each network.
    interrupted : bool
        Whether Ctrl-C ended the fit.
    alone : Head or None
        What predicts of the classical model's predictors, with a baseline of its own, for rows
        without a modality; None where there are no networks, or no formula.
    """

    head: Any
    structured: Constant | Structured
    deep: Deep
    settings: TrainingSettings
    results: Mapping[str, TrainingResult]
    interrupted: bool
    alone: Any = None

    @property
    def columns(self) -> list[Any]:
        """The columns of the table that it reads."""
        return columns_read(self.deep.modalities, self.structured)

    def members(
        self,
        table: pd.DataFrame,
        only: Collection[str] | None = None,
        subjects: Subjects = EACH_ROW,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the networks' predictors (n, M, K), NaN where absent, and presence (n, M)."""
        return self.looked_at(table, only, subjects)[:2]

    def looked_at(
        self, table: pd.DataFrame, only: Collection[str] | None, subjects: Subjects
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `members`, and what the linear part adds, (n, K)."""
        looked, etas, present = self._look(table, only, subjects)
        added = self.deep.linear_predictor(looked) + np.zeros((len(etas), etas.shape[2]))
        return subjects.spread(etas), subjects.spread(present), subjects.spread(added)

    def _look(
        self, table: pd.DataFrame, only: Collection[str] | None, subjects: Subjects
    ) -> tuple[list[MultimodalData], np.ndarray, np.ndarray]:
        """Return the subjects' tensors, the networks' predictors (S, M, K), presence (S, M)."""
        design = None
        if any(network.design_use.read for network in self.deep.networks.values()):
            subjects.refuse_design()
            design = self.structured.network_design(table)
        asked = self.deep.modalities
        if only is not None:
            asked = {name: asked[name] for name in only}
        subjects.refuse_changes(asked, table)
        shown = subjects.table(table)
        looked = self.deep.look(shown, self.settings, design, only)
        outputs = self.deep.outputs(looked, self.settings, shown.index)
        base = self.structured.pool_base
        return looked, *stack(outputs, len(shown), base, self.head.deep_basis)

    def by_member(self, table: pd.DataFrame, subjects: Subjects) -> tuple[np.ndarray, np.ndarray]:
        """Return what the modalities of each network say, (n, M, K), and presence, (n, M).

        What is kept of the network, and its modalities' linear part.
        """
        looked, etas, present = self._look(table, None, subjects)
        etas = self.deep.share * np.where(present[:, :, None], etas, 0.0)
        for number, added in enumerate(self.deep.linear_by_member(looked)):
            etas[:, number] += added
        return subjects.spread(etas), subjects.spread(present)

    def deep_predictor(
        self,
        table: pd.DataFrame,
        only: Collection[str] | None = None,
        subjects: Subjects = EACH_ROW,
    ) -> np.ndarray:
        """Return the predictor of linear part and networks, (n, K): what the modalities say.

        Raises
        ------
        ValueError
            For rows without a modality, where there is no formula to predict them from.
        """
        return self._deep(table, only, subjects)[0]

    def _deep(
        self, table: pd.DataFrame, only: Collection[str] | None, subjects: Subjects
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return `deep_predictor`, and which rows have no modality, (n,)."""
        etas, present, added = self.looked_at(table, only, subjects)
        if not self.structured.complete:
            asked = list(self.deep.modalities) if only is None else list(only)
            refuse_empty(table, np.asarray(present.any(1)), asked)
        pool = self.deep.pool
        pooled = pool.pooled(pool.standardised(etas), present, self.head)
        return added + self.deep.share * pooled, ~np.asarray(present.any(1))

    def networks_predictor(self, table: pd.DataFrame, subjects: Subjects) -> np.ndarray:
        """Return the pooled predictor of the networks alone, whole, (n, K)."""
        etas, present = self.members(table, None, subjects)
        pool = self.deep.pool
        return pool.pooled(pool.standardised(etas), present, self.head)

    def predictor(
        self,
        table: pd.DataFrame,
        only: Collection[str] | None = None,
        subjects: Subjects = EACH_ROW,
    ) -> np.ndarray:
        """Return the predictors of some rows, float64 of shape (n, K); see `predicted`."""
        return self.predicted(table, only, subjects)[0]

    def predicted(
        self,
        table: pd.DataFrame,
        only: Collection[str] | None = None,
        subjects: Subjects = EACH_ROW,
        exclude: Sequence[str] = (),
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the predictors of some rows, (n, K), and which of them are of `alone`, (n,).

        Parameters
        ----------
        table : DataFrame
        only : collection of str, optional
            The modalities that are looked at; the others are absent in every row, and not read.
        subjects : Subjects
            Whose rows they are.
        exclude : sequence of str
            Terms of the formula that are left out, their effects 0.
        """
        deep, absent = self._deep(table, only, subjects)
        design = self.structured.design(table)
        eta = self.structured.predictor(design, deep, exclude)
        if self.alone is None:
            return eta, np.zeros(len(eta), dtype=bool)
        if absent.any():
            assert isinstance(self.structured, Structured)
            eta[absent] = self.structured.predictor_alone(design, exclude)[absent]
        return eta, absent
