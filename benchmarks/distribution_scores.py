"""Whole distributions on real and simulated data: log score, CRPS, coverage, width; C and IBS.

- ``houses``: log price of 535 houses, by attributes, by four photographs (features of a frozen
  encoder, computed once), by both; against quantile boosting on the same folds. Conformal intervals
  are fitted on four fifths of a fold's training rows and calibrated on the rest.
- ``metabric``: accelerated failure time models beside Cox's, with and without networks, and those
  of lifelines, on the same folds.
- ``simulated``: a location and a spread that images move, noise high and low: CRPS over that of the
  oracle that sees the pixels, and coverage of 90 % intervals before and after calibration.

Each row is appended to results/distribution_scores.csv at once, so that an interrupted run goes on
where it stopped.

    python -P benchmarks/distribution_scores.py --data houses metabric simulated
    python -P benchmarks/distribution_scores.py --report       # only the tables
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
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold
from torch import nn

from mmfusion import Genes, Image, Tabular
from mmfusion.datasets import fetch_houses, load_metabric
from mmfusion.estimators import FusionCox, FusionDistribution
from mmfusion.evaluation import corrected_interval, survival_stratified_folds
from mmfusion.fusion import JointFusion
from mmfusion.metrics import (
    ConformalIntervals,
    concordance_index,
    crps,
    d_calibration,
    evaluation_times,
    integrated_brier_score,
    interval_coverage,
    interval_score,
    interval_width,
    log_score,
    quantile_score,
)

torch.set_num_threads(1)

RESULTS = Path(__file__).parent / "results" / "distribution_scores.csv"
COLUMNS = ["data", "model", "fold", "metric", "value"]
#: Of intervals, and of the quantiles that all models have.
LEVEL, LEVELS = 0.9, np.arange(0.05, 0.951, 0.05).round(2)
FOLDS = 5

Row = dict[str, Any]


# --- houses ---------------------------------------------------------------------------------------

ATTRIBUTES = ["bedrooms", "bathrooms", "log_area"]
FORMULA = {"loc": "bedrooms + bathrooms + s(log_area)", "scale": "log_area"}


def houses(cache: Path | None) -> tuple[pd.DataFrame, np.ndarray]:
    """Return attributes and features of the photographs, and the log price."""
    from mmfusion.encoders import build_encoder
    from mmfusion.model.features import frozen_features

    data = fetch_houses()
    frame = data.frame.assign(log_area=np.log(data.frame["area"]))[ATTRIBUTES]
    if cache is not None and cache.exists():
        features = np.load(cache)
    else:
        image = Image(
            data.images,
            size=128,
            encoder="tf_efficientnet_lite0",
            pretrained="embedded",
            freeze="all",
        )
        image.fit(data.frame)
        part = image.transform(data.frame)
        found = frozen_features(build_encoder(image, 1), part, torch.device("cpu"), "32-true")
        features = found.numeric.numpy()
        if cache is not None:
            np.save(cache, features)
    photos = pd.DataFrame(features, index=frame.index).add_prefix("photo_")
    return pd.concat([frame, photos], axis=1), np.log(data.target)


def ours(parts: str, family: str = "normal") -> FusionDistribution:
    """Return a model of attributes, photographs or both."""
    photos = {"photos": Genes("photo_*", n_components=20, hidden=(32,), dropout=0.3)}
    return FusionDistribution(
        modalities=photos if "photographs" in parts else {},
        structured=FORMULA if "attributes" in parts else None,
        family=family,
        deep=("loc", "scale"),
        random_state=0,
    )


class QuantileBoosting(BaseEstimator):
    """A gradient boosting a level, of attributes and 20 components of the photographs."""

    def __init__(self, parts: str) -> None:
        self.parts = parts

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> QuantileBoosting:
        photos = X.filter(like="photo_")
        self.pca_ = PCA(20, random_state=0).fit(photos) if "photographs" in self.parts else None
        design = self._design(X)
        self.models_ = [
            HistGradientBoostingRegressor(
                loss="quantile", quantile=q, max_iter=60, max_leaf_nodes=8, random_state=0
            ).fit(design, y)
            for q in LEVELS
        ]
        return self

    def _design(self, X: pd.DataFrame) -> np.ndarray:
        own = X[ATTRIBUTES].to_numpy(float)
        if self.pca_ is None:
            return own
        return np.hstack([own, self.pca_.transform(X.filter(like="photo_"))])

    def quantiles(self, X: pd.DataFrame) -> np.ndarray:
        """Return the quantiles of `LEVELS`, put in order where they cross."""
        design = self._design(X)
        return np.sort(np.column_stack([m.predict(design) for m in self.models_]), axis=1)


def quantiles(model: Any, X: pd.DataFrame) -> np.ndarray:
    if hasattr(model, "quantiles"):
        return model.quantiles(X)
    return model.predict_distribution(X).quantile(LEVELS)


def judge_numbers(model: Any, X: pd.DataFrame, y: np.ndarray) -> Row:
    """Return the scores of a model that predicts numbers."""
    found = quantiles(model, X)
    row: Row = {"CRPS of quantiles": 2 * quantile_score(y, found, LEVELS).mean()}
    row |= intervals(y, found[:, 0], found[:, -1])
    if hasattr(model, "predict_distribution"):
        distribution = model.predict_distribution(X)
        row["log score"] = log_score(y, distribution).mean()
        row["CRPS"] = crps(y, distribution).mean()
    return row


def intervals(y: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> Row:
    return {
        "coverage": interval_coverage(y, lower, upper),
        "width": interval_width(lower, upper),
        "interval score": interval_score(y, lower, upper, LEVEL).mean(),
    }


def calibrated(make: Callable[[], Any], X: pd.DataFrame, y: np.ndarray, new: pd.DataFrame) -> Any:
    """Return conformal bounds of new rows: a fifth of the rows calibrates."""
    apart = np.random.default_rng(0).permutation(len(y)) < len(y) // 5
    model = make().fit(X[~apart], y[~apart])
    bounds = quantiles(model, X[apart])
    conformal = ConformalIntervals.fit(y[apart], bounds[:, 0], bounds[:, -1], LEVEL)
    found = quantiles(model, new)
    return conformal.apply(found[:, 0], found[:, -1])


def run_houses(done: set[Any], cache: Path | None) -> Iterator[Row]:
    X, y = houses(cache)
    makers: dict[str, Callable[[], Any]] = {
        "attributes": lambda: ours("attributes"),
        "quantile boosting: attributes": lambda: QuantileBoosting("attributes"),
        "attributes + photographs": lambda: ours("attributes + photographs"),
        "quantile boosting: attributes + photographs": lambda: QuantileBoosting(
            "attributes + photographs"
        ),
        "photographs": lambda: ours("photographs"),
        "attributes + photographs, Student t": lambda: ours(
            "attributes + photographs", "student_t"
        ),
    }
    for name, make in makers.items():
        for fold, (train, test) in enumerate(KFold(FOLDS, shuffle=True, random_state=0).split(X)):
            past, new = X.iloc[train], X.iloc[test]
            if ("houses", name, fold) not in done:
                start = time.process_time()
                model = make().fit(past, y[train])
                seconds = time.process_time() - start
                row = judge_numbers(model, new, y[test])
                yield {"model": name, "fold": fold, **row, "seconds": seconds}
            named = f"{name}, calibrated"
            if ("houses", named, fold) not in done:
                bounds = calibrated(make, past, y[train], new)
                yield {"model": named, "fold": fold, **intervals(y[test], *bounds)}


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


def run_metabric(done: set[Any], cache: Path | None) -> Iterator[Row]:
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

N_TRAIN, N_CALIBRATE, N_TEST, SEEDS = 1500, 1999, 20_000, 5
NOISE = {"high noise": 1.0, "low noise": 0.2}


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


def run_simulated(done: set[Any], cache: Path | None) -> Iterator[Row]:
    for seed in range(SEEDS):
        for name, noise in NOISE.items():
            if ("simulated", name, seed) in done:
                continue
            X, y, _ = draw(N_TRAIN, seed, noise)
            rest, y_rest, _ = draw(N_CALIBRATE, 100 + seed, noise)
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
            raw = interval_coverage(y_new, *model.predict_interval(new).to_numpy().T)
            model.calibrate(rest, y_rest)
            held = interval_coverage(y_new, *model.predict_interval(new).to_numpy().T)
            yield {
                "model": name,
                "fold": seed,
                "CRPS": crps(y_new, found).mean(),
                "CRPS of the oracle": crps(y_new, truth).mean(),
                "coverage": raw,
                "coverage, calibrated": held,
                "correlation of log scales": np.corrcoef(
                    np.log(found.parameters["scale"]), np.log(truth.scale)
                )[0, 1],
                "seconds": seconds,
            }


# --- running and telling --------------------------------------------------------------------------

RUNS = {"metabric": run_metabric, "houses": run_houses, "simulated": run_simulated}


def read() -> pd.DataFrame:
    return pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=COLUMNS)


def run(data: str, cache: Path | None) -> None:
    known = read()
    done = set(known[["data", "model", "fold"]].itertuples(index=False, name=None))
    for row in RUNS[data](done, cache):
        keys = {"data": data, "model": row.pop("model"), "fold": row.pop("fold")}
        table = pd.DataFrame([{**keys, "metric": k, "value": float(v)} for k, v in row.items()])
        table.round({"value": 5}).to_csv(
            RESULTS, mode="a", index=False, header=not RESULTS.exists()
        )
        print(keys, {k: round(float(v), 4) for k, v in row.items()}, flush=True)


def report() -> str:
    """Return a table for each of the data: means over folds, and their standard deviation."""
    found = read()
    texts = []
    for data, part in found.groupby("data", sort=False):
        part = part[part["metric"] != "seconds"]
        mean = part.pivot_table("value", "model", "metric", "mean", sort=False)
        n = part.groupby("model", sort=False)["fold"].nunique()
        texts += [f"\n## {data}\n", mean.assign(folds=n).round(4).to_string()]
    both = found[(found["data"] == "houses") & (found["metric"] == "CRPS of quantiles")]
    table = both.pivot_table("value", "fold", "model")
    reference = "attributes + photographs"
    for name in table.columns.drop(reference, errors="ignore") if reference in table else []:
        pair = table[[name, reference]].dropna()
        if len(pair) > 1:
            told = corrected_interval(pair[name] - pair[reference], 1 / (FOLDS - 1))
            texts.append(f"{name} - {reference}: {told}")
    return "\n".join(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="*", default=[], choices=list(RUNS))
    parser.add_argument("--features", type=Path, help="where features of photographs are kept")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for data in arguments.data:
        run(data, arguments.features)
    if arguments.report:
        print(report())


if __name__ == "__main__":
    main()
