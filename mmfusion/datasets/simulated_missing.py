"""A simulated cohort of modalities that overlap in what they say, many rows lacking some."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from mmfusion.datasets._exponential import draw_exponential_times
from mmfusion.survival import surv

__all__ = ["MissingTruth", "simulate_missing_modalities"]

#: Columns of each modality, and the standard deviation of their noise beside the severity.
MODALITIES = {"scan": (10, 0.5), "rna": (20, 2.0), "ehr": (5, 1.5)}
#: Log-hazard a standard deviation of what all modalities show, and of what one alone shows.
SHARED, OWN = 1.0, 0.4

_DESCRIPTION = """\
A latent severity, standard normal, is measured by every column of three modalities, times a loading
of its own and with noise: little in the scan, much in rna and ehr. Each modality also shows, in its
second half of columns, a factor that no other does. Times are exponential; the log-hazard is
1.0 severity + 0.4 (sum of the three factors). Rows lack modalities completely at random.
"""


@dataclass(frozen=True)
class MissingTruth:
    """What a simulated cohort was drawn from.

    Attributes
    ----------
    log_hazard : ndarray, shape (n,)
    event_time : ndarray, shape (n,)
    present : DataFrame of bool, shape (n, 3)
        Which row has which modality.
    """

    log_hazard: np.ndarray
    event_time: np.ndarray
    present: pd.DataFrame


def simulate_missing_modalities(
    n: int = 600, missing: float = 0.5, censoring: float = 0.3, random_state: int | None = None
) -> Bunch:
    """Draw a cohort of three overlapping modalities, of which many rows lack one or two.

    Parameters
    ----------
    n : int, default=600
    missing : float in [0, 1], default=0.5
        Share of rows that lack a modality: one or two of the three, each such set alike often.
    censoring : float in [0, 1), default=0.3
        Expected share of censored rows, at exponential times that know nothing of the event's.
    random_state : int, optional

    Returns
    -------
    Bunch
        ``frame`` with columns ``scan_00 ...``, ``rna_00 ...``, ``ehr_00 ...``, all NaN where the
        modality is absent; ``target``, a survival outcome; ``truth``, a `MissingTruth`; ``DESCR``,
        ``source`` and ``license``.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> cohort = simulate_missing_modalities(200, random_state=0)
    >>> cohort.frame.shape
    (200, 35)
    >>> int((~cohort.truth.present).any(axis=1).sum())
    100
    """
    if not isinstance(n, Integral) or n < 1:
        raise ValueError(f"The n parameter must be an int of at least 1. Got {n!r}.")
    if not isinstance(missing, Real) or not 0 <= missing <= 1:
        raise ValueError(f"The missing parameter must be between 0 and 1. Got {missing!r}.")
    if not isinstance(censoring, Real) or not 0 <= censoring < 1:
        raise ValueError(f"The censoring parameter must be at least 0, below 1. Got {censoring!r}.")
    # A stream each, so that no part of the cohort changes with the parameters of another. How the
    # columns load is part of the law: the same in every cohort.
    values_rng, time_rng, missing_rng = np.random.default_rng(random_state).spawn(3)
    loadings_rng = np.random.default_rng(0)
    severity = values_rng.normal(size=n)
    log_hazard = SHARED * severity
    columns = {}
    for name, (width, noise) in MODALITIES.items():
        factor = values_rng.normal(size=n)
        log_hazard = log_hazard + OWN * factor
        loading = loadings_rng.uniform(0.5, 1.0, size=width)
        own = np.where(np.arange(width) < width // 2, 0.0, loadings_rng.uniform(0.5, 1.0, width))
        values = severity[:, None] * loading + factor[:, None] * own
        values = values + noise * values_rng.normal(size=(n, width))
        columns |= {f"{name}_{j:02d}": values[:, j] for j in range(width)}

    time, event, event_time = draw_exponential_times(log_hazard, censoring, time_rng)

    present = pd.DataFrame(True, index=range(n), columns=list(MODALITIES))
    lacking = missing_rng.permutation(n)[: round(missing * n)]
    patterns = np.array([[int(b) for b in f"{code:03b}"] for code in range(1, 7)], dtype=bool)
    present.iloc[lacking] = patterns[missing_rng.integers(0, len(patterns), len(lacking))]
    frame = pd.DataFrame(columns)
    for name in MODALITIES:
        frame.loc[~present[name], [c for c in frame.columns if c.startswith(name)]] = np.nan
    return Bunch(
        frame=frame,
        target=surv(time, event),
        truth=MissingTruth(log_hazard, event_time, present),
        DESCR=_DESCRIPTION,
        source="Simulated.",
        license="BSD-3-Clause",
    )
