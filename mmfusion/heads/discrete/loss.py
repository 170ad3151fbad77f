"""Negative log-likelihoods of a row each, and DeepHit's ranking loss, in float64.

A row observed on ``(entry, time]`` has the likelihood of its outcome given that it survived until
its entry, so each loss is that of the outcome less that of a censoring at the entry.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from mmfusion.heads.discrete.target import DiscreteTimeTarget

__all__ = [
    "deephit_rank_loss",
    "mtlr_logits",
    "nll_hazard",
    "nll_mass",
    "nll_pc_hazard",
    "pycox_losses",
]

#: Logit of a hazard that is 0 in float64, with gradient 0: pycox's grid has a time 0, ours has not.
NEVER = -1000.0


def pycox_losses() -> ModuleType:
    """Import pycox's losses: at the first use, for it takes seconds.

    Raises
    ------
    ImportError
        Saying what to do, where pycox cannot make the folder that it makes when it is imported.
    """
    try:
        from pycox.models import loss
    except OSError as error:
        raise ImportError(
            "pycox cannot be imported: it makes a folder for its data sets inside its own package "
            "and may not write there. Set the environment variable PYCOX_DATA_DIR to a folder "
            f"that can be written. ({error})"
        ) from error
    return loss


def nll_hazard(phi: Tensor, target: DiscreteTimeTarget) -> Tensor:
    r"""Return the loss of the logistic hazard (Nnet-survival), shape (n,), by pycox's function.

    With hazards ``h_j = sigmoid(phi_j)`` of the intervals j after entry, up to the last one,

    .. math:: \ell = -\sum_{j = a + 1}^{s} y_j \log h_j + (1 - y_j) \log(1 - h_j)

    where y_j is 1 in the interval of an event (Brown 1975; Gensheimer & Narasimhan 2019, PeerJ
    7:e6257, eq. 3; Kvamme & Borgan 2021, eq. 10). MultiSurv's loss (Vale-Silva & Rohr 2021) is
    this sum too: it differs in when a censored row is taken to have survived an interval
    (`mmfusion.heads.discrete.grid.place`).

    Parameters
    ----------
    phi : Tensor, shape (n, n_intervals)
    target : DiscreteTimeTarget
    """
    nll = pycox_losses().nll_logistic_hazard
    phi = phi.double()
    phi = torch.cat([phi.new_full((len(phi), 1), NEVER), phi], dim=1)
    event = (target.cause > 0).double()
    until_entry = nll(phi, target.start, torch.zeros_like(event), "none")
    return nll(phi, target.stop, event, "none") - until_entry


def nll_pc_hazard(phi: Tensor, target: DiscreteTimeTarget) -> Tensor:
    r"""Return the loss of the piecewise constant hazard, shape (n,), by pycox's function.

    With ``lambda_j = softplus(phi_j)``, the cumulative hazard over interval j,

    .. math:: \ell = -\delta \log \lambda_s + \Lambda(t) - \Lambda(a)

    for an exit at t in interval s and an entry at a (Friedman 1982; Kvamme & Borgan 2021,
    eq. 17). The density is that of time in units of the interval.

    Parameters
    ----------
    phi : Tensor, shape (n, n_intervals)
    target : DiscreteTimeTarget
    """
    nll = pycox_losses().nll_pc_hazard_loss
    phi = phi.double()
    event = (target.cause > 0).double()
    until_entry = nll(phi, target.start, torch.zeros_like(event), target.start_share, "none")
    return nll(phi, target.stop, event, target.stop_share, "none") - until_entry


def nll_mass(phi: Tensor, target: DiscreteTimeTarget, n_causes: int = 1) -> Tensor:
    r"""Return the loss of a probability mass a cause and interval, shape (n,).

    The masses are ``softmax([phi, 0])``, the last one that of no event within the grid, and

    .. math:: \ell = -\log \sum_{c \in O} p_c + \log \sum_{c \in R} p_c

    where O is the mass of the event, or all masses after a censoring, and R all masses after entry
    (Kvamme & Borgan 2021, eq. 12; Lee et al. 2018, AAAI, eq. 4). pycox's functions sum
    exponentials and add 1e-7 before the logarithm, so that an improbable censoring has no
    gradient; here both sums stay logarithms, and no row has a loss with an end.

    Parameters
    ----------
    phi : Tensor, shape (n, n_causes * n_intervals)
        Cause by cause.
    target : DiscreteTimeTarget
    n_causes : int
    """
    logits = _with_survivors(phi.double())
    interval, cause = _classes(phi.shape[1], n_causes, phi.device)
    stop, found = target.stop[:, None], target.cause[:, None]
    observed = torch.where(found > 0, (interval == stop) & (cause == found), interval > stop)
    at_risk = interval > target.start[:, None]
    return _log_sum(logits, at_risk) - _log_sum(logits, observed)


def mtlr_logits(phi: Tensor) -> Tensor:
    """Return the logits of MTLR's masses: each the sum of the predictors from it on.

    Yu, Greiner, Lin & Baracos 2011 (NeurIPS 24:1845-1853); Fotso 2018 (arXiv:1801.05512).
    """
    return phi.flip(1).cumsum(1).flip(1)


def deephit_rank_loss(
    phi: Tensor, target: DiscreteTimeTarget, sigma: float, n_causes: int = 1
) -> Tensor:
    r"""Return DeepHit's ranking loss, a scalar.

    .. math:: \sum_k \frac{\sum_{i,j} w_i w_j A_{ij}^k
              \exp\{-[F_k(s_i \mid x_i) - F_k(s_i \mid x_j)] / \sigma\}}{(\sum_i w_i)^2}

    over pairs of which i had an event of cause k in interval s_i, when j had entered, and j had
    none until its end (Lee et al. 2018, AAAI, eq. 5); the mean over all pairs is pycox's. The
    exponential of a difference is a product, so that sums over i and over j suffice: memory and
    time grow with n and not with its square, and float64, which pycox's function refuses, is used.

    Parameters
    ----------
    phi : Tensor, shape (n, n_causes * n_intervals)
    target : DiscreteTimeTarget
    sigma : float
    n_causes : int
    """
    mass = _with_survivors(phi.double()).softmax(1)[:, :-1]
    mass = mass.unflatten(1, (n_causes, -1))  # (n, n_causes, n_intervals)
    incidence = mass.cumsum(2) / sigma
    weight = (target.weight / target.weight.sum().clamp_min(1e-300))[:, None, None]
    interval = torch.arange(1, mass.shape[2] + 1, device=phi.device)
    cause = torch.arange(1, n_causes + 1, device=phi.device)[:, None]
    stop, start, found = (
        value[:, None, None] for value in (target.stop, target.start, target.cause)
    )
    first = (stop == interval) & (found == cause)
    second = ((stop > interval) | ((stop == interval) & (found == 0))) & (start < interval)
    firsts = (weight * first * torch.exp(-incidence)).sum(0)
    seconds = (weight * second * torch.exp(incidence)).sum(0)
    return (firsts * seconds).sum()


def _with_survivors(phi: Tensor) -> Tensor:
    return torch.cat([phi, phi.new_zeros(len(phi), 1)], dim=1)


def _classes(n_logits: int, n_causes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return interval and cause, from 1, of each class; of the survivors J + 1 and 0."""
    n_intervals = n_logits // n_causes
    interval = torch.arange(1, n_intervals + 1, device=device).repeat(n_causes)
    cause = torch.arange(1, n_causes + 1, device=device).repeat_interleave(n_intervals)
    return (
        torch.cat([interval, interval.new_full((1,), n_intervals + 1)]),
        torch.cat([cause, cause.new_zeros(1)]),
    )


def _log_sum(logits: Tensor, chosen: Tensor) -> Tensor:
    return logits.masked_fill(~chosen, -torch.inf).logsumexp(1)
