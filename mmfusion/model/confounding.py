"""What tells whether an effect is adjusted for its confounders: diagnostics of two functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from scipy import stats

from mmfusion.inputs.columns import column_kind, numeric_matrix
from mmfusion.modalities import Modality

__all__ = [
    "Confounding",
    "Features",
    "Learned",
    "Left",
    "input_features",
    "learned_mean",
    "omitted_bias",
    "robustness_value",
    "strongest_left",
    "trust",
]

#: Columns whose products with each other are looked at, and columns that are looked at, at most.
CROSSED, LOOKED_AT = 40, 200
BINS = 8
#: A function that beats a constant by fewer standard errors has learned nothing to speak of.
ENOUGH = 2.0
#: How often what is left is called a confounder where nothing is left.
ALARM = 0.05


class Learned(NamedTuple):
    """How well a function predicts rows that it did not see.

    Attributes
    ----------
    measure : {"squared error", "log loss"}
    loss, constant : float
        Its mean, and that of a constant.
    z : float
        By how many standard errors it beats the constant.
    """

    measure: str
    loss: float
    constant: float
    z: float

    @property
    def explained(self) -> float:
        """One minus the ratio of the losses; of squared errors the out-of-fold R squared."""
        return 1 - self.loss / self.constant


def learned_mean(
    values: np.ndarray,
    mean: np.ndarray,
    classes: bool,
    weight: np.ndarray | None = None,
) -> Learned:
    """Hold out-of-fold means of numbers, or chances of a class, against a constant.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Numbers, or 0 and 1.
    mean : ndarray, shape (n,)
    classes : bool
    weight : ndarray, shape (n,), optional
    """
    w = np.ones(len(values)) if weight is None else weight
    constant = np.full(len(values), np.average(values, weights=w))

    def losses(guess: np.ndarray) -> np.ndarray:
        if not classes:
            return (values - guess) ** 2
        guess = guess.clip(1e-9, 1 - 1e-9)
        return -np.where(values == 1, np.log(guess), np.log(1 - guess))

    own, other = losses(mean), losses(constant)
    gain = w * (other - own)
    error = gain.std() / np.sqrt(len(values))
    measure = "log loss" if classes else "squared error"
    return Learned(
        measure,
        float(np.average(own, weights=w)),
        float(np.average(other, weights=w)),
        float(gain.mean() / error) if error > 0 else 0.0,
    )


@dataclass(frozen=True, eq=False)
class Features:
    """Simple functions of what a model reads: a confounder is near one of them, as a rule.

    Attributes
    ----------
    names : tuple of str
    values : ndarray, shape (n, m)
        Each of mean 0 and standard deviation 1.
    """

    names: tuple[str, ...]
    values: np.ndarray


def input_features(
    table: pd.DataFrame, columns: Iterable[object], modalities: Mapping[str, Modality]
) -> Features:
    """Return columns of numbers, in eighths too, and their products in pairs.

    Parameters
    ----------
    table : DataFrame
    columns : iterable of column labels
        That a formula reads, the treatment not among them.
    modalities : mapping of str to Modality
        Fitted.
    """
    read = [*columns, *(name for m in modalities.values() for name in m.columns_)]
    numbers = [n for n in dict.fromkeys(read) if _is_number(table[n])][:LOOKED_AT]
    names, found = [], []
    plain = np.zeros((len(table), 0))
    if numbers:
        raw = numeric_matrix(table, numbers)
        raw = np.where(np.isnan(raw), np.nanmean(raw, axis=0), raw)
        spread = raw.std(axis=0)
        plain = np.divide(raw - raw.mean(0), spread, out=np.zeros_like(raw), where=spread > 0)
    for name, column in zip(numbers, plain.T, strict=True):
        names.append(str(name))
        found.append(column)
        edges = np.unique(np.quantile(column, np.arange(1, BINS) / BINS))
        place = np.searchsorted(edges, column, side="right")
        for k in np.unique(place) if len(edges) > 1 else ():
            names.append(f"{name} in its eighth {k + 1}")
            found.append((place == k).astype(np.float64))
    crossed = numbers[:CROSSED]
    for i, first in enumerate(crossed):
        for j in range(i, len(crossed)):
            names.append(f"{first} * {crossed[j]}")
            found.append(plain[:, i] * plain[:, j])
    if not found:
        return Features((), np.zeros((len(table), 0)))
    values = np.column_stack(found)
    values -= values.mean(axis=0)
    spread = values.std(axis=0)
    varies = spread > 1e-8
    return Features(
        tuple(np.array(names, dtype=object)[varies]), values[:, varies] / spread[varies]
    )


def _is_number(column: pd.Series) -> bool:
    try:
        return column_kind(column) == "numeric"
    except ValueError:  # paths, images, point clouds
        return False


class Left(NamedTuple):
    """What goes together with both residuals.

    Attributes
    ----------
    name : str
        The feature, "" where there are none.
    treatment, outcome : float
        Its correlations with the residuals of treatment and outcome.
    alarm : bool
        Whether both are more than chance would make of so many features.
    """

    name: str
    treatment: float
    outcome: float
    alarm: bool


def strongest_left(features: Features, of_treatment: np.ndarray, of_outcome: np.ndarray) -> Left:
    """Return the feature that both residuals still go together with most.

    A confounder that neither function has learned stands in the residuals of both. Chance puts some
    feature into both with a probability of about `ALARM`: of m features each residual has to reach
    the level of ``sqrt(ALARM / m)``.

    Parameters
    ----------
    features : Features
    of_treatment, of_outcome : ndarray, shape (n,)
    """
    m = len(features.names)
    if not m:
        return Left("", 0.0, 0.0, alarm=False)

    def correlations(residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centred = residual - residual.mean()
        shares = features.values * centred[:, None]
        spread = max(float(centred.std()), 1e-300)
        z = shares.sum(axis=0) / np.sqrt(np.square(shares).sum(axis=0)).clip(1e-300)
        return shares.mean(axis=0) / spread, z

    (one, z_one), (two, z_two) = correlations(of_treatment), correlations(of_outcome)
    both = np.minimum(np.abs(z_one), np.abs(z_two))
    at = int(both.argmax())
    limit = stats.norm.isf(np.sqrt(ALARM / m) / 2)
    return Left(features.names[at], float(one[at]), float(two[at]), bool(both[at] > limit))


def omitted_bias(
    residual_outcome: np.ndarray,
    residual_treatment: np.ndarray,
    r2_outcome: float,
    r2_treatment: float,
) -> float:
    """Return the largest bias of a linear effect by what was not learned.

    ``sqrt(R2_Y R2_D / (1 - R2_D)) sd(u) / sd(v)`` with the partial R squared of what was left out
    (Cinelli & Hazlett 2020, JRSS B 82:39-67, eq. 11; Chernozhukov et al. 2022).

    Parameters
    ----------
    residual_outcome, residual_treatment : ndarray, shape (n,)
    r2_outcome, r2_treatment : float
    """
    factor = np.sqrt(r2_outcome * r2_treatment / max(1 - r2_treatment, 1e-12))
    return float(factor * residual_outcome.std() / max(residual_treatment.std(), 1e-300))


def robustness_value(coef: float, se: float, n: int, beyond: float = 0.0) -> float:
    """Return the partial R squared, with both, of a confounder that explains an effect away.

    Parameters
    ----------
    coef, se : float
    n : int
        Rows.
    beyond : float
        How many standard errors of the estimate may be left: 1.96 for a confounder that makes the
        interval reach 0 (Cinelli & Hazlett 2020, eq. 18 to 20).
    """
    f = max(abs(coef) / se - beyond, 0.0) / np.sqrt(n)
    return float(0.5 * (np.sqrt(f**4 + 4 * f**2) - f**2))


#: Partial R squared, with treatment and outcome both, for which the bias is told.
OMITTED = (0.01, 0.05, 0.1)


@dataclass(frozen=True, eq=False)
class Confounding:
    """How far an effect by double machine learning is to be believed.

    Attributes
    ----------
    table : Series
        Of both functions the out-of-fold loss, that of a constant, which share is explained and by
        how many standard errors. Where the effect is one on a mean: the robustness value (the share
        of what is left of treatment and outcome that a further confounder must explain to take the
        effect away; to make its interval reach 0), and the bias by one of three strengths.
    warning : str
        Why the effect may be confounded still, in words; empty where nothing speaks for it.
    """

    table: pd.Series
    warning: str

    @classmethod
    def of(
        cls,
        treatment: Learned,
        outcome: Learned,
        left: Left,
        residuals: tuple[np.ndarray, np.ndarray] | None = None,
        coef: float = np.nan,
        se: float = np.nan,
    ) -> Self:
        """Return the diagnostics of an effect.

        Parameters
        ----------
        treatment, outcome : Learned
        left : Left
        residuals : tuple of ndarray, shape (n,), optional
            Of the outcome beside the effect, and of the treatment, where the effect is linear.
        coef, se : float
            The effect.
        """
        found: dict[str, Any] = {}
        for name, one in (("treatment", treatment), ("outcome", outcome)):
            found[f"{name}: {one.measure}"] = one.loss
            found[f"{name}: {one.measure} of a constant"] = one.constant
            found[f"{name}: explained"] = one.explained
            found[f"{name}: z"] = one.z
        if left.name:
            found["left: feature"] = left.name
            found["left: correlation with the treatment"] = left.treatment
            found["left: correlation with the outcome"] = left.outcome
        if residuals is not None:
            n = len(residuals[0])
            found["robustness value"] = robustness_value(coef, se, n)
            found["robustness value of the interval"] = robustness_value(coef, se, n, 1.96)
            for share in OMITTED:
                found[f"bias if {share:.0%} is left out"] = omitted_bias(*residuals, share, share)
        return cls(pd.Series(found, dtype=object), trust(treatment, outcome, left))

    def state(self) -> dict[str, Any]:
        """Return what saving writes."""
        values = {k: v if isinstance(v, str) else float(v) for k, v in self.table.items()}
        return {"table": values, "warning": self.warning}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Take back what `state` returned."""
        return cls(pd.Series(dict(state["table"]), dtype=object), state["warning"])


def trust(treatment: Learned, outcome: Learned, left: Left) -> str:
    """Say in words why an effect may be confounded still; nothing where nothing speaks for it."""
    found: list[str] = []
    if left.alarm:
        found.append(
            f"{left.name} goes together with what is left of the treatment (correlation "
            f"{left.treatment:+.2f}) and of the outcome ({left.outcome:+.2f}): the models have not "
            "learned a confounder, and no interval covers what it does"
        )
    unlearned: Sequence[str] = [
        name for name, one in (("treatment", treatment), ("outcome", outcome)) if one.z < ENOUGH
    ]
    if unlearned:
        found.append(
            f"the models predict the {' and the '.join(unlearned)} of rows that they did not see "
            "no better than a constant does: where these are confounded, nothing adjusts for it"
        )
    return "; ".join(found)
