"""Do the defaults hold? Estimators with nothing but modalities named, against tuned rivals.

On the same 2 x 5 folds of each cohort: an estimator of mmfusion as it comes, with its modalities
named, with ``modalities=None``, and with a formula of the clinical columns beside them; without
the linear part, and with the linear part alone; ridge Cox and elastic net Cox with the penalty
chosen by inner cross-validation on all columns, a random survival forest and gradient boosting
(with classes and numbers: ridge, elastic net, forest and boosting of scikit-learn).

Each score is appended to a CSV at once, so that an interrupted run goes on where it stopped.

    python -m benchmarks.defaults --data rossi TRANSBIG        # minutes a cohort
    python -m benchmarks.defaults --models "named modalities"
    python -m benchmarks.defaults --report                     # only the table
    python -m benchmarks.defaults --speed                      # time and memory of default fits
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNetCV, LogisticRegressionCV, RidgeCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sksurv.ensemble import GradientBoostingSurvivalAnalysis, RandomSurvivalForest
from sksurv.linear_model import CoxnetSurvivalAnalysis

from benchmarks import classical
from mmfusion import Genes, Tabular
from mmfusion.datasets import fetch_deepsurv, fetch_houses
from mmfusion.estimators import FusionClassifier, FusionCox, FusionRegressor
from mmfusion.evaluation import survival_stratified_folds
from mmfusion.evaluation.intervals import corrected_interval
from mmfusion.metrics import concordance_index, integrated_brier_score
from mmfusion.survival import surv

RESULTS = Path(__file__).parent / "results" / "defaults.csv"
FOLDS, REPEATS = 5, 2
ALPHAS = 30


@dataclass
class Cohort:
    """A table, its outcome, and how it is read."""

    frame: pd.DataFrame
    target: Any
    modalities: dict[str, Any]
    formula: str | None
    task: str = "survival"
    large: bool = False
    wide: bool = False

    @property
    def read(self) -> list[str]:
        """Return the columns that mmfusion reads: pixels are read from the image."""
        return [c for c in self.frame if not str(c).startswith("pixel_")]

    @property
    def numbers(self) -> list[str]:
        """Return the columns that rivals read."""
        return [c for c in self.frame if not isinstance(self.frame[c].iloc[0], np.ndarray | list)]


def whole(old: Any, *, large: bool = False) -> Cohort:
    """Return a cohort of `classical` with its blocks as they come: no components asked for."""
    plain = {
        name: m.set_params(n_components="auto") if isinstance(m, Genes) else m
        for name, m in old.modalities.items()
    }
    return Cohort(old.frame, old.target, plain, old.formula, large=large, wide=bool(old.blocks))


def deepsurv(name: str, clinical: list[str] | None = None) -> Cohort:
    data = fetch_deepsurv(name)
    frame = data.frame
    rest = [c for c in frame if c not in (clinical or frame.columns)]
    modalities: dict[str, Any] = {"clinical": Tabular(clinical or list(frame))}
    if rest:
        modalities["genes"] = Genes(rest)
    formula = " + ".join(clinical) if clinical else None
    return Cohort(frame, data.target, modalities, formula, large=len(frame) > 5000)


def survset(name: str) -> Cohort:
    """Return a table of the survset collection; its columns are num_* and fac_*."""
    folder = Path(os.environ["MMFUSION_DATA"]) / "tabular_survival"
    data = pd.read_csv(folder / f"survset_{name}.csv.gz")
    frame = data[[c for c in data if c.startswith(("num_", "fac_")) and c != "fac_chapter"]]
    target = surv(data["time"].clip(lower=1e-3), data["event"] == 1)
    names = [c for c in frame if c.startswith("fac_") or name != "nki70" or c == "num_Age"]
    modalities: dict[str, Any] = {"clinical": Tabular(names)}
    if name == "nki70":
        modalities["genes"] = Genes([c for c in frame if c not in names])
    formula = " + ".join(names) if name == "nki70" else None
    return Cohort(frame, target, modalities, formula, large=len(frame) > 5000)


def five_years() -> Cohort:
    """Return who of METABRIC died within five years, of those of whom it is known."""
    old = deepsurv("metabric", classical.METABRIC)
    time_, event = old.target["time"], old.target["event"]
    known = (time_ >= 60) | event
    died = np.where(time_ < 60, "died", "alive")
    return Cohort(old.frame[known], died[known], old.modalities, old.formula, "classification")


def houses() -> Cohort:
    data = fetch_houses()
    frame = data.frame
    table = [c for c in frame if c not in data.images]
    return Cohort(
        frame[table],
        np.log(np.asarray(data.target, float)),
        {"table": Tabular(table)},
        None,
        "regression",
    )


COHORTS: dict[str, Callable[[], Cohort]] = {
    "rossi": lambda: whole(classical.rossi()),
    "NKI70": lambda: survset("nki70"),
    "TRANSBIG": lambda: whole(classical.transbig()),
    "WHAS500": lambda: whole(classical.COHORTS["WHAS500"]()),
    "GBSG2": lambda: whole(classical.COHORTS["GBSG2"]()),
    "METABRIC": lambda: deepsurv("metabric", classical.METABRIC),
    "TCGA-BLCA": lambda: whole(classical.COHORTS["TCGA-BLCA"]()),
    "TCGA-HNSC": lambda: whole(classical.COHORTS["TCGA-HNSC"]()),
    "TCGA-BRCA": lambda: whole(classical.COHORTS["TCGA-BRCA"]()),
    "TCGA-UCEC": lambda: whole(classical.COHORTS["TCGA-UCEC"]()),
    "glioma, with genes": lambda: whole(classical.glioma("genes")),
    "glioma, all": lambda: whole(classical.glioma("all")),
    "digits": lambda: whole(classical.digits()),
    "five years": five_years,
    "houses": houses,
    "WHAS": lambda: deepsurv("whas"),
    "GBSG": lambda: deepsurv("gbsg"),
    "Rotterdam": lambda: survset("rott2"),
    "FLCHAIN": lambda: survset("flchain"),
    "SUPPORT": lambda: deepsurv("support"),
}


def columns(cohort: Cohort) -> Any:
    """Return what makes numbers of a table for models that know nothing else."""
    frame = cohort.frame[cohort.numbers]
    numbers = frame.select_dtypes("number").columns.tolist()
    categories = [c for c in frame if c not in numbers]
    plain = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), Clip())
    coded = OneHotEncoder(drop="first", handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer([("numbers", plain, numbers), ("categories", coded, categories)])


class Clip(TransformerMixin, BaseEstimator):
    """Values further than five standard deviations out are moved there."""

    def fit(self, X: np.ndarray, y: Any = None) -> Self:
        self.fitted_ = True
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        return np.clip(np.asarray(X), -5, 5)


class TunedCox(BaseEstimator):
    """An elastic net Cox model, its penalty by inner five-fold cross-validated concordance."""

    def __init__(self, l1_ratio: float) -> None:
        self.l1_ratio = l1_ratio

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        for smallest in (1e-3, 1e-2, 5e-2, 0.1, 0.2):  # small penalties may not converge
            try:
                return self._fit(x, y, smallest)
            except ArithmeticError:
                continue
        raise ArithmeticError("no penalty converges")

    def _fit(self, x: np.ndarray, y: np.ndarray, smallest: float) -> Self:
        path = self._path(n_alphas=ALPHAS, alpha_min_ratio=smallest).fit(x, y)
        total = np.zeros(len(path.alphas_))
        for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(x, y["event"]):
            inner = self._path(alphas=path.alphas_).fit(x[train], y[train])
            for at, alpha in enumerate(path.alphas_):
                total[at] += concordance_index(y[test], inner.predict(x[test], alpha=alpha))
        best = float(path.alphas_[int(np.argmax(total))])
        self.model_ = self._path(alphas=[best], fit_baseline_model=True).fit(x, y)
        return self

    def _path(self, **more: Any) -> CoxnetSurvivalAnalysis:
        return CoxnetSurvivalAnalysis(l1_ratio=self.l1_ratio, max_iter=20_000, tol=1e-6, **more)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.model_.predict(x)

    def predict_survival_function(self, x: np.ndarray) -> Any:
        return self.model_.predict_survival_function(x)


def rivals(cohort: Cohort, seed: int) -> dict[str, Any]:
    """Return models of numbers."""
    if cohort.task == "classification":
        return {
            "ridge": LogisticRegressionCV(
                Cs=10,
                scoring="neg_log_loss",
                max_iter=2000,
                l1_ratios=(0.0,),
                use_legacy_attributes=False,
            ),
            "elastic net": LogisticRegressionCV(
                Cs=8,
                scoring="neg_log_loss",
                solver="saga",
                max_iter=500,
                l1_ratios=(0.5,),
                use_legacy_attributes=False,
            ),
            "forest": RandomForestClassifier(300, min_samples_leaf=5, random_state=seed),
            "boosting": HistGradientBoostingClassifier(
                max_iter=100, learning_rate=0.05, max_depth=3, random_state=seed
            ),
        }
    if cohort.task == "regression":
        return {
            "ridge": RidgeCV(np.logspace(-3, 4, 30)),
            "elastic net": ElasticNetCV(),
            "forest": RandomForestRegressor(300, min_samples_leaf=3, random_state=seed),
            "boosting": HistGradientBoostingRegressor(
                max_iter=200, learning_rate=0.05, max_depth=3, random_state=seed
            ),
        }
    few = "sqrt" if cohort.wide else None
    return {
        "ridge": TunedCox(0.01),
        "elastic net": TunedCox(0.5),
        "forest": RandomSurvivalForest(100, min_samples_leaf=15, random_state=seed),
        "boosting": GradientBoostingSurvivalAnalysis(
            n_estimators=100, max_depth=3, subsample=0.5, max_features=few, random_state=seed
        ),
    }


NAMED, NONE, FORMULA = "named modalities", "modalities=None", "formula + modalities"
LINEAR, NETWORKS = "linear part alone", "networks alone"
OURS = (NAMED, NONE, FORMULA, LINEAR, NETWORKS)


def ours(cohort: Cohort, name: str, seed: int) -> Any:
    """Return an estimator of mmfusion as it comes, or None where it does not apply."""
    kind = {
        "survival": FusionCox,
        "classification": FusionClassifier,
        "regression": FusionRegressor,
    }[cohort.task]
    settings = {"device": "cpu", "random_state": seed}
    if name == NAMED:
        return kind(cohort.modalities, **settings)
    if name == NONE:
        return kind(**settings)
    if name == LINEAR:
        return kind(cohort.modalities, n_members=0, **settings)
    if name == NETWORKS:
        return kind(cohort.modalities, linear=False, **settings)
    return (
        None
        if cohort.formula is None
        else kind(cohort.modalities, structured=cohort.formula, **settings)
    )


def scored(cohort: Cohort, name: str, train: np.ndarray, test: np.ndarray, seed: int) -> Any:
    """Return the scores of a model on a fold, None where the model does not apply."""
    y, y_test = cohort.target[train], cohort.target[test]
    times = None
    if cohort.task == "survival":
        last = min(float(y["time"].max()), float(y_test["time"].max()))
        low, high = np.quantile(y_test["time"][y_test["event"]], [0.1, 0.8])
        times = np.linspace(low, min(high, 0.999 * last), 30)
    started = time.perf_counter()
    if name in OURS:
        model = ours(cohort, name, seed)
        if model is None:
            return None
        frame = cohort.frame[cohort.read]
        x, x_test = frame.iloc[train], frame.iloc[test]
        model.fit(x, y)
    else:
        model = rivals(cohort, seed)[name]
        reader = columns(cohort).fit(cohort.frame.iloc[train])
        x, x_test = (
            np.asarray(reader.transform(cohort.frame.iloc[rows]), float) for rows in (train, test)
        )
        varies = x.std(0) > 0
        x, x_test = x[:, varies], x_test[:, varies]
        model.fit(x, y)
    row: dict[str, float] = {}
    if cohort.task == "survival":
        assert times is not None
        row["score"] = concordance_index(y_test, np.asarray(model.predict(x_test)).ravel())
        curves = (
            model.predict_survival_function(x_test, times=times)
            if name in OURS
            else np.stack([f(times) for f in model.predict_survival_function(x_test)])
        )
        curves = np.asarray(curves)
        known = np.isfinite(curves).all()  # a rival's curve may overflow
        row["ibs"] = integrated_brier_score(y, y_test, curves, times) if known else np.nan
    elif cohort.task == "classification":
        shares = model.predict_proba(x_test)
        at = np.searchsorted(model.classes_, y_test)
        row["score"] = -float(-np.log(shares[np.arange(len(at)), at].clip(1e-12)).mean())
    else:
        row["score"] = float(model.score(x_test, y_test))
    row["seconds"] = time.perf_counter() - started
    if name in OURS:
        row["share"] = float(np.mean(model.model_.deep.share))
    return row


def folds_of(cohort: Cohort) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    found = []
    for repeat in range(REPEATS):
        if cohort.task == "survival":
            splits = survival_stratified_folds(cohort.target, FOLDS, random_state=repeat)
        else:
            labels = cohort.target
            if cohort.task == "regression":
                labels = pd.qcut(labels, 5, labels=False)
            splits = StratifiedKFold(FOLDS, shuffle=True, random_state=repeat).split(
                np.zeros(len(labels)), labels
            )
        found += [(repeat, k, train, test) for k, (train, test) in enumerate(splits)]
    return found


def run(names: list[str], chosen: list[str], out: Path) -> None:
    out.parent.mkdir(exist_ok=True)
    known = (
        pd.read_csv(out)
        if out.exists()
        else pd.DataFrame(columns=["data", "model", "repeat", "fold"])
    )
    done = set(zip(known["data"], known["model"], known["repeat"], known["fold"], strict=True))
    for name in names:
        cohort = COHORTS[name]()
        for repeat, fold, train, test in folds_of(cohort):
            for model in chosen:
                if (name, model, repeat, fold) in done:
                    continue
                if cohort.large and repeat > 0 and model in ("forest", "boosting"):
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    row = scored(cohort, model, train, test, seed=repeat)
                if row is None:
                    continue
                line = {
                    "data": name,
                    "model": model,
                    "repeat": repeat,
                    "fold": fold,
                    "score": np.nan,
                    "ibs": np.nan,
                    "share": np.nan,
                    "seconds": np.nan,
                } | row
                pd.DataFrame([line]).to_csv(out, mode="a", header=not out.exists(), index=False)
                print(
                    name, model, repeat, fold, {k: round(v, 4) for k, v in row.items()}, flush=True
                )


MODELS = [NAMED, NONE, FORMULA, LINEAR, NETWORKS, "ridge", "elastic net", "forest", "boosting"]


def report(out: Path) -> None:
    """Print mean scores, and the difference to the better of ridge and elastic net."""
    scores = pd.read_csv(out)
    head = ["cohort", *MODELS, f"{NAMED} less the better of ridge and elastic net"]
    head += [f"IBS, {NAMED}", "IBS, best of ridge and elastic net"]
    print(f"| {' | '.join(head)} |\n| {' | '.join(['---'] * len(head))} |")
    tables = {}
    for name in [name for name in COHORTS if name in set(scores["data"])]:
        mine = scores[scores["data"] == name]
        table, ibs = (
            mine.pivot_table(index=["repeat", "fold"], columns="model", values=value, dropna=False)
            .reindex(columns=MODELS)
            .astype(float)
            for value in ("score", "ibs")
        )
        tables[name], means = table, table.mean()
        cells = [f"{value:.3f}" if np.isfinite(value) else "-" for value in means]
        known = means[["ridge", "elastic net"]].dropna()
        d = np.zeros(0) if known.empty else (table[NAMED] - table[known.idxmax()]).dropna()
        if len(d) > 1:
            interval = corrected_interval(np.asarray(d), 1 / FOLDS)
            cells.append(f"{d.mean():+.3f} [{interval.lower:+.3f}, {interval.upper:+.3f}]")
        else:
            cells.append("-")
        best = ibs.mean()[["ridge", "elastic net"]].min()
        cells += [f"{v:.3f}" if np.isfinite(v) else "-" for v in (ibs[NAMED].mean(), best)]
        folds = table[NAMED].count()
        print(f"| {name}{'' if folds == FOLDS * REPEATS else f' ({folds} folds)'} | ", end="")
        print(" | ".join(cells), "|")
    for rival in ("forest", "boosting"):
        both = {name: table[[NAMED, rival]].dropna().mean() for name, table in tables.items()}
        mean = pd.DataFrame(both).T.drop(index=["five years", "houses"], errors="ignore").dropna()
        print(f"\nMean C over {len(mean)} cohorts: {mean[NAMED].mean():.3f}, ", end="")
        print(f"{rival} {mean[rival].mean():.3f}")


def speed() -> None:
    """Print processor time and peak memory of default fits, each in a process of its own."""
    sizes = {
        "500 x (10 + 2 x 512)": (500, [10, 512, 512], None),
        "2,000 x 20,000 genes": (2000, [20_000], None),
        "100,000 x 50, linear part alone": (100_000, [50], 0),
    }
    for name, (n, widths, members) in sizes.items():
        code = f"""
import resource, time
import numpy as np, pandas as pd, torch, lightning_fabric
from mmfusion import Genes, surv
from mmfusion.estimators import FusionCox
torch.set_num_threads(1)
rng = np.random.default_rng(0)
blocks = [pd.DataFrame(rng.normal(size=({n}, w)).astype("float32")).add_prefix(f"b{{k}}_")
          for k, w in enumerate({widths})]
eta = blocks[0].iloc[:, :10].sum(axis=1).to_numpy() * 0.3
time_, censored = rng.exponential(np.exp(-eta)), rng.exponential(2, {n})
X, y = pd.concat(blocks, axis=1), surv(np.minimum(time_, censored), time_ <= censored)
options = {{}} if {members} is None else {{"n_members": {members}}}
model = FusionCox({{f"b{{k}}": Genes(f"b{{k}}_*") for k in range(len(blocks))}}, device="cpu",
                  random_state=0, **options)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.process_time()
model.fit(X, y)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"{{time.process_time() - started:.1f}} s, {{peak / 2**20:.1f}} GB at most, "
      f"{{before / 2**20:.1f}} before")
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        print(name, (done.stdout or done.stderr[-500:]).strip(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    every = [*OURS, "ridge", "elastic net", "forest", "boosting"]
    parser.add_argument("--data", nargs="*", default=list(COHORTS))
    parser.add_argument("--models", nargs="*", default=every)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--speed", action="store_true")
    asked = parser.parse_args()
    if asked.speed:
        speed()
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if not asked.report:
        run(asked.data, asked.models, asked.out)
    report(asked.out)


if __name__ == "__main__":
    main()
