"""House prices as whole distributions: attributes, four photographs, both, beside boosting.

535 houses (`mmfusion.datasets.fetch_houses`), log price, five folds, the same for all models. The
photographs are features of a frozen encoder with the weights of ImageNet, computed once.

- ``parts``: a formula of the attributes, networks of the photographs, both, for location and scale,
  and networks that read the attributes too; beside quantile boosting of
  scikit-learn and, where it is installed, XGBoostLSS, of the same attributes and features. Each
  boosting chooses its number of rounds by folds of the training rows. Conformal intervals of some
  are fitted on four fifths of a fold's training rows and calibrated on the rest.
- ``heads``: the model heads of Law, Paige & Russell (2019): linear in the attributes, a network of
  the attributes, a line and one number a house from the photographs, a network of everything.

Each row is appended to results/houses.csv at once, so that an interrupted run goes on where it
stopped.

    python -m benchmarks.houses --data parts heads --features photographs.npy
    python -m benchmarks.houses --report       # only the tables
"""

# ruff: noqa: E402 - the number of threads is read when NumPy and Torch are imported
from __future__ import annotations

import argparse
import importlib.util
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import r2_score, root_mean_squared_error
from sklearn.model_selection import KFold

from benchmarks import distribution_scores as scores
from mmfusion import Genes, Image, Tabular
from mmfusion.datasets import fetch_houses
from mmfusion.encoders import build_encoder
from mmfusion.estimators import FusionDistribution
from mmfusion.evaluation import corrected_interval
from mmfusion.metrics import (
    ConformalIntervals,
    crps,
    interval_coverage,
    interval_score,
    interval_width,
    log_score,
    quantile_score,
)
from mmfusion.model.features import frozen_features

RESULTS = Path(__file__).parent / "results" / "houses.csv"
#: Of intervals, and of the quantiles that all models have.
LEVEL, LEVELS = 0.9, np.arange(0.05, 0.951, 0.05).round(2)
FOLDS = 5
ATTRIBUTES = ["bedrooms", "bathrooms", "log_area"]
BOTH = "attributes + photographs"

#: Whose intervals are calibrated too.
CALIBRATED = ("attributes", BOTH)

Row = dict[str, Any]
Make = Callable[[], Any]


def houses(cache: Path | None) -> tuple[pd.DataFrame, np.ndarray]:
    """Return attributes and features of the photographs, and the log price."""
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


def photographs() -> Genes:
    return Genes("photo_*", n_components=20, hidden=(32,), dropout=0.3)


# --- parts ----------------------------------------------------------------------------------------

FORMULA = {"loc": "bedrooms + bathrooms + s(log_area)", "scale": "log_area"}


def ours(parts: str, table: bool = False) -> FusionDistribution:
    """Return a model of attributes, photographs or both; with `table` networks read both."""
    modalities: dict[str, Any] = {"photos": photographs()} if "photographs" in parts else {}
    if table:
        modalities["table"] = Tabular(ATTRIBUTES, hidden=(32,))
    return FusionDistribution(
        modalities=modalities,
        structured=FORMULA if "attributes" in parts else None,
        deep=("loc", "scale"),
        random_state=0,
    )


class Boosting(BaseEstimator):
    """A boosting of attributes, of 20 components of the photographs, or of both."""

    def __init__(self, parts: str) -> None:
        self.parts = parts

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Boosting:
        photos = X.filter(like="photo_")
        self.pca_ = PCA(20, random_state=0).fit(photos) if "photographs" in self.parts else None
        self._boost(self._design(X), y)
        return self

    def _design(self, X: pd.DataFrame) -> np.ndarray:
        found = [X[ATTRIBUTES].to_numpy(float)] if "attributes" in self.parts else []
        if self.pca_ is not None:
            found.append(self.pca_.transform(X.filter(like="photo_")))
        return np.hstack(found)


#: By the loss of these quantiles quantile boosting chooses its number of rounds, up to so many.
CHOSEN_BY, ROUNDS = [0.05, 0.5, 0.95], 150
#: Of XGBoostLSS.
TREES = {"eta": 0.1, "max_depth": 3, "nthread": 1, "seed": 0}


class QuantileBoosting(Boosting):
    """A gradient boosting a quantile; one number of rounds, by the loss of three folds."""

    def _boost(self, design: np.ndarray, y: np.ndarray) -> None:
        losses = np.zeros(ROUNDS)
        for train, test in KFold(3, shuffle=True, random_state=0).split(design):
            for q in CHOSEN_BY:
                model = self._one(q, ROUNDS).fit(design[train], y[train])
                told = np.column_stack(list(model.staged_predict(design[test])))
                gap = y[test][:, None] - told
                losses += np.maximum(q * gap, (q - 1) * gap).mean(0)
        best = int(losses.argmin()) + 1
        self.models_ = [self._one(q, best).fit(design, y) for q in LEVELS]

    @staticmethod
    def _one(q: float, rounds: int) -> HistGradientBoostingRegressor:
        return HistGradientBoostingRegressor(
            loss="quantile",
            quantile=q,
            max_iter=rounds,
            max_leaf_nodes=8,
            early_stopping=False,
            random_state=0,
        )

    def quantiles(self, X: pd.DataFrame) -> np.ndarray:
        """Return the quantiles of `LEVELS`, put in order where they cross."""
        design = self._design(X)
        return np.sort(np.column_stack([m.predict(design) for m in self.models_]), axis=1)


class DistributionBoosting(Boosting):
    """XGBoostLSS: location and scale of a normal, rounds by its own cross-validation.

    It starts far from an outcome that is not standardised, and stays behind: this one is.
    """

    def _boost(self, design: np.ndarray, y: np.ndarray) -> None:
        import xgboost
        from xgboostlss.distributions.Gaussian import Gaussian
        from xgboostlss.model import XGBoostLSS

        family = Gaussian(stabilization="None", response_fn="exp", loss_fn="nll")
        self.center_, self.unit_ = y.mean(), y.std()
        label = (y - self.center_) / self.unit_
        self.model_, data = XGBoostLSS(family), xgboost.DMatrix(design, label=label, nthread=1)
        told = self.model_.cv(
            TREES, data, num_boost_round=200, nfold=5, early_stopping_rounds=15, seed=0
        )
        self.model_.train(TREES, data, num_boost_round=len(told))

    def predict_distribution(self, X: pd.DataFrame) -> Any:
        import xgboost

        data = xgboost.DMatrix(self._design(X), nthread=1)
        found = self.model_.predict(data, pred_type="parameters")
        loc, scale = found[["loc", "scale"]].to_numpy(float).T * self.unit_
        return scores.Normal(self.center_ + loc, scale)


def quantiles(model: Any, X: pd.DataFrame) -> np.ndarray:
    if hasattr(model, "quantiles"):
        return model.quantiles(X)
    return model.predict_distribution(X).quantile(np.tile(LEVELS, (len(X), 1)))


def judge(model: Any, X: pd.DataFrame, y: np.ndarray) -> Row:
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


def calibrated(make: Make, X: pd.DataFrame, y: np.ndarray, new: pd.DataFrame) -> Any:
    """Return conformal bounds of new rows: a fifth of the rows calibrates."""
    apart = np.random.default_rng(0).permutation(len(y)) < len(y) // 5
    model = make().fit(X[~apart], y[~apart])
    bounds = quantiles(model, X[apart])
    conformal = ConformalIntervals.fit(y[apart], bounds[:, 0], bounds[:, -1], LEVEL)
    found = quantiles(model, new)
    return conformal.apply(found[:, 0], found[:, -1])


def run_parts(cache: Path | None, done: set[Any]) -> Iterator[Row]:
    X, y = houses(cache)
    makers: dict[str, Make] = {
        "attributes": lambda: ours("attributes"),
        "attributes, networks too": lambda: ours("attributes", table=True),
        "photographs": lambda: ours("photographs"),
        BOTH: lambda: ours(BOTH),
        f"{BOTH}, networks of both": lambda: ours(BOTH, table=True),
    }
    boostings: dict[str, type[Boosting]] = {"quantile boosting": QuantileBoosting}
    if importlib.util.find_spec("xgboostlss") is None:
        print("There is no xgboostlss: left out.")
    else:
        boostings["XGBoostLSS"] = DistributionBoosting
    for title, kind in boostings.items():
        for parts in ("attributes", "photographs", BOTH):
            makers[f"{title}: {parts}"] = lambda kind=kind, parts=parts: kind(parts)  # type: ignore[misc]
    for name, make in makers.items():
        for fold, train, test in folds(X):
            past, new = X.iloc[train], X.iloc[test]
            if ("parts", name, fold) not in done:
                start = time.process_time()
                model = make().fit(past, y[train])
                seconds = time.process_time() - start
                row = judge(model, new, y[test])
                yield {"model": name, "fold": fold, **row, "seconds": seconds}
            named = f"{name}, calibrated"
            if name in CALIBRATED and ("parts", named, fold) not in done:
                bounds = calibrated(make, past, y[train], new)
                yield {"model": named, "fold": fold, **intervals(y[test], *bounds)}


# --- heads ----------------------------------------------------------------------------------------


def heads() -> dict[str, Make]:
    """Return the heads: each predicts a location, beside a constant spread."""
    line = "bedrooms + bathrooms + log_area"
    photos = {"photos": photographs()}

    def model(modalities: Any, **given: Any) -> Make:
        return lambda: FusionDistribution(modalities, random_state=0, **given)

    two_steps = {"structured": line, "linear": False, "orthogonalization": "two_stage"}
    return {
        "linear: attributes": model({}, structured=line),
        "network: attributes": model(
            {"attributes": Tabular(ATTRIBUTES, hidden=(32,))}, linear=False
        ),
        "network: photographs": model(photos, linear=False),
        "additive, two steps": model(photos, **two_steps),
        "additive, orthogonalised": model(photos, structured=line, linear=False),
        "nonlinear": model(photos, head="nonlinear", **two_steps),
        "additive, features linear": model(photos, structured=line, n_members=0),
        "additive, features linear, and networks": model(photos, structured=line),
    }


def run_heads(cache: Path | None, done: set[Any]) -> Iterator[Row]:
    X, y = houses(cache)
    for name, make in heads().items():
        for fold, train, test in folds(X):
            if ("heads", name, fold) in done:
                continue
            start = time.process_time()
            model = make().fit(X.iloc[train], y[train])
            seconds = time.process_time() - start
            new = X.iloc[test]
            mean, found = model.predict(new), model.predict_distribution(new)
            yield {
                "model": name,
                "fold": fold,
                "R2": r2_score(y[test], mean),
                "RMSE": root_mean_squared_error(y[test], mean),
                "log score": log_score(y[test], found).mean(),
                "CRPS": crps(y[test], found).mean(),
                "seconds": seconds,
            }


# --- running and telling --------------------------------------------------------------------------

RUNS = {"parts": run_parts, "heads": run_heads}
#: What differences are paired with, of which score.
AGAINST = {
    "parts": (BOTH, ["CRPS of quantiles", "interval score", "log score"]),
    "heads": ("linear: attributes", ["R2"]),
}


def folds(X: pd.DataFrame) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    parts = KFold(FOLDS, shuffle=True, random_state=0).split(X)
    yield from ((fold, train, test) for fold, (train, test) in enumerate(parts))


def report() -> str:
    """Return tables of means over folds (standard deviations), and paired differences."""
    found, texts = scores.read(RESULTS), []
    for data, part in found.groupby("data", sort=False):
        tables = {how: scores.pivot(part, how) for how in ("mean", "std")}
        both = tables["mean"].map("{:.3f}".format) + tables["std"].map(" ({:.3f})".format)
        texts += [f"\n## {data}\n", both.to_string()]
        reference, metrics = AGAINST[data]
        for metric in metrics:
            table = part[part["metric"] == metric].pivot_table("value", "fold", "model")
            for name in table.columns.drop(reference):
                pair = table[[name, reference]].dropna()
                gap = corrected_interval(pair[name] - pair[reference], 1 / (FOLDS - 1))
                told = f"{gap.difference:+.3f} [{gap.lower:+.3f}, {gap.upper:+.3f}]"
                texts.append(f"{metric}, {name} - {reference}: {told}")
    return "\n".join(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="*", default=[], choices=list(RUNS))
    parser.add_argument("--features", type=Path, help="where features of photographs are kept")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for data in arguments.data:
        done = scores.done(RESULTS)
        scores.keep(data, RUNS[data](arguments.features, done), RESULTS)
    if arguments.report:
        print(report())


if __name__ == "__main__":
    main()
