"""The fit: classical model, networks beside it, the share of them that is kept, the final model."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from mmfusion.model.beside import Beside
from mmfusion.model.checks import refuse_empty, refuse_silence
from mmfusion.model.dealing import Folds
from mmfusion.model.deep import Deep, prepare_networks, stack, train_networks
from mmfusion.model.draws import Draws
from mmfusion.model.fitted import Model, columns_read
from mmfusion.model.folds import Part, deal_study, parts, quietly
from mmfusion.model.late import check_entry, learn_pool, make_pool, out_of_fold
from mmfusion.model.learning import Prepared
from mmfusion.model.plan import Plan
from mmfusion.model.pools import OutOfFold, Pool
from mmfusion.model.share import UnjudgedWarning, kept_share
from mmfusion.model.start import LinearStart, start_linear
from mmfusion.model.structured import Constant, Structured, begin
from mmfusion.model.study import Study
from mmfusion.structured import Cells, Design
from mmfusion.training import TrainingResult
from mmfusion.training.precision import single_precision

__all__ = ["Model", "Ready", "fit", "fit_part", "prepare"]

#: What a network that is left out says of its training.
UNTRAINED = TrainingResult(pd.DataFrame(), best_epoch=0, interrupted=False)


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
    cells : Cells or None
        What the formulas read of all rows.
    beside : Beside
        The classical predictors of all rows, and of the judging rows.
    networks : dict of str to Prepared
    draws : Draws
        torch's random numbers.
    pool_parts : list of Part
        Folds that the pool of late fusion learns from.
    linear : LinearStart or None
    """

    plan: Plan
    study: Study
    structured: Constant | Structured
    design: Design
    cells: Cells | None
    beside: Beside
    networks: dict[str, Prepared]
    draws: Draws
    pool_parts: list[Part]
    linear: LinearStart | None

    @property
    def present(self) -> np.ndarray:
        """Which rows have which modality, bool, (n, n_modalities), network by network."""
        found = [one.present for one in self.networks.values()]
        return np.hstack([np.zeros((len(self.study.all), 0), dtype=bool), *found])

    @property
    def modalities(self) -> dict[str, Any]:
        """The fitted modalities."""
        return {n: m for one in self.networks.values() for n, m in one.network.modalities.items()}

    @property
    def columns(self) -> list[Any]:
        """The columns of the table that modalities and formulas read."""
        return columns_read(self.modalities, self.structured)

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
    if plan.strategy.pool_folds and plan.modalities and not study.folds:
        pool_folds = deal_study(
            study, plan.strategy.pool_folds, "LateFusion('mean') or fewer folds"
        )
    structured, design, cells = begin(plan, study)
    beside = _beside(plan, study, structured, design)
    draws = Draws(int(study.rng.integers(2**31)), plan.settings.device)
    with draws():
        networks = prepare_networks(plan, study, beside)
    for one in networks.values():
        refuse_silence(
            list(one.network.modalities), one.present, study.head, study.all.target, study.rows
        )
    linear, beside = start_linear(plan, study, structured, design, networks, beside)
    if linear is not None:
        for one in networks.values():
            one.silence(linear.part.freedoms)
    networks = {
        name: replace(one, beside=beside).with_components() for name, one in networks.items()
    }
    ready = Ready(plan, study, structured, design, cells, beside, networks, draws, [], linear)
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
    reads = plan.design_use.read
    columns = structured.network_design(table) if reads else None
    begun, shared = structured.begun, structured.begun and plan.judged
    if judges is None or study.judging is not None:
        return Beside(lambda: structured.network_offset(design), None, begun, shared, columns)
    judged = structured.network_offset(structured.design(judges.table))
    return Beside(
        lambda: structured.network_offset(design),
        judged,
        begun,
        shared,
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
    if plan.n_members == 0:
        results, interrupted = {name: UNTRAINED for name in ready.networks}, False
    else:
        with ready.draws():
            results, interrupted = train_networks(ready.networks)
    names = list(results)
    networks = {name: ready.networks[name].network for name in names}
    etas, present = _members_of_all(ready, names)
    offset = torch.zeros(0, len(head.grid))
    if names:
        offset = structured.pool_offset(ready.beside.offset)
    if study.folds:
        pool = make_pool(plan.strategy, names)
        pool.look(study.all.subjects.once(etas), study.all.subjects.once(present), head)
        unseen: OutOfFold | None = _unseen(ready, names, pool)
    else:
        folds = () if interrupted else ready.pool_parts
        folded = out_of_fold(plan, study, folds, names, ready.fit_part)
        unseen, interrupted = folded.unseen, interrupted or folded.interrupted
        pool = make_pool(plan.strategy, names, learns=unseen is not None)
    learn_pool(pool, head, study.all, etas, present, offset, unseen)
    deep = pool.pooled(pool.standardised(etas), present, head)
    judged = deep
    if unseen is not None:
        # A row that every network was trained on has no voice in how far they are believed.
        judged = pool.pooled(unseen.etas, unseen.present, head)
        deep = np.where(unseen.present.any(axis=1, keepdims=True), judged, deep)
    linear = _final_linear(ready)
    share = np.ones(len(head.grid))
    parts_kept = Deep(networks, pool, None if linear is None else linear.part, share)
    model = Model(head, structured, parts_kept, plan.settings, results, interrupted)
    parts_kept.share = share = _judged(ready, model, judged)
    deep = share * deep if names else deep
    shift: np.ndarray | float = 0.0
    if linear is not None:
        deep, shift = deep + linear.added, linear.shift
    offset_of_reported = structured.settle(design, deep, head, target)
    # The head learns its baseline, or its residual variance, beside predictors that are as far from
    # the truth as those of new rows will be.
    if not (names or linear is not None or head.finishes):  # nothing is learned from predictors
        return model, offset_of_reported
    eta = structured.predictor(design, deep)
    eta = eta if linear is None else eta + shift
    structured.stand_alone(design, eta, head)
    if isinstance(structured, Structured) and structured.complete and names:
        model.alone = copy.copy(head)
        model.alone.finish(torch.from_numpy(structured.predictor_alone(design)), target)
    model.head = pool.finish(head, torch.from_numpy(eta), target)
    structured.widening = _widening(ready, model, eta)
    return model, offset_of_reported


def _widening(ready: Ready, model: Model, eta: np.ndarray) -> np.ndarray:
    """Return what the head adds to predictors, (K,), by rows that networks did not see.

    Parameters
    ----------
    eta : ndarray, shape (n, K)
        Of all rows, as much as is known as if each had not been fitted.
    """
    study, head, trained = ready.study, ready.study.head, bool(model.deep.share.any())
    if not (model.deep.networks and trained) and model.deep.linear is None:
        return np.zeros(len(head.grid))
    rows = np.arange(len(eta))
    if trained and not study.folds and study.judges is not None:
        if study.judging is None:
            judged = model.predictor(study.judges.table, subjects=study.judges.subjects)
            return head.widening(torch.from_numpy(judged), study.judges.target).numpy()
        rows = study.judging
    chosen = torch.from_numpy(rows)
    return head.widening(torch.from_numpy(eta)[chosen], study.all.target.take(chosen)).numpy()


def _final_linear(ready: Ready) -> LinearStart | None:
    """Return the linear part of all rows."""
    if ready.linear is None or not isinstance(ready.structured, Structured):
        return None
    return ready.linear.final(ready.structured, ready.design, ready.study)


def _unseen(ready: Ready, names: Sequence[str], pool: Pool) -> OutOfFold:
    """Return what the members that did not see a row say of it, and what they are added to."""
    study, head = ready.study, ready.study.head
    found = [ready.networks[name].unseen() for name in names]
    known, there = stack(found, len(study.all), ready.structured.pool_base, head.deep_basis)
    offset = ready.structured.pool_offset(_fold_offset(ready))
    return OutOfFold(pool.unit(known), there, offset)


def _fold_offset(ready: Ready) -> torch.Tensor:
    """Return the offset of each row from the model without its fold, (n, K).

    Where the likelihood sees no constant, that of each model is arbitrary.
    """
    study, beside = ready.study, ready.beside
    mean = 0 if len(study.head.constants) else 1
    offset = torch.zeros_like(beside.offset)
    for eta, (_, held) in zip(beside.of_folds, study.folds, strict=True):
        rows = torch.from_numpy(held)
        offset[rows] = eta[rows] - mean * eta.mean(0)
    return offset


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


def _judged(ready: Ready, model: Model, deep: np.ndarray) -> np.ndarray:
    """Return how much of the networks' predictor the judging rows let stand, (K,).

    By the networks' predictor of all rows: where there are folds, of members that did not see the
    row, and 0 where all of them saw it.
    """
    plan, study, beside = ready.plan, ready.study, ready.beside
    judges, head, whole = study.judges, study.head, np.ones(len(study.head.grid))
    if plan.n_members == 0:
        return np.zeros_like(whole)
    if not (plan.judged and ready.networks and ready.structured.begun):
        return whole
    groups = np.asarray(head.deep_groups)
    if study.folds:
        at = _fold_offset(ready)
        return kept_share(torch.from_numpy(deep), at, head, study.all.target, groups)[groups]
    if judges is None:
        alone = ready.structured.complete or ready.linear is not None
        if alone and not plan.strategy.linear:
            return _unjudged(whole, stops_early=plan.stops_early)
        return whole
    if not head.informative(judges.target):
        return whole
    if study.judging is not None:
        held, offset = deep[study.judging], beside.offset[torch.from_numpy(study.judging)]
    else:
        assert beside.judged_offset is not None
        offset = beside.judged_offset
        held = model.networks_predictor(judges.table, subjects=judges.subjects)
    return kept_share(torch.from_numpy(held), offset, head, judges.target, groups)[groups]


def _unjudged(whole: np.ndarray, *, stops_early: bool) -> np.ndarray:
    """Warn that no rows say how far to believe the networks; leave them out, or keep them whole."""
    if stops_early:
        warnings.warn(
            "There are too few rows, or events, to hold some out and judge the networks by them: "
            "the model is without them. Give fit an eval_set, or say patience=None to keep the "
            "networks unjudged.",
            UnjudgedWarning,
            stacklevel=4,
        )
        return np.zeros_like(whole)
    warnings.warn(
        "No rows judge the networks (patience=None, n_members=1): they are kept whole, and "
        "predictions are as far apart as those of the training rows. Expect a calibration slope "
        "below 1 on new rows.",
        UnjudgedWarning,
        stacklevel=4,
    )
    return whole


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
