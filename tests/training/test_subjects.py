"""Training by subject: cutting follow-up into rows changes nothing that a network learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmfusion.encoders import Encoder, MLPEncoder
from mmfusion.fusion import OPERATORS, FusionNetwork
from mmfusion.heads import CategoricalHead, CoxHead, GaussianHead
from mmfusion.heads.base import Head, Target
from mmfusion.modalities.base import ImageData, MultimodalData, TableData
from mmfusion.objectives import Contrastive, Similarity, Source, WeightedObjectives
from mmfusion.survival import surv
from mmfusion.training import (
    Callback,
    Rows,
    TrainingDivergedError,
    deal,
    train,
    trainer,
)
from tests.training.common import make_settings

N, WIDTHS = 40, {"rna": 5, "clinic": 3}


def make_data(n: int = N, seed: int = 0) -> MultimodalData:
    rng = np.random.default_rng(seed)
    parts = {}
    for name, width in WIDTHS.items():
        numeric = torch.from_numpy(rng.normal(size=(n, width)))
        present = torch.from_numpy(rng.random(n) < 0.8) | (name == "rna")
        parts[name] = TableData(numeric, torch.zeros(n, 0, dtype=torch.int64), present)
    return MultimodalData(parts)


def make_network(outputs: int = 1, dropout: float = 0.0) -> FusionNetwork:
    torch.manual_seed(0)
    encoders = {name: MLPEncoder(width, [], 6, dropout=dropout) for name, width in WIDTHS.items()}
    network = FusionNetwork(
        encoders, OPERATORS["gated"]([6] * 2, 6), (4,), dropout, n_predictors=outputs
    )
    nn.init.normal_(network.head.weight)
    return network.double()


def run(
    rows: Rows, head: Head, *, dropout: float = 0.0, objectives: Any = (), **options: Any
) -> Any:
    """Train a network in float64; return its result and the network."""
    names = ("validation", "basis", "may_stay_untrained")
    others = {name: options.pop(name) for name in names if name in options}
    network = make_network(others["basis"].shape[1] if "basis" in others else 1, dropout)
    built = None
    if objectives:
        sources = [Source(name, 6, width) for name, width in WIDTHS.items()]
        built = WeightedObjectives(objectives, sources, network.encoders.values()).double()
    given = {"epochs": 3, "patience": None, "batch_size": 12, "device": "cpu", **options}
    torch.manual_seed(1)
    rng = np.random.default_rng(0)
    settings = make_settings(**given)
    return train(network, head, rows, settings, rng, objectives=built, **others), network


def losses(result: Any) -> np.ndarray:
    return result.history.drop(columns="seconds").to_numpy(dtype=float)


# --- start-stop rows -----------------------------------------------------------------------------


def follow_up(data: MultimodalData, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    n, score = len(data), data.parts["rna"].numeric[:, 0].numpy()  # type: ignore[attr-defined]
    time = np.ceil(20 * rng.exponential(np.exp(-score))) / 4  # with ties
    return {
        "time": time,
        "event": rng.random(n) < 0.7,
        "entry": np.where(rng.random(n) < 0.3, 0.5 * time * rng.random(n), -np.inf),
        "strata": rng.choice(["a", "b"], n),
        "weight": rng.uniform(0.5, 2.0, n),
        "offset": rng.normal(size=n),
    }


def cut(table: dict[str, np.ndarray], seed: int = 2) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the follow-up in two to four rows a subject, shuffled, and the owner of each row."""
    rng = np.random.default_rng(seed)
    owner, entry, time, event = [], [], [], []
    for i in range(len(table["time"])):
        begin = max(table["entry"][i], 0.0)
        inner = np.sort(rng.uniform(begin, table["time"][i], rng.integers(1, 4)))
        inner[0] = np.floor(inner[0] * 4) / 4 if inner[0] > begin + 0.25 else inner[0]  # a tie
        entry += [table["entry"][i], *inner]
        time += [*inner, table["time"][i]]
        event += [False] * len(inner) + [table["event"][i]]
        owner += [i] * (len(inner) + 1)
    of = np.array(owner)
    pieces = {name: table[name][of] for name in ("strata", "weight", "offset")}
    pieces |= {"entry": np.array(entry), "time": np.array(time), "event": np.array(event)}
    shuffled = rng.permutation(len(of))
    return {name: value[shuffled] for name, value in pieces.items()}, of[shuffled]


def outcome(head: CoxHead, table: dict[str, np.ndarray], *, learn: bool = True) -> Target:
    encode = head.fit_outcome if learn else head.encode
    y = surv(table["time"], table["event"], table["entry"])
    return encode(y, table["weight"], strata=table["strata"])


def cohorts() -> tuple[CoxHead, dict[str, Rows], dict[str, Rows]]:
    """Return training and validation rows, of one row a subject ("whole") and of several."""
    head = CoxHead()
    training, validation = {}, {}
    for rows, n, seed in ((training, N, 3), (validation, 25, 4)):
        data = make_data(n, seed)
        table = follow_up(data, seed)
        pieces, owner = cut(table)
        for name, part, of in (("whole", table, None), ("cut", pieces, torch.from_numpy(owner))):
            target = outcome(head, part, learn=rows is training)
            rows[name] = Rows(data, target, torch.from_numpy(part["offset"])[:, None], of)
    assert len(training["cut"].target) > 2 * N
    return head, training, validation


@pytest.mark.parametrize("micro", [None, 5])
@pytest.mark.parametrize("batch", [None, 12])
def test_cut_follow_up_trains_as_whole_follow_up(batch: int | None, micro: int | None) -> None:
    """Cutting a follow-up leaves the partial likelihood as it is, so every loss stays.

    Dropout only in the whole batch: subjects with ties may stand in another order in a part of it,
    and so get other masks.
    """
    head, training, validation = cohorts()
    dropout = 0.3 if batch is None else 0.0
    options = {"batch_size": batch, "micro_batch_size": micro, "epochs": 6}
    options |= {"modality_dropout": dropout, "learning_rate": 0.02}
    found = {
        name: run(
            training[name],
            head,
            dropout=dropout,
            objectives=[Contrastive(0.2, kind="supervised"), Similarity(0.1)],
            validation=validation[name],
            **options,
        )
        for name in ("whole", "cut")
    }
    histories = [
        result.history.drop(columns=["seconds", "val_c_index"]) for result, _ in found.values()
    ]
    assert histories[0]["loss"].nunique() == histories[0]["contrastive"].nunique() == 6
    np.testing.assert_allclose(*histories, rtol=1e-9)
    assert found["whole"][0].best_epoch == found["cut"][0].best_epoch
    for (name, value), other in zip(
        found["whole"][1].state_dict().items(), found["cut"][1].state_dict().values(), strict=True
    ):
        torch.testing.assert_close(value, other, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("objectives", [(), [Similarity(0.3)]])
@pytest.mark.parametrize("batch", [None, 20])
def test_two_passes_over_subjects_train_as_one(batch: int | None, objectives: Any) -> None:
    head, training, validation = cohorts()
    options = {"batch_size": batch, "objectives": objectives, "validation": validation["cut"]}
    once, _ = run(training["cut"], head, **options)
    twice, _ = run(training["cut"], head, **options, micro_batch_size=6)
    np.testing.assert_allclose(losses(once), losses(twice), rtol=1e-9)


def test_the_untrained_loss_is_that_of_the_rows() -> None:
    head, training, _ = cohorts()
    rows = training["cut"]
    result, _ = run(rows, head, batch_size=None, epochs=1)
    network = make_network()
    outputs = network(*rows.data.batch(torch.arange(N))).detach()
    wanted = head.loss(rows.offset + outputs[rows.owner], rows.target)
    assert result.history["loss"].item() == pytest.approx(float(wanted), rel=1e-12)


@pytest.mark.parametrize("micro", [None, 4])
@pytest.mark.parametrize("batch", [None, 12])
@pytest.mark.parametrize("kind", ["cox", "gaussian"])
def test_naming_the_subject_of_each_row_changes_no_bit(
    kind: str, batch: int | None, micro: int | None
) -> None:
    table = follow_up(make_data(), 3)
    head: Head = CoxHead() if kind == "cox" else GaussianHead()
    target = outcome(head, table) if kind == "cox" else head.fit_outcome(table["offset"])  # type: ignore[arg-type]
    found = []
    for owner in (None, torch.arange(N)):
        rows = Rows(make_data(), target, None, owner)
        options = {"batch_size": batch, "micro_batch_size": micro, "modality_dropout": 0.3}
        found.append(run(rows, head, dropout=0.3, validation=rows, **options))
    np.testing.assert_array_equal(losses(found[0][0]), losses(found[1][0]))
    pairs = zip(*(network.state_dict().values() for _, network in found), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


# --- what the network sees -----------------------------------------------------------------------


class Scanner(Encoder):
    """Reads one-pixel images and remembers which."""

    feature_width = width = 6

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 6)
        self.seen: list[list[float]] = []

    def features(self, *inputs: Tensor) -> Tensor:
        pixels = inputs[0].flatten(1)
        self.seen.append(pixels[:, 0].tolist())
        return self.layer(pixels)


@pytest.mark.parametrize("batch", [None, 12])
def test_the_image_of_a_subject_is_encoded_once_a_step(batch: int | None) -> None:
    head, training, _ = cohorts()
    rows = training["cut"]
    pixels = torch.arange(N, dtype=torch.float32)[:, None, None, None]
    data = MultimodalData({"scan": ImageData(pixels, torch.arange(N + 1))})
    scanner = Scanner()
    network = FusionNetwork({"scan": scanner}, OPERATORS["gated"]([6], 6))
    settings = make_settings(epochs=1, batch_size=batch, patience=None)
    rng = np.random.default_rng(0)
    train(network, head, Rows(data, rows.target, rows.offset, rows.owner), settings, rng)
    assert len(scanner.seen) == (1 if batch is None else 4)
    assert sorted(number for step in scanner.seen for number in step) == list(range(N))


def test_a_batch_holds_all_rows_of_its_subjects_and_its_share_of_events() -> None:
    _, training, _ = cohorts()
    rows = training["cut"]
    labels = rows.largest_of_subjects(rows.target.event.long().numpy())  # type: ignore[attr-defined]
    np.testing.assert_array_equal(labels, training["whole"].target.event.long())  # type: ignore[attr-defined]
    dealt = [torch.from_numpy(part) for part in deal(labels, 12, np.random.default_rng(0))]
    chosen = rows.of_subjects(dealt)
    assert rows.owner is not None
    for subjects, mine in zip(dealt, chosen, strict=True):
        assert rows.owner[mine].unique().tolist() == sorted(subjects.tolist())
        assert abs(int(rows.target.event[mine].sum()) - labels.sum() / 4) < 1  # type: ignore[attr-defined]
        batch = rows.batch(mine, rows.target.take(mine))
        assert batch.owner is not None
        assert torch.equal(batch.subjects[batch.owner], rows.owner[mine])
    assert sorted(torch.cat(chosen).tolist()) == list(range(len(rows.target)))


def test_rows_of_some_subjects() -> None:
    _, training, _ = cohorts()
    rows = training["cut"]
    assert rows.take(torch.arange(N)) is rows
    subjects = torch.tensor([7, 2, 30])
    some = rows.take(subjects)
    assert rows.owner is not None
    assert some.owner is not None
    assert rows.offset is not None
    assert some.offset is not None
    for place, subject in enumerate(subjects):
        theirs = rows.owner == subject
        assert torch.equal(some.target.time[some.owner == place], rows.target.time[theirs])  # type: ignore[attr-defined]
        assert torch.equal(some.offset[some.owner == place], rows.offset[theirs])
    assert torch.equal(some.data.parts["rna"].numeric, rows.data.parts["rna"].numeric[subjects])  # type: ignore[attr-defined]
    alone = training["whole"].take(subjects)
    assert alone.owner is None
    assert torch.equal(alone.target.time, training["whole"].target.time[subjects])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"owner": None}, r"The data of Rows must be that of the \d+ rows of the target\. Got 40"),
        ({"offset": torch.zeros(3, 1)}, r"The offset of Rows .* Got 3\."),
        ({"owner": torch.zeros(2, dtype=torch.int64)}, r"The owner of Rows .* Got 2\."),
        (40, r"each of the 40 subjects .* no row of 1 subjects, and 1 numbers"),
        (1, r"each of the 40 subjects .* no row of 1 subjects, and 0 numbers"),
    ],
)
def test_rows_that_do_not_belong_together(changes: Any, message: str) -> None:
    rows = cohorts()[1]["cut"]
    given = {"data": rows.data, "target": rows.target, "offset": rows.offset, "owner": rows.owner}
    if isinstance(changes, int):  # the rows of subject 0 become another's
        changes = {"owner": torch.where(rows.owner == 0, changes, rows.owner)}  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        Rows(**{**given, **changes})


# --- the deep basis ------------------------------------------------------------------------------


class Stretched(GaussianHead):
    """Reads predictors in units of which each is 2.5."""

    def loss(self, eta: Tensor, target: Any) -> Tensor:
        return super().loss(2.5 * eta, target)

    def gradient(self, eta: Tensor, target: Any) -> Tensor:
        return 2.5 * super().gradient(2.5 * eta, target)

    def monitor(self, eta: Tensor, target: Any) -> Any:
        return super().monitor(2.5 * eta, target)


@pytest.mark.parametrize("micro", [None, 4])
def test_a_basis_of_one_number_is_a_unit(micro: int | None) -> None:
    y = np.random.default_rng(5).normal(size=N)
    found = []
    for head, basis in ((GaussianHead(), torch.tensor([[2.5]]).double()), (Stretched(), None)):
        rows = Rows(make_data(), head.fit_outcome(y))
        options = {} if basis is None else {"basis": basis}
        found.append(run(rows, head, validation=rows, micro_batch_size=micro, **options)[0])
    np.testing.assert_allclose(losses(found[0]), losses(found[1]), rtol=1e-10)


@pytest.mark.parametrize("micro", [None, 3])
def test_two_outputs_move_three_predictors_of_rows_of_subjects(micro: int | None) -> None:
    rng = np.random.default_rng(6)
    owner = torch.from_numpy(rng.permutation(np.r_[np.arange(N), rng.integers(0, N, 50)]))
    head = CategoricalHead()
    target = head.fit_outcome(rng.integers(0, 3, len(owner)), rng.uniform(0.5, 2, len(owner)))
    offset = torch.from_numpy(rng.normal(size=(len(owner), 3)))
    basis = torch.from_numpy(rng.normal(size=(3, 2)))
    data, network, by_hand = make_data(), make_network(2), make_network(2)
    settings = make_settings(epochs=100, batch_size=None, micro_batch_size=micro, patience=10)
    rows = Rows(data, target, offset, owner)
    loop = trainer._Loop(network, head, rows, settings, rng, None, basis, None, False)
    (batch,) = loop.batches()
    network.train()
    loss = loop.backward(batch, None, 1)

    outputs = by_hand(*data.batch(torch.arange(N)))
    eta = torch.stack(
        [
            offset[i] + basis[:, 0] * outputs[s, 0] + basis[:, 1] * outputs[s, 1]
            for i, s in enumerate(owner.tolist())
        ]
    )
    wanted = head.loss(eta, target)
    wanted.backward()
    torch.testing.assert_close(loss[0].detach(), wanted.detach(), rtol=1e-12, atol=0)
    for mine, theirs in zip(network.parameters(), by_hand.parameters(), strict=True):
        assert mine.grad is not None
        assert mine.grad.norm() > 0
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-10, atol=1e-13)


# --- what is kept --------------------------------------------------------------------------------


class At(Callback):
    """Does something at the end of an epoch."""

    def __init__(self, epoch: int, action: Any) -> None:
        self.epoch, self.action = epoch, action

    def on_epoch_end(self, state: Any) -> None:
        if state.record["epoch"] == self.epoch:
            self.action(state)


def interrupt(state: Any) -> None:
    raise KeyboardInterrupt


def stop(state: Any) -> None:
    state.stop = True


def spoil(state: Any) -> None:
    with torch.no_grad():
        next(state.network.parameters()).fill_(torch.nan)


@pytest.mark.parametrize("judged", [True, False])
def test_an_interrupted_training_keeps_the_best_weights(judged: bool) -> None:
    head, training, validation = cohorts()
    options = {"validation": validation["cut"]} if judged else {}
    options |= {"epochs": 20, "learning_rate": 0.05, "warmup": 0.0}
    with pytest.warns(UserWarning, match=r"interrupted in epoch 13; the weights of epoch \d+ are"):
        result, network = run(training["cut"], head, callbacks=[At(12, interrupt)], **options)
    assert result.interrupted
    kept = result.best_epoch
    assert kept == (result.history["val_loss"].idxmin() + 1 if judged else 12)
    assert kept < 12 or not judged
    assert kept > 1
    _, same = run(training["cut"], head, callbacks=[At(kept, stop)], **options)
    pairs = zip(network.state_dict().values(), same.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_loss_that_diverges_names_epoch_and_batch() -> None:
    head, training, validation = cohorts()
    with pytest.raises(TrainingDivergedError, match=r"loss became nan in epoch 3, batch 1 of 4"):
        run(training["cut"], head, callbacks=[At(2, spoil)])
    broken = Rows(
        validation["cut"].data,
        validation["cut"].target,
        validation["cut"].offset * torch.nan,
        validation["cut"].owner,
    )  # type: ignore[operator]
    with pytest.raises(TrainingDivergedError, match=r"validation loss became nan after epoch 1"):
        run(training["cut"], head, validation=broken)


@pytest.mark.parametrize("may_stay", [True, False])
def test_an_untrained_network_is_kept_only_where_it_may_be(may_stay: bool) -> None:
    head, training, validation = cohorts()
    options = {"learning_rate": 1.0, "warmup": 0.0, "may_stay_untrained": may_stay}
    result, network = run(training["cut"], head, validation=validation["cut"], **options)
    untrained = make_network().state_dict()
    same = all(torch.equal(v, untrained[name]) for name, v in network.state_dict().items())
    assert (result.best_epoch == 0) is same is may_stay
    # Without rows to judge by, the last epoch is kept.
    assert run(training["cut"], head, may_stay_untrained=may_stay)[0].best_epoch == 3
