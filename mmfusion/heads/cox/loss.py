"""The negative log partial likelihood of the Cox model: value, gradient, curvature."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmfusion.heads.cox.denominators import Denominators
from mmfusion.heads.cox.plan import CoxPlan, Ties, TiesMethod
from mmfusion.heads.cox.risk_sets import MAX_SPREAD, split_cumsum

__all__ = [
    "Reduction",
    "TiesMethod",
    "check_arguments",
    "cox_gradient",
    "cox_hessian_diagonal",
    "cox_hessian_vector",
    "cox_log_hazard",
    "cox_loss",
    "narrow",
    "prefix_sums",
    "reduced",
]

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
    check_arguments(eta, plan, ties, reduction)
    return _CoxLoss.apply(eta, plan, ties, reduction)


def cox_gradient(
    eta: Tensor, plan: CoxPlan, ties: TiesMethod = "efron", reduction: Reduction = "mean"
) -> Tensor:
    """Return d `cox_loss` / d eta in float64, of the shape of `eta`.

    For unit weights and ``reduction="sum"`` it is minus the martingale residuals.
    """
    check_arguments(eta, plan, ties, reduction)
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
    check_arguments(eta, plan, ties, reduction)
    shape, vectors = vectors.shape, vectors.detach().double().reshape(len(plan), -1)
    if plan.total == 0:
        return torch.zeros_like(vectors).view(shape)
    denominators = Denominators(eta.detach(), plan, ties)
    step = max(1, CHUNK // (4 * len(plan)))
    parts = [denominators.product(plan.sort(v)) for v in vectors.split(step, dim=1)]
    product = plan.unsort(torch.cat(parts, dim=1))
    return reduced(product, plan, reduction).view(shape)


def cox_hessian_diagonal(
    eta: Tensor, plan: CoxPlan, ties: TiesMethod = "efron", reduction: Reduction = "mean"
) -> Tensor:
    """Return the diagonal of the Hessian of `cox_loss` in eta, float64, of the shape of `eta`."""
    check_arguments(eta, plan, ties, reduction)
    if plan.total == 0:
        return torch.zeros_like(eta, dtype=torch.float64)
    diagonal = Denominators(eta.detach(), plan, ties).diagonal()
    return reduced(plan.unsort(diagonal), plan, reduction).view(eta.shape)


def cox_log_hazard(eta: Tensor, plan: CoxPlan, ties: TiesMethod = "efron") -> Tensor:
    """Return the log of the baseline hazard's jump at each event time, shape (m,), float64.

    The jumps are ``W_k / S_k`` (Breslow) or ``sum_l (W_k / d_k) / (S_k - (l / d_k) T_k)`` (Efron),
    in ascending order of (stratum, time), for a row with ``eta = 0``.
    """
    check_arguments(eta, plan, ties, "sum")
    if plan.total == 0:
        return eta.new_zeros(0, dtype=torch.float64)
    denominators = Denominators(eta.detach(), plan, ties)
    return denominators.log_hazard[:, 0] + torch.tensor(plan.total, dtype=torch.float64).log()


def check_arguments(eta: Tensor, plan: CoxPlan, ties: str, reduction: str) -> None:
    """Raise ValueError for a wrong shape or an unknown method."""
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


def narrow(eta: Tensor, plan: CoxPlan) -> Tensor | None:
    """Return `eta` in plan order, 0 its largest, if prefix sums of its exponentials will do."""
    if not plan.nested:
        return None
    x = plan.sort(eta.reshape(-1)).double()
    low, high = x.aminmax()
    return x - high if float(high - low) <= MAX_SPREAD else None


def reduced(mean: Tensor, plan: CoxPlan, reduction: Reduction) -> Tensor:
    """Return a mean over events as the reduction wants it."""
    return mean if reduction == "mean" else mean * plan.total


def _value_and_gradient(
    eta: Tensor, plan: CoxPlan, ties: TiesMethod, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """Return loss and gradient, float64; the gradient has shape (n,)."""
    if plan.total == 0:
        zeros = torch.zeros_like(eta, dtype=torch.float64).view(-1)
        return zeros.new_zeros(()), zeros
    x = narrow(eta, plan)
    if x is not None:
        loss, gradient = prefix_sums(x, plan, plan.ties if ties == "efron" else None)
        return reduced(loss, plan, reduction), reduced(plan.unsort(gradient), plan, reduction)
    denominators = Denominators(eta.detach(), plan, ties)
    gradient = plan.unsort(denominators.gradient())
    return reduced(denominators.loss(), plan, reduction), reduced(gradient, plan, reduction)


def prefix_sums(x: Tensor, plan: CoxPlan, ties: Ties | None) -> tuple[Tensor, Tensor]:
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
