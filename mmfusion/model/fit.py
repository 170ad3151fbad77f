"""The fit: classical model, networks beside it, the share of them that is kept, the final model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from mmfusion.heads.base import Head
from mmfusion.model.checks import refuse_empty, refuse_silence
from mmfusion.model.deep import Deep, prepare_networks, stack, train_networks
from mmfusion.model.draws import Draws
from mmfusion.model.folds import Folds, Part, deal_study, parts, quietly
from mmfusion.model.late import check_entry, learn_pool, make_pool, out_of_fold
from mmfusion.model.learning import Prepared
from mmfusion.model.network import Beside
from mmfusion.model.plan import Plan
from mmfusion.model.pools import OutOfFold, Pool
from mmfusion.model.structured import Constant, Structured, begin
from mmfusion.model.study import Study
from mmfusion.model.subjects import EACH_ROW, Subjects
from mmfusion.structured import Design
from mmfusion.training import TrainingResult, TrainingSettings
from mmfusion.training.precision import single_precision

__all__ = ["Model", "Ready", "fit", "fit_part", "prepare"]


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
    """

    head: Any
    structured: Constant | Structured
    deep: Deep
    settings: TrainingSettings
    results: Mapping[str, TrainingResult]
    interrupted: bool

    def members(
        self,
        table: pd.DataFrame,
        only: Collection[str] | None = None,
        subjects: Subjects = EACH_ROW,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the networks' predictors (n, M, K), NaN where absent, and presence (n, M)."""
        design = None
        if any(network.design_use.read for network in self.deep.networks.values()):
            subjects.refuse_design()
            design = self.structured.network_design(table)
        asked = self.deep.modalities
        if only is not None:
            asked = {name: asked[name] for name in only}
        subjects.refuse_changes(asked, table)
        shown = subjects.table(table)
        outputs = self.deep.outputs(shown, self.settings, design, only)
        base = self.structured.pool_base
        etas, present = stack(outputs, len(shown), base, self.head.deep_basis)
        return subjects.spread(etas), subjects.spread(present)

    def deep_predictor(
        self,
        table: pd.DataFrame,
        only: Collection[str] | None = None,
        subjects: Subjects = EACH_ROW,
    ) -> np.ndarray:
        """Return the pooled predictor of the networks, (n, K); zero for rows without a modality.

        Raises
        ------
        ValueError
            For rows without a modality, where there is no formula to predict them from.
        """
        etas, present = self.members(table, only, subjects)
        if not self.structured.complete:
            asked = list(self.deep.modalities) if only is None else list(only)
            refuse_empty(table, np.asarray(present.any(1)), asked)
        pool = self.deep.pool
        return pool.pooled(pool.standardised(etas), present, self.head)

    def predictor(
        self,
        table: pd.DataFrame,
        only: Collection[str] | None = None,
        subjects: Subjects = EACH_ROW,
        exclude: Sequence[str] = (),
    ) -> np.ndarray:
        """Return the predictors of some rows, float64 of shape (n, K).

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
        deep = self.deep_predictor(table, only, subjects)
        return self.structured.predictor(self.structured.design(table), deep, exclude)


@dataclass(frozen=True, eq=False)
class Ready:
    """Everything that a fit needs, prepared and checked: nothing is trained yet.

    Attributes
    ----------
    plan, study : Plan, Study
    structured : Constant or Structured
        With the classical model of the training rows.
    design : Design
        Of all rows.
    beside : Beside
        The classical predictors of all rows, and of the judging rows.
    networks : dict of str to Prepared
    draws : Draws
        torch's random numbers.
    pool_parts : list of Part
        Folds that the pool of late fusion learns from.
    """

    plan: Plan
    study: Study
    structured: Constant | Structured
    design: Design
    beside: Beside
    networks: dict[str, Prepared]
    draws: Draws
    pool_parts: list[Part]

    @property
    def present(self) -> np.ndarray:
        """Which rows have which modality, bool, (n, n_modalities), network by network."""
        found = [one.present for one in self.networks.values()]
        return np.hstack([np.zeros((len(self.study.all), 0), dtype=bool), *found])

    @property
    def modalities(self) -> dict[str, Any]:
        """The fitted modalities."""
        return {n: m for one in self.networks.values() for n, m in one.network.modalities.items()}

    def fit_part(self, plan: Plan, part: Part, fusion: Any = None) -> Model:
        """Return the model of the training rows of a part, with the modalities that it teaches."""
        chosen = {n: m for n, m in self.modalities.items() if n in part.modalities}
        prepared = self.structured.layout
        own = plan.for_part(chosen, prepared, part.teaches)
        own = own if fusion is None else replace(own, strategy=fusion)
        return fit_part(own, self.study.part(own, part.train))


def prepare(plan: Plan, study: Study) -> Ready:
    """Fit the classical model, build the networks, and refuse what cannot be fitted.

    Raises
    ------
    ValueError
        Before anything is trained, naming the column, the row or the modality that is at fault.
    """
    check_entry(plan.strategy, study.head, study.all.target)
    pool_folds: Folds = []
    if plan.strategy.pool_folds and plan.modalities:
        pool_folds = deal_study(
            study, plan.strategy.pool_folds, "LateFusion('mean') or fewer folds"
        )
    structured, design = begin(plan, study)
    beside = _beside(plan, study, structured, design)
    draws = Draws(int(study.rng.integers(2**31)), plan.settings.device)
    with draws():
        networks = prepare_networks(plan, study, beside)
    for one in networks.values():
        refuse_silence(
            list(one.network.modalities), one.present, study.head, study.all.target, study.rows
        )
    ready = Ready(plan, study, structured, design, beside, networks, draws, [])
    names = list(ready.modalities)
    pool_parts = parts(study, names, ready.present, pool_folds, needs_any=not structured.complete)
    if not structured.complete:
        refuse_empty(study.all.table, np.asarray(ready.present.any(1)), names)
        own = [one.judged.present.any(1).numpy() for one in networks.values() if one.judged]
        if own and study.judges is not None:
            there = study.judges.subjects.spread(np.any(own, axis=0))
            refuse_empty(study.judges.table, np.asarray(there), names)
    return replace(ready, pool_parts=pool_parts)


def _beside(plan: Plan, study: Study, structured: Constant | Structured, design: Design) -> Beside:
    """Return what the networks' predictor is added to."""
    table, judges = study.all.table, study.judges
    offset = structured.network_offset(design)
    reads = plan.design_use.read
    columns = structured.network_design(table) if reads else None
    if judges is None or study.judging is not None:
        return Beside(offset, None, structured.complete, columns)
    judged = structured.network_offset(structured.design(judges.table))
    return Beside(
        offset,
        judged,
        structured.complete,
        columns,
        structured.network_design(judges.table) if reads else None,
    )


def fit(ready: Ready) -> tuple[Model, np.ndarray]:
    """Train the networks beside the classical model, and fit the final one beside them.

    Returns
    -------
    model : Model
    offset : ndarray, shape (n, K)
        What of the deep predictor the reported coefficients of the formulas were fitted beside.

    Raises
    ------
    TrainingDivergedError
        If a loss becomes NaN or infinite.
    """
    plan, study, structured, design = ready.plan, ready.study, ready.structured, ready.design
    head, target = study.head, study.all.target
    with ready.draws():
        results, interrupted = train_networks(ready.networks)
    networks = {name: ready.networks[name].network for name in results}
    etas, present = _members_of_all(ready, list(results))
    folds = () if interrupted else ready.pool_parts
    folded = out_of_fold(plan, study, folds, list(results), ready.fit_part)
    pool = make_pool(plan.strategy, list(results), learns=folded.unseen is not None)
    offset = torch.from_numpy(structured.pool_offset(design))
    learn_pool(pool, head, study.all, etas, present, offset, folded.unseen)
    deep = pool.pooled(pool.standardised(etas), present, head)
    interrupted = interrupted or folded.interrupted
    model = Model(head, structured, Deep(networks, pool), plan.settings, results, interrupted)
    _judge(ready, model, deep)
    offset_of_reported = structured.settle(design, deep, head, target)
    if folded.unseen is not None and not structured.complete:
        deep = _as_new(pool, head, folded.unseen, deep)
    eta = torch.from_numpy(structured.predictor(design, deep))
    model.head = pool.finish(head, eta, target)
    return model, offset_of_reported


def _members_of_all(ready: Ready, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the trained networks' predictors of all rows, (n, M, K), and presence (n, M)."""
    study, subjects = ready.study, ready.study.all.subjects
    outputs, rows = [], subjects.table(study.all.table).index
    for name in names:
        one = ready.networks[name]
        found, there = one.network.outputs_of(one.data, one.settings, rows)
        outputs.append((subjects.spread(found), subjects.spread(there)))
    base, basis = ready.structured.pool_base, study.head.deep_basis
    return stack(outputs, len(study.all), base, basis)


def _judge(ready: Ready, model: Model, deep: np.ndarray) -> None:
    """Let the judging rows say how much of the deep predictor is kept."""
    plan, study, beside = ready.plan, ready.study, ready.beside
    judges = study.judges
    if not (plan.judged and ready.networks):
        return
    if judges is None:
        if plan.stops_early:
            ready.structured.keep_nothing()
        return
    if not study.head.informative(judges.target):
        return
    if study.judging is not None:
        held, offset = deep[study.judging], beside.offset[torch.from_numpy(study.judging)]
    else:
        assert beside.judged_offset is not None
        held = model.deep_predictor(judges.table, subjects=judges.subjects)
        offset = beside.judged_offset
    ready.structured.judge(held, offset, study.head, judges.target)


def _as_new(pool: Pool, head: Head, unseen: OutOfFold, deep: np.ndarray) -> np.ndarray:
    """Return the deep predictor of the training rows from networks that did not see them.

    The head learns its baseline, or its residual variance, beside these: they are as far from the
    truth as those of new rows will be. Rows whose modalities the folds left out keep their own.
    """
    new = pool.pooled(unseen.etas, unseen.present, head)
    left_out = ~unseen.present.any(axis=1)
    new[left_out] = deep[left_out]
    return new


def fit_part(plan: Plan, study: Study) -> Model:
    """Return the model of a part of the rows, without warnings: nobody sees its coefficients.

    Raises
    ------
    KeyboardInterrupt
        Where Ctrl-C ended its training too.
    """
    with quietly(), single_precision():
        model, _ = fit(prepare(plan, study))
    if model.interrupted:
        raise KeyboardInterrupt
    return model
