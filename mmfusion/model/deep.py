"""The deep part of a model: its networks, and how their predictors become one."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from mmfusion.heads.grid import Basis
from mmfusion.modalities import Modality
from mmfusion.modalities.base import ModalityData, MultimodalData
from mmfusion.model.beside import Beside
from mmfusion.model.learning import Prepared, prepare_network
from mmfusion.model.linear_part import PRESENCE, LinearPart
from mmfusion.model.network import Network
from mmfusion.model.plan import Plan
from mmfusion.model.pools import Pool
from mmfusion.model.study import Study
from mmfusion.training import InterruptedWarning, TrainingResult, TrainingSettings, make_fabric
from mmfusion.training.precision import single_precision

__all__ = ["Deep", "parts_of", "prepare_networks", "stack", "train_networks"]


@dataclass(eq=False)
class Deep:
    """Trained networks and their pool; none at all is a deep predictor of zero.

    Attributes
    ----------
    networks : dict of str to Network
    pool : Pool
    linear : LinearPart or None
    share : ndarray, shape (K,)
        How much of the networks' pooled predictor is kept, of each predictor.
    """

    networks: dict[str, Network]
    pool: Pool
    linear: LinearPart | None
    share: np.ndarray

    @property
    def modalities(self) -> dict[str, Modality]:
        """The fitted modalities of all networks."""
        return {
            name: modality
            for network in self.networks.values()
            for name, modality in network.modalities.items()
        }

    def look(
        self,
        table: pd.DataFrame,
        settings: TrainingSettings,
        design: torch.Tensor | None = None,
        only: Collection[str] | None = None,
    ) -> list[MultimodalData]:
        """Return the tensors of some subjects that each network sees."""
        with single_precision():
            device = make_fabric(settings.device, settings.precision, fall_back=True).device
            return [
                network.transform(table, device, settings.precision, design, only=only)
                for network in self.networks.values()
            ]

    def outputs(
        self, looked: Sequence[MultimodalData], settings: TrainingSettings, rows: pd.Index
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return each network's outputs of some subjects, (n, D), and which it sees, (n,)."""
        networks = self.networks.values()
        return [
            network.outputs_of(data, settings, rows)
            for network, data in zip(networks, looked, strict=True)
        ]

    def linear_by_member(self, looked: Sequence[MultimodalData]) -> list[np.ndarray | float]:
        """Return what the linear part adds of each network's modalities, (n, K) a network.

        What it makes of the bits that say which modality a row has is the first one's.
        """
        if self.linear is None:
            return [0.0] * len(self.networks)
        found = self.linear.by_block(parts_of(looked))
        sums: list[np.ndarray | float] = []
        for number, network in enumerate(self.networks.values()):
            own = [found[name] for name in network.modalities if name in found]
            own += [found[PRESENCE]] if number == 0 and PRESENCE in found else []
            sums.append(np.asarray(sum(own)) if own else 0.0)
        return sums

    def linear_predictor(self, looked: Sequence[MultimodalData]) -> np.ndarray | float:
        """Return what the linear part adds to the predictors of some subjects, (n, K)."""
        return 0.0 if self.linear is None else self.linear.predictor(parts_of(looked))


def parts_of(looked: Iterable[MultimodalData]) -> dict[str, ModalityData]:
    """Return what each modality has of some subjects, of all networks' data."""
    return {name: part for data in looked for name, part in data.parts.items()}


def prepare_networks(plan: Plan, study: Study, beside: Beside) -> dict[str, Prepared]:
    """Return the networks of a plan, by name, ready to be trained."""
    use = plan.design_use
    if use.read and beside.design is not None:
        use = use.of(beside.design.shape[1])
    return {
        name: prepare_network(
            Network(chosen, inner, use),
            study,
            plan.settings,
            beside,
            objectives=plan.objectives,
            start=plan.start,
            lenient=plan.teaches is not None,
            tamed=plan.linear,
        )
        for name, (chosen, inner) in plan.strategy.networks(plan.modalities).items()
    }


def train_networks(prepared: Mapping[str, Prepared]) -> tuple[dict[str, TrainingResult], bool]:
    """Train each network; Ctrl-C ends them all, and keeps those that were trained.

    Returns
    -------
    results : dict of str to TrainingResult
        Of the networks that had a turn.
    interrupted : bool
    """
    results: dict[str, TrainingResult] = {}
    for name, one in prepared.items():
        try:
            results[name] = one.train()
        except KeyboardInterrupt:
            if not results:
                raise
            break
        if results[name].interrupted:
            break
    untrained = [name for name in prepared if name not in results]
    if untrained:
        warnings.warn(
            f"The training was interrupted before {untrained} had a turn: the model is without "
            "them.",
            InterruptedWarning,
            stacklevel=4,
        )
    return results, bool(untrained) or any(result.interrupted for result in results.values())


def stack(
    members: Sequence[tuple[np.ndarray, np.ndarray]], n_rows: int, base: np.ndarray, basis: Basis
) -> tuple[np.ndarray, np.ndarray]:
    """Return the members' predictors (n, M, K), NaN where absent, and presence (n, M).

    Parameters
    ----------
    members : sequence of pairs of ndarray
        Outputs (n, D), and which rows have them.
    base : ndarray, shape (K,)
        What the members' predictors are added to.
    basis : Basis
        What the outputs move.
    """
    etas = np.full((n_rows, len(members), len(base)), np.nan)
    presence = np.zeros((n_rows, len(members)), dtype=bool)
    for number, (outputs, present) in enumerate(members):
        presence[:, number] = present
        etas[present, number] = base + basis.lift(outputs[present])
    return etas, presence
