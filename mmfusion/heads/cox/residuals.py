"""Residuals of a Cox model: martingale, deviance, score and Schoenfeld."""

from __future__ import annotations

import torch
from torch import Tensor

from mmfusion.heads.cox.denominators import Denominators
from mmfusion.heads.cox.plan import CoxPlan, TiesMethod

__all__ = [
    "cox_deviance_residuals",
    "cox_martingale_residuals",
    "cox_scaled_schoenfeld_residuals",
    "cox_schoenfeld_residuals",
    "cox_score_residuals",
]


def cox_martingale_residuals(eta: Tensor, plan: CoxPlan, ties: TiesMethod = "efron") -> Tensor:
    """Return the event indicator less the expected number of events of each row, shape (n,).

    Their weighted sum is 0 in each stratum (Barlow & Prentice 1988, Biometrika 75:65-74). A row of
    weight 0 counts as censored.
    """
    event = plan.event.double()
    if plan.total == 0:
        return plan.unsort(event)
    denominators = Denominators(eta.detach(), plan, ties)
    expected = (denominators.eta + denominators.log_hazard_met()[:, 0]).exp() * plan.total
    return plan.unsort(event - expected)


def cox_deviance_residuals(eta: Tensor, plan: CoxPlan, ties: TiesMethod = "efron") -> Tensor:
    """Return martingale residuals made symmetric, shape (n,).

    ``sign(M) sqrt(-2 (M + delta log(delta - M)))`` (Therneau, Grambsch & Fleming 1990, Biometrika
    77:147-160).
    """
    martingale = cox_martingale_residuals(eta, plan, ties)
    event = plan.unsort(plan.event.double())
    inside = martingale + torch.xlogy(event, event - martingale)
    return martingale.sign() * (-2 * inside).clamp_min(0).sqrt()


def cox_score_residuals(
    eta: Tensor, plan: CoxPlan, design: Tensor, ties: TiesMethod = "efron"
) -> Tensor:
    r"""Return what each row adds to the score of the coefficients, shape (n, p).

    .. math:: \int (x_i - \bar x(t)) \, dM_i(t)

    (Lin & Wei 1989, JASA 84:1074-1078). Tied deaths share Efron's denominators as they do in the
    likelihood. Weights are not in it: ``weight @ residuals`` is the score.

    Parameters
    ----------
    design : Tensor, shape (n, p)
    """
    design = design.detach().double()
    if plan.total == 0:
        return torch.zeros_like(design)
    denominators = Denominators(eta.detach(), plan, ties)
    rows = plan.sort(design - design.mean(0))
    means = denominators.means(rows)
    log_rate = denominators.eta[:, None]
    expected = (log_rate + denominators.log_hazard_met()).exp()
    scores = (denominators.meet(means, log_rate) - expected * rows) * plan.total
    dying = denominators.sets.rows
    scores[dying] += rows[dying] - denominators.by_event(means)
    return plan.unsort(scores)


def cox_schoenfeld_residuals(
    eta: Tensor, plan: CoxPlan, design: Tensor, ties: TiesMethod = "efron"
) -> tuple[Tensor, Tensor]:
    """Return each event's covariates less their mean over those at risk (Schoenfeld 1982).

    The mean is that of the likelihood: weighted by ``w exp(eta)``, and by Efron's method the
    average over the denominators of tied events. (Biometrika 69:239-241.)

    Parameters
    ----------
    design : Tensor, shape (n, p)

    Returns
    -------
    rows : Tensor of int64, shape (e,)
        The row of each event, in ascending order of (stratum, time, row).
    residuals : Tensor of float64, shape (e, p)
    """
    design = design.detach().double()
    if plan.total == 0:
        return torch.zeros(0, dtype=torch.int64), design.new_zeros(0, design.shape[1])
    denominators = Denominators(eta.detach(), plan, ties)
    center = design.mean(0)
    rows = plan.sort(design - center)
    dying, block = denominators.sets.rows, denominators.sets.block
    residuals = rows[dying] - denominators.by_event(denominators.means(rows))
    number = dying if plan.order is None else plan.order[dying].long()
    order = torch.argsort(block * len(plan) + number)
    return number[order], residuals[order]


def cox_scaled_schoenfeld_residuals(residuals: Tensor, coef: Tensor, covariance: Tensor) -> Tensor:
    """Return scaled Schoenfeld residuals: smoothed over time they show ``beta(t)``.

    ``beta + d V s`` for each of the d events (Grambsch & Therneau 1994, Biometrika 81:515-526),
    the covariance V of the coefficients in place of each event time's own.

    Parameters
    ----------
    residuals : Tensor, shape (e, p)
    coef : Tensor, shape (p,)
    covariance : Tensor, shape (p, p)
    """
    return coef + len(residuals) * residuals @ covariance
