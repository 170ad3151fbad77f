"""Encoders trained without an outcome: embeddings, retrieval, a start for the estimators."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from mmfusion.fusion import JointFusion
from mmfusion.heads.nothing import NoOutcomeHead
from mmfusion.inputs.messages import name_rows
from mmfusion.inputs.parameters import check_choice, check_names, check_number
from mmfusion.inputs.table import check_frame, check_read
from mmfusion.modalities import Modality, Tabular, infer_modalities
from mmfusion.model import Beside, Network, Sample, Study
from mmfusion.model.auxiliary import sources
from mmfusion.model.checks import check_modalities, refuse_blind
from mmfusion.model.draws import Draws
from mmfusion.model.learning import prepare_network
from mmfusion.model.subjects import EACH_ROW
from mmfusion.objectives import Objective, Reconstruction, check_objectives
from mmfusion.training import TrainingSettings
from mmfusion.training.precision import single_precision

from ._docs import documented
from ._fitted import Fitted
from ._parameters import NestedModalities, training_settings
from ._persistence import load_estimator, save_estimator
from ._training import TrainingParameters

__all__ = ["FusionPretrainer"]


@documented
@dataclass(eq=False, repr=False)
class FusionPretrainer(TrainingParameters, Fitted, TransformerMixin, NestedModalities):
    """Encoders of several modalities, trained on auxiliary losses alone, without an outcome.

    Give it to an estimator as ``pretrained=``, use its embeddings as features (`transform`), or
    find the rows of one modality that belong to those of another (`retrieve`).

    Parameters
    ----------
    modalities : dict of str to Modality, optional
        What the table holds: ``{"ct": Image("ct_path"), "rna": Genes("ENSG*")}``. None infers it
        from the columns; a bare array is one `Tabular`.
    objectives : sequence of objectives, optional
        Of `mmfusion.objectives`; their weights are relative. By default ``[Reconstruction()]``.
    {modality_dropout, epochs}
    batch_size : int or None, default=256
        Rows of one step, which are compared with each other. None is all rows.
    {learning_rate, patience}
    validation_fraction : float, default=0.15
        Share of the rows held out for early stopping. Fewer than 8 are trained on instead.
    {training, device, verbose, random_state}
    dim : int, default=32
        Width of each modality's embedding (an encoder ``"raw"`` has its own).

    Attributes
    ----------
    {modalities_}
    network_ : torch.nn.Module
        Encoders, and their embeddings side by side; on the CPU.
    history_ : DataFrame
        A row an epoch: each objective, unweighted, their weighted sum (``loss``), the same of the
        held-out rows, learning rate, seconds.
    {best_epoch_}
    interrupted_ : bool
        Whether Ctrl-C ended the training.
    {n_features_in_, feature_names_in_}

    Notes
    -----
    Rows without a label may be fitted beside those with one. To keep a test honest, leave its rows
    out here too: what is learned of them without their outcome is learned of them all the same.

    Examples
    --------
    >>> from mmfusion import Genes, Image
    >>> from mmfusion.datasets import load_digits_cohort
    >>> from mmfusion.estimators import FusionCox, FusionPretrainer
    >>> from mmfusion.objectives import Contrastive
    >>> cohort = load_digits_cohort(n=120, random_state=0)
    >>> modalities = {
    ...     "scan": Image("image", size=8, channels="L"),
    ...     "rna": Genes("gene_*"),
    ... }
    >>> pretrainer = FusionPretrainer(modalities, [Contrastive()], epochs=5, random_state=0)
    >>> pretrainer.fit_transform(cohort.frame).shape
    (120, 66)
    >>> similarity, rows = pretrainer.retrieve(
    ...     cohort.frame[:3], cohort.frame, from_="rna", to="scan", k=5
    ... )
    >>> rows.shape
    (3, 5)
    >>> model = FusionCox(modalities, pretrained=pretrainer, epochs=5, random_state=0)
    >>> model.fit(cohort.frame, cohort.target).predict(cohort.frame).shape
    (120,)
    """

    modalities: Mapping[str, Modality] | None = None
    objectives: Sequence[Objective] | None = None
    _: KW_ONLY
    dim: int = 32

    #: Estimators may start from its encoders.
    gives_encoders = True

    def fit(self, X: pd.DataFrame | np.ndarray, y: Any = None) -> Self:
        """Fit preprocessing and encoders.

        Parameters
        ----------
        X : DataFrame, shape (n, p), or array of numbers
            A row a subject. Rows with no modality at all are not trained on.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Before training starts, naming the parameter, column or row that is at fault.
        TrainingDivergedError
            If a loss becomes NaN or infinite.
        """
        self._unfit()
        settings = self._settings()
        table = check_frame(self, X, reset=True)
        modalities = self._resolve_modalities(table, is_array=table is not X)
        if isinstance(self.modality_dropout, Mapping):
            check_names("modality_dropout", self.modality_dropout, modalities)
        objectives = check_objectives("objectives", self.objectives, pretraining=True)
        objectives = objectives or (Reconstruction(),)
        for objective in objectives:
            self._check_objective(objective, modalities)
        head = NoOutcomeHead()
        sample = Sample(table, head.fit_outcome(table), EACH_ROW)
        stops = settings.patience is not None
        study = Study.without_outcome(
            head, sample, self.random_state, self.validation_fraction if stops else None
        )
        with single_precision():
            network = Network(modalities, self._strategy())
            with Draws(int(study.rng.integers(2**31)), settings.device)():
                beside = Beside(lambda: torch.zeros(len(table), 1, dtype=torch.float64))
                prepared = prepare_network(
                    network, study, settings, beside, objectives=objectives, alone=True
                )
                if study.judging is not None:
                    known = sources(network.module, network.modalities)
                    held = prepared.data.present.cpu()[torch.from_numpy(study.judging)]
                    refuse_blind(objectives, known, held, settings)
                result = prepared.train()
        self.model_: Network = network
        self.history_ = result.history
        self.best_epoch_ = result.best_epoch
        self.interrupted_ = result.interrupted
        self._end_search(result.interrupted)
        self._expose()
        return self

    def _settings(self) -> TrainingSettings:
        check_number("dim", self.dim, 1, integer=True)
        return replace(training_settings(self), ema=None)  # objectives are judged without it

    def _strategy(self) -> JointFusion:
        return JointFusion("concat", self.dim, hidden=(), dropout=0.0)

    def _resolve_modalities(self, frame: pd.DataFrame, *, is_array: bool) -> Mapping[str, Modality]:
        if self.modalities is None:
            return {"table": Tabular()} if is_array else infer_modalities(frame)
        check_modalities(self.modalities)
        return self.modalities

    def _check_objective(self, objective: Objective, modalities: Mapping[str, Modality]) -> None:
        if objective.needs_labels:
            raise ValueError(f"{objective!r} needs an outcome, which FusionPretrainer has not.")
        if objective.fewest > len(modalities):
            raise ValueError(
                f"{objective!r} needs at least {objective.fewest} modalities. "
                f"Got {sorted(modalities)}."
            )
        if not objective.weight_at(1, pretraining=True):
            raise ValueError(
                f"The weight of {objective!r} in pretraining must be positive. "
                f"Got {objective.weight!r}."
            )

    def _expose(self) -> None:
        self.modalities_ = self.model_.modalities
        self.is_fitted_ = True

    @property
    def network_(self) -> nn.Module:
        """The trained network, on the CPU."""
        check_is_fitted(self)
        return self.model_.module

    def transform(self, X: pd.DataFrame | np.ndarray) -> np.ndarray:
        """Return the embeddings of each row, those of all modalities side by side.

        Parameters
        ----------
        X : DataFrame, shape (n, p)

        Returns
        -------
        ndarray of float32, shape (n, width)
            Embeddings, zeros where a modality is absent; with several modalities, then a column
            0/1 for each: whether the row has it (`get_feature_names_out`).

        Raises
        ------
        ValueError
            If a row has no modality at all.
        """
        check_is_fitted(self)
        if self.modalities is None:
            frame = check_frame(self, X, reset=False)
        else:
            read = {column for each in self.modalities_.values() for column in each.columns_}
            frame = check_read(self, X, read)
        _, fused, present = self.model_.embed(frame, self._settings(), list(self.modalities_))
        nothing = np.asarray(~present.any(axis=1))
        if nothing.any():
            raise ValueError(
                f"Rows with no modality present: {name_rows(frame, nothing)}. "
                f"Each row needs at least one of {sorted(self.modalities_)}."
            )
        return fused

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns of `transform`: ``rna_0``, ..., ``rna_present``.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str
        """
        names = [
            f"{name}_{column}"
            for name, encoder in self.model_.module.encoders.items()
            for column in range(encoder.width)
        ]
        if len(self.modalities_) > 1:
            names += [f"{name}_present" for name in self.modalities_]
        return np.array(names, dtype=object)

    def retrieve(
        self, query: pd.DataFrame, gallery: pd.DataFrame, *, from_: str, to: str, k: int = 5
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rank the rows of `gallery`, by one modality, for the rows of `query`, by another.

        Parameters
        ----------
        query : DataFrame, shape (n, p)
            With the columns of modality `from_`, which each row must have.
        gallery : DataFrame, shape (m, q)
            With the columns of modality `to`; rows without it are never found.
        from_, to : str
            Names of modalities whose embeddings have one width.
        k : int, default=5
            How many to find.

        Returns
        -------
        similarity : ndarray, shape (n, k)
            Cosines of the embeddings, the largest first.
        rows : ndarray of int, shape (n, k)
            Positions in `gallery`.

        Raises
        ------
        ValueError
            If a modality is unknown, a query lacks it, or fewer than `k` rows of the gallery
            have it.
        """
        check_is_fitted(self)
        check_choice("from_", from_, tuple(self.modalities_))
        check_choice("to", to, tuple(self.modalities_))
        check_number("k", k, 1, integer=True)
        asked, has = self._units(query, from_)
        if not has.all():
            raise ValueError(
                f"Rows of query that lack modality {from_!r}: {name_rows(query, ~has)}."
            )
        found, there = self._units(gallery, to)
        if asked.shape[1] != found.shape[1]:
            raise ValueError(
                f"Modalities {from_!r} and {to!r} must have embeddings of one width. Got "
                f"{asked.shape[1]} and {found.shape[1]}."
            )
        if there.sum() < k:
            raise ValueError(
                f"The k parameter must be at most {int(there.sum())}, the rows of gallery that "
                f"have modality {to!r}. Got {k}."
            )
        cosines = np.where(there, asked @ found.T, -np.inf)
        rows = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(cosines, rows, axis=1), rows

    def _units(self, frame: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return embeddings of length one, and who has them."""
        embeddings, _, present = self.model_.embed(frame, self._settings(), [name])
        lengths = np.linalg.norm(embeddings[name], axis=1, keepdims=True)
        return embeddings[name] / np.maximum(lengths, 1e-12), present[:, 0]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save the fitted encoders into `folder`: JSON, safetensors and skops, nothing executable.

        See `FusionCox.save`; what trained them beside the network (decoders, predictors, teachers,
        temperatures) is not kept.

        Parameters
        ----------
        folder : path
            Made if it does not exist; replaced if it holds a saved estimator.
        """
        check_is_fitted(self)
        save_estimator(self, Path(folder))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Load what `save` wrote.

        Parameters
        ----------
        folder : path

        Returns
        -------
        FusionPretrainer
            Fitted.
        """
        with single_precision():
            return load_estimator(cls, Path(folder))

    def _networks(self) -> dict[str, Network]:
        return {"model": self.model_}

    def _state(self) -> dict[str, Any]:
        return {}

    def _restore(self, state: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        self.model_ = Network.from_weights(
            state["models"]["model"], self._strategy(), NoOutcomeHead(), weights["model"]
        )
        for name, value in state["fitted"].items():
            setattr(self, name, value)
        self._expose()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
