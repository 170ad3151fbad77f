"""The deep part of a model: its networks, and how their predictors become one."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from mmfusion.heads.grid import Basis
from mmfusion.modalities import Modality
from mmfusion.model.learning import Prepared, prepare_network
from mmfusion.model.network import Beside, Network
from mmfusion.model.plan import Plan
from mmfusion.model.pools import Pool
from mmfusion.model.study import Study
from mmfusion.training import InterruptedWarning, TrainingResult, TrainingSettings

__all__ = ["Deep", "prepare_networks", "stack", "train_networks"]


@dataclass(eq=False)
class Deep:
    """Trained networks and their pool; none at all is a deep predictor of zero.

    Attributes
    ----------
    networks : dict of str to Network
    pool : Pool
    """

    networks: dict[str, Network]
    pool: Pool

    @property
    def modalities(self) -> dict[str, Modality]:
        """The fitted modalities of all networks."""
        return {
            name: modality
            for network in self.networks.values()
            for name, modality in network.modalities.items()
        }

    def outputs(
        self,
        table: pd.DataFrame,
        settings: TrainingSettings,
        design: torch.Tensor | None = None,
        only: Collection[str] | None = None,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return each network's outputs of some rows, (n, D), and which rows it sees, (n,)."""
        return [
            network.outputs(table, settings, design, only) for network in self.networks.values()
        ]


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
