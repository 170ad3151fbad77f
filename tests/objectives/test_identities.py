"""What the papers say must hold of each loss; the teacher; the parameters and their checks."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import Tensor, nn

from mmfusion.heads import CoxHead
from mmfusion.objectives import (
    Contrastive,
    Correlation,
    LatentPrediction,
    Reconstruction,
    Similarity,
    Source,
    WeightedObjectives,
    check_objectives,
)
from mmfusion.objectives.contrastive import InfoNCE, NTXent
from mmfusion.objectives.correlation import CanonicalCorrelation, PearsonCorrelation
from mmfusion.objectives.latent import TeacherPrediction
from mmfusion.objectives.reconstruction import Decoders
from mmfusion.objectives.similarity import CosineMargin, VarianceRatio
from mmfusion.survival import surv
from tests.objectives.common import CASES, SOURCES, encoders, make_batch


def all_there(*embeddings: Tensor) -> tuple[list[Tensor], Tensor, dict[str, Tensor]]:
    n = len(embeddings[0])
    return list(embeddings), torch.ones(n, len(embeddings), dtype=torch.bool), {}


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)))


def test_canonical_correlations_of_a_linear_map_are_all_one() -> None:
    u, q = normal(200, 4), normal(4, 4, seed=1)
    found = CanonicalCorrelation(1e-8)(*all_there(u, u @ q))
    assert float(found) == pytest.approx(-4.0, abs=1e-4)


def test_canonical_correlations_of_independent_views_are_near_zero() -> None:
    found = CanonicalCorrelation(1e-8)(*all_there(normal(20_000, 3), normal(20_000, 3, seed=1)))
    assert -0.1 < float(found) < 0


def test_canonical_correlations_bear_any_affine_map() -> None:
    u = normal(60, 3)
    v = u @ normal(3, 3, seed=1) + normal(60, 3, seed=2)
    before = CanonicalCorrelation(1e-8)(*all_there(u, v))
    after = CanonicalCorrelation(1e-8)(*all_there(u @ normal(3, 3, seed=3) + 5.0, v))
    assert float(after) == pytest.approx(float(before), abs=1e-5)


def test_pearson_bears_scaling_by_dimension_but_no_rotation() -> None:
    u = normal(60, 3)
    v = u + normal(60, 3, seed=2)
    before = float(PearsonCorrelation()(*all_there(u, v)))
    scaled = float(PearsonCorrelation()(*all_there(u * torch.tensor([2.0, 0.5, 9.0]) + 1.0, v)))
    assert scaled == pytest.approx(before, abs=1e-6)
    rotated = float(PearsonCorrelation()(*all_there(u @ normal(3, 3, seed=3), v)))
    assert abs(rotated - before) > 0.1


def test_constant_dimensions_break_no_correlation() -> None:
    u = normal(30, 3)
    u[:, 1] = 2.0
    dead = torch.zeros(30, 3, dtype=torch.float64)
    for module in (CanonicalCorrelation(0.05), PearsonCorrelation()):
        for other in (normal(30, 3, seed=1), dead):
            mine = u.clone().requires_grad_()
            loss = module(*all_there(mine, other))
            loss.backward()
            assert torch.isfinite(loss)
            assert mine.grad is not None
            assert torch.isfinite(mine.grad).all()


def test_info_nce_of_identical_embeddings_is_log_n() -> None:
    same = torch.ones(7, 4, dtype=torch.float64)
    assert InfoNCE(0.1)(*all_there(same, same)).item() == pytest.approx(math.log(7), abs=1e-6)
    views = float(NTXent(0.1)(*all_there(same, same)))
    assert views == pytest.approx(math.log(13), abs=1e-6)


def test_info_nce_of_aligned_embeddings_vanishes_with_the_temperature() -> None:
    u = torch.eye(5, dtype=torch.float64)
    losses = [InfoNCE(t)(*all_there(u, u)).item() for t in (1.0, 0.1, 0.02)]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 1e-12


def test_the_temperature_is_held_at_one_hundredth() -> None:
    module = InfoNCE(0.1)
    with torch.no_grad():
        module.log_scale += 10.0
    module.after_step([])
    assert float(module.log_scale.detach()) == pytest.approx(math.log(100))


def test_similarity_is_zero_where_own_modalities_agree_and_others_differ() -> None:
    u = torch.eye(4, dtype=torch.float64)
    assert float(CosineMargin(0.1)(*all_there(u, 3 * u))) == 0.0
    assert float(CosineMargin(0.1)(*all_there(u, u.roll(1, 0)))) > 0.1


def test_variance_ratio_is_held_within_its_bounds() -> None:
    u = normal(10, 3)
    assert float(VarianceRatio()(*all_there(u, u))) == pytest.approx(0.02)
    apart = float(VarianceRatio()(*all_there(u, -u)))
    assert apart == pytest.approx(1.0, abs=1e-9)


def test_cross_reconstruction_of_one_embedding_is_plain_reconstruction() -> None:
    torch.manual_seed(0)
    sources = [Source("a", 3, 4), Source("b", 3, 4)]
    cross = Decoders(sources, (5,), cross=True).double()
    cross.decoders[1] = cross.decoders[0]
    plain = copy.deepcopy(cross)
    plain.cross = False
    x, z = normal(9, 4), normal(9, 3, seed=1)
    embeddings, present, _ = all_there(z, z)
    targets = cross.targets({"a": (x,), "b": (x,)}, present)
    assert torch.isclose(cross(embeddings, present, targets), plain(embeddings, present, targets))


def test_images_are_reconstructed_as_a_grid_of_means_over_the_images_of_a_row() -> None:
    module = Decoders([Source("scan", 3, image=(1, 32, 8))], (), cross=False)
    pixels = torch.zeros(3, 1, 32, 8, dtype=torch.uint8)
    pixels[0] = 255
    pixels[2, :, ::2] = 255  # rows in turn: fields of two rows are half white
    present = torch.tensor([[True], [False], [True]])
    found = module.targets({"scan": (pixels, torch.tensor([0, 0, 1]))}, present)["0/numbers"]
    assert found.shape == (3, 16 * 8)
    assert torch.allclose(found[0], torch.zeros(128))  # a white and a black image
    assert torch.allclose(found[2], torch.zeros(128))
    alone = module.targets({"scan": (pixels[:2],)}, present)["0/numbers"]
    assert torch.equal(alone[[0, 2], 0], torch.tensor([1.0, -1.0]))


def test_the_teacher_follows_by_the_rule_and_gets_no_gradient() -> None:
    torch.manual_seed(0)
    own = nn.ModuleList(encoders())
    module = TeacherPrediction(SOURCES, list(own), momentum=0.9, hidden=4)
    start = [p.clone() for p in module.teachers.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(start, own.parameters(), strict=True))
    with torch.no_grad():
        for p in own.parameters():
            p += 1.0
    module.after_step(list(own))
    for before, now in zip(start, module.teachers.parameters(), strict=True):
        assert torch.allclose(now, before + 0.1, atol=1e-6)
        assert not now.requires_grad
    module.train()
    assert module.training
    assert not any(part.training for part in module.teachers.modules())  # no dropout
    batch = make_batch()
    inputs = {
        name: tuple(x.float() if x.is_floating_point() else x for x in given)
        for name, given in batch.inputs.items()
    }
    targets = module.targets(inputs, batch.present)
    assert not any(value.requires_grad for value in targets.values())


def test_the_teacher_shares_what_is_frozen() -> None:
    own = encoders()
    own[0].requires_grad_(False)
    module = TeacherPrediction(SOURCES, own, momentum=0.9, hidden=4)
    shared = zip(module.teachers[0].parameters(), own[0].parameters(), strict=True)
    assert all(a is b for a, b in shared)
    copies = zip(module.teachers[1].parameters(), own[1].parameters(), strict=True)
    assert not any(a is b for a, b in copies)


def test_groups_of_survival_times_are_fourths_of_the_event_times() -> None:
    head = CoxHead()
    time = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 2.5, 9.0])
    event = np.array([1, 1, 1, 1, 1, 1, 1, 1, 0, 0], dtype=bool)
    target = head.fit_outcome(surv(time, event), None, strata=None, index=None)
    assert head.groups(target).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, -1, 3]


@pytest.mark.parametrize("case", sorted(CASES))
def test_objectives_are_scikit_learn_objects(case: str) -> None:
    objective = CASES[case][0]
    copied = clone(objective)
    assert copied is not objective
    assert copied.get_params() == objective.get_params()
    assert repr(pickle.loads(pickle.dumps(objective))) == repr(objective)
    assert copied.set_params(weight=2.0).weight == 2.0
    check_objectives("auxiliary", [copied])


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Similarity(weight=-1.0), r"weight parameter of Similarity .* Got -1.0"),
        (Similarity(weight="much"), "weight parameter of Similarity .* Got 'much'"),
        (Similarity(weight=float("nan")), "weight parameter of Similarity .* Got nan"),
        (Similarity(weight=(1.0, 1.0, 1.0)), "or a pair of them"),
        (Similarity(weight=0.0), r"must be positive in the first epoch \(pretrain_epochs=0\)"),
        (Similarity(weight=(0.0, 1.0), pretrain_epochs=3), "must be positive in the first epoch"),
        (Similarity(pretrain_epochs=1.5), "pretrain_epochs parameter of Similarity must be an int"),
        (Similarity(margin=-0.1), "margin parameter of Similarity must be a number in"),
        (Similarity(kind="cosine"), "kind parameter of Similarity must be one of"),
        (Correlation(kind="cca"), "kind parameter of Correlation must be one of"),
        (Correlation(shrinkage=0.0), "shrinkage parameter of Correlation must be a number in"),
        (Reconstruction(cross="yes"), "cross parameter of Reconstruction must be True or False"),
        (Reconstruction(hidden=(0,)), "hidden parameter of Reconstruction must be a tuple"),
        (Contrastive(kind="moco"), "kind parameter of Contrastive must be one of"),
        (Contrastive(temperature=0.0), "temperature parameter of Contrastive must be a number"),
        (LatentPrediction(momentum=1.5), r"momentum parameter of LatentPrediction .*\[0, 1\]"),
        (LatentPrediction(hidden=0), "hidden parameter of LatentPrediction must be an integer"),
    ],
)
def test_parameters_are_checked(objective: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_objectives("auxiliary", [objective])


@pytest.mark.parametrize("wrong", ["similarity", Similarity(), [Similarity], ["similarity"]])
def test_only_objectives_are_taken(wrong: Any) -> None:
    with pytest.raises(TypeError, match="The auxiliary parameter must be a list of objectives"):
        check_objectives("auxiliary", wrong)


def test_modalities_that_do_not_fit_are_refused() -> None:
    one, wide = [Source("rna", 8)], [Source("rna", 8), Source("ct", 9)]
    with pytest.raises(ValueError, match=r"needs at least 2. Got \['rna'\]"):
        Similarity().check_sources(one, 100)
    for objective in (Similarity(), Correlation(kind="pearson"), Contrastive()):
        with pytest.raises(ValueError, match=r"must have one width. Got {'rna': 8, 'ct': 9}"):
            objective.check_sources(wide, 100)
    LatentPrediction().check_sources(wide, 100)
    Reconstruction().check_sources([Source("rna", 8, 3)], 2)
    with pytest.raises(ValueError, match=r"reconstructs tables and images. Got .*\['cloud'\]"):
        Reconstruction().check_sources([Source("rna", 8, 3), Source("cloud", 8)], 100)
    with pytest.raises(ValueError, match=r"needs batches of at least 4 rows .* 36. Got 30"):
        Correlation().check_sources(wide, 30)
    Correlation().check_sources(wide, 36)


def test_weights_by_epoch_and_names() -> None:
    objectives = [
        Similarity(weight=(1.0, 0.0), pretrain_epochs=2),
        Contrastive(weight=0.5),
        Contrastive(weight=0.2, kind="nt_xent"),
    ]
    module = WeightedObjectives(objectives, SOURCES, encoders())
    assert module.pretrain_epochs == 2
    names = {"contrastive": 0.5, "contrastive_2": 0.2}
    assert module.weights(2) == {"similarity": 1.0, **names}
    assert module.weights(3) == names
    batch = make_batch()
    total, losses = module.double()(3, batch.embeddings, batch.present, {}, None)
    assert float(total) == pytest.approx(0.5 * float(losses[0]) + 0.2 * float(losses[1]))
