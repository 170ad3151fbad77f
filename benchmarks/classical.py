"""Never worse than classical? Semi-structured Cox models against their own structured part.

Repeated 5-fold cross-validation on the real cohorts of `mmfusion.datasets` and four small tables
of scikit-survival and lifelines. On the same folds: a Cox model of the clinical columns (the
structured part alone), the same with a network beside it (`FusionCox`, default settings), and of
all columns a ridge Cox model, an untuned neural Cox model of pycox (its tutorial's settings) and a
random survival forest.

Each score is appended to a CSV at once, so that an interrupted run goes on where it stopped.

    python -m benchmarks.classical                  # one core: about an hour
    python -m benchmarks.classical --data rossi WHAS
    python -m benchmarks.classical --report         # only the tables, of the scores at hand

(-P: numba, which pycox imports, would take this folder's coverage.py for the package.)
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
import torchtuples
from lifelines.datasets import load_rossi
from pycox.models import CoxPH
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sksurv.datasets import load_breast_cancer, load_gbsg2, load_whas500
from sksurv.ensemble import RandomSurvivalForest

from mmfusion import Genes, Image, Tabular
from mmfusion.datasets import (
    fetch_deepsurv,
    fetch_glioma,
    fetch_tcga_omics,
    load_digits_cohort,
)
from mmfusion.estimators import FusionCox
from mmfusion.evaluation import Comparison, CoxRidge, compare, survival_stratified_folds
from mmfusion.evaluation.paired import METRICS, TestFold
from mmfusion.survival import surv

RESULTS = Path(__file__).parent / "results" / "classical.csv"
STRUCTURED, SEMI = "structured part alone", "semi-structured"
TOLERANCE = 0.005
COMPONENTS = 20


@dataclass
class Cohort:
    """A table, its outcome, and what the models read of it."""

    frame: pd.DataFrame
    target: np.ndarray
    formula: str
    modalities: dict[str, Any]
    numbers: list[str]
    categories: list[str] = field(default_factory=list)
    blocks: list[list[str]] = field(default_factory=list)  # reduced to components
    repeats: int = 5


def table(frame: pd.DataFrame, target: np.ndarray, clinical: Sequence[str] = ()) -> Cohort:
    """Return a cohort of one table; the formula has its clinical columns, by default all."""
    numbers = frame.select_dtypes("number").columns.tolist()
    categories = [name for name in frame if name not in numbers]
    formula = " + ".join(clinical or frame.columns)
    return Cohort(frame, target, formula, {"table": Tabular()}, numbers, categories)


def deepsurv(name: str, clinical: Sequence[str] = ()) -> Cohort:
    data = fetch_deepsurv(name)
    return table(data.frame, data.target, clinical)


def omics(cancer: str, clinical: list[str], block: str | list[str] = "*_rnaseq") -> Cohort:
    data = fetch_tcga_omics(cancer)
    known = data.frame[clinical].notna().all(axis=1).to_numpy()
    frame = data.frame[known]
    genes = Genes(block, n_components=COMPONENTS)
    columns = genes.fit(frame).columns_
    modalities = {"clinical": Tabular(clinical), "genes": clone(genes)}
    frame = frame[clinical + columns]
    formula = " + ".join(clinical)
    return Cohort(frame, data.target[known], formula, modalities, clinical, blocks=[columns])


def glioma(cohort: str) -> Cohort:
    """Return TCGA glioma with the features of a frozen encoder, averaged over a patient's regions.

    They are what `FusionCox` computes from ``Image(freeze="all")``, computed once.
    """
    from mmfusion.encoders import build_encoder
    from mmfusion.model.features import frozen_features

    data = fetch_glioma(cohort, image_size=224)
    image = Image("image", encoder="tf_efficientnet_lite0", pretrained="embedded", freeze="all")
    image.fit(data.frame)
    part = image.transform(data.frame)
    found = frozen_features(build_encoder(image, 1), part, torch.device("cpu"), "32-true")
    features = pd.DataFrame(found.numeric.numpy(), index=data.frame.index).add_prefix("image_")
    clinical, blocks = ["age", "male"], [list(features)]
    modalities = {
        "clinical": Tabular(clinical),
        "image": Genes("image_*", n_components=COMPONENTS),
    }
    frame = pd.concat([data.frame[clinical], features], axis=1)
    if cohort == "genes":
        rna = data.frame.filter(like="_rnaseq")
        frame = pd.concat([frame, rna], axis=1)
        modalities["genes"] = Genes("*_rnaseq", n_components=COMPONENTS)
        blocks.append(list(rna))
    return Cohort(
        frame, data.target, " + ".join(clinical), modalities, clinical, [], blocks, repeats=2
    )


def digits() -> Cohort:
    data = load_digits_cohort(random_state=0)
    frame = data.frame
    clinical = ["age", "sex", "treatment", "stage"]
    genes = frame.filter(like="gene_").columns.tolist()
    pixels = pd.DataFrame(
        np.stack([np.asarray(image).ravel() for image in frame["image"]]).astype(float),
        index=frame.index,
    ).add_prefix("pixel_")
    modalities = {
        "clinical": Tabular(clinical),
        "genes": Genes("gene_*"),
        "image": Image("image", size=8, channels="L"),
    }
    return Cohort(
        pd.concat([frame, pixels], axis=1),
        data.target,
        " + ".join(clinical),
        modalities,
        ["age", "treatment", *genes],
        ["sex", "stage"],
        [list(pixels)],
        repeats=2,
    )


def sksurv_table(load: Callable[[], tuple[pd.DataFrame, np.ndarray]]) -> tuple[pd.DataFrame, Any]:
    frame, y = load()
    event, time_ = y.dtype.names
    frame = frame.apply(lambda c: c.astype(str) if isinstance(c.dtype, pd.CategoricalDtype) else c)
    return frame.rename(columns=lambda name: name.replace(".", "_")), surv(y[time_], y[event])


def transbig() -> Cohort:
    frame, y = sksurv_table(load_breast_cancer)
    # Two patients of unknown grade: a fold may have none to learn from.
    known = (frame["grade"] != "unkown").to_numpy()
    return table(frame[known], y[known], ["age", "er", "grade", "size"])


def rossi() -> Cohort:
    frame = load_rossi()
    return table(frame.drop(columns=["week", "arrest"]), surv(frame["week"], frame["arrest"] == 1))


METABRIC = ["hormone_treatment", "radiotherapy", "chemotherapy", "er_positive", "age"]
COHORTS: dict[str, Callable[[], Cohort]] = {
    "rossi": rossi,
    "TRANSBIG": transbig,
    "WHAS500": lambda: table(*sksurv_table(load_whas500)),
    "GBSG2": lambda: table(*sksurv_table(load_gbsg2)),
    "WHAS": lambda: deepsurv("whas"),
    "METABRIC": lambda: deepsurv("metabric", METABRIC),
    "GBSG": lambda: deepsurv("gbsg"),
    "TCGA-BLCA": lambda: omics("blca", ["age", "is_female"]),
    "TCGA-HNSC": lambda: omics("hnsc", ["age", "is_female"]),
    "TCGA-BRCA": lambda: omics("brca", ["age"]),
    "TCGA-UCEC": lambda: omics("ucec", ["age"], ["*_mut", "*_cnv"]),
    "glioma, with genes": lambda: glioma("genes"),
    "glioma, all": lambda: glioma("all"),
    "digits (simulated)": digits,
    "SUPPORT": lambda: deepsurv("support"),
}
#: Cohorts so large that the forest is fitted in the folds of the first repeat only.
LARGE = {"SUPPORT"}


class Numbers(TransformerMixin, BaseEstimator):
    """The columns of a cohort as numbers, for models that know nothing else."""

    def __init__(self, numbers: list[str], categories: list[str], blocks: list[list[str]]) -> None:
        self.numbers = numbers
        self.categories = categories
        self.blocks = blocks

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        plain = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
        coded = OneHotEncoder(drop="first", handle_unknown="ignore", sparse_output=False)
        parts = [("numbers", plain, self.numbers), ("categories", coded, self.categories)]
        for number, block in enumerate(self.blocks):
            parts.append((f"block{number}", make_pipeline(Block(), PCA(COMPONENTS)), block))
        self.steps_ = make_pipeline(ColumnTransformer(parts), VarianceThreshold())
        self.steps_.fit(X)
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(self.steps_.transform(X), dtype=np.float64)


class Block(TransformerMixin, BaseEstimator):
    """A wide block standardised and clipped, as genes are: their z-scores have wild outliers."""

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        self.genes_ = Genes(list(X)).fit(X)
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        return self.genes_.transform(X).numeric.double().numpy()


class OnNumbers(BaseEstimator):
    """A model of numbers behind the interface of `compare`."""

    def __init__(self, numbers: Numbers, model: Any) -> None:
        self.numbers = numbers
        self.model = model

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Self:
        self.numbers_ = clone(self.numbers).fit(X)
        self.model_ = clone(self.model).fit(self._read(X), y)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return np.asarray(self.model_.predict(self._read(X)))

    def predict_survival_function(self, X: pd.DataFrame, times: np.ndarray) -> np.ndarray:
        numbers = self._read(X)
        if not isinstance(self.model_, RandomSurvivalForest):
            return np.asarray(self.model_.predict_survival_function(numbers, times))
        curves = self.model_.predict_survival_function(numbers, return_array=True)
        curves = np.column_stack([np.ones(len(curves)), curves])
        return curves[:, np.searchsorted(self.model_.unique_times_, times, side="right")]

    def _read(self, X: pd.DataFrame) -> pd.DataFrame:
        values = pd.DataFrame(self.numbers_.transform(X), index=X.index)
        return values.add_prefix("x")


class PycoxCox(BaseEstimator):
    """pycox' CoxPH with its tutorial's settings: two layers of 32, stopped early on a fifth."""

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Self:
        torch.manual_seed(self.random_state)
        x = X.to_numpy(np.float32)
        outcome = y["time"].astype(np.float32), y["event"].astype(np.float32)
        rows = np.random.default_rng(self.random_state).permutation(len(x))
        held, rest = rows[: len(x) // 5], rows[len(x) // 5 :]
        net = torchtuples.practical.MLPVanilla(
            x.shape[1], [32, 32], 1, batch_norm=True, dropout=0.1, output_bias=False
        )
        self.model_ = CoxPH(net, torchtuples.optim.Adam(0.01))
        train = tuple(values[rest] for values in outcome)
        self.model_.fit(
            x[rest],
            train,
            256,
            512,
            [torchtuples.callbacks.EarlyStopping()],
            verbose=False,
            val_data=(x[held], tuple(values[held] for values in outcome)),
            val_batch_size=256,
        )
        self.model_.compute_baseline_hazards(x[rest], train)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return self.model_.predict(X.to_numpy(np.float32)).ravel()

    def predict_survival_function(self, X: pd.DataFrame, times: np.ndarray) -> np.ndarray:
        curves = self.model_.predict_surv_df(X.to_numpy(np.float32))
        steps = np.column_stack([np.ones(len(X)), curves.to_numpy().T])
        return steps[:, np.searchsorted(curves.index.to_numpy(), times, side="right")]


def models(cohort: Cohort, seed: int, *, large: bool) -> dict[str, Any]:
    """Return the models of a fold."""
    numbers = Numbers(cohort.numbers, cohort.categories, cohort.blocks)
    read = [c for c in cohort.frame if not c.startswith("pixel_")]
    settings = {"structured": cohort.formula, "device": "cpu", "random_state": seed}
    chosen = {
        STRUCTURED: OnColumns(FusionCox({}, **settings), read),
        SEMI: OnColumns(FusionCox(cohort.modalities, **settings), read),
        "ridge Cox": OnNumbers(numbers, CoxRidge(Tabular(scale=False))),
        "pycox, untuned": OnNumbers(numbers, PycoxCox(seed)),
    }
    if not large:
        forest = RandomSurvivalForest(100, min_samples_leaf=15, random_state=seed, n_jobs=1)
        chosen["random survival forest"] = OnNumbers(numbers, forest)
    return chosen


class OnColumns(BaseEstimator):
    """One of our models on some columns: pixels are read from the image."""

    def __init__(self, model: FusionCox, columns: list[str]) -> None:
        self.model = model
        self.columns = columns

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Self:
        self.model_ = clone(self.model).fit(X[self.columns], y)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return self.model_.predict(X[self.columns])

    def predict_survival_function(self, X: pd.DataFrame, times: np.ndarray) -> pd.DataFrame:
        return self.model_.predict_survival_function(X[self.columns], times)


def deep_share(fold: TestFold) -> float:
    """Return the share of the predictor's variance that the network has; NaN without one."""
    return float(getattr(getattr(fold.model, "model_", None), "deep_share_", np.nan))


def run(name: str, results: Path, only: Sequence[str] | None, repeats: int) -> None:
    """Score what is not in the results yet, fold by fold."""
    cohort = COHORTS[name]()
    folds = survival_stratified_folds(cohort.target, 5, cohort.repeats, random_state=0)
    folds = folds[: 5 * repeats]
    known = set()
    if results.exists():
        seen = pd.read_csv(results)
        known = set(zip(seen["data"], seen["model"], seen["repeat"], seen["fold"], strict=True))
    for number, fold in enumerate(folds):
        repeat, part = divmod(number, 5)
        large = name in LARGE and repeat > 0
        for model, estimator in models(cohort, number, large=large).items():
            if (name, model, repeat, part) in known or (only and model not in only):
                continue
            started = time.perf_counter()
            metrics = dict(METRICS) | {"deep_share": deep_share}
            scores = compare(
                {model: estimator}, cohort.frame, cohort.target, [fold], metrics=metrics
            ).scores.assign(repeat=repeat, fold=part, data=name)
            columns = ["data", *(c for c in scores if c != "data")]
            results.parent.mkdir(exist_ok=True)
            scores[columns].round(5).to_csv(
                results, mode="a", header=not results.exists(), index=False
            )
            print(
                f"{name} {repeat} {part} {model}: C {scores['c'].item():.3f}, IBS "
                f"{scores['ibs'].item():.3f}, {time.perf_counter() - started:.1f} s",
                flush=True,
            )


def report(results: Path) -> str:
    """Return the tables of the scores at hand."""
    scores = pd.read_csv(results)
    order = [
        STRUCTURED,
        SEMI,
        *(m for m in scores["model"].unique() if m not in (STRUCTURED, SEMI)),
    ]
    lines = []
    for metric, title, digits in (("c", "Harrell's C", 3), ("ibs", "Integrated Brier score", 4)):
        others = order[2:]
        head = [
            "data",
            "subjects",
            "folds",
            *order[:2],
            "difference [95 % interval]",
            "deep share",
            *others,
        ]
        lines += ["", f"{title}, mean (sd)", "", _line(head), _line(["---"] * len(head))]
        for name in COHORTS:
            mine = scores[scores["data"] == name]
            if not {STRUCTURED, SEMI} <= set(mine["model"]):
                continue
            mine = mine.drop(columns=["data"])
            pair = mine[mine["model"].isin(order[:2])]
            pair = pair[pair.groupby(["repeat", "fold"])["model"].transform("size") == 2]
            if len(pair) < 10:  # no repeat is complete
                continue
            shared = pair[["repeat", "fold"]].drop_duplicates()
            mine = mine.merge(shared, on=["repeat", "fold"])
            difference = Comparison(pair, pd.DataFrame()).differences(STRUCTURED, metric).loc[SEMI]
            cells = {}
            for model in order:
                values = mine.loc[mine["model"] == model, metric]
                several = len(values) >= 5
                cells[model] = f"{values.mean():.3f} ({values.std():.3f})" if several else "–"
                if several and len(values) != len(pair) // 2:
                    cells[model] += f", {len(values)} folds"
            shown = " [{:+.{d}f}, {:+.{d}f}]".format(
                difference["lower"], difference["upper"], d=digits
            )
            share = mine.loc[mine["model"] == SEMI, "deep_share"].median()
            lines.append(
                _line(
                    [
                        name,
                        f"{(mine['n_train'] + mine['n_test']).iloc[0]:,}",
                        str(len(pair) // 2),
                        *(cells[m] for m in order[:2]),
                        f"{difference['difference']:+.{digits}f}{shown}",
                        f"{share:.2f}",
                        *(cells[m] for m in others),
                    ]
                )
            )
            if metric == "c" and difference["difference"] < -TOLERANCE:
                lines[-1] = lines[-1].replace(name, f"**{name}**", 1)
    return "\n".join(lines[1:]) + f"\n\n{len(scores):,} fits.\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", choices=list(COHORTS), default=list(COHORTS))
    parser.add_argument("--models", nargs="+", help="only these")
    parser.add_argument("--repeats", type=int, default=5, help="of these, the first")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="write the tables and stop")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning)
    if not arguments.report:
        for name in arguments.data:
            run(name, arguments.results, arguments.models, arguments.repeats)
    print(report(arguments.results))


if __name__ == "__main__":
    main()
