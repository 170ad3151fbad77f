"""Each auxiliary loss against its formula in NumPy; absence, gradients, degenerate batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.objectives.common import CASES, LABELS, SOURCES, N, build, evaluate, make_batch, value

cases = pytest.mark.parametrize("case", sorted(CASES))


@pytest.fixture(autouse=True)
def few_rows_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let canonical correlations be taken of these small batches."""
    monkeypatch.setattr("mmfusion.objectives.correlation.ROWS_PER_DIMENSION", 0.5)


def test_canonical_correlations_of_few_rows_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    module, batch = build(CASES["dcca"][0]), make_batch(complete=True)
    assert value(module, batch) < -1e-3
    monkeypatch.setattr("mmfusion.objectives.correlation.ROWS_PER_DIMENSION", 1000)
    assert value(module, batch) == 0.0


@cases
@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_the_formula(case: str, complete: bool, seed: int) -> None:
    objective, formula = CASES[case]
    module, batch = build(objective), make_batch(complete, seed=seed)
    wanted = formula(module, batch)
    assert abs(wanted) > 1e-3
    assert value(module, batch) == pytest.approx(wanted, abs=1e-6, rel=1e-6)


@cases
def test_what_is_absent_has_no_influence(case: str) -> None:
    module = build(CASES[case][0])
    results = []
    for content in (0.0, 1e6, np.nan):
        batch = make_batch(content=content)
        batch.embeddings = [h.requires_grad_() for h in batch.embeddings]
        module.zero_grad()
        loss = evaluate(module, batch)
        loss.backward()
        grads = [h.grad for h in batch.embeddings] + [p.grad for p in module.parameters()]
        results.append([loss.detach(), *(g for g in grads if g is not None)])
        for k, h in enumerate(batch.embeddings):
            assert h.grad is not None
            assert (h.grad[~batch.present[:, k]] == 0).all()
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@cases
@pytest.mark.parametrize("complete", [True, False])
def test_gradients(case: str, complete: bool) -> None:
    module, batch = build(CASES[case][0]), make_batch(complete, content=0.5)
    targets = module.targets(batch.inputs, batch.present)
    labels = torch.from_numpy(LABELS)

    def loss(*embeddings: torch.Tensor) -> torch.Tensor:
        return module(embeddings, batch.present, targets, labels)

    assert torch.autograd.gradcheck(loss, [h.requires_grad_() for h in batch.embeddings])


@cases
def test_the_order_of_the_rows_does_not_matter(case: str) -> None:
    module, batch = build(CASES[case][0]), make_batch()
    targets = module.targets(batch.inputs, batch.present)
    order = torch.from_numpy(np.random.default_rng(3).permutation(N))
    shuffled = module(
        [h[order] for h in batch.embeddings],
        batch.present[order],
        {key: value[order] for key, value in targets.items()},
        torch.from_numpy(LABELS)[order],
    )
    assert float(shuffled.detach()) == pytest.approx(value(module, batch), abs=1e-12)


#: One row, or modalities of different rows, say something in losses that need no pair of rows.
UNPAIRED = {"autoencoder", "cross", "supervised"}


@pytest.mark.parametrize(
    ("case", "left"),
    [(case, "nobody") for case in sorted(CASES)]
    + [(case, left) for case in sorted(CASES) if case not in UNPAIRED for left in ("one", "apart")],
)
def test_too_few_rows_give_a_zero_on_the_graph(case: str, left: str) -> None:
    module, batch = build(CASES[case][0]), make_batch(complete=True)
    batch.present = torch.zeros_like(batch.present)
    if left == "one":
        batch.present[2] = True
    elif left == "apart":  # one modality a row
        batch.present[torch.arange(N), torch.arange(N) % len(SOURCES)] = True
    batch.inputs = {
        s.name: tuple(x[batch.present[:, k]] for x in batch.inputs[s.name])
        for k, s in enumerate(SOURCES)
        if bool(batch.present[:, k].any())
    }
    batch.embeddings = [h.requires_grad_() for h in batch.embeddings]
    loss = evaluate(module, batch)
    assert float(loss.detach()) == 0.0
    loss.backward()
    assert all((h.grad == 0).all() for h in batch.embeddings)


def test_rescaling_an_embedding_changes_no_cosine() -> None:
    for case in ("cosine_margin", "clip", "nt_xent", "supervised", "dcca"):
        module, batch = build(CASES[case][0]), make_batch()
        before = value(module, batch)
        batch.embeddings = [s * h for s, h in zip((3.0, 0.2, 7.0), batch.embeddings, strict=True)]
        assert value(module, batch) == pytest.approx(before, abs=1e-9)
