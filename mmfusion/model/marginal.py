"""The effect of a treatment on a whole study: two arms, each with all its rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.heads.cox import CoxHead
from mmfusion.heads.cox.adjusted import adjusted_hazard_ratio
from mmfusion.inputs.columns import take_column
from mmfusion.inputs.messages import name_rows, shorten
from mmfusion.inputs.parameters import check_choice, check_number
from mmfusion.model.arms import Arms, Sampling, guard
from mmfusion.model.confounding import input_features, learned_mean, strongest_left
from mmfusion.model.dealing import Folds, deal_taught
from mmfusion.model.fit import prepare
from mmfusion.model.folds import parts, quietly
from mmfusion.model.marginal_table import HazardRatios, MarginalEffect, Propensities, tabulate
from mmfusion.model.measured import Curves, Measured, measure
from mmfusion.model.nuisance import Nuisance, texts_of, treatment_head
from mmfusion.model.plan import Plan
from mmfusion.model.study import Sample, Study
from mmfusion.structured import without_columns

__all__ = ["marginal_effect"]

#: Learned chances of treatment are kept within these bounds.
CLIP = (0.02, 0.98)


@dataclass(frozen=True, eq=False)
class _Found:
    """What the models of the folds said.

    Attributes
    ----------
    values : ndarray, shape (n_splits, 2, n, m)
    prognosis : list of ndarray, shape (n, q)
        Of untreated rows, a split each.
    chance : ndarray, shape (n_splits, n)
        Of treatment.
    expected : ndarray, shape (n_splits, 2, n)
        Of the last quantity.
    """

    values: np.ndarray
    prognosis: list[np.ndarray]
    chance: np.ndarray
    expected: np.ndarray


class _Comparison:
    """Everything that is known before a model is trained: refusals come from here."""

    def __init__(
        self,
        plan: Plan,
        table: pd.DataFrame,
        y: Any,
        treatment: Any,
        propensity: str | float,
        folds: int,
        splits: int,
        **asked: Any,
    ) -> None:
        check_number("folds", folds, 2, integer=True)
        check_number("splits", splits, 1, integer=True)
        self.treatment = treatment
        self.levels, self.treated = _arms(table, treatment)
        self.propensity = propensity
        if isinstance(propensity, str):
            check_choice("propensity", propensity, ("randomised", "learn"))
        else:
            check_number("propensity", propensity, 0, 1, open_ends="low and high")
        self.plan = replace(plan, inference="model", treatment=None, judged=propensity != "learn")
        self.study = study = Study.read(self.plan, table, y)
        if study.all.subjects.owner is not None:
            raise ValueError(
                "A marginal effect is of one row a subject: several rows of a subject (id=) have "
                "no value of their own. Give a table with a row a subject."
            )
        with quietly():
            self.ready = prepare(self.plan, study)
        for name, modality in self.ready.modalities.items():
            if treatment in modality.columns_:
                raise ValueError(
                    f"No modality may read the treatment {treatment!r}, whose effect is asked for: "
                    f"modality {name!r} does."
                )
        self.sampling = Sampling(self.treated, study.cluster)
        self.measured: Measured = measure(
            study, self.treated, y, context=dict(plan.context), name=plan.name, **asked
        )
        seeds = np.random.default_rng(int(study.seeds.randint(2**31 - 1)))
        self.seeds: list[int] = seeds.integers(2**31 - 1, size=splits).tolist()
        labels = 2 * self.measured.labels + self.treated
        required = dict(study.head.required(study.all.target))
        required |= {"treated": self.treated, "control": ~self.treated}
        self.splits: list[Folds] = [
            deal_taught(labels, required, study.groups, folds, seed, "fewer folds", study.unit)
            for seed in self.seeds
        ]
        self.of_treatment = None
        if propensity == "learn":
            head, target = treatment_head(self.treated)
            self.of_treatment = Nuisance(self.ready, head, target, self._without())

    def _without(self) -> str | None:
        """Return the formula of the chance of treatment: the model's, without the treatment."""
        texts = texts_of(self.plan.formulas)
        if not texts:
            return None
        known = [name for name in self.study.all.table.columns if isinstance(name, str)]
        return without_columns(" + ".join(texts), [self.treatment], known)

    @property
    def share(self) -> float:
        """The chance of treatment, where it is one number."""
        return float(self.treated.mean()) if isinstance(self.propensity, str) else self.propensity

    def inverse(self, chance: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Return one over the chance of each arm, 0 for rows that are not in it."""
        return (~self.treated) / (1 - chance), self.treated / chance

    def in_arm(self, rows: np.ndarray, arm: int) -> Sample:
        """Return some rows as if they were all in an arm."""
        sample = self.study.all.take(rows)
        table = sample.table.copy()
        column = table[self.treatment]
        table[self.treatment] = pd.Series(self.levels[arm], index=table.index, dtype=column.dtype)
        return replace(sample, table=table)

    def plain(self) -> np.ndarray:
        """Return the values without models, (2, n, m)."""
        inverse = self.inverse(self.share)
        return np.stack([self.measured.plain(arm, inverse[arm]) for arm in (0, 1)])

    def find(self) -> _Found:
        """Train the models of the folds, and read them at the rows that they did not see.

        Raises
        ------
        KeyboardInterrupt
            Where Ctrl-C ended the training of one of them.
        """
        plain = self.plain()
        values = np.repeat(plain[None], len(self.splits), axis=0)
        chance = np.full((len(self.splits), len(self.treated)), self.share)
        expected = np.repeat(plain[None, :, :, -1], len(self.splits), axis=0)
        prognosis = []
        names = list(self.ready.modalities)
        needs_any = not self.ready.structured.complete
        for split, (folds, seed) in enumerate(zip(self.splits, self.seeds, strict=True)):
            plan = replace(self.plan, random_state=seed)
            known: np.ndarray | None = None
            if self.of_treatment is not None:
                for train, held in folds:
                    learned = self.of_treatment.expectation(train, held, seed)
                    chance[split, held] = learned.clip(*CLIP)
            inverse = self.inverse(chance[split])
            for part in parts(self.study, names, self.ready.present, folds, needs_any=needs_any):
                model = self.ready.fit_part(plan, part)
                for arm in (0, 1):
                    sample = self.in_arm(part.held, arm)
                    values[split, arm, part.held], expected[split, arm, part.held] = (
                        self.measured.values(model, sample, part.held, arm, inverse[arm])
                    )
                if self.compares_hazards:
                    own = self.measured.prognosis(model, self.in_arm(part.held, 0))
                    known = np.zeros((len(self.treated), own.shape[1])) if known is None else known
                    known[part.held] = own
            if known is not None:
                prognosis.append(known)
        return _Found(values, prognosis, chance, expected)

    @property
    def compares_hazards(self) -> bool:
        """Whether there is a marginal hazard ratio: one cause, and arms that chance dealt."""
        return self.measured.compares_hazards and self.of_treatment is None

    def propensities(self, found: _Found) -> Propensities | None:
        """Return what tells whether the arms are comparable, where their chances were learned."""
        if self.of_treatment is None:
            return None
        chance = found.chance.mean(axis=0)
        expected = found.expected.mean(axis=0)
        as_one = np.ones(len(self.treated))
        # Without weights a value is the outcome, or one whose mean given the row is the outcome's.
        seen = np.stack([self.measured.plain(arm, as_one)[:, -1] for arm in (0, 1)])
        own = np.where(self.treated, seen[1], seen[0])
        mean = np.where(self.treated, expected[1], expected[0])
        centre = np.where(self.treated, own[self.treated].mean(), own[~self.treated].mean())
        columns = [c for c in self.ready.structured.columns if c != self.treatment]
        features = input_features(self.study.all.table, columns, self.ready.modalities)
        return Propensities(
            self.treated,
            chance,
            learned_mean(self.treated.astype(int), chance, classes=True),
            learned_mean(own - centre, mean - centre, classes=False),
            strongest_left(features, self.treated - chance, own - mean),
            features,
            CLIP,
        )

    def hazards(self, y: Any, prognosis: list[np.ndarray]) -> HazardRatios | None:
        """Return the hazard ratio, adjusted and not, with their tests."""
        if not self.compares_hazards:
            return None
        assert isinstance(self.measured, Curves)
        target = CoxHead().fit_outcome(self.measured.outcome)
        own = [
            adjusted_hazard_ratio(target, self.treated, z, sums=self.sampling.sums)
            for z in (*prognosis, None)
        ]
        return HazardRatios(own[:-1], own[-1], float(self.measured.outcome.time.max()))


def _arms(table: pd.DataFrame, treatment: Any) -> tuple[list[Any], np.ndarray]:
    """Return the two levels of a treatment, and which rows have the second."""
    column = take_column(table, treatment, "treatment")
    if column.isna().any():
        raise ValueError(
            f"The treatment {treatment!r} must be known of each row. It is missing in "
            f"{name_rows(table, column.isna().to_numpy(bool))}."
        )
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = [level for level in column.cat.categories if (column == level).any()]
    else:
        levels = sorted(column.unique().tolist())
    if len(levels) != 2:
        raise ValueError(
            f"The treatment {treatment!r} must have two levels, the control's first. "
            f"Got {shorten(levels)}."
        )
    return levels, (column == levels[1]).to_numpy(bool)


def marginal_effect(
    plan: Plan, table: pd.DataFrame, y: Any, *, level: float, **asked: Any
) -> MarginalEffect:
    """Compare two arms, each of which has all rows of a table; see the estimators' method.

    Parameters
    ----------
    plan : Plan
    table : DataFrame, shape (n, p)
    y : outcome of n rows
    level : float
    **asked
        As the estimators' method has them.

    Raises
    ------
    ValueError, TypeError
        Before anything is trained, naming the parameter, the column or the row that is at fault.
    """
    check_number("level", level, 0, 1, open_ends="low and high")
    comparison = _Comparison(plan, table, y, **asked)
    found, plain = comparison.find(), comparison.plain()
    values, sampling = found.values, comparison.sampling
    if comparison.of_treatment is None:
        values = np.stack([guard(one, plain, sampling) for one in values])
        sampling = replace(sampling, estimated=2)
    return tabulate(
        comparison.measured,
        Arms(values, sampling),
        Arms(plain[None], comparison.sampling),
        comparison.hazards(y, found.prognosis),
        comparison.propensities(found),
        level=level,
        seed=comparison.seeds[0],
        names=(str(comparison.levels[0]), str(comparison.levels[1])),
    )
