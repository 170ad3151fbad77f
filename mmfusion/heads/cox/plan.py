"""What the Cox partial likelihood needs of the times alone, worked out once and used every step.

Event times ("blocks") are numbered in ascending order of (stratum, time). Row i is at risk at a
contiguous range ``lo_i .. hi_i - 1`` of them: censored at ``t_k`` is still at risk at ``t_k``,
entry at ``t_k`` is not. Rows stand in *plan order*: descending in (stratum, time), censored before
events at one time. Without late entry the risk set of a block is then the rows of its stratum up
to the block's last death, and its survivors are the rows up to its first: prefix sums, which begin
with the smallest risk sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from mmfusion.heads.cox.risk_sets import RiskSets

__all__ = ["CoxPlan", "Ties", "TiesMethod"]

TiesMethod = Literal["efron", "breslow"]

#: With more strata than this, a prefix sum for each costs more than the tree over all.
MAX_SPLIT_STRATA = 64


@dataclass(eq=False)
class Ties:
    """The deaths of blocks with more than one, an entry each (Efron).

    The l-th denominator of a block is ``S'_k + psi T_k`` with ``psi = 1 - l / d_k`` and S' the sum
    over the survivors: a sum of positives, where ``S_k - (l / d_k) T_k`` subtracts.

    Attributes
    ----------
    rows : Tensor of int64, shape (e,)
        Position of the death in plan order.
    block : Tensor of int64, shape (e,)
        Its block, numbered from 1.
    previous : Tensor of int64, shape (e,)
        The block before it in the stratum, 0 if there is none.
    before : Tensor of int64, shape (e,)
        Position of the block's last survivor in plan order.
    survived : Tensor of float64, shape (e,)
        1 if the block has survivors, else 0.
    omega : Tensor of float64, shape (e,)
        ``W_k / d_k``, scaled as the plan's weights.
    psi : Tensor of float64, shape (e,)
    single_weight : Tensor of float64, shape (m + 1,)
        The block weights, 0 for blocks with ties.
    """

    rows: Tensor
    block: Tensor
    previous: Tensor
    before: Tensor
    survived: Tensor
    omega: Tensor
    psi: Tensor
    single_weight: Tensor


@dataclass(eq=False)
class CoxPlan:
    """Sort order, event-time blocks and risk ranges of an outcome; `from_outcome` makes one.

    A row of weight 0 is as absent: an event of weight 0 counts as censored. Weights of events are
    scaled to sum to one, so that sums over them are means over events.

    Attributes
    ----------
    order, inverse : Tensor of int32, shape (n,), or None
        Row at each plan position, plan position of each row; None if rows are in plan order.
    hi, lo : Tensor of int32, shape (n,)
        The risk range, in the numbering of the outcome that the plan was cut from; an event is at
        block ``hi - 1``. `lo` is None where it is 0 throughout.
    event : Tensor of bool, shape (n,)
    weight : Tensor of float64, shape (n,), or None
        Case weights; None if all are 1.
    stratum : Tensor of int64, shape (n,), or None
        None if there is one stratum.
    delayed : bool
        Whether some row enters late.
    total : float
        Sum of the weights of events.
    event_weight : Tensor of float64, shape (n,)
        ``w_i delta_i / total``.
    block_weight : Tensor of float64, shape (m + 1,)
        ``W_k / total``. Entry 0 of everything by block is a dummy of weight 0: what a row reaches
        that is at risk at no event time.
    last : Tensor of int32, shape (m + 1,)
        Position of the block's last death.
    reach : Tensor of int32, shape (n,)
        Last block, numbered from 1, that the row is at risk at; 0 if none.
    ties : Ties or None
        None if no event time has two deaths.
    splits : tuple of two lists of int, or None
        Sizes of the strata in rows (in plan order) and in blocks (ascending, the dummy counted
        with the first); None if there is one stratum.
    """

    order: Tensor | None
    inverse: Tensor | None
    hi: Tensor
    lo: Tensor | None
    event: Tensor
    weight: Tensor | None
    stratum: Tensor | None
    delayed: bool
    total: float
    event_weight: Tensor
    block_weight: Tensor
    last: Tensor
    reach: Tensor
    ties: Ties | None
    splits: tuple[list[int], list[int]] | None

    def __len__(self) -> int:
        return len(self.reach)

    def sort(self, rows: Tensor) -> Tensor:
        """Return rows in plan order."""
        return rows if self.order is None else rows.index_select(0, self.order)

    def unsort(self, rows: Tensor) -> Tensor:
        """Return rows in plan order as they stood in the outcome."""
        return rows if self.inverse is None else rows.index_select(0, self.inverse)

    @property
    def nested(self) -> bool:
        """Whether risk sets are prefixes of the rows of not too many strata."""
        return not self.delayed and (self.splits is None or len(self.splits[0]) <= MAX_SPLIT_STRATA)

    @cached_property
    def risk_sets(self) -> RiskSets:
        """Sums over risk sets and over times, for any spread of the summands."""
        return RiskSets(self.hi, self.lo, self.event, self.last, self.splits, self.nested)

    @staticmethod
    def from_outcome(
        time: Tensor,
        event: Tensor,
        weight: Tensor | None = None,
        entry: Tensor | None = None,
        stratum: Tensor | None = None,
    ) -> CoxPlan:
        """Plan an outcome.

        Parameters
        ----------
        time : Tensor, shape (n,)
            Exit times. Ties are exact equality in the dtype given: use float64.
        event : Tensor, shape (n,)
        weight : Tensor, shape (n,), optional
            Not negative.
        entry : Tensor, shape (n,), optional
            The row is at risk on ``(entry, time]``; ``-inf`` is from the start.
        stratum : Tensor of int, shape (n,), optional

        Raises
        ------
        ValueError
            If there is no row, or the shapes differ.
        """
        n = len(time)
        if n == 0:
            raise ValueError("A Cox plan must have at least one row. Got none.")
        given = {"event": event, "weight": weight, "entry": entry, "stratum": stratum}
        for name, value in given.items():
            if value is not None and value.shape != (n,):
                raise ValueError(
                    f"The {name} parameter must have shape ({n},), as time has. "
                    f"Got {tuple(value.shape)}."
                )
        event = event.bool()
        if weight is not None:
            weight = weight.double()
            event = event & (weight > 0)
            if bool((weight == 1).all()):
                weight = None
        if stratum is not None and bool((stratum == stratum[0]).all()):
            stratum = None

        order, closes = _plan_order(time, event, stratum)
        stratum = None if stratum is None else stratum[order]
        hi = _count_from(closes[None])[0]
        lo = None
        if stratum is not None:
            lo = _first_of_stratum(stratum[None], closes[None], hi[None])[0][0]
        delayed = False
        if entry is not None and bool((entry > -torch.inf).any()):
            late = _blocks_before(entry[order], time[order], stratum, closes)
            first = 0 if lo is None else lo
            delayed = bool(((late > first) & (hi > first)).any())
            lo = late if delayed else lo
        in_order = bool((order[1:] > order[:-1]).all())
        return _build(
            hi.int()[None],
            None if lo is None else lo.int()[None],
            event[order][None],
            None if weight is None else weight[order][None],
            None if stratum is None else stratum[None],
            delayed,
            None if in_order else order.int(),
        )[0]

    def cut(self, rows: Tensor) -> tuple[Tensor, list[CoxPlan]]:
        """Plan batches of these rows, all at once.

        Parameters
        ----------
        rows : Tensor of int64, shape (n_batches, size)

        Returns
        -------
        rows : Tensor of int64, shape (n_batches, size)
            The rows of each batch in its plan order.
        plans : list of CoxPlan
            With ``order`` None.
        """
        places = (rows if self.inverse is None else self.inverse[rows].long()).sort(dim=1).values
        plans = _build(
            self.hi[places],
            None if self.lo is None else self.lo[places],
            self.event[places],
            None if self.weight is None else self.weight[places],
            None if self.stratum is None else self.stratum[places],
            self.delayed,
        )
        return places if self.order is None else self.order[places].long(), plans


def _plan_order(time: Tensor, event: Tensor, stratum: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the rows in plan order, and which positions are the last death of a block."""
    # Lexicographic by stable sorts, the first key last; an event indicator needs no sort.
    order = torch.cat([(~event).nonzero()[:, 0], event.nonzero()[:, 0]])
    time, by_time = time[order].sort(descending=True, stable=True)
    order = order[by_time]
    changes = time[1:] != time[:-1]
    if stratum is not None:
        stratum, by_stratum = stratum[order].sort(descending=True, stable=True)
        order, time = order[by_stratum], time[by_stratum]
        changes = (time[1:] != time[:-1]) | (stratum[1:] != stratum[:-1])
    closes = event[order]
    closes[:-1] &= changes
    return order, closes


def _count_from(closes: Tensor) -> Tensor:
    """Return the number of blocks that close at or after each position of a row."""
    return closes.flip(1).cumsum(1).flip(1)


def _first_of_stratum(stratum: Tensor, closes: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of blocks in lower strata, and the start of the own, at each position."""
    size = stratum.shape[1]
    ends = torch.ones_like(closes)
    ends[:, :-1] = stratum[:, 1:] != stratum[:, :-1]
    begins = ends.roll(1, 1)
    begins[:, 0] = True
    number = begins.flatten().cumsum(0) - 1
    first = (count - closes.long()).flatten()[ends.flatten()][number]
    place = torch.arange(size, device=stratum.device).expand_as(closes)
    start = place[begins][number]
    return first.view_as(closes), start.view_as(closes)


def _blocks_before(entry: Tensor, time: Tensor, stratum: Tensor | None, closes: Tensor) -> Tensor:
    """Return the number of blocks at or before each row's (stratum, entry), all in plan order."""
    block_time = time[closes].flip(0)
    # Dense ranks make one integer of (stratum, time); -inf gets the lowest.
    values, rank = torch.cat([block_time, entry]).unique(return_inverse=True)
    if stratum is not None:
        rank = rank + len(values) * torch.cat([stratum[closes].flip(0), stratum])
    return torch.searchsorted(rank[: len(block_time)], rank[len(block_time) :], right=True)


def _build(
    hi: Tensor,
    lo: Tensor | None,
    event: Tensor,
    weight: Tensor | None,
    stratum: Tensor | None,
    delayed: bool,
    order: Tensor | None = None,
) -> list[CoxPlan]:
    """Return the plans of batches of one size, given as matrices, a batch a row, in plan order."""
    n_batches, size = hi.shape
    closes = event.clone()
    closes[:, :-1] &= hi[:, 1:] != hi[:, :-1]
    count = _count_from(closes)
    n_blocks = count[:, 0] + 1
    block = count + (n_blocks.cumsum(0) - n_blocks)[:, None]  # over all batches, with the dummies

    event_weight = event.double() if weight is None else weight * event
    totals = event_weight.sum(1)
    event_weight = event_weight / totals.clamp_min(torch.finfo(torch.float64).tiny)[:, None]

    place = torch.arange(size, device=hi.device).expand_as(hi)
    death = block[event]
    deaths = torch.bincount(death, minlength=int(n_blocks.sum()))
    last = deaths.new_full(deaths.shape, size - 1)
    last[block[closes]] = place[closes]
    block_weight = event_weight.new_zeros(deaths.shape).index_add_(0, death, event_weight[event])

    first = start = torch.zeros((), dtype=torch.int64, device=hi.device)
    splits: list[tuple[list[int], list[int]] | None] = [None] * n_batches
    if stratum is not None:
        first, start = _first_of_stratum(stratum, closes, count)
        splits = _split_sizes(first, start, count)
    reach = torch.where(count > first, count, 0)

    sizes = n_blocks.tolist()
    columns = [
        hi.unbind(),
        [None] * n_batches if lo is None else lo.unbind(),
        event.unbind(),
        [None] * n_batches if weight is None else weight.unbind(),
        [None] * n_batches if stratum is None else stratum.unbind(),
        [delayed] * n_batches,
        totals.tolist(),
        event_weight.unbind(),
        block_weight.split(sizes),
        last.int().split(sizes),
        reach.int().unbind(),
        _ties(event, block, count, first, start, place, deaths, last, block_weight, sizes),
        splits,
    ]
    inverse = None
    if order is not None:
        inverse = torch.empty_like(order)
        inverse[order.long()] = torch.arange(size, dtype=order.dtype, device=order.device)
    return [CoxPlan(order, inverse, *values) for values in zip(*columns, strict=True)]


def _ties(
    event: Tensor,
    block: Tensor,
    count: Tensor,
    first: Tensor,
    start: Tensor,
    place: Tensor,
    deaths: Tensor,
    last: Tensor,
    block_weight: Tensor,
    sizes: list[int],
) -> list[Ties | None]:
    tied = event & (deaths > 1)[block]
    of_batch = tied.sum(1).tolist()
    if not any(of_batch):
        return [None] * len(sizes)
    among = block[tied]
    d, rows, own = deaths[among], place[tied], count[tied]
    before = last[among] - d
    start = start.expand_as(event)[tied]
    first = first.expand_as(event)[tied]
    fields = [
        rows,
        own,
        torch.where(own - 1 > first, own - 1, 0),
        before.clamp_min(0),
        (before >= start).double(),
        block_weight[among] / d,
        (last[among] - rows + 1) / d.double(),
    ]
    single = torch.where(deaths > 1, 0.0, block_weight).split(sizes)
    parts = zip(*(field.split(of_batch) for field in fields), single, strict=True)
    return [Ties(*part) if n_tied else None for n_tied, part in zip(of_batch, parts, strict=True)]


def _split_sizes(
    first: Tensor, start: Tensor, count: Tensor
) -> list[tuple[list[int], list[int]] | None]:
    """Return the sizes of the strata of each batch, in rows and in blocks."""
    result: list[tuple[list[int], list[int]] | None] = []
    size = first.shape[1]
    for batch_first, batch_start, batch_count in zip(first, start, count, strict=True):
        starts = batch_start.unique_consecutive()
        blocks = (batch_count[starts] - batch_first[starts]).flip(0).tolist()
        starts_list = starts.tolist()
        if len(starts_list) == 1:
            result.append(None)
            continue
        blocks[0] += 1
        rows = [b - a for a, b in zip(starts_list, [*starts_list[1:], size], strict=True)]
        result.append((rows, blocks))
    return result
