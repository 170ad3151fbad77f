"""The fits whose results are frozen, and what is frozen of each: public results alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mmfusion.estimators import (
    FusionClassifier,
    FusionCox,
    FusionDiscreteTime,
    FusionPretrainer,
    FusionRegressor,
)
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.modalities import Genes, Image, Modality, Tabular
from mmfusion.objectives import Contrastive, Similarity
from mmfusion.survival import surv
from mmfusion.training import Training
from tests.helpers import make_cohort

__all__ = ["CASES", "Case", "results"]

TRAIN, NEW = slice(0, 96), slice(96, 110)
TIMES = [1.0, 2.0, 4.0]

#: Few epochs, and all rows trained on, where a case does not say otherwise.
QUICK: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.05,
    "patience": None,
    "device": "cpu",
    "random_state": 0,
}

CONCAT = JointFusion("concat", dim=6, hidden=(4,))
GATED = JointFusion("gated", dim=6, hidden=(4,))


def modalities(*names: str) -> dict[str, Modality]:
    """Return small modalities of these names, in their order."""
    known = {
        "scan": Image("image", size=8, channels="L"),
        "rna": Genes("gene_*", hidden=(6,)),
        "clinic": Tabular(["age", "sex", "stage"], hidden=(6,)),
    }
    return {name: known[name] for name in names or known}


def late(how: str, **options: Any) -> LateFusion:
    """Return late fusion of small networks."""
    return LateFusion(how, dim=6, hidden=(4,), folds=2, **options)


@dataclass(frozen=True)
class Case:
    """One fit.

    Attributes
    ----------
    estimator : class
    params : dict
        Beside `QUICK`.
    outcome : str
        One of those of `cohort`.
    asked : tuple of str
        The modalities of the second prediction.
    weighted, eval_set : bool
        What `fit` is given beside X and y; the new rows are the `eval_set`.
    pretrains : bool
        Whether a pretrainer of image and genes is fitted first, and handed over.
    """

    estimator: type
    params: Mapping[str, Any]
    outcome: str = "survival"
    asked: tuple[str, ...] = ("clinic",)
    weighted: bool = False
    eval_set: bool = False
    pretrains: bool = False


CASES: dict[str, Case] = {
    # FusionCox
    "cox-joint-missing-dropout": Case(
        FusionCox,
        {"fusion": CONCAT, "modality_dropout": 0.3, "patience": 1},
    ),
    "cox-gated-strata-weights-post_hoc": Case(
        FusionCox,
        {"fusion": GATED, "structured": "treatment + s(age)", "strata": "sex", "ties": "breslow"},
        weighted=True,
    ),
    "cox-joint-entry-online-robust": Case(
        FusionCox,
        {
            "fusion": CONCAT,
            "structured": "treatment + C(stage)",
            "orthogonalization": "online",
            "inference": "robust",
        },
        outcome="entry",
    ),
    "cox-joint-two_stage-cluster-validation": Case(
        FusionCox,
        {
            "fusion": CONCAT,
            "structured": "treatment + age",
            "orthogonalization": "two_stage",
            "cluster": "site",
            "patience": 1,
            "validation_fraction": 0.3,
            "random_state": 5,
        },
    ),
    "cox-joint-nonlinear-no-orthogonalization": Case(
        FusionCox,
        {
            "fusion": CONCAT,
            "structured": "treatment + poly(age, 2)",
            "orthogonalization": None,
            "head": "nonlinear",
        },
    ),
    "cox-joint-cross_fit": Case(
        FusionCox,
        {
            "modalities": modalities("rna", "clinic"),
            "fusion": CONCAT,
            "structured": "treatment + re(site)",
            "inference": "cross_fit",
        },
    ),
    "cox-joint-auxiliary-eval_set-micro_batches": Case(
        FusionCox,
        {
            "fusion": CONCAT,
            "auxiliary": [Similarity(weight=0.1)],
            "batch_size": None,
            "training": Training(micro_batch_size=40),
            "patience": 1,
        },
        eval_set=True,
    ),
    "cox-pretrained": Case(
        FusionCox,
        {"fusion": CONCAT, "structured": "treatment"},
        asked=("rna",),
        pretrains=True,
    ),
    "cox-early-features-ridge-weights": Case(
        FusionCox,
        {"fusion": EarlyFusion("features", n_components=4, hidden=None)},
        weighted=True,
    ),
    "cox-late-mean-survival": Case(
        FusionCox,
        {"fusion": late("mean", combine="survival")},
    ),
    "cox-late-weighted-post_hoc": Case(
        FusionCox,
        {"fusion": late("weighted"), "structured": "treatment + age"},
    ),
    "cox-classical": Case(
        FusionCox,
        {
            "modalities": {},
            "structured": "treatment + s(age, k=6) + C(stage) + re(site)",
            "strata": "sex",
        },
        outcome="entry",
        asked=(),
    ),
    "cox-late-mean-cross_fit-cluster": Case(
        FusionCox,
        {
            "fusion": late("mean"),
            "epochs": 2,
            "structured": "treatment + C(stage)",
            "inference": "cross_fit",
            "cluster": "site",
        },
    ),
    # FusionDiscreteTime
    "discrete-logistic-joint-entry-post_hoc": Case(
        FusionDiscreteTime,
        {
            "fusion": CONCAT,
            "cuts": [1, 2, 4, 8],
            "structured": "treatment + s(gene_0, k=5)",
            "batch_size": 8,
            "patience": 1,
            "validation_fraction": 0.3,
            "random_state": 3,
        },
        outcome="entry",
    ),
    "discrete-logistic-classical-cluster-weights": Case(
        FusionDiscreteTime,
        {
            "modalities": {},
            "cuts": [1, 2, 3, 5],
            "structured": "treatment + C(stage) + re(site)",
            "cluster": "site",
        },
        asked=(),
        weighted=True,
    ),
    "discrete-pc_hazard-early-network-two_stage": Case(
        FusionDiscreteTime,
        {
            "fusion": EarlyFusion(hidden=(6,)),
            "loss": "pc_hazard",
            "n_intervals": 3,
            "structured": "treatment + age",
            "orthogonalization": "two_stage",
        },
    ),
    "discrete-deephit-gated-causes": Case(
        FusionDiscreteTime,
        {"fusion": GATED, "loss": "deephit", "n_intervals": 3},
        outcome="causes",
    ),
    "discrete-pmf-early-pca": Case(
        FusionDiscreteTime,
        {
            "fusion": EarlyFusion("pca", n_components=3, hidden=(5,)),
            "loss": "pmf",
            "n_intervals": 4,
            "scheme": "equidistant",
        },
    ),
    "discrete-multisurv-late-stack": Case(
        FusionDiscreteTime,
        {"fusion": late("stack"), "loss": "multisurv", "n_intervals": 3},
    ),
    "discrete-logistic-late-mean-nonlinear-robust": Case(
        FusionDiscreteTime,
        {
            "fusion": late("mean"),
            "n_intervals": 3,
            "structured": "treatment + age",
            "head": "nonlinear",
            "inference": "robust",
        },
    ),
    # FusionClassifier
    "classifier-two-joint-double_ml": Case(
        FusionClassifier,
        {
            "modalities": modalities("clinic"),
            "fusion": CONCAT,
            "epochs": 2,
            "structured": "treatment + gene_0",
            "inference": "double_ml",
            "treatment": "treatment",
        },
        outcome="two",
    ),
    "classifier-two-early-pca-ridge-missing": Case(
        FusionClassifier,
        {"fusion": EarlyFusion("pca", n_components=0.8, hidden=None)},
        outcome="two",
    ),
    "classifier-three-gated-post_hoc": Case(
        FusionClassifier,
        {"fusion": GATED, "structured": "treatment + s(age, k=5)"},
        outcome="three",
    ),
    "classifier-three-online-cross_fit": Case(
        FusionClassifier,
        {
            "modalities": modalities("rna", "clinic"),
            "fusion": CONCAT,
            "epochs": 2,
            "structured": "treatment",
            "orthogonalization": "online",
            "inference": "cross_fit",
        },
        outcome="three",
    ),
    "classifier-three-late-weighted": Case(
        FusionClassifier,
        {"fusion": late("weighted"), "patience": 1},
        outcome="three",
    ),
    "classifier-three-late-mean-weights-post_hoc": Case(
        FusionClassifier,
        {"fusion": late("mean"), "structured": "treatment + age"},
        outcome="three",
        weighted=True,
    ),
    # FusionRegressor
    "regressor-joint-dropout-validation-post_hoc": Case(
        FusionRegressor,
        {
            "fusion": CONCAT,
            "modality_dropout": {"scan": 0.5},
            "structured": "treatment + te(age, gene_0, k=4)",
            "patience": 1,
            "validation_fraction": 0.3,
        },
        outcome="number",
    ),
    "regressor-late-stack-weights-robust": Case(
        FusionRegressor,
        {"fusion": late("stack"), "structured": "treatment + age", "inference": "robust"},
        outcome="number",
        weighted=True,
    ),
    "regressor-double_ml": Case(
        FusionRegressor,
        {
            "modalities": modalities("rna"),
            "fusion": CONCAT,
            "epochs": 2,
            "structured": "treatment + age + C(stage)",
            "inference": "double_ml",
            "treatment": "treatment",
        },
        outcome="number",
        asked=("rna",),
    ),
    "regressor-early-features-ridge": Case(
        FusionRegressor,
        {"fusion": EarlyFusion("features", n_components=0.5, hidden=None)},
        outcome="number",
    ),
    "regressor-inferred": Case(
        FusionRegressor,
        {"modalities": None, "cluster": "site", "structured": "treatment + age"},
        outcome="number",
        asked=(),
    ),
    "regressor-classical-weights": Case(
        FusionRegressor,
        {"modalities": {}, "structured": "treatment + s(age) + re(site)"},
        outcome="number",
        asked=(),
        weighted=True,
    ),
}


def cohort() -> tuple[pd.DataFrame, dict[str, Any], np.ndarray]:
    """Return 110 rows, of which some lack the image or genes, their outcomes and weights."""
    X, y = make_cohort(NEW.stop, image_size=8, n_genes=6, missing=0.25, tied=True)
    rng = np.random.default_rng(1)
    n, time, event = len(X), y["time"], y["event"]
    X["treatment"] = (rng.uniform(size=n) < 1 / (1 + np.exp(-(X["age"] - 60) / 10))) * 1.0
    X["site"] = rng.choice(list("abcdef"), n)
    entry = np.where(rng.uniform(size=n) < 0.5, 0.6 * time, -np.inf)
    mean = 0.8 * X["treatment"] + (X["age"] - 60) / 10 + X["gene_0"]
    noise = rng.logistic(size=(n, 3))
    outcomes = {
        "survival": y,
        "entry": surv(time, event, entry),
        "causes": surv(time, np.where(event, rng.integers(1, 3, n), 0)),
        "number": np.asarray(50 + 4 * (mean + noise[:, 0])),
        "two": np.where(mean + noise[:, 1] > 0.4, "yes", "no"),
        "three": np.digitize(mean + noise[:, 2], [-0.5, 1.0]),
    }
    lacks = rng.uniform(size=n) < 0.2
    X.loc[lacks, [f"gene_{i}" for i in range(1, 6)]] = np.nan  # formulas read gene_0
    return X, outcomes, rng.uniform(0.5, 2.0, n)


def results(name: str) -> dict[str, list[Any]]:
    """Fit a case with one thread and return what is frozen of it: nested lists by name."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return {key: _plain(value) for key, value in _fitted(CASES[name]).items()}


def _fitted(case: Case) -> dict[str, Any]:
    X, outcomes, weight = cohort()
    y, new = outcomes[case.outcome], X[NEW]
    params = {"modalities": modalities(), **QUICK, **case.params}
    found: dict[str, Any] = {}
    if case.pretrains:
        params["modalities"] = modalities("scan", "rna")
        params["pretrained"] = FusionPretrainer(
            params["modalities"], [Contrastive()], dim=CONCAT.dim, **QUICK
        ).fit(X[TRAIN])
        found = _history(params["pretrained"], "pretraining: ")
        known = new[new["image"].notna()]
        found["transform"] = params["pretrained"].transform(known)
    given: dict[str, Any] = {}
    if case.weighted:
        given["sample_weight"] = weight[TRAIN]
    if case.eval_set:
        given["eval_set"] = (new, y[NEW])
    model = case.estimator(**params).fit(X[TRAIN], y[TRAIN], **given)
    found |= _predictions(model, new)
    found |= _predictions(model, new, modalities=list(case.asked))
    found |= _history(model)
    if model.get_params()["structured"] is not None:
        found |= _effects(model, new)
    for attribute in ("fusion_weights_", "best_epoch_", "scale_", "event_times_", "cuts_"):
        if hasattr(model, attribute):
            found[attribute] = getattr(model, attribute)
    found["score"] = model.score(new, y[NEW])
    return found


def _predictions(model: Any, new: pd.DataFrame, **asked: Any) -> dict[str, Any]:
    """Return what the model says of new rows, of all modalities or of those asked."""
    found = {"predict": model.predict(new, **asked)}
    if isinstance(model, FusionClassifier):
        found["predict_proba"] = model.predict_proba(new, **asked)
    if isinstance(model, FusionCox | FusionDiscreteTime):
        found["survival"] = model.predict_survival_function(new, TIMES, **asked)
        found["restricted mean"] = model.predict_restricted_mean(new, TIMES[-1], **asked)
    if isinstance(model, FusionDiscreteTime):
        for cause in model.causes_:
            found[f"incidence of {cause}"] = model.predict_cumulative_incidence_function(
                new, TIMES, cause, **asked
            )
    of = "".join(f" of {names}" for names in asked.values())
    return {key + of: value for key, value in found.items()}


def _history(model: Any, of: str = "") -> dict[str, Any]:
    """Return the columns of the history, but for the time that it took."""
    history = model.history_.drop(columns="seconds", errors="ignore")
    return {f"{of}history_ {name}": history[name] for name in history}


def _effects(model: Any, new: pd.DataFrame) -> dict[str, Any]:
    """Return the tables of a formula's effects."""
    effects = model.effects_
    contrast = model.contrast(new[1:5], new[:1])
    return {
        "effects_ index": [str(label) for label in effects.index],
        **{f"effects_ {name}": effects[name] for name in effects},
        "covariance_ index": list(model.covariance_.index),
        "covariance_": model.covariance_,
        "contrast": contrast,
        "deep_share_": model.deep_share_,
        "structured_weight_": model.structured_weight_,
    }


def _plain(value: Any) -> list[Any]:
    """Return an array, a table or a number as nested lists; a number keeps its last bit."""
    return np.atleast_1d(np.asarray(value)).tolist()
