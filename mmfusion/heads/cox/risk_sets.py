"""Sums over risk sets and over the times at risk, in the log domain: only positives are added."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

__all__ = ["MAX_SPREAD", "RiskSets", "log_sum_by", "split_cumsum"]

#: Up to this many pairs of a row and an event time, a table of who survives what beats the tree.
DENSE = 1 << 16

#: exp(-600) is 1e-261: sums of that many and their reciprocals are still normal float64 numbers.
MAX_SPREAD = 600.0


class RiskSets:
    """The two sums of the Cox likelihood, as sums of exponentials of (count, columns) matrices.

    Survivors only: the range of a death stops before its own event time, because Efron's deaths
    count there in part. Where risk sets are nested and the summands' logarithms lie within
    `MAX_SPREAD`, they are prefix sums of shifted exponentials; else sums over the canonical nodes
    of a segment tree over the event times, in the log domain, in O(n log m) (in a batch of a few
    hundred rows simply over all pairs). None subtracts, so every sum has full relative precision.

    Parameters
    ----------
    hi, lo, event, last, splits
        As the attributes of `CoxPlan`.
    nested : bool
        Whether risk sets are prefixes of the rows of not too many strata.

    Attributes
    ----------
    rows, block : Tensor of int64, shape (e,)
        Plan position and block (numbered from 0) of each death.
    deaths : Tensor of int64, shape (m,)
        Deaths of each block.
    """

    def __init__(
        self,
        hi: Tensor,
        lo: Tensor | None,
        event: Tensor,
        last: Tensor,
        splits: tuple[list[int], list[int]] | None,
        nested: bool,
    ) -> None:
        self._nested, self._splits = nested, splits
        self._last = last[1:].long()
        self.n_blocks = len(self._last)
        number = hi[self._last]  # ascending: the numbers of the blocks in the plan's own numbering
        # Events are numbered hi - 1, and a range ends at hi, so an equal hi includes the block.
        self._hi = torch.searchsorted(number, hi, right=True) - event.long()
        if lo is None:
            self._lo = torch.zeros_like(self._hi)
        else:  # block number - 1 >= lo
            self._lo = torch.searchsorted(number, lo, right=True)
        self.rows = event.nonzero()[:, 0]
        self.block = self._hi[self.rows]
        self.deaths = torch.bincount(self.block, minlength=self.n_blocks)

    def psi(self, ties: str) -> Tensor:
        """Return the share ``1 - l / d_k`` of its block in each death's denominator, shape (e,)."""
        if ties == "breslow":
            return torch.ones(len(self.rows), dtype=torch.float64, device=self.rows.device)
        left = self._last[self.block] - self.rows + 1
        return left / self.deaths[self.block].double()

    def over_survivors(self, x: Tensor) -> Tensor:
        """Return the log-sum of exp(x) over the rows that survive each event time.

        Parameters
        ----------
        x : Tensor, shape (n, c)
            In plan order.

        Returns
        -------
        Tensor, shape (m, c)
        """
        if self._nested and _spread(x) <= MAX_SPREAD:
            sizes = self._splits[0] if self._splits is not None else None
            return _log_prefix(x, sizes, *self._survivors)
        if self._survives is not None:
            return torch.where(self._survives[:, :, None], x[:, None], -torch.inf).logsumexp(0)
        row, node = self._pairs
        tree = log_sum_by(x[row], node, 2 * self._leaves)
        for half in self._levels():  # from the root down
            tree[2 * half : 4 * half] = torch.logaddexp(
                tree[2 * half : 4 * half], tree[half : 2 * half].repeat_interleave(2, 0)
            )
        return tree[self._leaves : self._leaves + self.n_blocks]

    def prefix_sums(self, x: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return sums of ``exp(x) vectors`` by event time, if prefix sums without logs will do.

        Parameters
        ----------
        x : Tensor, shape (n, 1)
        vectors : Tensor, shape (n, c)

        Returns
        -------
        survivors, everyone : Tensor, shape (m, c)
            Sums over the rows that survive each event time, and over all at risk, times
            ``exp(-top)``.
        top : Tensor, shape ()
        """
        if not (self._nested and _spread(x) <= MAX_SPREAD):
            return None
        top = x.max()
        sizes = self._splits[0] if self._splits is not None else None
        sums = split_cumsum((x - top).exp() * vectors, sizes)
        before, some = self._survivors
        return torch.where(some[:, None], sums[before], 0.0), sums[self._last], top

    def over_deaths(self, x: Tensor) -> Tensor:
        """Return the log-sum of exp(x) over the deaths at each event time, shape (m, c)."""
        return log_sum_by(x[self.rows], self.block, self.n_blocks)

    def over_times(self, a: Tensor) -> Tensor:
        """Return the log-sum of exp(a) over the event times that each row survives.

        Parameters
        ----------
        a : Tensor, shape (m, c)

        Returns
        -------
        Tensor, shape (n, c)
        """
        if self._nested and _spread(a) <= MAX_SPREAD:
            sizes = self._splits[1] if self._splits is not None else None
            if sizes is not None:
                sizes = [sizes[0] - 1, *sizes[1:]]
            return _log_prefix(a, sizes, *self._survived)
        if self._survives is not None:
            return torch.where(self._survives[:, :, None], a, -torch.inf).logsumexp(1)
        tree = a.new_full((2 * self._leaves, a.shape[1]), -torch.inf)
        tree[self._leaves : self._leaves + self.n_blocks] = a
        for half in reversed(self._levels()):
            tree[half : 2 * half] = torch.logaddexp(
                tree[2 * half : 4 * half : 2], tree[2 * half + 1 : 4 * half : 2]
            )
        row, node = self._pairs
        return log_sum_by(tree[node], row, len(self._hi))

    @cached_property
    def _survivors(self) -> tuple[Tensor, Tensor]:
        """Position of each block's last survivor, and whether it has one (nested risk sets)."""
        before = self._last - self.deaths
        start = torch.zeros_like(before)
        if self._splits is not None:
            rows, blocks = self._splits
            sizes = torch.tensor(rows, device=before.device)
            starts = (sizes.cumsum(0) - sizes).flip(0)  # blocks ascend where rows descend
            counts = torch.tensor([blocks[0] - 1, *blocks[1:]], device=before.device)
            start = starts.repeat_interleave(counts)
        return before.clamp_min(0), before >= start

    @cached_property
    def _survived(self) -> tuple[Tensor, Tensor]:
        """Last block each row survives, and whether there is one (nested risk sets)."""
        return (self._hi - 1).clamp_min(0), self._hi > self._lo

    @cached_property
    def _survives(self) -> Tensor | None:
        """Which rows survive which event times, shape (n, m), or None if that is too large."""
        if len(self._hi) * self.n_blocks > DENSE:
            return None
        times = torch.arange(self.n_blocks, device=self._hi.device)
        return (self._lo[:, None] <= times) & (times < self._hi[:, None])

    @property
    def _leaves(self) -> int:
        return 1 << max(self.n_blocks - 1, 0).bit_length()

    def _levels(self) -> list[int]:
        return [1 << level for level in range(self._leaves.bit_length() - 1)]

    @cached_property
    def _pairs(self) -> tuple[Tensor, Tensor]:
        """The O(log m) canonical nodes of each row's range: pairs of row and node."""
        rows = torch.arange(len(self._hi), device=self._hi.device)
        keep = self._hi > self._lo
        rows, left, right = rows[keep], self._lo[keep] + self._leaves, self._hi[keep] + self._leaves
        found_rows, found_nodes = [], []
        while len(rows):
            odd = left % 2 == 1
            found_rows.append(rows[odd])
            found_nodes.append(left[odd])
            left = left + odd.long()
            odd = right % 2 == 1
            found_rows.append(rows[odd])
            found_nodes.append(right[odd] - 1)
            left, right = left // 2, right // 2
            keep = left < right
            rows, left, right = rows[keep], left[keep], right[keep]
        if not found_rows:
            return rows, rows
        return torch.cat(found_rows), torch.cat(found_nodes)


def _spread(x: Tensor) -> float:
    finite = x[x > -torch.inf]
    if len(finite) == 0:
        return 0.0
    low, high = finite.aminmax()
    return float(high - low)


def split_cumsum(x: Tensor, sizes: list[int] | None) -> Tensor:
    """Return the cumulative sum over dimension 0, starting anew in each part."""
    if sizes is None:
        return x.cumsum(0)
    return torch.cat([part.cumsum(0) for part in x.split(sizes)])


def _log_prefix(x: Tensor, sizes: list[int] | None, upto: Tensor, some: Tensor) -> Tensor:
    """Return log cumsum(exp(x)) at `upto`, -inf where not `some`."""
    if len(x) == 0:
        return x.new_full((len(upto), x.shape[1]), -torch.inf)
    top = x.max()
    top = torch.where(top == -torch.inf, 0.0, top)
    sums = split_cumsum((x - top).exp(), sizes)
    return torch.where(some[:, None], sums[upto].log() + top, -torch.inf)


def log_sum_by(x: Tensor, index: Tensor, size: int) -> Tensor:
    """Return the log-sum of exp(x) by `index`: (p, c) -> (size, c), -inf where there is nothing."""
    top = x.new_full((size, x.shape[1]), -torch.inf)
    top = top.scatter_reduce(0, index[:, None].expand_as(x), x, "amax")
    top = torch.where(top == -torch.inf, 0.0, top)  # -inf - -inf would be NaN
    sums = torch.zeros_like(top).index_add_(0, index, (x - top[index]).exp())
    return sums.log() + top
