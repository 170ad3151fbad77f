"""Whole distributions on real and simulated data: log score, CRPS, coverage, width; C and IBS.

- ``metabric``: accelerated failure time models beside Cox's, with and without networks, and those
  of lifelines, on the same folds.
- ``simulated``: a location and a spread that images move, noise high and low: CRPS over that of the
  oracle that sees the pixels, and coverage of 90 % intervals before and after calibration.

Each row is appended to results/distribution_scores.csv at once, so that an interrupted run goes on
where it stopped.

    python -m benchmarks.distribution_scores --data metabric simulated
    python -m benchmarks.distribution_scores --report       # only the tables
"""

# ruff: noqa: E402 - the number of threads is read when NumPy and Torch are imported
from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import lifelines
import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.base import BaseEstimator
from torch import nn

from mmfusion import Genes, Image, Tabular
from mmfusion.datasets import load_metabric
from mmfusion.estimators import FusionCox, FusionDistribution
from mmfusion.evaluation import survival_stratified_folds
from mmfusion.fusion import JointFusion
from mmfusion.metrics import (
    ConformalIntervals,
    concordance_index,
    crps,
    d_calibration,
    evaluation_times,
    integrated_brier_score,
    interval_coverage,
    log_score,
)

torch.set_num_threads(1)

RESULTS = Path(__file__).parent / "results" / "distribution_scores.csv"
COLUMNS = ["data", "model", "fold", "metric", "value"]
FOLDS = 5

Row = dict[str, Any]


# --- METABRIC -------------------------------------------------------------------------------------


class Lifelines(BaseEstimator):
    """A model of lifelines with the columns of a table."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Lifelines:
        self.model_ = getattr(lifelines, self.kind)()
        table = X.assign(time=y["time"], event=y["event"])
        # Who was censored at once says nothing, and is refused.
        self.model_.fit(table[table["time"] > 0], "time", "event")
        return self

    def predict_risk(self, X: pd.DataFrame) -> np.ndarray:
        return -np.asarray(self.model_.predict_median(X), dtype=float).ravel()

    def predict_survival_function(self, X: pd.DataFrame, times: np.ndarray) -> np.ndarray:
        return self.model_.predict_survival_function(X, times=times).T.to_numpy()


def run_metabric(done: set[Any]) -> Iterator[Row]:
    data = load_metabric()
    frame, y = data.frame[data.clinical + data.genes].astype(float), data.target
    formula = " + ".join(frame)
    networks = {"clinical": Tabular(data.clinical), "genes": Genes(data.genes, encoder="mlp")}

    def aft(family: str, modalities: Any, scale: str | None = None) -> FusionDistribution:
        formulas = formula if scale is None else {"loc": formula, "scale": scale}
        return FusionDistribution(modalities, structured=formulas, family=family, random_state=0)

    kinds = {
        "weibull": "WeibullAFTFitter",
        "log_normal": "LogNormalAFTFitter",
        "log_logistic": "LogLogisticAFTFitter",
    }
    models: dict[str, Any] = {
        "Cox": lambda: FusionCox({}, structured=formula),
        **{f"AFT, {name}": lambda name=name: aft(name, {}) for name in kinds},
        **{f"lifelines, {name}": lambda kind=kind: Lifelines(kind) for name, kind in kinds.items()},
        "AFT, weibull, scale of all columns": lambda: aft("weibull", {}, formula),
        "Cox and networks": lambda: FusionCox(networks, structured=formula, random_state=0),
        "AFT, weibull, and networks": lambda: aft("weibull", networks),
        "AFT, log_normal, and networks": lambda: aft("log_normal", networks),
    }
    folds = survival_stratified_folds(y, FOLDS, random_state=0)
    for name, make in models.items():
        for fold, (train, test) in enumerate(folds):
            if ("metabric", name, fold) in done:
                continue
            start = time.process_time()
            model = make().fit(frame.iloc[train], y[train])
            seconds = time.process_time() - start
            yield {
                "model": name,
                "fold": fold,
                **judge_times(model, frame.iloc[test], y, train, test),
            } | {"seconds": seconds}
            if name == "AFT, weibull":
                yield {
                    "model": f"{name}, calibrated",
                    "fold": fold,
                    **recalibrated(make, frame, y, train, test),
                }


def recalibrated(
    make: Callable[[], Any], frame: pd.DataFrame, y: np.ndarray, train: Any, test: Any
) -> Row:
    apart = np.random.default_rng(0).permutation(len(train)) < len(train) // 5
    rows, rest = train[~apart], train[apart]
    model = make().fit(frame.iloc[rows], y[rows]).calibrate(frame.iloc[rest], y[rest])
    return judge_times(model, frame.iloc[test], y, train, test)


def judge_times(model: Any, X: pd.DataFrame, y: np.ndarray, train: Any, test: Any) -> Row:
    """Return the scores of a survival model; curves at times of the training rows."""
    risk = getattr(model, "predict_risk", getattr(model, "predict", None))(X)
    times = evaluation_times(y[train])
    ours = isinstance(model, FusionCox)
    curves = model.predict_survival_function(X, times, **({"extrapolate": True} if ours else {}))
    own = np.unique(y["time"][test])
    more = model.predict_survival_function(X, own, **({"extrapolate": True} if ours else {}))
    at_own = np.asarray(more)[np.arange(len(test)), np.searchsorted(own, y["time"][test])]
    row: Row = {
        "C": concordance_index(y[test], risk),
        "IBS": integrated_brier_score(y[train], y[test], np.asarray(curves), times),
        "D-calibration": d_calibration(y[test], np.clip(at_own, 0, 1)).statistic,
    }
    if hasattr(model, "predict_distribution"):
        row["log score"] = log_score(y[test], model.predict_distribution(X)).mean()
    return row


# --- simulated ------------------------------------------------------------------------------------

N_TRAIN, N_TEST, SEEDS, LEVEL = 1500, 20_000, 7, 0.9
#: Rows of a calibration: so many, and as many as keep coverage within a point of the level.
N_CALIBRATE = (1999, 9999)
NOISE = {"high noise": 1.0, "low noise": 0.2}
CALIBRATED = "coverage, calibrated by"


class Normal:
    """What is true."""

    discrete = False

    def __init__(self, loc: np.ndarray, scale: np.ndarray) -> None:
        self.loc, self.scale = loc, scale

    def _of(self, name: str, values: np.ndarray) -> np.ndarray:
        shape = (-1, *[1] * (values.ndim - 1))
        known = stats.norm(self.loc.reshape(shape), self.scale.reshape(shape))
        return getattr(known, name)(values)

    def cdf(self, y: np.ndarray) -> np.ndarray:
        return self._of("cdf", y)

    def sf(self, y: np.ndarray) -> np.ndarray:
        return self._of("sf", y)

    def logpdf(self, y: np.ndarray) -> np.ndarray:
        return self._of("logpdf", y)

    def quantile(self, p: np.ndarray) -> np.ndarray:
        return self._of("ppf", p)

    def crps(self, y: np.ndarray) -> np.ndarray:
        z = (y - self.loc) / self.scale
        density, chance = stats.norm.pdf(z), stats.norm.cdf(z)
        return self.scale * (z * (2 * chance - 1) + 2 * density - 1 / np.sqrt(np.pi))


def small_network() -> nn.Module:
    """Return an encoder of 8 x 8 images: one convolution."""
    layers = [nn.Conv2d(1, 4, 4, stride=2, padding=1), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers)


#: Standard deviation of what the 32 pixels of a half say of its brightness, and what is left of
#: it beside brightness that is uniform from -1 to 1.
BLUR = 25 / 60 / np.sqrt(32)
SHRINK = 1 / (1 + 3 * BLUR**2)


def draw(n: int, seed: int, noise: float) -> tuple[pd.DataFrame, np.ndarray, Normal]:
    """Return images whose halves' brightness moves the location and the spread of y.

    The last is what is known of y by who knows the model, and of an image its pixels alone.
    """
    rng = np.random.default_rng([seed, n])
    left, right = rng.uniform(-1, 1, size=(2, n))
    pixels = rng.normal(128, 25, size=(n, 8, 8))
    pixels[:, :, :4] += 60 * left[:, None, None]
    pixels[:, :, 4:] += 60 * right[:, None, None]
    frame = pd.DataFrame({"x": rng.normal(size=n)})
    frame["image"] = list(pixels.clip(0, 255).astype(np.uint8))
    loc, scale = 0.5 * frame["x"].to_numpy() + 1.5 * left, noise * np.exp(0.7 * right)
    shown = np.stack(list(frame["image"])).astype(float)
    halves = (shown[:, :, :4].mean((1, 2)), shown[:, :, 4:].mean((1, 2)))
    left, right = (SHRINK * (half - 128) / 60 for half in halves)
    blur = SHRINK * BLUR**2  # the variance of brightness that is left
    spread = np.sqrt(noise**2 * np.exp(1.4 * right + 0.98 * blur) + 1.5**2 * blur)
    truth = Normal(0.5 * frame["x"].to_numpy() + 1.5 * left, spread)
    return frame, loc + scale * rng.normal(size=n), truth


def run_simulated(done: set[Any]) -> Iterator[Row]:
    for seed in range(SEEDS):
        for name, noise in NOISE.items():
            if ("simulated", name, seed) in done:
                continue
            X, y, _ = draw(N_TRAIN, seed, noise)
            rest, y_rest, _ = draw(max(N_CALIBRATE), 100 + seed, noise)
            new, y_new, truth = draw(N_TEST, 200 + seed, noise)
            start = time.process_time()
            model = FusionDistribution(
                {"scan": Image("image", size=8, channels="L", encoder=small_network)},
                structured={"loc": "x"},
                deep=("loc", "scale"),
                fusion=JointFusion("concat", dim=16, hidden=(16,), dropout=0.0),
                epochs=30,
                patience=8,
                learning_rate=0.01,
                random_state=seed,
            ).fit(X, y)
            seconds = time.process_time() - start
            found = model.predict_distribution(new)
            raw = found.quantile([(1 - LEVEL) / 2, (1 + LEVEL) / 2]).T  # as predict_interval's
            seen = model.predict_interval(rest, LEVEL).to_numpy()
            held = {}
            for n in N_CALIBRATE:  # as calibrate does
                moved = ConformalIntervals.fit(y_rest[:n], *seen[:n].T, level=LEVEL).apply(*raw)
                held[f"{CALIBRATED} {n}"] = interval_coverage(y_new, *moved)
            yield {
                "model": name,
                "fold": seed,
                "CRPS": crps(y_new, found).mean(),
                "CRPS of the oracle": crps(y_new, truth).mean(),
                "coverage": interval_coverage(y_new, *raw),
                **held,
                "correlation of log scales": np.corrcoef(
                    np.log(found.parameters["scale"]), np.log(truth.scale)
                )[0, 1],
                "seconds": seconds,
            }


# --- running and telling --------------------------------------------------------------------------

RUNS = {"metabric": run_metabric, "simulated": run_simulated}


def read(results: Path) -> pd.DataFrame:
    return pd.read_csv(results) if results.exists() else pd.DataFrame(columns=COLUMNS)


def done(results: Path) -> set[Any]:
    """Return data, model and fold of what there is already."""
    keys = read(results)[["data", "model", "fold"]]
    return set(keys.itertuples(index=False, name=None))


def keep(data: str, rows: Iterator[Row], results: Path) -> None:
    """Append each row to the results as soon as it is there."""
    for row in rows:
        keys = {"data": data, "model": row.pop("model"), "fold": row.pop("fold")}
        table = pd.DataFrame([{**keys, "metric": k, "value": float(v)} for k, v in row.items()])
        table.round({"value": 5}).to_csv(
            results, mode="a", index=False, header=not results.exists()
        )
        print(keys, {k: round(float(v), 4) for k, v in row.items()}, flush=True)


def pivot(part: pd.DataFrame, how: str) -> pd.DataFrame:
    """Return a row a model, a column a score: the mean over folds, or another."""
    part = part[part["metric"] != "seconds"]
    return part.pivot_table("value", "model", "metric", how, sort=False)


def conformal(part: pd.DataFrame) -> str:
    """Return how coverage after calibration is spread, beside what theory says of it.

    By n rows it is a Beta variable of k and n + 1 - k with ``k = ceil((n + 1) level)``, whatever
    the model; of some new rows so many are held as a binomial variable of that chance. p is that of
    Kolmogorov and Smirnov's test; ties are broken at random.
    """
    rng, rows = np.random.default_rng(0), []
    for n in N_CALIBRATE:
        rank = np.ceil((n + 1) * LEVEL - 1e-9)
        theory = stats.betabinom(N_TEST, rank, n + 1 - rank)
        found = part.loc[part["metric"] == f"{CALIBRATED} {n}", ["model", "value"]]
        for model, each in (*found.groupby("model"), ("both", found)):
            count = np.round(each["value"].to_numpy() * N_TEST)
            chance = theory.cdf(count - 1) + rng.uniform(size=len(count)) * theory.pmf(count)
            within = theory.cdf((LEVEL + 0.01) * N_TEST) - theory.cdf((LEVEL - 0.01) * N_TEST - 1)
            rows.append(
                {
                    "rows": n,
                    "noise": model,
                    "draws": len(count),
                    "mean": each["value"].mean(),
                    "least": each["value"].min(),
                    "most": each["value"].max(),
                    "sd": each["value"].std(),
                    "sd, theory": theory.std() / N_TEST,
                    "within 1 point": (each["value"] - LEVEL).abs().le(0.01 + 1e-9).mean(),
                    "within 1 point, theory": within,
                    "p": stats.kstest(chance, "uniform").pvalue,
                }
            )
    return pd.DataFrame(rows).round(4).to_string(index=False)


def report() -> str:
    """Return a table for each of the data: means over folds."""
    texts = []
    for data, part in read(RESULTS).groupby("data", sort=False):
        n = part.groupby("model", sort=False)["fold"].nunique()
        texts += [f"\n## {data}\n", pivot(part, "mean").assign(folds=n).round(4).to_string()]
        if data == "simulated":
            by = part.pivot_table("value", ["model", "fold"], "metric")
            over = (by["CRPS"] / by["CRPS of the oracle"]).groupby("model")
            texts += ["", "CRPS over the oracle's", over.agg(["mean", "min", "max"]).to_string()]
            texts += ["", pivot(part, "min").round(4).to_string()]
            texts += ["", pivot(part, "max").round(4).to_string(), "", conformal(part)]
    return "\n".join(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="*", default=[], choices=list(RUNS))
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for data in arguments.data:
        keep(data, RUNS[data](done(RESULTS)), RESULTS)
    if arguments.report:
        print(report())


if __name__ == "__main__":
    main()
