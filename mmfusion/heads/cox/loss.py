"""The negative log partial likelihood of the Cox model: value, gradient, curvature."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmfusion.heads.cox.plan import CoxPlan, Ties
from mmfusion.heads.cox.risk_sets import MAX_SPREAD, log_sum_by, split_cumsum

__all__ = [
    "Reduction",
    "TiesMethod",
    "cox_gradient",
    "cox_hessian_diagonal",
    "cox_hessian_vector",
    "cox_information",
    "cox_log_hazard",
    "cox_loss",
]

TiesMethod = Literal["efron", "breslow"]
Reduction = Literal["mean", "sum"]

#: Size of the largest intermediate of a Hessian product, in numbers.
CHUNK = 4_000_000


def cox_loss(
    eta: Tensor, plan: CoxPlan, ties: TiesMethod = "efron", reduction: Reduction = "mean"
) -> Tensor:
    r"""Return the negative log partial likelihood (Cox 1972, JRSS-B 34:187-220).

    With ``r_i = w_i exp(eta_i)``, and at the event time ``t_k`` of a stratum the sums ``S_k`` of r
    over the risk set and ``T_k`` over the ``d_k`` deaths, whose weights sum to ``W_k``:

    .. math:: L = -\sum_i w_i \delta_i \eta_i
        + \sum_k \frac{W_k}{d_k} \sum_{l=0}^{d_k-1} \log(S_k - \phi_{kl} T_k),

    where :math:`\phi_{kl} = l / d_k` (Efron 1977, JASA 72:557-565) or 0 (Breslow 1974, Biometrics
    30:89-99). Value and gradient are float64 inside whatever the dtype of `eta`, and finite for
    every finite `eta`; the gradient is computed in closed form along with the value.

    Parameters
    ----------
    eta : Tensor, shape (n,) or (n, 1)
        Log-hazards, in the row order of the outcome that was planned.
    plan : CoxPlan
    ties : {"efron", "breslow"}
    reduction : {"mean", "sum"}
        ``"mean"`` divides by the sum of the weights of events.

    Returns
    -------
    Tensor of float64, shape ()
        0 if there is no event, still on the graph. Differentiable twice.

    Raises
    ------
    ValueError
        If `eta` has another length than the plan, or a parameter has another value.

    Examples
    --------
    >>> import torch
    >>> from mmfusion.heads.cox import CoxPlan, cox_loss
    >>> plan = CoxPlan.from_outcome(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 1, 0]))
    >>> eta = torch.zeros(3, requires_grad=True)
    >>> loss = cox_loss(eta, plan)  # (log 3 + log 2) / 2
    >>> round(loss.item(), 6)
    0.89588
    >>> loss.backward()
    >>> eta.grad.mul(6).round(decimals=4)
    tensor([-2.0000, -0.5000,  2.5000])
    """
    _check(eta, plan, ties, reduction)
    return _CoxLoss.apply(eta, plan, ties, reduction)


def cox_gradient(
    eta: Tensor, plan: CoxPlan, ties: TiesMethod = "efron", reduction: Reduction = "mean"
) -> Tensor:
    """Return d `cox_loss` / d eta in float64, of the shape of `eta`.

    For unit weights and ``reduction="sum"`` it is minus the martingale residuals.
    """
    _check(eta, plan, ties, reduction)
    gradient = _value_and_gradient(eta.detach(), plan, ties, reduction)[1]
    return gradient.view(eta.shape)


def cox_hessian_vector(
    eta: Tensor,
    plan: CoxPlan,
    vectors: Tensor,
    ties: TiesMethod = "efron",
    reduction: Reduction = "mean",
) -> Tensor:
    """Return the Hessian of `cox_loss` in eta times `vectors`, in float64.

    With ``p_kl`` the distribution over the risk set that the l-th denominator at ``t_k`` defines,
    ``H = sum_kl (W_k / d_k) (diag(p_kl) - p_kl p_kl')``: the rows' own term minus a mean over each
    risk set, pulled back. O(n) for nested risk sets, O(n log n) else, for each vector.

    Parameters
    ----------
    vectors : Tensor, shape (n,) or (n, c)

    Returns
    -------
    Tensor of float64, of the shape of `vectors`
    """
    _check(eta, plan, ties, reduction)
    shape, vectors = vectors.shape, vectors.detach().double().reshape(len(plan), -1)
    if plan.total == 0:
        return torch.zeros_like(vectors).view(shape)
    denominators = _Denominators(_sorted(eta.detach(), plan), plan, ties)
    step = max(1, CHUNK // (4 * len(plan)))
    parts = [denominators.product(_sorted_rows(v, plan)) for v in vectors.split(step, dim=1)]
    product = _unsorted(torch.cat(parts, dim=1), plan)
    return _reduced(product, plan, reduction).view(shape)


def cox_information(
    eta: Tensor,
    plan: CoxPlan,
    design: Tensor,
    ties: TiesMethod = "efron",
    reduction: Reduction = "mean",
) -> Tensor:
    """Return ``X' H X``: the observed information of the coefficients of ``eta = X beta + ...``.

    Exact, in O(n p^2), with no more than a few million numbers at a time beside X.

    Parameters
    ----------
    design : Tensor, shape (n, p)

    Returns
    -------
    Tensor of float64, shape (p, p)
    """
    design = design.detach().double()
    # H does not see a constant; without it less cancels.
    design = design - design.mean(0)
    information = design.T @ cox_hessian_vector(eta, plan, design, ties, reduction)
    return (information + information.T) / 2


def cox_hessian_diagonal(
    eta: Tensor, plan: CoxPlan, ties: TiesMethod = "efron", reduction: Reduction = "mean"
) -> Tensor:
    """Return the diagonal of the Hessian of `cox_loss` in eta, float64, of the shape of `eta`."""
    _check(eta, plan, ties, reduction)
    if plan.total == 0:
        return torch.zeros_like(eta, dtype=torch.float64)
    diagonal = _Denominators(_sorted(eta.detach(), plan), plan, ties).diagonal()
    return _reduced(_unsorted(diagonal, plan), plan, reduction).view(eta.shape)


def cox_log_hazard(eta: Tensor, plan: CoxPlan, ties: TiesMethod = "efron") -> Tensor:
    """Return the log of the baseline hazard's jump at each event time, shape (m,), float64.

    The jumps are ``W_k / S_k`` (Breslow) or ``sum_l (W_k / d_k) / (S_k - (l / d_k) T_k)`` (Efron),
    in ascending order of (stratum, time), for a row with ``eta = 0``.
    """
    _check(eta, plan, ties, "sum")
    if plan.total == 0:
        return eta.new_zeros(0, dtype=torch.float64)
    denominators = _Denominators(_sorted(eta.detach(), plan), plan, ties)
    return denominators.log_hazard[:, 0] + torch.tensor(plan.total, dtype=torch.float64).log()


def _check(eta: Tensor, plan: CoxPlan, ties: str, reduction: str) -> None:
    if eta.numel() != len(plan) or eta.shape[0] != len(plan):
        raise ValueError(
            f"The eta parameter must have shape ({len(plan)},) or ({len(plan)}, 1), as planned. "
            f"Got {tuple(eta.shape)}."
        )
    if ties != "efron" and ties != "breslow":
        raise ValueError(f"The ties parameter must be 'efron' or 'breslow'. Got {ties!r}.")
    if reduction != "mean" and reduction != "sum":
        raise ValueError(f"The reduction parameter must be 'mean' or 'sum'. Got {reduction!r}.")


class _CoxLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, eta: Tensor, plan: CoxPlan, ties: TiesMethod, reduction: Reduction
    ) -> Any:
        loss, gradient = _value_and_gradient(eta, plan, ties, reduction)
        ctx.save_for_backward(eta, gradient.to(eta.dtype).view(eta.shape))
        ctx.settings = plan, ties, reduction
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        eta, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            gradient = _CoxGradient.apply(eta, gradient, *ctx.settings)
        return grad * gradient, None, None, None


class _CoxGradient(torch.autograd.Function):
    """The gradient as a function of eta, already computed: only its derivative is new."""

    @staticmethod
    def forward(
        ctx: Any,
        eta: Tensor,
        gradient: Tensor,
        plan: CoxPlan,
        ties: TiesMethod,
        reduction: Reduction,
    ) -> Tensor:
        ctx.save_for_backward(eta)
        ctx.settings = plan, ties, reduction
        return gradient.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (eta,) = ctx.saved_tensors
        plan, ties, reduction = ctx.settings
        product = cox_hessian_vector(eta, plan, grad, ties, reduction)
        return product.to(eta.dtype), None, None, None, None


def _sorted(eta: Tensor, plan: CoxPlan) -> Tensor:
    eta = eta.reshape(-1)
    return (eta if plan.order is None else eta.index_select(0, plan.order)).double()


def _sorted_rows(rows: Tensor, plan: CoxPlan) -> Tensor:
    return rows if plan.order is None else rows.index_select(0, plan.order)


def _unsorted(rows: Tensor, plan: CoxPlan) -> Tensor:
    return rows if plan.inverse is None else rows.index_select(0, plan.inverse)


def _reduced(mean: Tensor, plan: CoxPlan, reduction: Reduction) -> Tensor:
    return mean if reduction == "mean" else mean * plan.total


def _value_and_gradient(
    eta: Tensor, plan: CoxPlan, ties: TiesMethod, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """Return loss and gradient, float64; the gradient has shape (n,)."""
    if plan.total == 0:
        zeros = torch.zeros_like(eta, dtype=torch.float64).view(-1)
        return zeros.new_zeros(()), zeros
    x = _sorted(eta, plan)
    if plan.nested:
        low, high = x.aminmax()
        if float(high - low) <= MAX_SPREAD:
            loss, gradient = _prefix_sums(x - high, plan, plan.ties if ties == "efron" else None)
            return _reduced(loss, plan, reduction), _reduced(
                _unsorted(gradient, plan), plan, reduction
            )
    denominators = _Denominators(x, plan, ties)
    gradient = _unsorted(denominators.gradient(), plan)
    return _reduced(denominators.loss(), plan, reduction), _reduced(gradient, plan, reduction)


def _prefix_sums(x: Tensor, plan: CoxPlan, ties: Ties | None) -> tuple[Tensor, Tensor]:
    """Return mean loss and gradient where risk sets are prefixes and exp(x) cannot underflow.

    Written for few operations: at a batch of 256 each costs as much as its arithmetic.
    """
    row_sizes, block_sizes = plan.splits or (None, None)
    r = x.exp()
    if plan.weight is not None:
        r *= plan.weight
    sums = split_cumsum(r, row_sizes)
    at_risk = sums.index_select(0, plan.last)
    # A common factor of r cancels between the two terms, so x may be shifted.
    if ties is None:
        loss = torch.dot(plan.block_weight, at_risk.log()) - torch.dot(plan.event_weight, x)
        hazard = split_cumsum(plan.block_weight / at_risk, block_sizes)
        bracket = hazard.index_select(0, plan.reach)
        return loss, bracket.mul_(r).sub_(plan.event_weight)

    loss = torch.dot(ties.single_weight, at_risk.log()) - torch.dot(plan.event_weight, x)
    jumps = ties.single_weight / at_risk
    deaths = torch.zeros_like(jumps).index_add_(0, ties.block, r.index_select(0, ties.rows))
    survivors = sums.index_select(0, ties.before).mul_(ties.survived)
    denominator = deaths.index_select(0, ties.block).mul_(ties.psi).add_(survivors)
    loss = loss + torch.dot(ties.omega, denominator.log())
    share = ties.omega / denominator
    jumps.index_add_(0, ties.block, share)
    own = torch.zeros_like(jumps).index_add_(0, ties.block, share.mul_(ties.psi))
    hazard = split_cumsum(jumps, block_sizes)
    bracket = hazard.index_select(0, plan.reach)
    # A tied death counts in part at its own time: there A_k is replaced by sum_l omega psi / den.
    bracket.index_copy_(
        0,
        ties.rows,
        hazard.index_select(0, ties.previous).add_(own.index_select(0, ties.block)),
    )
    return loss, bracket.mul_(r).sub_(plan.event_weight)


class _Denominators:
    """The logs of all denominators ``S_k - (l / d_k) T_k``, an entry a death, in any setting.

    With ``omega = W_k / d_k`` and psi as in `Ties`; rows of weight 0 have a log of -inf. Every
    quantity is a matrix with rows first; everything is scaled as the weights of the plan.
    """

    def __init__(self, x: Tensor, plan: CoxPlan, ties: TiesMethod) -> None:
        sets = plan.risk_sets
        self.plan, self.sets, self.eta = plan, sets, x
        self.x = (x if plan.weight is None else x + plan.weight.log())[:, None]
        self.log_psi = sets.psi(ties).log()[:, None]
        self.omega = (plan.block_weight[1:] / sets.deaths)[sets.block]
        self.log_omega = self.omega.log()[:, None]
        self.log_den = torch.logaddexp(
            sets.over_survivors(self.x)[sets.block],
            self.log_psi + sets.over_deaths(self.x)[sets.block],
        )
        self.share = self.log_omega - self.log_den

    def loss(self) -> Tensor:
        centre = self.eta.mean()  # the two terms would cancel where eta is far from 0
        return torch.dot(self.omega, self.log_den[:, 0] - centre) - torch.dot(
            self.plan.event_weight, self.eta - centre
        )

    @property
    def log_hazard(self) -> Tensor:
        """Log A_k, shape (m, 1)."""
        return log_sum_by(self.share, self.sets.block, self.sets.n_blocks)

    def over_range(self, entries: Tensor, own: Tensor) -> Tensor:
        """Sum `entries` over the times each row survives, and `own` over its own time's deaths."""
        by_block = log_sum_by(torch.cat([entries, own], dim=1), self.sets.block, self.sets.n_blocks)
        survived, dying = by_block.split(entries.shape[1], dim=1)
        result = self.sets.over_times(survived)
        rows = self.sets.rows
        result[rows] = torch.logaddexp(result[rows], dying[self.sets.block])
        return result

    def expected(self) -> Tensor:
        """``r_i`` times the cumulative hazard that row i meets, shape (n, 1)."""
        return (self.x + self.over_range(self.share, self.share + self.log_psi)).exp()

    def gradient(self) -> Tensor:
        return self.expected()[:, 0] - self.plan.event_weight

    def diagonal(self) -> Tensor:
        square = self.share - self.log_den
        squares = self.over_range(square, square + 2 * self.log_psi)
        return (self.expected() - (2 * self.x + squares).exp())[:, 0]

    def product(self, vectors: Tensor) -> Tensor:
        block = self.sets.block
        parts = self.x + _log_parts(vectors)
        sums = torch.logaddexp(
            self.sets.over_survivors(parts)[block],
            self.log_psi + self.sets.over_deaths(parts)[block],
        )
        means = _difference(sums - self.log_den)
        shares = self.share + _log_parts(means)
        pulled = self.x + self.over_range(shares, shares + self.log_psi)
        return self.expected() * vectors - _difference(pulled)


def _log_parts(values: Tensor) -> Tensor:
    """Return the logs of the positive and of the negative parts, side by side."""
    return torch.cat([values.clamp_min(0), (-values).clamp_min(0)], dim=1).log()


def _difference(log_parts: Tensor) -> Tensor:
    positive, negative = log_parts.exp().chunk(2, dim=1)
    return positive - negative
