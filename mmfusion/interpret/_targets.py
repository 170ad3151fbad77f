"""What of a prediction is attributed: one number a row, of the head's own predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["TARGETS", "Target", "target_of"]

#: The forms that a target may have.
TARGETS = (
    "None",
    '("survival", time)',
    '("cumulative_incidence", cause, time)',
    '("quantile", share)',
    '("parameter", name)',
    '("class", label)',
)

#: Of a head, predictors (n, K) and the labels of strata: the number of each row, (n,).
Target = Callable[[Any, np.ndarray, Mapping[str, Any]], np.ndarray]

#: Parts of a target by its name, and the methods of heads that predict it, one of which must be.
_KINDS = {
    "survival": (2, {"survival"}),
    "cumulative_incidence": (3, {"cumulative_incidence"}),
    "quantile": (2, {"quantile", "distribution"}),
    "parameter": (2, {"grid"}),
    "class": (2, {"probabilities", "distribution"}),
}


def target_of(head: Any, target: Any) -> Target:
    """Return the function that makes a row's number of its predictors.

    Parameters
    ----------
    head : Head
        Fitted.
    target : None or tuple
        None: the risk score, the mean, or the log-odds of the second of two classes: what the
        estimator's ``predict`` or ``decision_function`` returns.

    Raises
    ------
    ValueError
        If the head does not predict that, or not there.
    """
    if target is None:
        return _own(head)
    parts = (target,) if isinstance(target, str) else tuple(target)
    if not parts or parts[0] not in _KINDS or len(parts) != _KINDS[parts[0]][0]:
        raise ValueError(f"The target parameter must be one of {TARGETS}. Got {target!r}.")
    kind, *asked = parts
    if not any(hasattr(head, name) for name in _KINDS[kind][1]):
        raise ValueError(f"The target {target!r} is none that {type(head).__name__} predicts.")
    if hasattr(head, "distribution") and kind != "survival":
        return _of_distribution(head, kind, asked[0], target)
    if kind == "class":
        place = _place(head.classes_.tolist(), asked[0], target)
        return lambda head, eta, context: head.probabilities(eta)[:, place]
    if kind == "parameter":
        place = _place(list(head.grid.names), asked[0], target)
        return lambda head, eta, context: eta[:, place]
    if kind == "quantile":
        return lambda head, eta, context: head.quantile(eta, asked[0], **context)
    time, last = float(asked[-1]), np.inf
    if hasattr(head, "follow_up_"):  # of each stratum
        last = float(np.max(head.follow_up_))
    elif hasattr(head, "follow_up"):
        last = float(head.follow_up(1)[0])
    if not 0 <= time <= last:
        raise ValueError(
            f"The time of the target {target!r} must lie in [0, {last:g}], the follow-up of the "
            "training rows."
        )
    times = np.array([time])
    if kind == "survival":
        return lambda head, eta, context: head.survival(eta, times, **context)[:, 0]
    head.position(asked[0])
    return lambda head, eta, context: head.cumulative_incidence(eta, times, asked[0])[:, 0]


def _own(head: Any) -> Target:
    if hasattr(head, "distribution"):
        return lambda head, eta, context: head.distribution(eta).mean
    for name in ("risk", "mean"):
        if hasattr(head, name):
            return lambda head, eta, context: np.asarray(getattr(head, name)(eta))
    if len(head.grid) == 1:
        return lambda head, eta, context: eta[:, 0]
    known = getattr(head, "classes_", np.array(head.grid.names)).tolist()
    raise ValueError(
        f'The target parameter must say which of several predictions is meant: ("class", label) or '
        f'("parameter", name), of {known}. Got None.'
    )


def _of_distribution(head: Any, kind: str, asked: Any, target: Any) -> Target:
    """Return a quantile, a parameter on its own scale, or the probability of a level."""
    if kind == "quantile":
        return lambda head, eta, context: head.distribution(eta).quantile(asked)
    if kind == "parameter":
        _place(list(head.grid.names), asked, target)
        return lambda head, eta, context: head.distribution(eta).parameters[asked]
    place = _place(list(getattr(head.family, "labels", ())), asked, target)
    level = head.family.levels[place]
    return lambda head, eta, context: head.distribution(eta).pdf(np.full(len(eta), level))


def _place(known: list[Any], asked: Any, target: Any) -> int:
    if asked not in known:
        raise ValueError(f"The target {target!r} must name one of {known}.")
    return known.index(asked)
