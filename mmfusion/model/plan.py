"""What an estimator was asked to do: its parameters, checked, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import clone

from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion, check_fusion
from mmfusion.heads.base import Head
from mmfusion.inputs.parameters import check_choice, check_names
from mmfusion.modalities import Modality
from mmfusion.model.auxiliary import check_auxiliary
from mmfusion.model.checks import check_modalities, check_widths
from mmfusion.model.network import DesignUse, Start
from mmfusion.objectives import Objective
from mmfusion.structured import Layout
from mmfusion.training import TrainingSettings

__all__ = ["HEADS", "INFERENCES", "ORTHOGONALIZATIONS", "Plan"]

HEADS = ("additive", "nonlinear")
#: Up to so many subjects, every one of them judges: so many networks, each without a fold.
FEW, MEMBERS = 3000, 5
INFERENCES = ("model", "robust", "sandwich", "cross_fit", "double_ml")
ORTHOGONALIZATIONS = ("post_hoc", "online", "two_stage", None)


@dataclass(frozen=True, eq=False)
class Plan:
    """The parameters of an estimator, checked against each other.

    Attributes
    ----------
    name : str
        Of the estimator, for messages.
    head : Head
        Unfitted.
    modalities : mapping of str to Modality
        Unfitted; empty where there is no deep part.
    strategy : JointFusion, EarlyFusion or LateFusion
    formulas : str, mapping of str to str, or None
        The structured part: one formula, or one a parameter.
    orthogonalization : {"post_hoc", "online", "two_stage", None}
    joins_design : bool
        Whether the formula's columns enter the hidden layers too (``head="nonlinear"``).
    inference : {"model", "robust", "sandwich", "cross_fit", "double_ml"}
    treatment, cluster, subject : column labels or None
    context : mapping of str to column label or None
        What else of the table the head reads: ``{"strata": "site"}``.
    objectives : tuple of Objective
    start : Start or None
        Where the encoders start.
    settings : TrainingSettings
    validation_fraction : float
    random_state : int, RandomState or None
    linear : bool
        Whether the modalities' features have a linear part.
    n_members : int or "auto"
        Networks, each trained without a fold of its own; 1 is one network and judging rows.
    judged : bool
        Whether only that share of the deep predictor is kept that the judging rows believe.
    prepared : Layout or None
        The formulas as all rows made them, in a plan for a part of the rows.
    teaches : ndarray of bool, shape (n, n_modalities), or None
        Which rows teach which modality, in a plan for a part of the rows.
    """

    name: str
    head: Head
    modalities: Mapping[str, Modality]
    strategy: JointFusion | EarlyFusion | LateFusion
    formulas: str | Mapping[str, str] | None
    orthogonalization: str | None
    joins_design: bool
    inference: str
    treatment: str | None
    cluster: Any
    subject: Any
    context: Mapping[str, Any]
    modality_dropout: float | Mapping[str, float]
    objectives: tuple[Objective, ...]
    start: Start | None
    settings: TrainingSettings
    validation_fraction: float
    random_state: Any
    linear: bool = False
    n_members: int | str = 1
    judged: bool = True
    prepared: Layout | None = None
    teaches: np.ndarray | None = None

    @classmethod
    def of(
        cls, estimator: Any, table: pd.DataFrame | None = None, *, is_array: bool = False
    ) -> Self:
        """Return what an estimator was asked to do, checked.

        Parameters
        ----------
        estimator : estimator
        table : DataFrame, optional
            Modalities that were not given are inferred from it; without it they are left out.
        is_array : bool
            Whether the user gave an array, whose columns have no names to go by.

        Raises
        ------
        TypeError, ValueError
            Naming the parameter, what was found and what is allowed.
        """
        settings = estimator._settings()
        strategy = check_fusion(estimator.fusion)
        modalities = estimator._given_modalities(table, is_array)
        head = estimator._make_head()
        offers = bool(modalities) and strategy.takes_offset and head.has_linear
        plan = cls(
            name=type(estimator).__name__,
            head=head,
            modalities=modalities,
            strategy=strategy,
            formulas=estimator._formulas(),
            orthogonalization=estimator.orthogonalization,
            joins_design=estimator.head == "nonlinear",
            inference=estimator.inference,
            treatment=getattr(estimator, "treatment", None),
            cluster=estimator.cluster,
            subject=estimator.id,
            context=estimator._context_columns(),
            modality_dropout=estimator.modality_dropout,
            objectives=check_auxiliary(estimator.auxiliary, strategy, modalities, settings.epochs),
            start=estimator._start(strategy),
            settings=settings,
            validation_fraction=estimator.validation_fraction,
            random_state=estimator.random_state,
            linear=estimator.linear and offers,
            n_members=estimator.n_members,
        )
        check_choice("head", estimator.head, HEADS)
        plan._check()
        return plan

    def _check(self) -> None:
        check_choice("inference", self.inference, INFERENCES)
        self._check_members()
        if self.orthogonalization not in ORTHOGONALIZATIONS:
            raise ValueError(
                f"The orthogonalization parameter must be one of {ORTHOGONALIZATIONS}. "
                f"Got {self.orthogonalization!r}."
            )
        self._check_formulas()
        self._check_treatment()
        self._check_curves()
        self._check_reads()
        if self.modalities:
            check_modalities(self.modalities)
            check_widths(self.strategy, self.modalities)
            if isinstance(self.modality_dropout, Mapping):
                check_names("modality_dropout", self.modality_dropout, self.modalities)

    def _check_reads(self) -> None:
        """Check what modalities each output of the networks reads."""
        reads = self.head.deep_reads
        if reads is None or not self.modalities:
            return
        for own in reads:
            if own is None:
                continue
            if isinstance(own, str) or not own:
                raise TypeError(
                    "The deep parameter must have a list of modalities for each parameter, or None "
                    f"for all. Got {own!r}."
                )
            check_names("deep", own, self.modalities)
        if self.orthogonalization == "online" and self.formulas is not None:
            raise ValueError(
                "The orthogonalization parameter may be 'online' only where one trunk of the "
                "network serves all parameters (deep is no dict). Got deep with a trunk each."
            )

    def _check_members(self) -> None:
        n = self.n_members
        if n != "auto" and (isinstance(n, bool) or not isinstance(n, Integral) or int(n) < 0):
            raise ValueError(
                "The n_members parameter must be a number of networks, 0 or more, or 'auto'. "
                f"Got {n!r}."
            )
        if n != "auto" and int(n) > 1 and self._single is not None:
            raise ValueError(
                f"The n_members parameter must be 0, 1 or 'auto' with {self._single}: the networks "
                f"of folds cannot be judged there. Got {n!r}."
            )
        if self.settings.refit and self._single is not None:
            raise ValueError(
                f"The epochs parameter must be a number with {self._single}: the networks of folds "
                "cannot be judged there. Got 'cv'."
            )
        if n == 0 and self.modalities and not self.linear and self.formulas is None:
            raise ValueError(
                "The n_members parameter may be 0 only beside a linear part (linear=True) or a "
                "formula (structured=): without networks nothing else is left."
            )

    def _check_formulas(self) -> None:
        given = self.formulas
        if given is None:
            return
        texts = list(given.values()) if isinstance(given, Mapping) else [given]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise TypeError(
                "The structured parameter must be a formula such as 'treatment + s(age)', a dict "
                f"with one for each parameter, or None. Got {given!r}."
            )
        if self.joins_design and self.inference == "cross_fit":
            raise ValueError(
                "The head parameter must be 'additive' with inference='cross_fit': networks that "
                "read the formula's columns take part of their effects away. Got 'nonlinear'."
            )
        if self.joins_design and not self.strategy.joins_design:
            raise ValueError(
                "The head parameter may be 'nonlinear' only where hidden layers follow the fusion "
                f"of the modalities. Got {self.strategy!r}."
            )

    def _check_treatment(self) -> None:
        if self.inference != "double_ml":
            if self.treatment is not None:
                raise ValueError(
                    "The treatment parameter is read with inference='double_ml' alone: elsewhere "
                    f"every term of the formula has its effect. Got {self.treatment!r}."
                )
            return
        if type(self.head).partial is None:  # of two classes or more is known with the outcome
            raise ValueError(
                "The inference parameter 'double_ml' is for Gaussian and binomial outcomes "
                f"(FusionRegressor, FusionClassifier with two classes). Got {self.name}."
            )
        if self.formulas is None:
            raise ValueError(
                "The inference parameter 'double_ml' needs a formula that holds the treatment. "
                "Got structured=None."
            )
        if not isinstance(self.treatment, str):
            raise ValueError(
                "The treatment parameter must name a term of the formula where "
                f"inference='double_ml'. Got {self.treatment!r}."
            )

    def _check_curves(self) -> None:
        """Refuse late fusion of curves where there are none, or a formula beside them."""
        if self.strategy.pool != "curves":
            return
        combine = f"LateFusion(combine={self.strategy.combine!r})"
        if not self.head.mixes_curves:
            raise ValueError(
                f"{combine} combines the curves of FusionCox. {self.name} knows combine='risk' "
                "alone."
            )
        if self.formulas is not None:
            raise ValueError(
                f"{combine} has no log-hazard to add a formula to: structured= goes with "
                "combine='risk'."
            )

    @property
    def design_use(self) -> DesignUse:
        """What the networks make of the formula's columns."""
        if self.formulas is None:
            return DesignUse()
        return DesignUse(joins=self.joins_design, orthogonal=self.orthogonalization == "online")

    def members(self, n_subjects: int) -> int:
        """Return how many networks are trained, each without a fold of its own."""
        if self.settings.refit and self.n_members in ("auto", 1):
            return MEMBERS
        if self.n_members == "auto":
            single = self._single is not None or not self.linear or n_subjects > FEW
            return 1 if single else MEMBERS
        return int(self.n_members)

    @property
    def _single(self) -> str | None:
        """What allows one network alone, if anything does."""
        if self.objectives:
            return "auxiliary losses"
        if self.strategy.learns_inputs:
            return f"{self.strategy!r}, which chooses inputs by the outcome"
        return None if self.strategy.takes_offset else repr(self.strategy)

    @property
    def stops_early(self) -> bool:
        """Whether judging rows end the training; a ridge is fitted at once, to all rows."""
        return self.settings.patience is not None and not self.strategy.linear

    def for_part(
        self, modalities: Mapping[str, Modality], prepared: Layout | None, teaches: np.ndarray
    ) -> Self:
        """Return the plan for a part of the rows, with those modalities that the part teaches.

        Parameters
        ----------
        modalities : mapping of str to Modality
            Of the rows' networks.
        prepared : Layout or None
            Of all rows.
        teaches : ndarray of bool, shape (n_rows, n_modalities)
        """
        dropout = self.modality_dropout
        if isinstance(dropout, Mapping):
            dropout = {name: rate for name, rate in dropout.items() if name in modalities}
        return replace(
            self,
            modalities={name: clone(modality) for name, modality in modalities.items()},
            inference="model",
            treatment=None,
            modality_dropout=dropout,
            objectives=tuple(o for o in self.objectives if o.fewest <= len(modalities)),
            settings=replace(self.settings, verbose=0, modality_dropout=dropout, refit=False),
            n_members=0 if self.n_members == 0 else 1,
            prepared=prepared,
            teaches=teaches,
        )
