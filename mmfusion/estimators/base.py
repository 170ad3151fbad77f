"""What all estimators share: from a table and an outcome to a fitted model, and to predictors."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted
from torch import nn

from mmfusion.heads.base import Head
from mmfusion.inputs.parameters import check_names
from mmfusion.inputs.table import check_frame, check_read
from mmfusion.modalities import Modality
from mmfusion.model import Inference, Model, Network, Plan, Question, Seen, Study, prepare
from mmfusion.model.fit import fit
from mmfusion.model.leaks import warn_of_outcome
from mmfusion.model.restore import model_of, state_of
from mmfusion.model.subjects import Subjects
from mmfusion.training import TrainingSettings
from mmfusion.training.precision import single_precision
from mmfusion.training.threads import linear_algebra

from ._effects import Effects
from ._fields import ModelParameters
from ._fitted import Fitted
from ._marginal import Marginal
from ._parameters import training_settings
from ._persistence import load_estimator, save_estimator
from ._pretrained import Pretrained
from ._training import TrainingParameters

__all__ = ["FusionEstimator"]


@dataclass(eq=False, repr=False)
class FusionEstimator(TrainingParameters, Pretrained, Effects, Marginal, Fitted, ModelParameters):
    """Base of the estimators; a subclass names its head and what it predicts.

    `ModelParameters` and `TrainingParameters` hold its parameters.
    """

    #: The term that "double_ml" is about: a parameter of `FusionClassifier` and `FusionRegressor`.
    treatment = cast("str | None", None)

    def fit(
        self,
        X: pd.DataFrame | np.ndarray,
        y: Any,
        sample_weight: np.ndarray | None = None,
        eval_set: tuple[Any, Any] | None = None,
    ) -> Self:
        """Fit preprocessing, network and what the head derives from them.

        Parameters
        ----------
        X : DataFrame, shape (n, p), or array of numbers
            A row a subject; with `id`, one of a subject's rows.
        y : array-like, shape (n,)
            The outcome.
        sample_weight : array-like, shape (n,), optional
            Case weights in the likelihood: whole numbers count rows. With others, such as inverse
            probabilities, standard errors are the sandwich's, as in R's ``coxph``.
        eval_set : tuple (X, y), optional
            Validation rows for early stopping, in place of a part of `X`.

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
        table, judging = self._tables(X, y, eval_set)
        plan = Plan.of(self, table, is_array=table is not X)
        with single_precision(), linear_algebra(table):
            study = Study.read(plan, table, y, sample_weight, judging)
            ready = prepare(plan, study)
            warn_of_outcome(y, table, ready.columns)
            question, seen = Question.of(ready), Seen.of(ready)
            model, offset = fit(ready)
            self._keep(model, question.answer(model, offset))
            self.seen_: Seen | None = seen
        return self

    def _tables(
        self, X: Any, y: Any, eval_set: Any
    ) -> tuple[pd.DataFrame, tuple[pd.DataFrame, Any] | None]:
        """Return the checked table of `fit`, and that of its validation rows with their outcome."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        table = check_frame(self, X, reset=True)
        if eval_set is None:
            return table, None
        if not isinstance(eval_set, tuple | list) or len(eval_set) != 2:
            raise TypeError(
                f"The eval_set parameter must be a tuple (X, y). Got {type(eval_set).__name__}."
            )
        judging = eval_set[0]
        if table is X and isinstance(judging, pd.DataFrame) and X.columns.isin(judging).all():
            judging = judging[X.columns]
        return table, (check_frame(self, judging, reset=False), eval_set[1])

    def _validate_params(self) -> None:
        """Check what can be checked without data, under scikit-learn's name for it."""
        Plan.of(self)

    def _settings(self) -> TrainingSettings:
        return training_settings(self)

    @abstractmethod
    def _make_head(self) -> Head[Any]:
        """Return the unfitted head of this estimator."""

    def _formulas(self) -> str | Mapping[str, str] | None:
        """Return the formula of the structured part, or one a parameter; None without one."""
        return self.structured

    def _context_columns(self) -> dict[str, Any]:
        """Return which columns of the table the head reads, by its name for them."""
        return {}

    def _keep(self, model: Model, inference: Inference | None) -> None:
        """Keep what was fitted, under the names that end with an underscore."""
        self.model_, self.inference_ = model, inference
        late = len(model.results) > 1
        histories = [
            result.history.assign(model=name) if late else result.history
            for name, result in model.results.items()
        ]
        self.history_ = pd.concat(histories, ignore_index=True) if histories else pd.DataFrame()
        self.best_epoch_ = max((result.best_epoch for result in model.results.values()), default=0)
        self.interrupted_ = model.interrupted or (inference is not None and inference.interrupted)
        self._end_search(self.interrupted_)
        self._expose()

    def _expose(self) -> None:
        self.modalities_: dict[str, Modality] = self.model_.deep.modalities
        self.is_fitted_ = True

    @property
    def network_(self) -> nn.Module:
        """The trained network; with late fusion, a ModuleDict of one a modality."""
        check_is_fitted(self)
        networks = self.model_.deep.networks
        if len(networks) == 1:
            return next(iter(networks.values())).module
        return nn.ModuleDict({name: network.module for name, network in networks.items()})

    @property
    def fusion_weights_(self) -> pd.Series:
        """What late fusion makes of its members: a weight a modality, of sum 1.

        With "stack" the coefficients of a row that has every modality.
        """
        check_is_fitted(self)
        return self.model_.deep.pool.shown()

    @property
    def linear_effects_(self) -> pd.DataFrame:
        """What the linear part makes of the modalities' features, a row a column.

        Indexed by modality and feature (and by parameter, where there are several): ``coef`` and
        its standard error ``se`` in units of what the modality hands on (of a column that the
        modality standardises, a standard deviation), and ``coef per sd``. Coefficients are shrunk,
        by a penalty a modality that was chosen by restricted maximum likelihood; standard errors
        are Bayesian (Wood 2006). ``attrs["modalities"]`` has each modality's effective degrees of
        freedom and its share of the linear part's variance. They are no effects to report of a
        treatment: see `effects_`.
        """
        check_is_fitted(self)
        linear = self.model_.deep.linear
        if linear is None:
            raise AttributeError("There is no linear part: the estimator was fitted without it.")
        head = self.model_.head
        basis = head.linear_basis
        own = head.parameters.take([head.parameters.names.index(name) for name in basis.names])
        units = (basis.matrix * own.matrix).sum(0) / np.square(own.matrix).sum(0)
        return linear.effects(basis.names, units)

    @property
    def _head(self) -> Any:
        """What predicts from the predictors."""
        return self.model_.head

    def _predictors(
        self, X: Any, modalities: Collection[str] | None = None, exclude: Sequence[str] = ()
    ) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the checked table and the predictors of its rows, float64 of shape (n, K).

        Only `modalities`, if given, are looked at: the others are absent in every row, and `X` may
        lack their columns. The terms of the formula in `exclude` have no effect.
        """
        return self._predicted(X, modalities, exclude)[:2]

    def _predicted(
        self, X: Any, modalities: Collection[str] | None = None, exclude: Sequence[str] = ()
    ) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
        """Return `_predictors`, and which rows the classical model predicts, bool, (n,)."""
        check_is_fitted(self)
        if isinstance(exclude, str):
            raise TypeError(f"The exclude parameter must be a list of terms. Got {exclude!r}.")
        asked = self._check_asked(modalities)
        table = self._frame(X, asked)
        subjects = Subjects.read(self.id if asked != [] else None, table, complete=False)
        model = replace(self.model_, settings=self._settings())
        with single_precision():
            return table, *model.predicted(table, asked, subjects, exclude)

    def _frame(self, X: Any, asked: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the columns that a prediction from the `asked` modalities reads, by name.

        Where neither modalities nor a formula name columns, all of them, as scikit-learn's
        estimators want them: those of ``fit`` in their order.
        """
        if self.modalities is None and self.structured is None and self.pretrained is None:
            return check_frame(self, X, reset=False)
        names = list(self.modalities_) if asked is None else asked
        read = {column for name in names for column in self.modalities_[name].columns_}
        read.update(self.model_.structured.columns)
        if names and self.id is not None:
            read.add(self.id)
        others = [*self._context_columns().values(), self.id, self.cluster]
        return check_read(self, X, read, also=[column for column in others if column is not None])

    def _check_asked(self, modalities: Collection[str] | None) -> list[str] | None:
        """Return the names as a list, checked; a user may give an array or a Series too."""
        if modalities is None:
            return None
        if isinstance(modalities, str) or not isinstance(modalities, Collection):
            raise TypeError(
                "The modalities parameter must be a list of names of modalities, or None for all. "
                f"Got {modalities!r}."
            )
        modalities = [str(name) for name in modalities]  # of an array, numpy.str_
        check_names("modalities", modalities, self.modalities_)
        if not modalities and not self.model_.structured.complete:
            raise ValueError(
                "The modalities parameter may be empty only beside a formula (structured=): "
                f"nothing else is left to predict from. Name some of {list(self.modalities_)}."
            )
        return modalities

    def report(
        self, X: Any, y: Any, path: Any = "report.html", meta: Any = None, **options: Any
    ) -> Any:
        """Write a report of the fitted model as one page, `mmfusion.interpret.write_report`.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        y : outcome of n rows
            Rows that the model did not see: training rows are told by hashes, and refused.
        path : path, default="report.html"
        meta : mapping of str to str, optional
            What only people know: dates, centres, funding; see `mmfusion.interpret.META`.
        **options
            `cross_validated`, `time`, `group`, `subgroups`, `n_examples`, `random_state`.

        Returns
        -------
        mmfusion.interpret.Report
        """
        from mmfusion.interpret.report import write_report  # slow to import; few write reports

        return write_report(self, X, y, path, meta, **options)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save the fitted estimator into `folder`: JSON, safetensors and skops, nothing executable.

        The folder appears whole or not at all: a save that fails leaves what was there. Of the
        parameters, `pretrained` and callbacks are not kept; where `modalities` were those of
        the pretrainer, they are. A function that chose the columns of a modality is replaced by
        its fitted ``columns_``.

        Parameters
        ----------
        folder : path
            Made if it does not exist; replaced if it holds a saved estimator. Of a link, what it
            points to.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        OSError
            If the disk is full, or the folder may not be written.
        ValueError
            If `folder` holds something else or is the working directory, or a parameter cannot be
            saved without executable code (an encoder given as a Module or a function), or a level
            of the formula (a date), or a weight is NaN or infinite.
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
            Fitted, equal in its predictions; with `pretrained` and callbacks None, so that to
            fit it again starts anew.

        Raises
        ------
        FileNotFoundError
            If `folder` holds no saved estimator.
        ValueError
            If it was saved by another class or another format, is damaged, mixes files of several
            models, or holds types that are not trusted.
        """
        with single_precision():
            return load_estimator(cls, Path(folder))

    def _networks(self) -> dict[str, Network]:
        return self.model_.deep.networks

    def _state(self) -> dict[str, Any]:
        seen = None if self.seen_ is None else self.seen_.state()
        return {**state_of(self.model_, self.inference_), "seen": seen}

    def _restore(self, state: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        """Take back what `save` wrote: fitted attributes, head, modalities, weights."""
        self.model_, self.inference_ = model_of(Plan.of(self), state, weights)
        seen = state.get("seen")  # of a model that was saved before: not known
        self.seen_ = None if seen is None else Seen.from_state(seen)
        for name, value in state["fitted"].items():
            setattr(self, name, value)
        self._expose()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.target_tags.required = True
        return tags
