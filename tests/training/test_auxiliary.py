"""Auxiliary losses in the loop: two passes are one, an average of weights, what diverges."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmfusion.encoders import MLPEncoder
from mmfusion.fusion import OPERATORS, FusionNetwork
from mmfusion.heads import GaussianHead
from mmfusion.modalities.base import MultimodalData, TableData
from mmfusion.objectives import (
    Contrastive,
    Correlation,
    LatentPrediction,
    Objective,
    Reconstruction,
    Similarity,
    Source,
    WeightedObjectives,
)
from mmfusion.objectives.base import ObjectiveModule
from mmfusion.training import (
    Callback,
    Rows,
    TrainingDivergedError,
    train,
)
from mmfusion.training.auxiliary import AuxiliaryLosses
from tests.training.common import make_settings

N, WIDTHS = 30, {"rna": 5, "ct": 4, "clinic": 3}
SOURCES = [Source(name, 6, width) for name, width in WIDTHS.items()]
ALL = [
    Similarity(0.5),
    Correlation(0.3),
    Correlation(0.2, kind="pearson"),
    Reconstruction(0.4, cross=True),
    Contrastive(0.1),
    Contrastive(0.1, kind="supervised"),
    LatentPrediction(0.2),
]


def make_data(dtype: torch.dtype = torch.float32) -> MultimodalData:
    rng = np.random.default_rng(0)
    parts = {}
    for name, width in WIDTHS.items():
        numeric = torch.from_numpy(rng.normal(size=(N, width))).to(dtype)
        present = torch.from_numpy(rng.random(N) < 0.7) | (name == "rna")
        parts[name] = TableData(numeric, torch.zeros(N, 0, dtype=torch.int64), present)
    return MultimodalData(parts)


def make_network() -> FusionNetwork:
    torch.manual_seed(0)
    encoders = {name: MLPEncoder(width, [], 6, dropout=0.3) for name, width in WIDTHS.items()}
    network = FusionNetwork(encoders, OPERATORS["gated"]([6] * 3, 6), (4,), 0.2)
    nn.init.normal_(network.head.weight)
    return network


def make_objectives(network: FusionNetwork, objectives: Any = ALL) -> WeightedObjectives:
    return WeightedObjectives(objectives, SOURCES, network.encoders.values())


def gradients(*modules: nn.Module) -> list[Tensor]:
    grads = [p.grad for module in modules for p in module.parameters() if p.requires_grad]
    return [grad for grad in grads if grad is not None]


@pytest.mark.parametrize("micro", [4, 11, 29])
def test_two_passes_have_the_gradient_of_one(micro: int) -> None:
    """Without dropout, whose masks are drawn a chunk; test_two_pass holds these."""
    data, head = make_data(torch.float64), GaussianHead()
    target = head.fit_outcome(np.random.default_rng(1).normal(size=N))
    results = []
    for chunk in (None, micro):
        network = make_network().double()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        objectives = make_objectives(network).double()
        losses = AuxiliaryLosses(
            objectives, network, torch.device("cpu"), None, head.groups(target)
        ).backward(
            1,
            data,
            torch.arange(N),
            None,
            chunk,
            lambda eta: head.loss(eta, target),
            lambda eta: head.gradient(eta, target),
        )
        results.append([losses, *gradients(network, objectives)])
    assert len(results[0]) == len(results[1]) > 30
    for once, twice in zip(*results, strict=True):
        assert torch.allclose(once, twice, atol=1e-12, rtol=1e-9)


def run(objectives: Any = ALL, network: FusionNetwork | None = None, **settings: Any) -> Any:
    network = network or make_network()
    head, data = GaussianHead(), make_data()
    target = head.fit_outcome(data.parts["rna"].numeric[:, 0].numpy())  # type: ignore[attr-defined]
    built = make_objectives(network, objectives)
    given = {"epochs": 4, "patience": None, "batch_size": None, **settings}
    torch.manual_seed(1)
    rng = np.random.default_rng(0)
    rows = Rows(data, target)
    result = train(network, head, rows, make_settings(**given), rng, objectives=built)
    return result, network, built


def test_each_objective_has_its_column() -> None:
    result, _, _ = run()
    names = ["similarity", "correlation", "correlation_2", "reconstruction", "contrastive"]
    names += ["contrastive_2", "latent_prediction"]
    assert set(names) < set(result.history)
    assert np.isfinite(result.history[names].to_numpy()).all()


def test_own_parameters_of_objectives_are_trained() -> None:
    network = make_network()
    before = copy.deepcopy(make_objectives(network, [Contrastive(), Reconstruction()]))
    _, _, built = run([Contrastive(), Reconstruction()], network)
    pairs = zip(before.named_parameters(), built.parameters(), strict=True)
    assert [name for (name, a), b in pairs if torch.equal(a, b)] == []


def test_pretraining_epochs_leave_the_predictors_alone() -> None:
    network = make_network()
    head = network.head.weight.detach().clone()
    encoder = next(network.encoders.values()[0].parameters()).detach().clone()
    objective = Similarity(weight=(1.0, 0.0), pretrain_epochs=2)

    untouched = []

    class Watch(Callback):
        def on_epoch_end(self, state: Any) -> None:
            untouched.append(torch.equal(state.network.head.weight.cpu(), head))

    result, trained, _ = run([objective], network, callbacks=[Watch()])
    assert untouched == [True, True, False, False]
    assert not torch.equal(next(trained.encoders.values()[0].parameters()), encoder)
    assert result.history["loss"].isna().tolist() == [True, True, False, False]
    assert result.history["similarity"].isna().tolist() == [False, False, True, True]


def test_the_average_of_the_weights_is_kept_and_the_teacher_follows_the_network() -> None:
    result, network, built = run([LatentPrediction(momentum=0.0)], ema=0.9)
    teacher = built.built[0].teachers[0]
    differs = [
        not torch.allclose(a, b)
        for a, b in zip(teacher.parameters(), network.encoders["rna"].parameters(), strict=True)
    ]
    assert all(differs)  # momentum 0: the last step's weights, of which the kept are the average
    assert result.best_epoch == 4


def test_modality_dropout_makes_absent() -> None:
    seen = []

    class Spy(ObjectiveModule):
        def forward(self, embeddings: Any, present: Tensor, targets: Any, labels: Any) -> Tensor:
            seen.append(present.clone())
            return embeddings[0].sum() * 0.0

    class Spying(Similarity):
        def build(self, sources: Any, encoders: Any) -> ObjectiveModule:
            return Spy()

    run([Spying()], modality_dropout=0.9, epochs=1)
    own = make_data().present
    assert (seen[0] <= own).all()
    assert int(seen[0].sum()) < 0.7 * int(own.sum())


class Broken(Objective):
    """Becomes NaN in the fifth batch."""

    name = "broken"

    def __init__(self, weight: float = 1.0, pretrain_epochs: int = 0) -> None:
        self.weight = weight
        self.pretrain_epochs = pretrain_epochs

    def build(self, sources: Any, encoders: Any) -> ObjectiveModule:
        class Module(ObjectiveModule):
            calls = 0

            def forward(self, embeddings: Any, *rest: Any) -> Tensor:
                self.calls += 1
                return embeddings[0].sum() * (float("nan") if self.calls == 5 else 1.0)

        return Module()


@pytest.mark.parametrize("micro", [None, 3])
def test_an_objective_that_diverges_is_named_with_epoch_and_batch(micro: int | None) -> None:
    message = "The auxiliary loss 'broken' became nan in epoch 2, batch 2 of 3"
    with pytest.raises(TrainingDivergedError, match=message):
        run([Similarity(), Broken()], batch_size=10, micro_batch_size=micro)


def test_frozen_encoders_stay_as_they_are() -> None:
    network = make_network()
    before = copy.deepcopy(network.encoders.state_dict())
    network.scale_encoders(0.0)
    _, after, _ = run([Reconstruction()], network)
    now = after.encoders.state_dict()
    assert all(torch.equal(value, now[key]) for key, value in before.items())
    after.train()
    assert after.hidden.training
    assert not any(part.training for part in after.encoders.modules())
