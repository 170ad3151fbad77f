"""What each modality adds: to a subject's prediction, to a score, to the predictor's variance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from mmfusion.inputs.labels import check_order
from mmfusion.inputs.parameters import check_choice, check_number
from mmfusion.interpret._baseline import FORMULA
from mmfusion.interpret._subsets import Subsets, shapley
from mmfusion.interpret._targets import Target, target_of
from mmfusion.metrics import concordance_index, evaluation_times, integrated_brier_score
from mmfusion.metrics.plain import PLAIN, plain_score
from mmfusion.model.subjects import Subjects
from mmfusion.survival import check_survival

__all__ = [
    "ModalityShapley",
    "ModalityValue",
    "modality_importance",
    "modality_shapley",
    "modality_value",
    "variance_shares",
]

#: Metrics by name, whether more is better, and the target they read.
METRICS: dict[str, tuple[bool, str]] = {
    "harrell": (True, "risk"),
    "ibs": (False, "curves"),
    "accuracy": (True, "class"),
    "log_loss": (False, "probabilities"),
    "roc_auc": (True, "probabilities"),
    "r2": (True, "mean"),
    "rmse": (False, "mean"),
}


@dataclass(eq=False)
class ModalityShapley:
    """What `modality_shapley` found.

    Attributes
    ----------
    values : DataFrame, shape (n, M)
        What each modality adds to the prediction of each row: `full` less `none` in all. Exactly 0
        where the row lacks the modality.
    interactions : DataFrame, shape (n, M (M - 1) / 2)
        What two add together beyond what each adds alone; columns are pairs of names.
    none, full : Series
        The prediction from no modality, and from all.
    """

    values: pd.DataFrame
    interactions: pd.DataFrame
    none: pd.Series
    full: pd.Series


def modality_shapley(model: Any, X: Any, target: Any = None) -> ModalityShapley:
    """Share each row's prediction out among its modalities, by exact Shapley values.

    The model predicts from every set of modalities; a modality's value is the mean, over the orders
    in which they are shown to it, of what this one adds (Shapley 1953). Beside a formula, none is
    the classical model of the formula; without one, the model of a row of which nothing is known.

    Parameters
    ----------
    model : estimator
        Fitted, with 1 to 10 modalities.
    X : DataFrame, shape (n, p)
    target : tuple, optional
        As of `attribute`.

    Returns
    -------
    ModalityShapley

    Raises
    ------
    ValueError
        For an unknown target, of more than 10 modalities, and of late fusion of curves without a
        formula, which predicts nothing from nothing.

    Examples
    --------
    >>> from mmfusion import Genes, Tabular
    >>> from mmfusion.datasets import load_digits_cohort
    >>> from mmfusion.estimators import FusionCox
    >>> from mmfusion.interpret import modality_shapley
    >>> cohort = load_digits_cohort(n=120, random_state=0)
    >>> modalities = {"rna": Genes("gene_*"), "clinic": Tabular(["age", "stage"])}
    >>> model = FusionCox(modalities, epochs=5, random_state=0).fit(cohort.frame, cohort.target)
    >>> found = modality_shapley(model, cohort.frame)
    >>> gain = found.full - found.none
    >>> bool(((found.values.sum(axis=1) - gain).abs() < 1e-9).all())
    True
    """
    subsets = Subsets(model, X)
    wanted = target_of(model.model_.head, target)
    values = {names: subsets.of(names, wanted) for names in subsets.sets}
    alone, pairs = shapley(subsets.names, values)
    index = subsets.table.index
    columns = pd.MultiIndex.from_tuples(list(pairs), names=["first", "second"]) if pairs else None
    return ModalityShapley(
        pd.DataFrame(alone, index=index),
        pd.DataFrame(np.array(list(pairs.values())).reshape(len(pairs), -1).T, index, columns),
        pd.Series(values[()], index, name="none"),
        pd.Series(values[subsets.sets[-1]], index, name="full"),
    )


@dataclass(eq=False)
class ModalityValue:
    """What `modality_value` found; of metrics where less is better all gains are falls.

    Attributes
    ----------
    table : DataFrame
        A row a modality: ``value``, its Shapley value for the score, with ``lower``, ``upper``.
        They sum to the gain of all modalities over none.
    subsets : DataFrame
        A row a set of modalities (a tuple of names): ``score``, ``lower``, ``upper``; ``cost``,
        what the score loses against all modalities, with ``cost_lower``, ``cost_upper``.
    interactions : Series
        Of each pair, what both gain together beyond what each does.
    test : Series
        All modalities against the ``best`` single one on the same rows: ``difference``, ``se``,
        ``lower``, ``upper``, ``p``.
    metric : str
    """

    table: pd.DataFrame
    subsets: pd.DataFrame
    interactions: pd.Series
    test: pd.Series
    metric: str


def modality_value(
    model: Any,
    X: Any,
    y: Any,
    metric: str | Callable[[Any, np.ndarray], float] | None = None,
    *,
    target: Any = None,
    greater_is_better: bool = True,
    times: Any = None,
    n_bootstrap: int = 200,
    level: float = 0.95,
    random_state: int = 0,
) -> ModalityValue:
    """Say what each modality is worth for a score, and what leaving some out costs.

    Of rows that the model has not seen. Intervals are percentiles over bootstrap samples of the
    rows (of subjects, where the model has an `id`), with the model as it is: they do not tell how
    another training would have come out.

    Parameters
    ----------
    model : estimator
        Fitted, with 1 to 10 modalities.
    X : DataFrame, shape (n, p)
    y : outcome of n rows
    metric : str or callable, optional
        "harrell" (the default of survival), "ibs" (integrated Brier score over `times`), "log_loss"
        (the default of classes), "accuracy", "roc_auc", "r2" (the default of numbers), "rmse"; or
        a function of outcome and predicted `target` (n,), such as a net benefit: of survival the
        outcome is a `Survival`, else an array.
    target : tuple, optional
        What a callable metric is given, as of `attribute`.
    greater_is_better : bool, default=True
        Of a callable metric.
    times : array-like, optional
        Of "ibs"; by default `mmfusion.metrics.evaluation_times` of `y`.
    n_bootstrap : int, default=200
    level : float, default=0.95
    random_state : int, default=0

    Returns
    -------
    ModalityValue

    Raises
    ------
    ValueError
        For an unknown metric, or one that the model's predictions do not have.
    """
    check_order(X=X, y=y)
    check_number("n_bootstrap", n_bootstrap, 2, integer=True)
    check_number("level", level, 0, 1, open_ends="low and high")
    subsets = Subsets(model, X)
    judged = _Metric(model, subsets, y, metric, target, greater_is_better, times)
    predicted = {names: subsets.of(names, judged.predict) for names in subsets.sets}
    n = len(subsets.table)
    subjects = Subjects.read(model.id, subsets.table, complete=False)
    owner = np.arange(n) if subjects.owner is None else subjects.owner
    rows_of = [np.flatnonzero(owner == one) for one in range(owner.max() + 1)]
    rng = np.random.default_rng(random_state)
    draws = [np.arange(n)]
    for _ in range(n_bootstrap):
        draws.append(
            np.concatenate([rows_of[k] for k in rng.integers(len(rows_of), size=len(rows_of))])
        )
    scores = {
        names: np.array([judged.score(rows, found) for rows in draws])
        for names, found in predicted.items()
    }
    sign = 1.0 if judged.higher else -1.0
    gains = {names: sign * found for names, found in scores.items()}
    alone, pairs = shapley(subsets.names, gains)
    ends = (0.5 - level / 2, 0.5 + level / 2)

    def limits(values: np.ndarray) -> tuple[float, ...]:
        return (float(values[0]), *np.quantile(values[1:], ends).tolist())

    full = gains[subsets.sets[-1]]
    table = pd.DataFrame.from_dict(
        {name: limits(found) for name, found in alone.items()},
        orient="index",
        columns=["value", "lower", "upper"],
    ).rename_axis("modality")
    index = pd.Index(range(len(subsets.sets)))
    shown = pd.DataFrame(
        [(*limits(scores[names]), *limits(full - gains[names])) for names in subsets.sets],
        index,
        ["score", "lower", "upper", "cost", "cost_lower", "cost_upper"],
    )
    shown.index = pd.Index(
        [" + ".join(names) or "(none)" for names in subsets.sets], name="modalities"
    )
    singles = [names for names in subsets.sets if len(names) == 1]
    best = max(singles, key=lambda names: gains[names][0])
    difference = full - gains[best]
    se = float(difference[1:].std(ddof=1))
    p = float(2 * norm.sf(abs(difference[0]) / se)) if se > 0 else 1.0
    value, lower, upper = limits(difference)
    test = pd.Series(
        {"best": best[0], "difference": value, "se": se, "lower": lower, "upper": upper, "p": p}
    )
    together = pd.Series({pair: float(found[0]) for pair, found in pairs.items()}, dtype=float)
    return ModalityValue(table, shown, together, test, judged.name)


class _Metric:
    """A score of some rows' predictions."""

    def __init__(
        self,
        model: Any,
        subsets: Subsets,
        y: Any,
        metric: Any,
        target: Any,
        greater_is_better: bool,
        times: Any,
    ) -> None:
        head = model.model_.head
        survival = hasattr(head, "survival") and getattr(head, "survival_", True)
        if metric is None:
            metric = "harrell" if survival else "log_loss" if hasattr(head, "classes_") else "r2"
        self.strata = subsets.context.get("strata")
        self.times: Any = None
        self.y: Any = np.asarray(y)
        if survival:
            outcome = check_survival(
                y, allow_competing=True, allow_intervals=True, index=subsets.table.index
            ).at_middle()
            self.y = outcome
            if not callable(metric):  # any event
                self.y = type(outcome)(outcome.time, outcome.event > 0, outcome.entry)
        self.classes: Any = getattr(head, "classes_", None)
        self.metric = metric
        if callable(metric):
            self.predict = target_of(head, target)
            self.name, self.higher = getattr(metric, "__name__", "metric"), greater_is_better
            return
        check_choice("metric", metric, tuple(METRICS))
        self.name = metric
        self.higher, reads = METRICS[metric]
        needed = {"risk": "survival", "curves": "survival", "mean": "mean"}.get(
            reads, "probabilities"
        )
        if not hasattr(head, needed) and not (needed == "mean" and hasattr(head, "distribution")):
            raise ValueError(
                f"The metric {metric!r} is none of what {type(model).__name__} predicts."
            )
        if reads == "curves":
            self.times = evaluation_times(self.y) if times is None else np.asarray(times, float)
        mean = target_of(head, target) if reads == "mean" else None
        self.predict = _predictions(reads, self.times, mean, head)

    def score(self, rows: np.ndarray, predicted: np.ndarray) -> float:
        y = self.y.take(rows) if hasattr(self.y, "delayed") else self.y[rows]
        values = predicted[rows]
        if callable(self.metric):
            return float(self.metric(y, values))
        if self.metric == "harrell":
            strata = None if self.strata is None else np.asarray(self.strata)[rows]
            return float(concordance_index(y, values, strata=strata))
        if self.metric == "ibs":
            return float(integrated_brier_score(y, y, values, self.times))
        if self.metric == "roc_auc":
            values = values[:, 1]
        if self.metric == "log_loss":
            return float(PLAIN["log_loss"](y, values, self.classes).value)
        if self.metric == "accuracy":
            values = self.classes[values.argmax(axis=1)]
        return float(plain_score(self.metric, y, values).value)


def _predictions(reads: str, times: Any, mean: Target | None, head: Any) -> Target:
    """Return what of a head a metric reads."""
    if mean is not None:
        return mean
    if reads == "curves":
        return lambda head, eta, context: head.survival(eta, times, **context)
    if reads == "risk" and hasattr(head, "distribution"):  # whose own is a time
        return lambda head, eta, context: -head.distribution(eta).quantile(0.5)
    if reads == "risk":
        return target_of(head, None)
    return lambda head, eta, context: head.probabilities(eta)


def modality_importance(
    model: Any,
    X: Any,
    y: Any,
    names: Sequence[str] | None = None,
    *,
    scorer: Callable[[Any, Any, Any], float] | None = None,
    n_repeats: int = 5,
    random_state: int = 0,
) -> pd.DataFrame:
    """Say what the score loses as all columns of a modality are permuted together.

    What scikit-learn's ``permutation_importance`` does column by column: of a modality with several
    columns each of which the others stand in for, that finds nothing.

    Parameters
    ----------
    model : estimator
        Fitted.
    X : DataFrame, shape (n, p)
        Of rows that the model has not seen.
    y : outcome of n rows
    names : sequence of str, optional
        Modalities, or columns of `X`. All modalities by default.
    scorer : callable (model, X, y) -> float, optional
        The model's ``score`` by default; higher is better.
    n_repeats : int, default=5
    random_state : int, default=0

    Returns
    -------
    DataFrame
        A row a name: ``importance``, the mean loss of the score, and its standard deviation ``sd``
        over the permutations.
    """
    asked = list(model.modalities_) if names is None else list(names)
    score = scorer or (lambda model, X, y: float(model.score(X, y)))
    before, rng = score(model, X, y), np.random.default_rng(random_state)
    orders = [rng.permutation(len(X)) for _ in range(n_repeats)]
    rows = {}
    for name in asked:
        columns = model.modalities_[name].columns_ if name in model.modalities_ else [name]
        strange = [column for column in columns if column not in X]
        if strange:
            raise ValueError(
                f"The names parameter must hold modalities, of {list(model.modalities_)}, or "
                f"columns of X. Got {name!r}."
            )
        losses = []
        for order in orders:
            moved = X.copy()
            for column in columns:
                moved[column] = X[column].iloc[order].array
            losses.append(before - score(model, moved, y))
        rows[name] = (
            float(np.mean(losses)),
            float(np.std(losses, ddof=1)) if n_repeats > 1 else 0.0,
        )
    return pd.DataFrame.from_dict(rows, orient="index", columns=["importance", "sd"])


def variance_shares(model: Any, X: Any) -> pd.DataFrame:
    """Split the variance of the predictor over rows into formula and modalities.

    The predictor is the formula's and what the modalities add, each its Shapley value. The share
    of a summand is its covariance with the whole over the variance of the whole: shares sum to 1,
    and one may be below 0, where a summand takes back what others say.

    Parameters
    ----------
    model : estimator
        Fitted.
    X : DataFrame, shape (n, p)

    Returns
    -------
    DataFrame
        A row for "(formula)", where there is one, and each modality: ``variance``, that of the
        summand, and ``share``; both summed over predictors where there are several.
    """
    subsets = Subsets(model, X, beside=True)
    whole = model.model_

    def eta_of(head: Any, eta: np.ndarray, context: Any) -> np.ndarray:
        return eta - eta.mean(axis=1, keepdims=True) if head.shift_invariant else eta

    values = {names: subsets.of(names, eta_of) for names in subsets.sets}
    alone, _ = shapley(subsets.names, values)
    parts = {FORMULA: values[()], **alone} if len(whole.structured.columns) else alone
    total = sum(parts.values())
    centred = total - total.mean(axis=0)
    spread = max(float((centred**2).mean(axis=0).sum()), np.finfo(float).tiny)
    rows = {
        name: (
            float(part.var(axis=0).sum()),
            float((centred * part).mean(axis=0).sum()) / spread,
        )
        for name, part in parts.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["variance", "share"])
