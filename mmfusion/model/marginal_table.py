"""What is reported of the effect of a treatment on a whole study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from mmfusion.heads.cox.adjusted import HazardRatio
from mmfusion.model.arms import SCALES, Arms
from mmfusion.model.confounding import Features, Learned, Left, trust
from mmfusion.model.measured import Measured

__all__ = ["HazardRatios", "MarginalEffect", "Propensities", "tabulate"]


@dataclass(frozen=True, eq=False)
class HazardRatios:
    """A marginal hazard ratio.

    Attributes
    ----------
    adjusted : list of HazardRatio
        A split each.
    unadjusted : HazardRatio
    last : float
        The last time of follow-up.
    """

    adjusted: Sequence[HazardRatio]
    unadjusted: HazardRatio
    last: float

    def combined(self) -> HazardRatio:
        """Return the mean over the splits, with the variance between them."""
        coefs = [one.coef for one in self.adjusted]
        variance = float(np.mean([one.variance for one in self.adjusted]) + np.var(coefs))
        z = [one.z for one in self.adjusted]
        test = float(np.mean(z) / np.sqrt(1 + np.var(z)))
        return HazardRatio(float(np.mean(coefs)), variance, test)


@dataclass(frozen=True, eq=False)
class Propensities:
    """Learned chances of treatment, and what they leave.

    Attributes
    ----------
    treated : ndarray of bool, shape (n,)
    chance : ndarray, shape (n,)
        Of treatment, of models that did not see the row, within `bounds`.
    treatment, outcome : Learned
        How well the models predict rows that they did not see.
    left : Left
        What goes together with the residuals of both.
    features : Features
    bounds : tuple of float
    """

    treated: np.ndarray
    chance: np.ndarray
    treatment: Learned
    outcome: Learned
    left: Left
    features: Features
    bounds: tuple[float, float]

    @property
    def weights(self) -> np.ndarray:
        """One over the chance of the arm that a row is in, shape (n,)."""
        return 1 / np.where(self.treated, self.chance, 1 - self.chance)

    @property
    def overlap(self) -> pd.DataFrame:
        """Chances of treatment in each arm, and how many rows their weights are worth."""
        low, high = self.bounds
        records = {}
        for name, rows in (("control", ~self.treated), ("treated", self.treated)):
            chance, weight = self.chance[rows], self.weights[rows]
            least, quarter, median, upper, most = np.quantile(chance, [0, 0.25, 0.5, 0.75, 1])
            records[name] = {
                "rows": len(chance),
                "min": least,
                "25%": quarter,
                "median": median,
                "75%": upper,
                "max": most,
                "at_bounds": float(np.mean((chance <= low) | (chance >= high))),
                "effective_rows": weight.sum() ** 2 / np.square(weight).sum(),
            }
        return pd.DataFrame.from_dict(records, orient="index")

    @property
    def balance(self) -> pd.DataFrame:
        """Standardised differences of the arms before and after weighting, the largest first."""
        values, weights = self.features.values, self.weights
        spread = np.sqrt(
            0.5 * (values[self.treated].var(axis=0) + values[~self.treated].var(axis=0))
        ).clip(1e-12)

        def difference(weight: np.ndarray) -> np.ndarray:
            means = [
                weight[rows] @ values[rows] / weight[rows].sum()
                for rows in (self.treated, ~self.treated)
            ]
            found: np.ndarray = (means[0] - means[1]) / spread
            return found

        table = pd.DataFrame(
            {"before": difference(np.ones_like(weights)), "after": difference(weights)},
            index=pd.Index(self.features.names, name="feature"),
        )
        return table.iloc[np.argsort(-table["after"].abs().to_numpy(), kind="stable")]

    @property
    def losses(self) -> pd.DataFrame:
        """Out-of-fold losses of both functions beside those of a constant."""
        rows = {"treatment": self.treatment, "outcome": self.outcome}
        return pd.DataFrame(
            {
                name: {
                    "measure": one.measure,
                    "loss": one.loss,
                    "constant": one.constant,
                    "explained": one.explained,
                    "z": one.z,
                }
                for name, one in rows.items()
            }
        ).T

    @property
    def warning(self) -> str:
        """Why the effect may be confounded still, in words; empty where nothing speaks for it."""
        return trust(self.treatment, self.outcome, self.left)


@dataclass(frozen=True, eq=False)
class MarginalEffect:
    """The effect of a treatment, had the whole study had it, and had none of it.

    Attributes
    ----------
    table : DataFrame
        Indexed by effect and time: control, treated, estimate, se, lower, upper, p; the unadjusted
        estimate and its se; and the gain, how many more rows (as a share of those there are) the
        unadjusted estimate would need for as narrow an interval. Of ratios `se` is that of the
        logarithm. Of the hazard ratio p is that of the adjusted log-rank test.
    curves : DataFrame or None
        Of survival outcomes, indexed by arm ("control", "treated", "difference") and time:
        survival, se, and bounds that hold at each time (lower, upper) and at all times together
        (band_lower, band_upper). The arms' curves never rise.
    propensities : Propensities or None
        Where the chances of treatment were learned: `overlap`, `balance`, `losses`, `warning`.
    facts : dict of str to str
    """

    table: pd.DataFrame
    curves: pd.DataFrame | None
    propensities: Propensities | None
    facts: dict[str, str]

    @property
    def warning(self) -> str:
        """Why the effect may be confounded still, in words; empty where nothing speaks for it."""
        return "" if self.propensities is None else self.propensities.warning

    def __str__(self) -> str:
        facts = "   ".join(f"{name} {value}" for name, value in self.facts.items())
        named = self.table
        if named.index.nlevels > 1:
            named = named.set_axis([f"{effect} at {time:.4g}" for effect, time in named.index])
        shown = named.rename_axis(index=None).to_string(
            float_format=lambda number: f"{number:.4g}", na_rep=""
        )
        lines = ["Marginal effect", facts, "", shown]
        if self.propensities is not None:
            numbers = self.propensities.losses.to_string(
                float_format=lambda number: f"{number:.3g}"
            )
            lines += ["", numbers]
        if self.warning:
            lines += ["", f"Warning: {self.warning}."]
        return "\n".join(lines)

    __repr__ = __str__


def tabulate(
    measured: Measured,
    arms: Arms,
    plain: Arms,
    hazards: HazardRatios | None,
    propensities: Propensities | None,
    *,
    level: float,
    seed: int,
    names: tuple[str, str],
) -> MarginalEffect:
    """Return the tables of a comparison.

    Parameters
    ----------
    measured : Measured
    arms, plain : Arms
        With models, and without.
    hazards : HazardRatios or None
    propensities : Propensities or None
    level : float
        Of intervals and bands.
    seed : int
        Of the bands.
    names : tuple of str
        The levels of control and treated.
    """
    sampling = arms.sampling
    t = float(stats.t.ppf(0.5 + level / 2, sampling.df))
    lines, keys = [], []
    means = arms.means
    known = {name: (arms.contrast(s), plain.contrast(s)) for name, s in SCALES.items()}
    for effect, time, column, scale in measured.quantities:
        own, other = known[scale]
        numbers = (own.estimate, own.se, other.estimate, other.se)
        estimate, se, unadjusted, unadjusted_se = (float(v[column]) for v in numbers)
        p = float(2 * stats.t.sf(abs(estimate) / se, sampling.df)) if se > 0 else np.nan
        back = SCALES[scale].back
        keys.append((effect, time))
        lines.append(
            [
                *means[:, column],
                *back(np.array([estimate])),
                se,
                *back(np.array([estimate - t * se, estimate + t * se])),
                p,
                *back(np.array([unadjusted])),
                unadjusted_se,
            ]
        )
    if hazards is not None:
        own_ratio, other_ratio = hazards.combined(), hazards.unadjusted
        se = np.sqrt(own_ratio.variance)
        ends = own_ratio.coef + np.array([0.0, -t, t]) * se
        keys.append(("hazard ratio", hazards.last))
        lines.append(
            [
                np.nan,
                np.nan,
                np.exp(ends[0]),
                se,
                *np.exp(ends[1:]),
                float(2 * stats.t.sf(abs(own_ratio.z), sampling.df)),
                np.exp(other_ratio.coef),
                np.sqrt(other_ratio.variance),
            ]
        )
    columns = ["control", "treated", "estimate", "se", "lower", "upper", "p"]
    table = pd.DataFrame(
        lines,
        columns=[*columns, "unadjusted", "unadjusted_se"],
        index=pd.MultiIndex.from_tuples(keys, names=["effect", "time"]),
    )
    confounded = propensities is not None
    ratio = (table["unadjusted_se"] / table["se"]) ** 2 - 1
    table["gain"] = np.nan if confounded else ratio
    if table.index.get_level_values("time").isna().all():
        table = table.droplevel("time")
    how = "learned" if confounded else "randomised"
    control, treated = (int((sampling.treated == arm).sum()) for arm in (False, True))
    facts = {
        "control": f"{names[0]} ({control} rows)",
        "treated": f"{names[1]} ({treated} rows)",
        "treatment": how,
        "intervals": f"{level:.0%}",
    }
    if sampling.cluster is not None:
        facts["clusters"] = str(int(sampling.cluster.max()) + 1)
    curves = None
    if measured.shown is not None:
        curves = _curves(measured.shown, arms, level, seed)
    return MarginalEffect(table, curves, propensities, facts)


def _curves(times: np.ndarray, arms: Arms, level: float, seed: int) -> pd.DataFrame:
    """Return the curves of the arms and their difference, with pointwise and simultaneous bounds.

    Those of the arms are on the scale of ``log(-log S)``.
    """
    from sklearn.isotonic import IsotonicRegression  # slow to import

    shown = Arms(arms.values[..., : len(times)], arms.sampling)
    errors = shown.errors()
    spans = shown.critical(errors, level, seed)
    pointwise = float(stats.t.ppf(0.5 + level / 2, arms.sampling.df))
    means, tables = shown.means, {}
    for number, name in enumerate(("control", "treated")):
        fall = IsotonicRegression(y_min=0.0, y_max=1.0, increasing=False)
        survival, se = fall.fit_transform(times, means[number]), errors[number]
        bounds = [_bounds(survival, se, span) for span in (pointwise, spans[number])]
        tables[name] = _frame(times, survival, se, bounds)
    difference, se = means[1] - means[0], errors[2]
    bounds = [(difference - z * se, difference + z * se) for z in (pointwise, spans[2])]
    tables["difference"] = _frame(times, difference, se, bounds)
    return pd.concat(tables, names=["arm"])


def _bounds(survival: np.ndarray, se: np.ndarray, span: float) -> tuple[np.ndarray, np.ndarray]:
    inside = (survival > 0) & (survival < 1)
    at = np.where(inside, survival, 0.5)
    half = span * se / (at * -np.log(at))
    lower, upper = (np.where(inside, at ** np.exp(s * half), survival) for s in (1, -1))
    return lower, upper


def _frame(
    times: np.ndarray,
    survival: np.ndarray,
    se: np.ndarray,
    bounds: Sequence[tuple[np.ndarray, ...]],
) -> pd.DataFrame:
    (lower, upper), (band_lower, band_upper) = bounds
    columns = {
        "survival": survival,
        "se": se,
        "lower": lower,
        "upper": upper,
        "band_lower": band_lower,
        "band_upper": band_upper,
    }
    return pd.DataFrame(columns, index=pd.Index(times, name="time"))
