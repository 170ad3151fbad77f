"""How a network is prepared for the rows of a study, and trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from mmfusion.encoders import ComponentsEncoder, ReducedEncoder
from mmfusion.fusion import FusionNetwork
from mmfusion.heads.base import Head, Target
from mmfusion.modalities.base import MultimodalData, TableData
from mmfusion.model.auxiliary import sources, teachable
from mmfusion.model.beside import Beside
from mmfusion.model.checks import check_batches, fit_modality
from mmfusion.model.linear import fit_linear
from mmfusion.model.network import Network, Start
from mmfusion.model.study import Sample, Study
from mmfusion.objectives import Objective, WeightedObjectives
from mmfusion.training import (
    Rows,
    StopAt,
    TrainingResult,
    TrainingSettings,
    train,
    train_members,
)

__all__ = ["Prepared", "prepare_network"]

#: A network sees at least and at most so many components of a wide modality.
CAPACITY = (8, 64)
#: It sees nothing of one that has fewer degrees of freedom in the linear part: components of noise
#: would cost what the network learns of the other modalities.
SILENT = 0.5


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network that is ready to be trained, with everything that the training reads.

    Attributes
    ----------
    network : Network
    study : Study
    settings : TrainingSettings
    beside : Beside
    data : MultimodalData
        All subjects of the study.
    judged : MultimodalData or None
        The subjects of judging rows that have a table of their own.
    objectives : WeightedObjectives or None
    of_folds : list of FusionNetwork
        Once trained, the networks that did not see a fold, by fold.
    """

    network: Network
    study: Study
    settings: TrainingSettings
    beside: Beside
    data: MultimodalData
    judged: MultimodalData | None
    objectives: WeightedObjectives | None
    of_folds: list[FusionNetwork] = field(default_factory=list)

    @property
    def present(self) -> np.ndarray:
        """Which rows have which of the modalities, bool, shape (n, n_modalities)."""
        return self.study.all.subjects.spread(self.data.present.cpu().numpy())

    def silence(self, edf: Mapping[str, float]) -> None:
        """Show networks nothing of wide modalities in which the linear part found nothing.

        Parameters
        ----------
        edf : mapping of str to float
            The linear part's degrees of freedom of each modality.
        """
        most = 2 * _capacity(self.study.head, self.study.training)
        for name, modality in self.network.modalities.items():
            encoder = self.network.encoders[name]
            reduced = isinstance(encoder, ReducedEncoder) and encoder.feature_width > most
            if (reduced or hasattr(modality, "n_seen_")) and edf.get(name, SILENT) < SILENT:
                modality.silent_ = True
                encoder.scaler.silence()  # type: ignore[operator, union-attr]

    def with_components(self) -> Prepared:
        """Return it with the components that encoders see of wide tables, taken once, as its data.

        Not where auxiliary losses may ask for the tables themselves.
        """
        if self.objectives is not None:
            return self
        judged = self.judged if self.judged is None else _components(self.network, self.judged)
        return replace(self, data=_components(self.network, self.data), judged=judged)

    def train(self) -> TrainingResult:
        """Train the network on those of the training rows that have any of its modalities."""
        study, head, settings = self.study, self.study.head, self.settings
        rows = _present_rows(self.data, study.all, study.rows, self.beside.offset)
        basis = None if head.deep_basis.is_identity else torch.from_numpy(head.deep_basis.matrix)
        module = self.network.module
        if self.network.strategy.linear:
            free = len(head.constants) > 0 and not self.beside.complete
            return fit_linear(module, head, rows, free=free)
        if module.cell is not None:
            check_batches(module.cell.coefficients.shape[0], len(rows.data), settings)
        if self.folds:
            self.network.multiply(len(self.folds) + settings.refit)
            last = [self.network.members.pop()] if settings.refit else []
            result = train_members(
                self.network.members,
                head,
                [(self._rows(train, at), self._rows(held, at)) for at, (train, held) in self.folds],
                settings,
                study.rng,
                basis,
                may_stay_untrained=self.beside.complete,
                shared=self.beside.shared,
            )
            self.network.fit_cell(self.data, settings)
            self.of_folds.extend(self.network.members)
            if last and not result.interrupted:
                self.network.members = last
                stop = replace(settings, patience=None, callbacks=(StopAt(result.best_epoch),))
                if result.best_epoch:
                    train(last[0], head, rows, stop, study.rng, basis=basis)
                self.network.fit_cell(self.data, settings)
            return result
        result = train(
            module,
            head,
            rows,
            settings,
            study.rng,
            self._judging_rows(),
            basis=basis,
            objectives=self.objectives,
            may_stay_untrained=self.beside.complete,
            shared=self.beside.shared,
        )
        self.network.fit_cell(self.data, settings)
        return result

    @cached_property
    def folds(self) -> list[tuple[int, tuple[np.ndarray, np.ndarray]]]:
        """The folds of the study that can teach and judge this network, by their number."""
        study, able = self.study, []
        for at, fold in enumerate(study.folds):
            targets = [self._rows(rows, at).target for rows in fold]
            if all(len(target) and study.head.informative(target) for target in targets):
                able.append((at, fold))
        return able if len(able) > 1 else []

    def _rows(self, rows: np.ndarray, fold: int) -> Rows:
        return _present_rows(self.data, self.study.all, rows, self.beside.of_folds[fold])

    def unseen(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the outputs of members that did not see the row, (n, D), and of which rows, (n,).

        Where the likelihood sees no constant each member's zero is arbitrary: it is moved to that
        of the mean of all members.
        """
        study, subjects = self.study, self.study.all.subjects
        found = np.zeros((len(study.all), len(study.head.deep_basis)))
        known = np.zeros(len(study.all), dtype=bool)
        labels = subjects.table(study.all.table).index
        there = subjects.spread(self.data.present.any(1).cpu().numpy())
        if not self.folds:
            return found, known
        zeros = []
        for (_, (_, held)), member in zip(self.folds, self.of_folds, strict=True):
            each = self.network.member_outputs(member, self.data, self.settings, labels)
            each = subjects.spread(each)
            zeros.append(0.0 if len(study.head.constants) else each[there].mean(0))
            found[held], known[held] = each[held] - zeros[-1], there[held]
        if self.settings.refit and not len(study.head.constants):  # the zero of who predicts
            spoken, _ = self.network.outputs_of(self.data, self.settings, labels)
            zeros = [subjects.spread(spoken)[there].mean(0)]
        return found + np.mean(zeros, axis=0), known

    def _judging_rows(self) -> Rows | None:
        study = self.study
        if study.judges is None:
            return None
        if study.judging is not None:
            rows = _present_rows(self.data, study.all, study.judging, self.beside.offset)
        else:
            assert self.judged is not None
            assert self.beside.judged_offset is not None
            every = np.arange(len(study.judges))
            rows = _present_rows(self.judged, study.judges, every, self.beside.judged_offset)
        return rows if study.head.informative(rows.target) else None


def prepare_network(
    network: Network,
    study: Study,
    settings: TrainingSettings,
    beside: Beside,
    *,
    objectives: Sequence[Objective] = (),
    start: Start | None = None,
    alone: bool = False,
    lenient: bool = False,
    tamed: bool = False,
) -> Prepared:
    """Fit the preprocessing on the training rows and build the module, untrained.

    All subjects become tensors once. Training rows, judging rows and, after the training, the
    predictors of all rows are read from these.

    Parameters
    ----------
    network : Network
    study : Study
    settings : TrainingSettings
    beside : Beside
    objectives : sequence of Objective
        Auxiliary losses; `alone` if there is no likelihood.
    start : Start, optional
        Preprocessing and encoders are taken from there.
    lenient : bool
        Whether auxiliary losses that the rows cannot teach are left out: of a part of the rows,
        when all rows could.
    tamed : bool
        Whether a modality that is too wide for the rows shows the network its leading components.

    Raises
    ------
    ValueError
        If a modality, or an auxiliary loss, has not what it needs in the training rows.
    """
    head, sample = study.head, study.all
    if network.strategy.linear and len(head.deep_basis) > 1:
        raise ValueError(
            "EarlyFusion(hidden=None) needs an outcome with one predictor (survival, numbers, "
            f"two classes). This one has {len(head.deep_basis)}; hidden=() is linear too."
        )
    subjects = sample.subjects.table(sample.table)
    training = sample.subjects.of(study.rows)
    for name, modality in network.modalities.items():
        if start is None:
            fit_modality(name, modality, subjects, training, alone)
        else:
            network.modalities[name] = start.fitted(name)
    sample.subjects.refuse_changes(network.modalities, sample.table)
    target = study.training
    owner = sample.subjects.owner

    def relevance(present: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        rows = study.rows
        if owner is None:
            chosen = present
        else:  # a subject's features stand beside each of its rows
            place = torch.from_numpy(np.searchsorted(training, owner[rows]))
            chosen = present[place]
            values = values[(present.long().cumsum(0) - 1)[place[chosen]]]
        eta = beside.offset[torch.from_numpy(rows)][chosen]
        return head.relevance(eta, target.take(torch.nonzero(chosen)[:, 0]), values)

    capacity = _capacity(head, target) if tamed else None
    data = network.build(subjects, training, head, settings, beside, relevance, start, capacity)
    judged = None
    if study.judges is not None and study.judging is None:
        study.judges.subjects.refuse_changes(network.modalities, study.judges.table)
        judged = network.transform(
            study.judges.subjects.table(study.judges.table),
            data.present.device,
            settings.precision,
            beside.judged_design,
        )
    weighted = None
    if objectives:
        known = sources(network.module, network.modalities)
        present = data.present.cpu()[torch.from_numpy(training)]
        present = present[present.any(1)]  # the others are not trained on
        able = teachable(objectives, known, present, list(network.modalities), settings, lenient)
        if able:
            encoders = network.module.encoders.values()
            weighted = WeightedObjectives(able, known, encoders, alone=alone)
    return Prepared(network, study, settings, beside, data, judged, weighted)


def _components(network: Network, data: MultimodalData) -> MultimodalData:
    parts = dict(data.parts)
    for name, encoder in network.encoders.items():
        part = parts[name]
        if isinstance(encoder, ComponentsEncoder) and isinstance(part, TableData):
            numeric = encoder.take(part.numeric)
            parts[name] = TableData(numeric, part.categories, part.present)
    return MultimodalData(parts, data.design)


def _capacity(head: Head, target: Target) -> int:
    """Return how many inputs of one modality some rows can carry: a tenth of the events."""
    events = head.n_events(target)
    count = int((target.weight > 0).sum()) if events is None else events
    return int(np.clip(count // 10, *CAPACITY))


def _present_rows(
    data: MultimodalData, sample: Sample, rows: np.ndarray, offset: torch.Tensor
) -> Rows:
    """Return the rows, of some, whose subject has any modality: networks learn from these alone."""
    owner = sample.subjects.owner
    there = data.present.any(1)
    chosen = torch.from_numpy(rows)
    if owner is None:
        chosen = chosen[there[chosen]]
        whole = len(chosen) == len(sample)
        target = sample.target if whole else sample.target.take(chosen)
        return Rows(data if whole else data.take(chosen), target, offset[chosen], None)
    of_rows = torch.from_numpy(owner)[chosen]
    chosen, of_rows = chosen[there[of_rows]], of_rows[there[of_rows]]
    subjects, of_rows = torch.unique(of_rows, return_inverse=True)
    return Rows(data.take(subjects), sample.target.take(chosen), offset[chosen], of_rows)
