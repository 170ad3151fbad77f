"""Cohorts with two simulated modalities whose joint effect is known: a product, or a sum."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from mmfusion.datasets._exponential import draw_exponential_times
from mmfusion.survival import surv

_DESCRIPTION = """Two simulated modalities of standard normal columns

The first column of each makes the log-hazard, their product or their sum; the others are noise.
Event times are exponential; censoring times are too, and independent of them.
"""

__all__ = ["make_additive", "make_interaction"]


def make_interaction(
    n: int = 1000,
    *,
    strength: float = 2.0,
    n_noise: int = 2,
    censoring: float = 0.3,
    random_state: int | np.random.Generator | None = 0,
) -> Bunch:
    """Simulate survival that depends on two modalities through their product only.

    The log hazard ratio is ``strength * a_0 * b_0`` with independent standard normal a_0 and b_0:
    as in an exclusive or, each modality by itself says nothing of the risk (given a_0 alone, the
    risk goes up as often as down), and neither does any sum of a function of each. What finds it
    must multiply, or have layers after fusion.

    Parameters
    ----------
    n : int, default=1000
        Number of subjects.
    strength : float, default=2.0
        Of the product.
    n_noise : int, default=2
        Further columns of each modality, standard normal, with no effect.
    censoring : float in [0, 1), default=0.3
        Expected share of censored subjects, at exponential times that know nothing of the event's.
    random_state : int, Generator or None, default=0
        Seed.

    Returns
    -------
    Bunch
        ``frame``
            DataFrame of shape (n, 2 + 2 n_noise): a_0, a_1, ..., b_0, b_1, ...
        ``target``
            Structured array (event: bool, time: float64).
        ``log_hazard``
            Series, shape (n,): the true log hazard ratio.
        ``columns``
            dict: the columns of the modalities "a" and "b".

    Raises
    ------
    ValueError
        A parameter is out of its range.

    Examples
    --------
    >>> from mmfusion.datasets import make_interaction
    >>> cohort = make_interaction(500)
    >>> cohort.columns
    {'a': ['a_0', 'a_1', 'a_2'], 'b': ['b_0', 'b_1', 'b_2']}
    >>> cohort.target.dtype.names
    ('event', 'time')
    """
    frame, columns, rng = _draw(n, n_noise, strength, censoring, random_state)
    return _outcome(frame, columns, strength * frame["a_0"] * frame["b_0"], censoring, rng)


def make_additive(
    n: int = 1000,
    *,
    strength: float = 1.0,
    n_noise: int = 2,
    censoring: float = 0.3,
    random_state: int | np.random.Generator | None = 0,
) -> Bunch:
    """Simulate survival in which two modalities add up: late fusion loses nothing.

    The log hazard ratio is ``strength * (a_0 + b_0)`` with independent standard normal a_0 and
    b_0.

    Parameters
    ----------
    n, n_noise, censoring, random_state
        See `make_interaction`.
    strength : float, default=1.0
        Of each modality's effect.

    Returns
    -------
    Bunch
        As of `make_interaction`.

    Raises
    ------
    ValueError
        A parameter is out of its range.

    Examples
    --------
    >>> from mmfusion.datasets import make_additive
    >>> make_additive(500, n_noise=0).frame.shape
    (500, 2)
    """
    frame, columns, rng = _draw(n, n_noise, strength, censoring, random_state)
    return _outcome(frame, columns, strength * (frame["a_0"] + frame["b_0"]), censoring, rng)


def _draw(
    n: Any, n_noise: Any, strength: Any, censoring: Any, random_state: Any
) -> tuple[pd.DataFrame, dict[str, list[str]], np.random.Generator]:
    for name, value, least in (("n", n, 1), ("n_noise", n_noise, 0)):
        if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
            raise ValueError(
                f"The {name} parameter must be an int of at least {least}. Got {value!r}."
            )
    if not isinstance(strength, Real) or not np.isfinite(float(strength)):
        raise ValueError(f"The strength parameter must be a finite number. Got {strength!r}.")
    if not isinstance(censoring, Real) or not 0 <= float(censoring) < 1:
        raise ValueError(f"The censoring parameter must be at least 0, below 1. Got {censoring!r}.")
    rng = np.random.default_rng(random_state)
    columns = {name: [f"{name}_{i}" for i in range(n_noise + 1)] for name in ("a", "b")}
    names = [*columns["a"], *columns["b"]]
    return pd.DataFrame(rng.normal(size=(n, len(names))), columns=names), columns, rng


def _outcome(
    frame: pd.DataFrame,
    columns: dict[str, list[str]],
    log_hazard: pd.Series,
    censoring: float,
    rng: np.random.Generator,
) -> Bunch:
    time, event, _ = draw_exponential_times(log_hazard.to_numpy(), censoring, rng)
    return Bunch(
        frame=frame,
        target=surv(time, event),
        log_hazard=log_hazard.rename("log_hazard"),
        columns=columns,
        DESCR=_DESCRIPTION,
        source="Simulated.",
        license="BSD-3-Clause",
    )
